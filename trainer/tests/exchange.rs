//! Weights come from PyTorch and go back to it, by name and to the bit.
//!
//! `golden/exchange.py` made the files and the logits.

use std::fs;
use std::path::{Path, PathBuf};

use batchmill_trainer::config::ModelSpec;
use batchmill_trainer::layer::{Layer, Misfit};
use batchmill_trainer::model::Sequential;
use batchmill_trainer::shape::{Activation, Extents, ImageShape};
use batchmill_trainer::state::{Numbers, StateDict, StateTensor, from_bytes, to_bytes};
use burn::module::{Module, Param, ParamId};
use burn::tensor::{Device, Int, Shape, Tensor};
use expect_test::{Expect, expect};
use serde_json::Value;

const MLP: &str = "
    [[layer]]
    kind = 'flatten'
    [[layer]]
    kind = 'linear'
    out_features = 5
    [[layer]]
    kind = 'relu'
    [[layer]]
    kind = 'linear'
    out_features = 3
";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/exchange").join(name)
}

fn mlp(device: &Device) -> Sequential {
    let spec = ModelSpec::parse(MLP).expect("a model");
    Sequential::build(&spec, ImageShape { height: 2, width: 2, channels: 3 }, device).expect("it fits")
}

/// The images that PyTorch was given: `ramp` of `golden/exchange.py`.
fn ramp(shape: [usize; 4], device: &Device) -> Tensor<4> {
    let count = i64::try_from(shape.iter().product::<usize>()).expect("few");
    let numbers = Tensor::<1, Int>::arange(0..count, device);
    ((numbers * 7).remainder_scalar(32).float() / 16 - 1).reshape(shape)
}

/// The largest difference between the model's logits and PyTorch's.
fn difference(model: &Sequential, images: Tensor<4>, name: &str) -> f64 {
    let text = fs::read_to_string(golden("logits.json")).expect("a file");
    let golden: Value = serde_json::from_str(&text).expect("it is JSON");
    let golden: Vec<Vec<f64>> = serde_json::from_value(golden[name].clone()).expect("rows of numbers");
    let logits: Vec<f64> = model.logits(images).into_data().iter::<f64>().collect();
    let golden = golden.concat();
    assert_eq!(logits.len(), golden.len());
    let differences = logits.iter().zip(golden).map(|(ours, theirs)| (ours - theirs).abs());
    // In this order what is no number is the largest of all.
    differences.max_by(f64::total_cmp).expect("there are logits")
}

