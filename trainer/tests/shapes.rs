//! That layers leave the shapes they foretell: random layers in a row, of random options, on random samples.

use batchmill_trainer::config::ModelSpec;
use batchmill_trainer::layer::Layer;
use batchmill_trainer::shape::{Activation, Extents};
use burn::tensor::{Device, Tensor};
use proptest::prelude::*;
use proptest::sample::select;

/// The text of a random layer, and of any options.
fn layer() -> impl Strategy<Value = String> {
    let extent = || 1_usize..5;
    let pair = || (1_usize..4, 1_usize..4).prop_map(|(height, width)| format!("[{height}, {width}]"));
    let padding = || (0_usize..3, 0_usize..3).prop_map(|(height, width)| format!("[{height}, {width}]"));
    let flag = any::<bool>;
    let keep = select(&["relu", "leaky-relu", "gelu", "silu", "sigmoid", "tanh", "identity", "dropout", "flatten"][..]);
    let conv2d = (extent(), pair(), pair(), padding(), pair(), 1_usize..3).prop_map(
        |(channels, kernel, stride, padding, dilation, groups)| {
            let channels = channels * groups;
            format!(
                "kind = 'conv2d'\nout_channels = {channels}\nkernel_size = {kernel}\nstride = {stride}\n\
                 padding = {padding}\ndilation = {dilation}\ngroups = {groups}"
            )
        },
    );
    let conv1d = (extent(), extent(), extent(), 0_usize..3, 1_usize..3).prop_map(
        |(channels, kernel, stride, padding, dilation)| {
            format!(
                "kind = 'conv1d'\nout_channels = {channels}\nkernel_size = {kernel}\nstride = {stride}\n\
                 padding = {padding}\ndilation = {dilation}"
            )
        },
    );
    let pool =
        (extent(), extent(), flag(), flag(), 1_usize..3).prop_map(|(kernel, stride, ceil, average, dilation)| {
            let (kind, more) = if average { ("avg", String::new()) } else { ("max", format!("dilation = {dilation}")) };
            let padding = kernel / 2;
            format!(
                "kind = '{kind}-pool2d'\nkernel_size = {kernel}\nstride = {stride}\npadding = {padding}\n\
             ceil_mode = {ceil}\n{more}"
            )
        });
    let softmax = (flag(), select(&[-1, 1, 2, 3][..])).prop_map(|(log, dim)| {
        let kind = if log { "log-softmax" } else { "softmax" };
        format!("kind = '{kind}'\ndim = {dim}")
    });
    let norm = (flag(), flag())
        .prop_map(|(affine, track)| format!("kind = 'batch-norm'\naffine = {affine}\ntrack_running_stats = {track}"));
    let reshape = select(&["[-1]", "[2, -1]", "[1, 2, -1]", "[-1, 2, 2]"][..]);
    prop_oneof![
        3 => conv2d,
        2 => conv1d,
        3 => pool,
        4 => keep.prop_map(|kind| format!("kind = '{kind}'")),
        1 => softmax,
        1 => norm,
        1 => extent().prop_map(|features| format!("kind = 'linear'\nout_features = {features}")),
        1 => pair().prop_map(|size| format!("kind = 'adaptive-avg-pool2d'\noutput_size = {size}")),
        1 => flag().prop_map(|affine| format!("kind = 'layer-norm'\nelementwise_affine = {affine}")),
        1 => extent().prop_map(|groups| format!("kind = 'group-norm'\nnum_groups = {groups}")),
        2 => reshape.prop_map(|shape| format!("kind = 'reshape'\nshape = {shape}")),
        1 => Just("kind = 'embedding'\nnum_embeddings = 3\nembedding_dim = 2".to_owned()),
        1 => Just("kind = 'residual'\nlayers = [{ kind = 'tanh' }]\nactivation = 'relu'".to_owned()),
    ]
}

fn sample() -> impl Strategy<Value = Extents> {
    prop_oneof![
        3 => prop::collection::vec(1_usize..8, 1..4).prop_map(Extents::Floats),
        1 => (1_usize..8).prop_map(|length| Extents::Indices(vec![length])),
    ]
}

fn ones(batch: usize, extents: &Extents, device: &Device) -> Activation {
    match (extents, extents.as_slice()) {
        (Extents::Floats(_), &[a]) => Tensor::<2>::ones([batch, a], device).into(),
        (Extents::Floats(_), &[a, b]) => Tensor::<3>::ones([batch, a, b], device).into(),
        (Extents::Floats(_), &[a, b, c]) => Tensor::<4>::ones([batch, a, b, c], device).into(),
        (Extents::Indices(_), &[a]) => Activation::Indices(Tensor::ones([batch, a], device)),
        _ => panic!("{extents} has no tensor"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_leaves_has_the_shape_foretold_or_is_refused(
        layers in prop::collection::vec(layer(), 1..6),
        arrives in sample(),
        batch in 1_usize..3,
        learns in any::<bool>(),
    ) {
        let device = if learns { Device::flex().autodiff() } else { Device::flex() };
        // The first of these layers that does not fit is left out, until all do.
        let mut model = None;
        let mut kept = layers;
        while model.is_none() && !kept.is_empty() {
            let text: String = kept.iter().map(|layer| format!("[[layer]]\n{layer}\n")).collect();
            let spec = ModelSpec::parse(&text).map_err(|mistake| TestCaseError::fail(format!("{mistake}\n{text}")))?;
            match spec.layers.build(&arrives, &device) {
                Ok(built) => model = Some(built),
                Err(misplaced) => {
                    let outer = misplaced.layer.split('.').next().and_then(|idx| idx.parse::<usize>().ok());
                    kept.remove(outer.expect("layers here are called by their number"));
                }
            }
        }
        let Some((model, leaves)) = model else { return Ok(()) };
        prop_assert_eq!(model.leaves(&arrives), Ok(leaves.clone()));
        let left = model.forward(ones(batch, &arrives, &device)).extents();
        prop_assert_eq!(left, leaves, "{} on {}", model, arrives);
    }
}
