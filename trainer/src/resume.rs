//! Where a training begins: with what was typed, or with a checkpoint that fits it.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use batchmill_protocol::identity::Identity;
use batchmill_protocol::position::Position;
use burn::tensor::Device;
use thiserror::Error;

use crate::checkpoint::best::{Best, Criterion};
use crate::checkpoint::{self, CheckpointError, Memory, Metrics};
use crate::cli::FitArgs;
use crate::config::ModelSpec;
use crate::fields::Input;
use crate::learn::{LearnSpec, Standing};
use crate::model::Sequential;
use crate::optimizer::OptimizerSpec;
use crate::registry::Registry;

/// Why a training cannot go on from a checkpoint.
#[derive(Debug, Error)]
pub enum ResumeError {
    /// There is none.
    #[error(
        "resume from {}: there is no checkpoint: leave --resume out to begin, or name the folder of a run with --out",
        dir.display()
    )]
    Absent {
        /// Where.
        dir: PathBuf,
    },
    /// It was trained in another way.
    #[error(
        "resume from {}: it was trained with {flag} {was}, not {is}: give that, or train anew with another --out",
        dir.display()
    )]
    OtherFlag {
        /// Where.
        dir: PathBuf,
        /// What differs.
        flag: &'static str,
        /// In the checkpoint.
        was: String,
        /// As typed now.
        is: String,
    },
    /// It is of another model.
    #[error(
        "resume from {}: it is another model than {} says: give {}, or train anew with another --out",
        dir.display(), given.display(), own.display()
    )]
    OtherModel {
        /// Where.
        dir: PathBuf,
        /// The file of `--model`.
        given: PathBuf,
        /// The file in the checkpoint.
        own: PathBuf,
    },
    /// It learned in another way, and what it remembers does not serve this one.
    #[error(
        "resume from {}: it was trained with another {what} than {} says: give that of {}, or train anew with another \
         --out",
        dir.display(), given.display(), own.display()
    )]
    OtherLearning {
        /// Where.
        dir: PathBuf,
        /// The table of the file, or a key of it.
        what: &'static str,
        /// The file of `--model`.
        given: PathBuf,
        /// The file in the checkpoint.
        own: PathBuf,
    },
    /// The stream's samples have changed.
    #[error(
        "resume from {}: it was trained on samples of {was}, those of stream `{stream}` are {is}: give them the \
         transforms that they had, or train anew with another --out",
        dir.display()
    )]
    OtherSamples {
        /// Where.
        dir: PathBuf,
        /// In the checkpoint.
        was: Input,
        /// The stream.
        stream: String,
        /// As it delivers them now.
        is: Input,
    },
    /// It cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// How a model learns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// What it learns with.
    pub optimizer: OptimizerSpec,
    /// The seed of the initial parameters and of dropout.
    pub seed: u64,
}

/// Where a training begins.
#[derive(Debug)]
pub struct Beginning {
    /// How it learns.
    pub settings: Settings,
    /// Up to where it was trained, as [`About::position`](checkpoint::About) has it.
    pub position: Position,
    /// The first batch to train on.
    pub next: Position,
    /// The field that the model computes from, where one is named.
    pub input: Option<String>,
    /// The field that it should answer, where one is named.
    pub target: Option<String>,
    /// What the model file says of learning that was not so before, and is from now on.
    pub changed: Vec<&'static str>,
    /// What was trained before, if anything.
    pub trained: Option<Trained>,
}

/// What a checkpoint holds to go on with.
#[derive(Debug)]
pub struct Trained {
    /// What its stream was.
    pub identity: Identity,
    /// How well it did.
    pub metrics: Metrics,
    /// What the checkpoints of its run are compared by.
    pub criterion: Criterion,
    /// The best of its run so far.
    pub best: Option<Best>,
    /// How early stopping stands.
    pub early_stopping: Standing,
    dir: PathBuf,
    input: Input,
    model: Sequential,
    memory: Memory,
}

impl Beginning {
    /// At the stream's first batch, or where `args` say: with the `newest` checkpoint in `--out`, which must be one of the
    /// model `spec`.
    ///
    /// # Errors
    /// [`ResumeError`] when that is not there, or was trained in another way than `args` ask for.
    pub fn of(
        args: &FitArgs,
        newest: Option<&Path>,
        spec: &ModelSpec,
        registry: &Registry,
        device: &Device,
    ) -> Result<Self, ResumeError> {
        if args.resume {
            let dir = newest.ok_or_else(|| ResumeError::Absent { dir: args.out.clone() })?;
            return Self::resumed(args, dir, spec, registry, device);
        }
        let settings = Settings {
            optimizer: spec.learn.optimizer.or_typed(args.optimizer, args.lr),
            seed: args.seed.unwrap_or_default(),
        };
        let position = Position::default();
        let (input, target) = (args.input.clone(), args.target.clone());
        Ok(Self { settings, position, next: position, input, target, changed: Vec::new(), trained: None })
    }

