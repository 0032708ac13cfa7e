//! Tests of what a batch, a step and a checkpoint between them leave.

use expect_test::{Expect, expect};
use toml::de::DeTable;

use super::testing::{classes, images, largest_difference, model, numbers_of};
use super::*;
use crate::loss::Target;

const BATCHES: Batches = Batches { per_epoch: 5, epochs: 2 };

fn spec(text: &str) -> Result<LearnSpec, Mistake> {
    let document = DeTable::parse(text).expect("it is TOML");
    let mut root = Section::new(text, "the file".to_owned(), document.span(), document.get_ref());
    let spec = LearnSpec::parse(&mut root)?;
    root.finish()?;
    Ok(spec)
}

fn learner(text: &str) -> Learner {
    let spec = spec(text).expect("it is right");
    Learner::new(&spec, 3, BATCHES, &Device::flex()).expect("it fits")
}

/// Batch `step` of epoch `epoch`, four rows each; the last has only one.
fn learn(learner: &mut Learner, model: Sequential, epoch: u64, step: u64) -> (Sequential, Option<Stepped>) {
    let first = u16::try_from(4 * (5 * epoch + step)).expect("small");
    let rows = if step == 4 { first..first + 1 } else { first..first + 4 };
    let count = rows.len();
    let output = model.logits(images(rows.clone()).autodiff());
    let loss = learner.loss().forward(output, Target::Classes(classes(rows)));
    let gradients = Gradients::of(&loss, &model);
    learner.learn(model, gradients, count, Position { epoch, step })
}

#[test]
fn accumulated_batches_are_one_larger_batch() {
    let sgd = "[optimizer]\nkind = 'sgd'\nlr = 0.5\n[train]\naccumulate = ";
    let first = model(&[5, 3]);
    let (mut small, mut learner_of_small) = (first.clone(), learner(&format!("{sgd}5")));
    for step in 0..5 {
        let stepped;
        (small, stepped) = learn(&mut learner_of_small, small, 0, step);
        assert_eq!(stepped.is_some(), step == 4, "{step}");
    }
    // 4 + 4 + 4 + 4 + 1 rows: each counts the same.
    let mut large = learner(&format!("{sgd}1"));
    let output = first.logits(images(0..17).autodiff());
    let loss = large.loss().forward(output, Target::Classes(classes(0..17)));
    let gradients = Gradients::of(&loss, &first);
    let (large, _) = large.learn(first.clone(), gradients, 17, Position { epoch: 0, step: 4 });
    let difference = largest_difference(&numbers_of(&small), &numbers_of(&large), 1e-2);
    assert!(difference < 1e-5, "{difference}");
    assert!(largest_difference(&numbers_of(&small), &numbers_of(&first), 1e-2) > 1e-2);
}

#[test]
fn what_is_left_over_at_the_end_of_an_epoch_makes_a_step() {
    let (mut model, mut learner) = (model(&[3]), learner("[train]\naccumulate = 2"));
    let mut steps = Vec::new();
    for (epoch, step) in [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1)] {
        let stepped;
        (model, stepped) = learn(&mut learner, model, epoch, step);
        steps.push(stepped.map(|stepped| stepped.step));
    }
    assert_eq!(steps, [None, Some(0), None, Some(1), Some(2), None, Some(3)]);
}

#[test]
fn a_batch_without_a_row_may_complete_a_step() {
    let (model, mut learner) = (model(&[3]), learner("[train]\naccumulate = 2"));
    let before = numbers_of(&model);
    let (model, stepped) = learner.pass(model, Position { epoch: 0, step: 0 });
    assert!(stepped.is_none());
    let (model, stepped) = learner.pass(model, Position { epoch: 0, step: 1 });
    assert!(stepped.is_none() && numbers_of(&model) == before, "there was nothing to learn from");
    let (model, stepped) = learn(&mut learner, model, 0, 2);
    assert!(stepped.is_none() && numbers_of(&model) == before, "it waits for the other");
    let (model, stepped) = learner.pass(model, Position { epoch: 0, step: 3 });
    assert_eq!(stepped.map(|stepped| stepped.step), Some(1));
    assert_ne!(numbers_of(&model), before);
}

#[test]
fn a_checkpoint_at_any_batch_changes_no_bit() {
    let kinds =
        ["sgd'\nmomentum = 0.9", "adam'\nweight_decay = 0.1", "adamw'", "rmsprop'\nmomentum = 0.9\ncentered = true"];
    for kind in kinds {
        let text = format!(
            "[optimizer]\nkind = '{kind}\n[schedule]\nkind = 'cosine'\nunit = 'step'\nwarmup = 2\n\
             [train]\naccumulate = 3\nclip_norm = 0.1\nclip_value = 0.05\n"
        );
        let first = model(&[5, 3]);
        let positions = || (0..2).flat_map(|epoch| (0..5).map(move |step| (epoch, step)));
        let (mut straight, mut learner_of_straight) = (first.clone(), learner(&text));
        let (mut resumed, mut learner_of_resumed) = (first.clone(), learner(&text));
        for (epoch, step) in positions() {
            (straight, _) = learn(&mut learner_of_straight, straight, epoch, step);
            (resumed, _) = learn(&mut learner_of_resumed, resumed, epoch, step);
            let bytes = learner_of_resumed.to_bytes(&resumed).expect("it fits into a file");
            learner_of_resumed = learner(&text);
            learner_of_resumed.restore(&bytes, &resumed, &Device::flex()).expect("it was written for it");
            assert_eq!(learner_of_resumed.to_bytes(&resumed).expect("it fits into a file"), bytes);
        }
        assert_eq!(numbers_of(&resumed), numbers_of(&straight), "{kind}");
        assert_ne!(numbers_of(&resumed), numbers_of(&first), "{kind}");
        // And in another run.
        let (mut again, mut learner_of_again) = (first.clone(), learner(&text));
        for (epoch, step) in positions() {
            (again, _) = learn(&mut learner_of_again, again, epoch, step);
        }
        assert_eq!(numbers_of(&again), numbers_of(&straight), "{kind}");
    }
}