#[test]
fn every_format_of_pytorch_gives_its_logits() {
    let device = Device::flex();
    let files = [
        ("mlp.pth", "mlp"),
        ("mlp-legacy.pth", "mlp"),
        ("mlp-whole.pth", "mlp"),
        ("mlp-checkpoint.pth", "mlp"),
        ("mlp.safetensors", "mlp"),
        // Of half, double, brain and single floats.
        ("mlp-mixed.safetensors", "mlp-mixed"),
    ];
    for (file, logits) in files {
        let mut model = mlp(&device);
        let images = ramp([4, 3, 2, 2], &device);
        assert!(difference(&model, images.clone(), logits) > 1e-2, "the test sees no difference");
        let state = StateDict::read(&golden(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let clone = model.clone();
        model.load_state_dict(&state).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_ne!(clone.state_dict().expect("the CPU does not fail"), state, "a clone took it too");
        let difference = difference(&model, images, logits);
        assert!(difference < 1e-6, "{file}: {difference}");
    }
}

#[test]
fn what_is_written_is_pytorchs_file_to_the_byte() {
    let file = golden("mlp.safetensors");
    let mut model = mlp(&Device::flex().autodiff());
    model.load_state_dict(&StateDict::read(&file).expect("weights")).expect("they fit");
    let bytes = fs::read(&file).expect("a file");
    assert_eq!(to_bytes(&model).expect("the CPU does not fail"), bytes);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = folder.path().join("model.safetensors");
    fs::write(&copy, "something older").expect("it can be written");
    model.state_dict().expect("the CPU does not fail").write(&copy).expect("it can be written");
    assert_eq!(fs::read(&copy).expect("a file"), bytes);
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "something was left");
    // The folder of a checkpoint stands for its weights.
    assert_eq!(StateDict::read(folder.path()).expect("weights"), StateDict::read(&file).expect("weights"));
}

#[test]
fn what_was_learned_is_learned_on() {
    let device = Device::flex();
    let state = StateDict::read(&golden("mlp.pth")).expect("weights");
    let mut model = mlp(&device.clone().autodiff());
    model.load_state_dict(&state).expect("they fit");
    let gradients = model.logits(ramp([4, 3, 2, 2], &device).autodiff()).sum().backward();
    let gradients = burn::optim::GradientsParams::from_grads(gradients, &model);
    assert_eq!(gradients.len(), 4);
    // A model for one use, and then trained all the same.
    let mut model = mlp(&device);
    model.load_state_dict(&state).expect("they fit");
    let gradients = model.train().logits(ramp([4, 3, 2, 2], &device).autodiff()).sum().backward();
    drop(gradients);
}

const CNN: &str = "
    [[layer]]
    kind = 'conv2d'
    out_channels = 4
    kernel_size = 3
    padding = 1
    bias = false
    [[layer]]
    kind = 'batch-norm'
    [[layer]]
    kind = 'relu'
    [[layer]]
    kind = 'max-pool2d'
    kernel_size = 2
    [[layer]]
    kind = 'flatten'
    [[layer]]
    kind = 'linear'
    out_features = 3
";

#[test]
fn running_statistics_come_from_pytorch_and_go_back() {
    let device = Device::flex();
    let spec = ModelSpec::parse(CNN).expect("a model");
    let shape = ImageShape { height: 4, width: 4, channels: 3 };
    let images = ramp([4, 3, 4, 4], &device);
    let state = StateDict::read(&golden("cnn.pth")).expect("weights");
    for device in [device.clone(), device.clone().autodiff()] {
        let mut model = Sequential::build(&spec, shape, &device).expect("it fits");
        // As if it were trained already.
        model.logits(images.clone().to_device(&device));
        model.load_state_dict(&state).expect("they fit");
        let difference = difference(&model.valid(), images.clone(), "cnn");
        assert!(difference < 1e-6, "{difference}");
        let back = model.state_dict().expect("the CPU does not fail");
        let counted = |name: &&str| !name.ends_with("num_batches_tracked");
        assert!(back.iter().map(|(name, _)| name).eq(state.iter().map(|(name, _)| name).filter(counted)));
        assert!(back.iter().all(|(name, tensor)| state.get(name) == Some(tensor)));
        // What one batch does to them is in the state dict at once.
        if device.is_autodiff() {
            model.logits(images.clone().autodiff());
            let after = model.state_dict().expect("the CPU does not fail");
            assert_ne!(after.get("1.running_mean"), back.get("1.running_mean"));
            assert_ne!(after.get("1.running_var"), back.get("1.running_var"));
        }
    }
}

#[test]
fn a_residual_network_gives_torchvisions_logits() {
    let mut text = include_str!("../../scripts/models/resnet-18.toml").to_owned();
    for (from, to) in [("64", "2"), ("128", "4"), ("256", "6"), ("512", "8")] {
        text = text.replace(&format!("out_channels = {from}"), &format!("out_channels = {to}"));
    }
    let spec = ModelSpec::parse(&text.replace("out_features = 1000", "out_features = 3")).expect("a model");
    let device = Device::flex();
    let shape = ImageShape { height: 33, width: 40, channels: 3 };
    let mut model = Sequential::build(&spec, shape, &device).expect("it fits");
    let file = golden("resnet.safetensors");
    model.load_state_dict(&StateDict::read(&file).expect("weights")).expect("they fit");
    let difference = difference(&model, ramp([2, 3, 33, 40], &device), "resnet");
    assert!(difference < 1e-5, "{difference}");
}

/// A layer whose weight cannot be drawn.
#[derive(Module, Debug)]
struct Undrawn {
    weight: Param<Tensor<1>>,
}

impl Layer for Undrawn {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        Ok(arrives.clone())
    }

    fn forward(&self, x: Activation) -> Activation {
        x
    }

    fn to_torch(&self) -> String {
        "Undrawn()".to_owned()
    }
}