    fn resumed(
        args: &FitArgs,
        dir: &Path,
        spec: &ModelSpec,
        registry: &Registry,
        device: &Device,
    ) -> Result<Self, ResumeError> {
        let (restored, memory) = checkpoint::load_training(dir, registry, device)?;
        let (about, dir) = (restored.about, dir.to_path_buf());
        let agree = Agree { dir: &dir };
        agree.on("--stream", &about.stream, Some(&args.stream))?;
        agree.on("--input", &about.input.name, args.input.as_ref())?;
        agree.on("--target", &about.target.name, args.target.as_ref())?;
        agree.on("--optimizer", &about.optimizer.kind(), args.optimizer.as_ref())?;
        agree.on("--seed", &about.seed, args.seed.as_ref())?;
        agree.on("--best", &about.criterion.by(), args.best.as_ref())?;
        if !spec.is_same(&restored.spec) {
            return Err(ResumeError::OtherModel { dir, given: args.model.clone(), own: restored.model_file });
        }
        // To learn in another way is a wish, not a mistake, as long as what was remembered serves.
        let optimizer = match &spec.learn.optimizer {
            same if *same == restored.spec.learn.optimizer => about.optimizer,
            changed => *changed,
        };
        agree.on("[optimizer] kind", &about.optimizer.kind(), Some(&optimizer.kind()))?;
        let before = LearnSpec { optimizer: about.optimizer, ..restored.spec.learn };
        let changes = LearnSpec { optimizer, ..spec.learn.clone() }.changes_since(&before);
        if let Some(what) = changes.unfit {
            return Err(ResumeError::OtherLearning { dir, what, given: args.model.clone(), own: restored.model_file });
        }
        let settings = Settings { optimizer: optimizer.or_typed(None, args.lr), seed: about.seed };
        let position = about.position;
        let next = match position.step {
            // Only that epoch's test is left.
            step if step == about.epoch_steps => Position { epoch: position.epoch + 1, step: 0 },
            _ => position,
        };
        let trained = Trained {
            identity: about.identity,
            metrics: about.metrics,
            criterion: about.criterion,
            best: about.best,
            early_stopping: about.early_stopping,
            dir,
            input: restored.input,
            model: restored.model,
            memory,
        };
        let (input, target) = (Some(about.input.name), Some(about.target.name));
        Ok(Self { settings, position, next, input, target, changed: changes.from_now_on, trained: Some(trained) })
    }
}

impl Trained {
    /// The model, and what its learner remembered, when the samples of `stream` are still those that it takes.
    ///
    /// # Errors
    /// [`ResumeError::OtherSamples`].
    pub fn for_samples(self, stream: &str, input: &Input) -> Result<(Sequential, Memory), ResumeError> {
        if *input == self.input {
            return Ok((self.model, self.memory));
        }
        Err(ResumeError::OtherSamples { dir: self.dir, was: self.input, stream: stream.to_owned(), is: input.clone() })
    }
}

/// Checks that what was typed, if anything, is what the checkpoint in `dir` was trained with.
struct Agree<'a> {
    dir: &'a Path,
}