#[test]
fn a_step_says_its_rate_and_how_long_the_gradients_were() {
    let text =
        "[optimizer]\nkind = 'sgd'\nlr = 0.5\n[schedule]\nkind = 'step'\nstep_size = 1\n[train]\nclip_norm = 1e-3\n";
    let (first, mut learner) = (model(&[3]), learner(text));
    let before = numbers_of(&first);
    let (after, stepped) = learn(&mut learner, first, 1, 2);
    let Stepped { step, rate, norm } = stepped.expect("each batch is a step");
    assert_eq!((step, rate), (7, 0.05));
    assert_eq!(rate, learner.rate(Position { epoch: 1, step: 2 }));
    let norm: f32 = norm.expect("it clips").into_scalar();
    assert!(norm > 0.01, "{norm}");
    // Clipped, the gradients are 1e-3 long, and so the step is 0.05 times that.
    let squares = numbers_of(&after).into_iter().zip(before).map(|(after, before)| f64::from(after - before).powi(2));
    let length = squares.sum::<f64>().sqrt();
    assert!((length - 5e-5).abs() < 1e-6, "{length}");
}

#[test]
fn what_waits_for_another_model_is_refused() {
    let (first, mut learner) = (model(&[3]), learner("[train]\naccumulate = 2"));
    let (first, _) = learn(&mut learner, first, 0, 0);
    let bytes = learner.to_bytes(&first).expect("it fits into a file");
    let error = learner.restore(&bytes, &model(&[4]), &Device::flex()).expect_err("it is of another");
    expect!["`1.bias.grad` is not what this model's optimizer remembers"].assert_eq(&error.to_string());
}

#[test]
fn what_is_wrong_in_a_training_is_said() {
    let check = |text: &str, expected: Expect| {
        let mistake = spec(text).map_or_else(|mistake| mistake.to_string(), |_| "nothing".to_owned());
        expected.assert_eq(&mistake);
    };
    check("", expect!["nothing"]);
    check("[train]\nacumulate = 2", expect!["line 2: unknown key `acumulate` in [train]: did you mean `accumulate`?"]);
    check("[train]\naccumulate = 0", expect!["line 2: `accumulate` is 0: it must be a whole number from 1 to 1048576"]);
    check("[train]\nclip_norm = 0", expect!["line 2: `clip_norm` is 0: it must be above 0"]);
    check("[train]\nclip_value = -0.5", expect!["line 2: `clip_value` is -0.5: it must be above 0"]);
    check(
        "[train]\nearly_stopping = 3",
        expect!["line 2: `early_stopping` is 3: it must be a table, such as { patience = 5 }"],
    );
    check("[train]\nearly_stopping = {}", expect!["line 2: early_stopping has no `patience`"]);
    check(
        "[train]\nearly_stopping = { metric = 'test_acc', patience = 3 }",
        expect![
            "line 2: unknown metric of early_stopping `test_acc`: it may be `train_loss`, `test_loss`, `test_accuracy`, `test_mae`, `test_rmse`"
        ],
    );
    check(
        "[train]\nearly_stopping = { patience = 3, mode = 'mix' }",
        expect!["line 2: unknown mode of early_stopping `mix`: did you mean `max`?"],
    );
    check(
        "[optimizer]\nkind = 'sgd'\n[optimiser]\n",
        expect!["line 3: unknown key `optimiser` in the file: did you mean `optimizer`?"],
    );
    check("[schedule]\nkind = 'exponential'\n", expect!["line 1: [schedule] (exponential) has no `gamma`"]);
    let early = "early_stopping = { patience = 3, metric";
    check(
        &format!("[loss]\nkind = 'mse'\n[train]\n{early} = 'test_accuracy' }}"),
        expect!["line 3: `train` has early_stopping by a metric that a loss of numbers has not: take test_loss"],
    );
    check(
        &format!("[train]\n{early} = 'test_rmse' }}"),
        expect!["line 1: `train` has early_stopping by a metric that a loss of classes has not: take test_loss"],
    );
    check(&format!("[loss]\nkind = 'l1'\n[train]\n{early} = 'test_rmse' }}"), expect!["nothing"]);
    check("loss = 'mse'", expect![[r#"line 1: `loss` is "mse": it must be [loss]"#]]);
}