#[test]
fn loading_draws_nothing() {
    let draw = |_: &Device, _| panic!("it was drawn");
    let weight = Param::uninitialized(ParamId::new(), draw, Device::flex(), true, Shape::new([2]));
    let mut model = Sequential::new().push(Undrawn { weight });
    let state: StateDict = [("0.weight".to_owned(), tensor(&[2]))].into_iter().collect();
    model.load_state_dict(&state).expect("it fits");
    assert_eq!(model.state_dict().expect("the CPU does not fail"), state);
}

fn tensor(shape: &[usize]) -> StateTensor {
    StateTensor { shape: shape.to_vec(), numbers: Numbers::Floats(vec![1.0; shape.iter().product()]) }
}

type Tensors = Vec<(String, StateTensor)>;

#[test]
fn what_does_not_fit_is_told_and_nothing_is_taken() {
    let mut model = mlp(&Device::flex());
    let before = to_bytes(&model).expect("the CPU does not fail");
    let good = StateDict::read(&golden("mlp.pth")).expect("weights");
    let mut refused = |change: &dyn Fn(&mut Tensors), expected: Expect| {
        let mut tensors: Vec<_> = good.iter().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
        change(&mut tensors);
        let error = model.load_state_dict(&tensors.into_iter().collect()).expect_err("it does not fit");
        expected.assert_eq(&error.to_string());
        assert_eq!(to_bytes(&model).expect("the CPU does not fail"), before, "something was taken");
    };
    refused(&|tensors| drop(tensors.pop()), expect!["missing `3.weight`"]);
    refused(&|tensors| tensors.clear(), expect!["missing `1.weight`, `1.bias`, `3.weight` and 1 more"]);
    refused(
        &|tensors| {
            tensors.retain(|(name, _)| !name.starts_with('3'));
            tensors.extend(["a", "b", "c", "d", "e"].map(|name| (name.to_owned(), tensor(&[2]))));
            // Counts belong to a batch norm.
            tensors.push(("num_batches_tracked".to_owned(), tensor(&[])));
        },
        expect!["missing `3.weight`, `3.bias`; unexpected `a`, `b`, `c` and 3 more"],
    );
    refused(
        &|tensors| {
            let count = StateTensor { shape: vec![3], numbers: Numbers::Others(safetensors::Dtype::I64) };
            // As burn has it.
            tensors.extend([("3.weight".to_owned(), tensor(&[5, 3])), ("3.bias".to_owned(), count)]);
        },
        expect!["`3.weight` is [5, 3] instead of [3, 5], `3.bias` is of type I64 instead of F32"],
    );
    refused(
        &|tensors| tensors.iter_mut().take(2).for_each(|(name, _)| name.insert_str(0, "module.")),
        expect!["missing `1.weight`, `1.bias`; unexpected `module.1.bias`, `module.1.weight`"],
    );
}

