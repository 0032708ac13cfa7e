//! Weights out of a file, for a training to begin with: `--init`.

use std::path::PathBuf;

use thiserror::Error;

use crate::cli::FitArgs;
use crate::model::Sequential;
use crate::report::Report;
use crate::state::{Mismatch, StateDict, StateError};

/// Why a training cannot begin with the weights of a file.
#[derive(Debug, Error)]
pub enum InitError {
    /// It cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// It is of another model.
    #[error(
        "begin with the weights {}: the model is another: {mismatch}: change the model file, or take what fits with \
         --init-partial",
        path.display()
    )]
    Other {
        /// The file.
        path: PathBuf,
        /// How the two differ.
        mismatch: Mismatch,
    },
    /// Not even a part of it fits.
    #[error("begin with the weights {}: nothing of them fits the model: {mismatch}", path.display())]
    Nothing {
        /// The file.
        path: PathBuf,
        /// How the two differ.
        mismatch: Mismatch,
    },
}

/// Puts the weights of `--init`, if there is one, into a model that has learned nothing.
///
/// # Errors
/// [`InitError`]; the model is then as it was.
pub(super) fn begin_with(model: &mut Sequential, args: &FitArgs, report: &Report) -> Result<(), InitError> {
    let Some(path) = &args.init else { return Ok(()) };
    let state = StateDict::read(path)?;
    if !args.init_partial {
        let other = |mismatch| InitError::Other { path: path.clone(), mismatch };
        return model.load_state_dict(&state).map_err(other);
    }
    let nothing = |mismatch| InitError::Nothing { path: path.clone(), mismatch };
    let left = model.load_what_fits(&state).map_err(nothing)?;
    if !left.is_empty() {
        report.note(&format!("of the weights {} only what fits is taken: {left}", path.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use clap::Parser;
    use expect_test::{Expect, expect};

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::config::ModelSpec;
    use crate::shape::ImageShape;

    fn model(outputs: usize) -> Sequential {
        let layers = format!("[[layer]]\nkind = 'flatten'\n[[layer]]\nkind = 'linear'\nout_features = {outputs}\n");
        let head = "[[layer]]\nkind = 'linear'\nout_features = 2\n";
        let spec = ModelSpec::parse(&format!("{layers}{head}")).expect("a model");
        Sequential::build(&spec, ImageShape { height: 2, width: 2, channels: 1 }, &Device::flex()).expect("it fits")
    }

    #[test]
    fn weights_of_another_model_are_refused_or_taken_in_part() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("weights.safetensors");
        let given = model(3).state_dict().expect("the CPU does not fail");
        given.write(&path).expect("it can be written");
        let begin = |model: &mut Sequential, more: &[&str]| {
            let init = path.display().to_string();
            let line = [&["trainer", "fit", "--model", "m.toml", "--init", &init], more].concat();
            let Command::Fit(args) = Cli::try_parse_from(line).expect("a command line").command else {
                panic!("it says fit");
            };
            let begun = begin_with(model, &args, &Report::new(None, true));
            begun.map_err(|error| error.to_string().replace(&folder.path().display().to_string(), "DIR"))
        };
        let mut same = model(3);
        begin(&mut same, &[]).expect("it is the same");
        assert_eq!(same.state_dict().expect("the CPU does not fail"), given);

        let mut wider = model(4);
        let refused =
            |result: Result<(), String>, expected: Expect| expected.assert_eq(&result.expect_err("it differs"));
        refused(
            begin(&mut wider, &[]),
            expect![
                "begin with the weights DIR/weights.safetensors: the model is another: `1.weight` is [3, 4] instead of [4, 4], `1.bias` is [3] instead of [4], `2.weight` is [2, 3] instead of [2, 4]: change the model file, or take what fits with --init-partial"
            ],
        );
        begin(&mut wider, &["--init-partial"]).expect("the last bias fits");
        let taken = wider.state_dict().expect("the CPU does not fail");
        assert_eq!(taken.get("2.bias"), given.get("2.bias"));
        refused(
            begin(&mut Sequential::new().linear(1, 1), &["--init-partial"]),
            expect![
                "begin with the weights DIR/weights.safetensors: nothing of them fits the model: missing `0.weight`, `0.bias`; unexpected `1.bias`, `1.weight`, `2.bias` and 1 more"
            ],
        );
    }

    #[test]
    fn weights_are_for_a_beginning() {
        let line = ["trainer", "fit", "--model", "m.toml"];
        for wrong in [&["--init", "w.pth", "--resume"][..], &["--init-partial"]] {
            assert!(Cli::try_parse_from(line.iter().chain(wrong)).is_err(), "{wrong:?} was taken");
        }
    }
}
