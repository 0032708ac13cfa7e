//! That the seed decides the initial weights, and what dropout draws; a process of its own, because burn's generator is one
//! per process.

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

    // In the same test: another would draw in between.
    let spec = ModelSpec::parse("[[layer]]\nkind = 'flatten'\n[[layer]]\nkind = 'dropout'\n").expect("a model file");
    let input = ImageShape { height: 8, width: 8, channels: 1 };
    let device = device.autodiff();
    let model = Sequential::build(&spec, input, &device).expect("it fits");
    let dropped = |seed| {
        device.seed(seed);
        model.logits(Tensor::<4>::ones([2, 1, 8, 8], &device)).into_data()
    };
    assert_eq!(dropped(1), dropped(1));
    assert_ne!(dropped(1), dropped(2));
}
