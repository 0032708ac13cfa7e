//! That the model files we ship are the networks whose names they bear.

use std::path::Path;

use batchmill_trainer::config::ModelSpec;
use batchmill_trainer::fields::Input;
use batchmill_trainer::model::Sequential;
use batchmill_trainer::registry::Registry;
use burn::tensor::Device;

fn shipped(file: &str, input: &str) -> Sequential {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/models").join(file);
    let (spec, _) = ModelSpec::read(&path, &Registry::builtin()).expect("it is a model file");
    Sequential::build(&spec, input.parse::<Input>().expect("an image shape"), &Device::flex()).expect("it fits")
}

#[test]
fn every_model_file_has_the_parameters_it_is_known_for() {
    let known = [
        ("quickstart-mlp.toml", "28x28x1", 669_706),
        ("small-cnn.toml", "32x32x3", 25_578),
        ("lenet.toml", "28x28x1", 61_706),
        ("vgg.toml", "32x32x3", 307_946),
        ("resnet-18.toml", "224x224x3", 11_689_512),
        ("resnet-18.toml", "32x32x3", 11_689_512),
    ];
    for (file, input, parameters) in known {
        let model = shipped(file, input);
        let learned: usize = model.named_parameters().iter().map(|parameter| parameter.count).sum();
        assert_eq!(learned, parameters, "{file}");
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/models");
    for file in std::fs::read_dir(folder).expect("the folder is there") {
        let file = file.expect("it can be listed").file_name();
        assert!(known.iter().any(|(known, ..)| *known == file), "{file:?} is not listed above");
    }
}

#[test]
fn a_resnet_18_has_torchvisions_names_and_shapes() {
    let golden = include_str!("golden/resnet_18.txt");
    let model = shipped("resnet-18.toml", "224x224x3");
    let found: Vec<_> = model.parameters().iter().map(|tensor| format!("{} {:?}", tensor.name, tensor.shape)).collect();
    assert_eq!(found, golden.lines().collect::<Vec<_>>());
}
