//! That the seed decides the initial weights; a process of its own, because burn's generator is one per process.

use batchmill_trainer::config::ModelSpec;
use batchmill_trainer::model::Sequential;
use batchmill_trainer::shape::ImageShape;
use burn::tensor::{Device, Tensor};

#[test]
fn initial_weights_follow_the_seed() {
    let text = "[[layer]]\nkind = 'flatten'\n[[layer]]\nkind = 'linear'\nout_features = 10\n";
    let spec = ModelSpec::parse(text).expect("a model file");
    let input = ImageShape { height: 2, width: 2, channels: 1 };
    let device = Device::flex();
    let logits = |seed| {
        device.seed(seed);
        let model = Sequential::build(&spec, input, &device).expect("it fits");
        model.logits(Tensor::<4>::ones([1, 1, 2, 2], &device)).into_data()
    };
    assert_eq!(logits(1), logits(1));
    assert_ne!(logits(1), logits(2));
}