impl Agree<'_> {
    fn on<T: PartialEq + Display>(&self, flag: &'static str, was: &T, is: Option<&T>) -> Result<(), ResumeError> {
        match is.filter(|is| *is != was) {
            Some(is) => {
                let (dir, was, is) = (self.dir.to_path_buf(), was.to_string(), is.to_string());
                Err(ResumeError::OtherFlag { dir, flag, was, is })
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use batchmill_protocol::tensor::{Dtype, FieldSpec, Shape};
    use clap::Parser;
    use expect_test::{Expect, expect};

    use super::*;
    use crate::checkpoint::{About, FORMAT, Versions};
    use crate::cli::{Cli, Command};
    use crate::learn::{Batches, Learner};
    use crate::metrics::LossSum;
    use crate::optimizer::OptimizerKind;
    use crate::shape::ImageShape;

    const TEXT: &str = "[[layer]]\nkind = 'flatten'\n[[layer]]\nkind = 'linear'\nout_features = 3\n";
    const INPUT: ImageShape = ImageShape { height: 2, width: 3, channels: 1 };

    fn args(out: &Path, more: &[&str]) -> FitArgs {
        let out = out.display().to_string();
        let line = [&["trainer", "fit", "--model", "m.toml", "--out", &out], more].concat();
        match Cli::try_parse_from(line).expect("a command line").command {
            Command::Fit(args) => *args,
            _ => panic!("it says fit"),
        }
    }

    fn save(dir: &Path, step: u64) {
        save_text(dir, step, TEXT, OptimizerSpec { lr: 0.25, ..OptimizerSpec::of(OptimizerKind::Sgd) });
    }

    fn save_text(dir: &Path, step: u64, text: &str, optimizer: OptimizerSpec) {
        let spec = ModelSpec::parse(text).expect("a model");
        let model = Sequential::build(&spec, INPUT, &Device::flex()).expect("it fits");
        let about = About {
            format: FORMAT,
            stream: "train".to_owned(),
            spec_hash: "abc".to_owned(),
            identity: [("batch_size".to_owned(), "64".to_owned())].into_iter().collect(),
            stream_seed: 1,
            seed: 2,
            position: Position { epoch: 1, step },
            epoch_steps: 9,
            classes: Vec::new(),
            input: FieldSpec::new("image", Dtype::U8, [2, 3, 1]),
            target: FieldSpec::new("label", Dtype::I64, Shape::default()),
            transforms: Vec::new(),
            view: Default::default(),
            optimizer,
            metrics: Metrics { train: LossSum { sum: 4.5, rows: 9 }, test: None },
            criterion: Criterion::TestLoss,
            best: None,
            early_stopping: Standing::default(),
            versions: Versions::current(),
        };
        std::fs::create_dir_all(dir).expect("it can be made");
        let learn = LearnSpec { optimizer: about.optimizer, ..spec.learn };
        let batches = Batches { per_epoch: 9, epochs: 2 };
        let learner = Learner::new(&learn, 3, batches, &Device::flex()).expect("it fits");
        checkpoint::write(dir, &model, &learner, text, &about).expect("it can be written");
    }

    #[test]
    fn what_was_not_typed_is_the_default_or_the_checkpoints() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let out = folder.path().join("checkpoint");
        save(&out, 7);
        let spec = ModelSpec::parse(&format!("# The same.\n{TEXT}")).expect("a model");
        let begin = |more: &[&str]| {
            Beginning::of(&args(&out, more), Some(&out), &spec, &Registry::builtin(), &Device::flex())
                .expect("they agree")
        };

        let anew = begin(&[]);
        let settings = |kind, lr, seed| Settings { optimizer: OptimizerSpec { lr, ..OptimizerSpec::of(kind) }, seed };
        assert_eq!(anew.settings, settings(OptimizerKind::Adam, 1e-3, 0));
        assert!(anew.position == Position::default() && anew.trained.is_none());

        let resumed = begin(&["--resume"]);
        assert_eq!(resumed.settings, settings(OptimizerKind::Sgd, 0.25, 2));
        assert_eq!((resumed.position, resumed.next), (Position { epoch: 1, step: 7 }, Position { epoch: 1, step: 7 }));
        assert_eq!((resumed.input.as_deref(), resumed.target.as_deref()), (Some("image"), Some("label")));
        let resumed = begin(&["--resume", "--lr", "0.5", "--optimizer", "sgd", "--seed", "2"]);
        assert_eq!(resumed.settings, settings(OptimizerKind::Sgd, 0.5, 2));

        let trained = resumed.trained.expect("it was");
        assert_eq!(trained.identity.0[0].name, "batch_size");
        let other = ImageShape { channels: 3, ..INPUT };
        let error = trained.for_samples("train", &other.into()).expect_err("the images have changed").to_string();
        expect!["resume from DIR/checkpoint: it was trained on samples of 2x3x1, those of stream `train` are 2x3x3: give them the transforms that they had, or train anew with another --out"].assert_eq(&error.replace(&folder.path().display().to_string(), "DIR"));
        let trained = begin(&["--resume"]).trained.expect("it was");
        trained.for_samples("train", &INPUT.into()).expect("the images are the same");
    }

    #[test]
    fn an_epoch_of_which_the_test_is_left_has_no_batch_left() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        save(folder.path(), 9);
        let spec = ModelSpec::parse(TEXT).expect("a model");
        let args = args(folder.path(), &["--resume"]);
        let resumed = Beginning::of(&args, Some(folder.path()), &spec, &Registry::builtin(), &Device::flex())
            .expect("they agree");
        assert_eq!((resumed.position, resumed.next), (Position { epoch: 1, step: 9 }, Position { epoch: 2, step: 0 }));
    }

    #[test]
    fn a_checkpoint_that_does_not_fit_what_was_typed_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let out = folder.path().join("checkpoint");
        let check = |text: &str, more: &[&str], expected: Expect| {
            let spec = ModelSpec::parse(text).expect("a model");
            let args = args(&out, &[&["--resume"], more].concat());
            let newest = out.exists().then_some(out.as_path());
            let error = Beginning::of(&args, newest, &spec, &Registry::builtin(), &Device::flex())
                .expect_err("it does not fit")
                .to_string();
            expected.assert_eq(&error.replace(&folder.path().display().to_string(), "DIR"));
        };
        check(
            TEXT,
            &[],
            expect![
                "resume from DIR/checkpoint: there is no checkpoint: leave --resume out to begin, or name the folder of a run with --out"
            ],
        );
        save(&out, 7);
        check(
            TEXT,
            &["--stream", "other"],
            expect![
                "resume from DIR/checkpoint: it was trained with --stream train, not other: give that, or train anew with another --out"
            ],
        );
        check(
            TEXT,
            &["--target", "age"],
            expect![
                "resume from DIR/checkpoint: it was trained with --target label, not age: give that, or train anew with another --out"
            ],
        );
        check(
            TEXT,
            &["--optimizer", "adam"],
            expect![
                "resume from DIR/checkpoint: it was trained with --optimizer sgd, not adam: give that, or train anew with another --out"
            ],
        );
        check(
            TEXT,
            &["--seed", "3"],
            expect![
                "resume from DIR/checkpoint: it was trained with --seed 2, not 3: give that, or train anew with another --out"
            ],
        );
        check(
            TEXT,
            &["--best", "accuracy", "--eval", "test"],
            expect![
                "resume from DIR/checkpoint: it was trained with --best loss, not accuracy: give that, or train anew with another --out"
            ],
        );
        check(
            &TEXT.replace('3', "4"),
            &[],
            expect![
                "resume from DIR/checkpoint: it is another model than m.toml says: give DIR/checkpoint/model.toml, or train anew with another --out"
            ],
        );
    }

    #[test]
    fn another_way_to_learn_is_told_or_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let out = folder.path().join("checkpoint");
        let learns = "[optimizer]\nkind = 'sgd'\nmomentum = 0.5\n[schedule]\nkind = 'cosine'\n\
            [train]\naccumulate = 2\nclip_norm = 1\nearly_stopping = { patience = 3 }\n";
        let text = format!("{TEXT}{learns}");
        let optimizer = ModelSpec::parse(&text).expect("a model").learn.optimizer;
        save_text(&out, 7, &text, optimizer);
        let begin = |from: &str, to: &str| {
            let spec = ModelSpec::parse(&text.replace(from, to)).expect("a model");
            let begun =
                Beginning::of(&args(&out, &["--resume"]), Some(&out), &spec, &Registry::builtin(), &Device::flex());
            let said = begun.map(|begun| begun.changed.join(", ")).map_err(|error| error.to_string());
            said.unwrap_or_else(|error| error.replace(&folder.path().display().to_string(), "DIR"))
        };
        assert_eq!(begin("patience = 3", "patience = 9"), "");
        assert_eq!(begin("cosine", "constant"), "[schedule]");
        assert_eq!(begin("momentum = 0.5", "momentum = 0.25"), "[optimizer]");
        assert_eq!(begin("clip_norm = 1", "clip_value = 1"), "[train] clip_norm, [train] clip_value");
        expect!["resume from DIR/checkpoint: it was trained with another [loss] than m.toml says: give that of DIR/checkpoint/model.toml, or train anew with another --out"]
            .assert_eq(&begin("[train]", "[loss]\nlabel_smoothing = 0.1\n[train]"));
        for (from, to, what) in [
            ("momentum = 0.5", "momentum = 0", "[optimizer] momentum or centered"),
            ("accumulate = 2", "accumulate = 4", "[train] accumulate"),
            ("patience = 3", "patience = 3, metric = 'train_loss'", "[train] early_stopping"),
            ("patience = 3", "patience = 3, mode = 'max'", "[train] early_stopping"),
        ] {
            let said = begin(from, to);
            assert!(said.contains(&format!(": it was trained with another {what} than m.toml says: ")), "{said}");
        }
    }
}
