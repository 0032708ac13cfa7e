//! `residual`: layers in a row, to whose result what arrived is added.

use burn::module::Module;

use super::RowSpec;
use crate::layer::{AnyLayer, Layer, Misfit, Misplaced, Row};
use crate::model::Sequential;
use crate::registry::{Build, Registry};
use crate::section::{Mistake, Section, remedy};
use crate::shape::{Activation, Extents};

/// `layers`: tables as `[[layer]]`; `downsample`: likewise, for what is added; `activation`: the kind of the layer after
/// the sum.
pub(super) fn parse(section: &mut Section<'_>, registry: &Registry) -> Result<Build, Mistake> {
    let body = RowSpec::parse_inside(section, "layers", registry)?;
    if body.is_empty() {
        return Err(section.mistake(&format!("{} has no `layers`", section.name())));
    }
    let downsample = RowSpec::parse_inside(section, "downsample", registry)?;
    let activation = match section.string("activation")? {
        Some(kind) => {
            let parse = registry.find(kind).ok_or_else(|| {
                let remedy = remedy(kind, "be", &registry.kinds());
                section.mistake_at("activation", &format!("is {kind:?}, an unknown kind of layer: {remedy}"))
            })?;
            // With its own defaults: it has no keys here.
            let parsed = parse(&mut section.empty("it"), registry);
            let here = |Mistake { what, .. }| section.mistake_at("activation", &format!("is {kind:?}: {what}"));
            Some(parsed.map_err(here)?)
        }
        None => None,
    };
    // Parameters of both would have the same names.
    let parts = [("downsample", !downsample.is_empty()), ("activation", activation.is_some())];
    if let Some((part, _)) = parts.into_iter().find(|(part, is_there)| *is_there && body.has(part)) {
        return Err(section.mistake_at(part, "is the name of one of `layers` too: name that one else"));
    }
    Ok(Box::new(move |arrives, device| {
        let (body, leaves) = body.build(arrives, device)?;
        let downsample = match &downsample {
            row if row.is_empty() => None,
            row => {
                let (row, _) =
                    row.build(arrives, device).map_err(|inside| Misplaced::new("downsample", "", inside.into()))?;
                Some(row)
            }
        };
        let activation = activation.as_ref().map(|build| build(&leaves, device)).transpose()?;
        Ok(AnyLayer::new(Residual { body, downsample, activation }))
    }))
}

/// `activation(body(x) + downsample(x))`.
///
/// *Source* He et al., "Deep Residual Learning for Image Recognition", figure 2; the blocks of
/// `torchvision.models.resnet`. The layers of the body have no name of their own between them and the block's, so that
/// parameters are called as there: `layer1.0.conv1.weight`, `layer2.0.downsample.0.weight`.
#[derive(Module, Debug)]
pub struct Residual {
    /// What is computed of what arrives.
    pub body: Sequential,
    /// What is made of what arrives before it is added; nothing when absent.
    pub downsample: Option<Sequential>,
    /// What is made of the sum.
    pub activation: Option<AnyLayer>,
}

impl Residual {
    /// What the second way leaves.
    fn added(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        match &self.downsample {
            Some(row) => row.leaves(arrives).map_err(|misfit| Misplaced::new("downsample", "", misfit).into()),
            None => Ok(arrives.clone()),
        }
    }
}

impl Layer for Residual {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        let (computed, added) = (self.body.leaves(arrives)?, self.added(arrives)?);
        if computed != added {
            let (wants, remedy) = match &self.downsample {
                None => {
                    (format!("to add {arrives} to what its layers leave"), "add a `downsample` that leaves the same")
                }
                Some(_) => (format!("to add the {added} of its downsample"), "change one of the two"),
            };
            return Err(Misfit::shape(wants, &computed, remedy));
        }
        self.activation.as_ref().map_or(Ok(computed.clone()), |activation| activation.leaves(&computed))
    }

    fn forward(&self, x: Activation) -> Activation {
        let added = match &self.downsample {
            Some(row) => row.forward(x.clone()),
            None => x.clone(),
        };
        let sum = match (self.body.forward(x), added) {
            (Activation::Flat(x), Activation::Flat(y)) => Activation::Flat(x + y),
            (Activation::Sequence(x), Activation::Sequence(y)) => Activation::Sequence(x + y),
            (Activation::Image(x), Activation::Image(y)) => Activation::Image(x + y),
            (x, y) => unreachable!("`leaves` refuses {:?} and {:?}", x.extents(), y.extents()),
        };
        match &self.activation {
            Some(activation) => activation.forward(sum),
            None => sum,
        }
    }

    fn to_torch(&self) -> String {
        let mut parts = self.body.parts();
        if let Some(row) = &self.downsample {
            parts.push(("downsample".to_owned(), row.to_torch()));
        }
        if let Some(activation) = &self.activation {
            parts.push(("activation".to_owned(), activation.to_torch()));
        }
        crate::model::nested("Residual", parts)
    }

    fn describe(&self, path: &str, arrives: &Extents, rows: &mut Vec<Row>) {
        self.body.describe(path, arrives, rows);
        if let Some(row) = &self.downsample {
            row.describe(&format!("{path}.downsample"), arrives, rows);
        }
        if let (Some(activation), Ok(leaves)) = (&self.activation, self.leaves(arrives)) {
            activation.describe(&format!("{path}.activation"), &leaves, rows);
        }
    }
}