#[test]
fn what_fits_can_be_taken_alone() {
    let mut model = mlp(&Device::flex());
    let before = model.state_dict().expect("the CPU does not fail");
    let state = StateDict::read(&golden("mlp.pth")).expect("weights");
    let of_two_classes = |(name, other): (&str, &StateTensor)| match name {
        "3.weight" => (name.to_owned(), tensor(&[2, 5])),
        "3.bias" => (name.to_owned(), tensor(&[2])),
        _ => (name.to_owned(), other.clone()),
    };
    let left = model.load_what_fits(&state.iter().map(of_two_classes).collect()).expect("one layer fits");
    expect!["`3.weight` is [2, 5] instead of [3, 5], `3.bias` is [2] instead of [3]"].assert_eq(&left.to_string());
    let after = model.state_dict().expect("the CPU does not fail");
    for (name, from) in [("1.weight", &state), ("1.bias", &state), ("3.weight", &before), ("3.bias", &before)] {
        assert_eq!(after.get(name), from.get(name), "{name}");
    }
    let error = model.load_what_fits(&[("x".to_owned(), tensor(&[]))].into_iter().collect());
    expect!["missing `1.weight`, `1.bias`, `3.weight` and 1 more; unexpected `x`"]
        .assert_eq(&error.expect_err("nothing fits").to_string());
}

/// The whole sentence, without the file's folder.
fn refusal(path: &Path) -> String {
    let mut error: &dyn std::error::Error = &StateDict::read(path).expect_err("these are no weights");
    let mut text = error.to_string();
    while let Some(cause) = error.source() {
        text = format!("{text}: {cause}");
        error = cause;
    }
    text.replace(&format!("{}/", path.parent().expect("a folder").display()), "")
}

#[test]
fn what_is_no_file_of_weights_is_told_in_one_sentence() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let check = |bytes: &[u8], expected: Expect| {
        let path = folder.path().join("weights.pth");
        fs::write(&path, bytes).expect("it can be written");
        expected.assert_eq(&refusal(&path));
    };
    expect!["read the weights nothing.pth: No such file or directory (os error 2)"]
        .assert_eq(&refusal(&folder.path().join("nothing.pth")));
    check(
        b"",
        expect![
            "read the weights weights.pth: it is damaged, or neither a safetensors file nor one of torch.save(model.state_dict(), ...): invalid PyTorch file format: not a PyTorch checkpoint: no ZIP, TAR, legacy or pickle header found"
        ],
    );
    check(
        b"These are the weights.",
        expect![
            "read the weights weights.pth: it is damaged, or neither a safetensors file nor one of torch.save(model.state_dict(), ...): invalid PyTorch file format: not a PyTorch checkpoint: no ZIP, TAR, legacy or pickle header found"
        ],
    );
    check(
        b"PK\x03\x04 and no archive",
        expect![
            "read the weights weights.pth: it is damaged, or neither a safetensors file nor one of torch.save(model.state_dict(), ...): zip archive error: invalid Zip archive: Could not find EOCD"
        ],
    );
    // pickle.dumps([1, 2]), and of a dict without tensors.
    check(
        b"\x80\x02]q\x00(K\x01K\x02e.",
        expect![
            "read the weights weights.pth: it is damaged, or neither a safetensors file nor one of torch.save(model.state_dict(), ...): invalid PyTorch file format: Expected a dictionary at the root of the PyTorch file, found list"
        ],
    );
    check(
        b"\x80\x02}q\x00X\x01\x00\x00\x00aK\x01s.",
        expect!["read the weights weights.pth: there is no tensor in it: save model.state_dict()"],
    );
    check(
        b"\x80\x02\xff.",
        expect![
            "read the weights weights.pth: it is damaged, or neither a safetensors file nor one of torch.save(model.state_dict(), ...): pickle: invalid pickle opcode: 0xff. The file may be corrupted or use an unsupported pickle feature."
        ],
    );
    // A call of os.system, as a reader of pickles would make it.
    let witness = folder.path().join("witness");
    let command = format!("touch {}", witness.display());
    let len = u8::try_from(command.len()).expect("a short path");
    let call = [b"cos\nsystem\nX", &[len, 0, 0, 0][..], command.as_bytes(), b"\x85R."].concat();
    check(
        &call,
        expect![
            "read the weights weights.pth: it is damaged, or neither a safetensors file nor one of torch.save(model.state_dict(), ...): invalid PyTorch file format: Expected a dictionary at the root of the PyTorch file, found os.system"
        ],
    );
    assert!(!witness.exists(), "code in a file was run");
    let pickle = fs::read(golden("mlp.pth")).expect("a file");
    check(
        &pickle[..pickle.len() / 2],
        expect![
            "read the weights weights.pth: it is damaged, or neither a safetensors file nor one of torch.save(model.state_dict(), ...): zip archive error: invalid Zip archive: Could not find EOCD"
        ],
    );
    let legacy = fs::read(golden("mlp-legacy.pth")).expect("a file");
    check(
        &legacy[..legacy.len() / 4],
        expect![
            "read the weights weights.pth: it is damaged, or neither a safetensors file nor one of torch.save(model.state_dict(), ...): pickle: IO error: failed to fill whole buffer"
        ],
    );
    let file = fs::read(golden("mlp.safetensors")).expect("a file");
    check(
        &file[..file.len() - 1],
        expect![
            "read the weights weights.pth: the safetensors file is damaged: incomplete metadata, file not fully covered"
        ],
    );
    check(
        &[&(1_u64 << 60).to_le_bytes(), &file[8..]].concat(),
        expect!["read the weights weights.pth: the safetensors file is damaged: header too large"],
    );
    let lie = |header: &str| [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 4]].concat();
    check(
        &lie(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#),
        expect![
            "read the weights weights.pth: the safetensors file is damaged: invalid shape, data type, or offset for tensor"
        ],
    );
    check(
        &lie(r#"{"a":{"dtype":"F32","shape":[2684354560],"data_offsets":[0,10737418240]}}"#),
        expect![
            "read the weights weights.pth: the safetensors file is damaged: incomplete metadata, file not fully covered"
        ],
    );
    check(
        &lie(r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}"#),
        expect![
            "read the weights weights.pth: the safetensors file is damaged: overflow computing buffer size from shape and/or element type"
        ],
    );
    check(
        &lie(r#"{"a":{"dtype":"F128","shape":[1],"data_offsets":[0,4]}}"#),
        expect![
            "read the weights weights.pth: the safetensors file is damaged: invalid JSON in header: unknown variant `F128`, expected one of `BOOL`, `F4`, `F6_E2M3`, `F6_E3M2`, `U8`, `I8`, `F8_E5M2`, `F8_E4M3`, `F8_E8M0`, `F8_E4M3FNUZ`, `F8_E5M2FNUZ`, `I16`, `U16`, `F16`, `BF16`, `I32`, `U32`, `F32`, `C64`, `F64`, `I64`, `U64` at line 1 column 55"
        ],
    );
    let expected = expect![
        "read the weights expanded.pth: its tensors claim 8589934592 bytes, but the file has 1584: save tensors that are contiguous"
    ];
    expected.assert_eq(&refusal(&golden("expanded.pth")));
    expect!["read the weights compressed.pth: parts of the archive are compressed, which torch.save never does: save it anew"]
        .assert_eq(&refusal(&golden("compressed.pth")));
}

#[test]
fn a_file_cut_anywhere_or_with_a_byte_changed_harms_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("weights");
    for name in ["mlp.pth", "mlp-legacy.pth", "mlp.safetensors"] {
        let whole = fs::read(golden(name)).expect("a file");
        for len in (0..whole.len()).step_by(13) {
            fs::write(&path, &whole[..len]).expect("it can be written");
            assert!(StateDict::read(&path).is_err(), "{name} of {len} bytes was taken");
            let mut changed = whole.clone();
            changed[len] ^= 0x41;
            fs::write(&path, &changed).expect("it can be written");
            // Other weights, or none: a byte of a number is anyone's.
            let mut model = mlp(&Device::flex());
            let _ = StateDict::read(&path).map(|state| model.load_state_dict(&state));
            let mut model = mlp(&Device::flex());
            let _ = from_bytes(&mut model, &changed);
        }
    }
}
