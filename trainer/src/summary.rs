//! `trainer summary`: every parameter of a model file, by name.

use serde::Serialize;
use thiserror::Error;

use crate::cli::SummaryArgs;
use crate::config::{ConfigError, ModelSpec};
use crate::fields::Input;
use crate::model::{ModelError, Sequential};
use crate::report::{json, say};

/// Why there is no summary.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "each is the error of the room it names")]
pub enum SummaryError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("build the model of {model}")]
    Model { model: String, source: Box<ModelError> },
    /// Nobody says what images the model is for.
    #[error(
        "the parameters depend on the size of the images, which {model} does not say: add --input and their height, \
         width and channels, such as --input 28x28x1, or begin the file with a line input = [28, 28, 1]"
    )]
    NoInput {
        /// The file.
        model: String,
    },
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Total {
    total: usize,
}

/// Prints the model, its parameters and their sum.
///
/// # Errors
/// [`SummaryError`].
pub fn run(args: &SummaryArgs) -> Result<(), SummaryError> {
    let file = || args.model.display().to_string();
    let (spec, _) = ModelSpec::read(&args.model)?;
    let stated = spec.input.as_deref().map(Input::assumed);
    let input = args.input.clone().or(stated).ok_or_else(|| SummaryError::NoInput { model: file() })?;
    // Parameters are not made until they are used: this takes no memory, however large the model.
    let model = Sequential::build(&spec, input, &burn::tensor::Device::flex())
        .map_err(|source| SummaryError::Model { model: file(), source: Box::new(source) })?;
    let parameters = model.parameters();
    let total = parameters.iter().map(|parameter| parameter.count).sum();
    if args.json {
        parameters.iter().for_each(json);
        json(&Total { total });
        return Ok(());
    }
    say(&model.to_string());
    let widest = parameters.iter().map(|parameter| parameter.name.len()).max().unwrap_or(0);
    for parameter in &parameters {
        let shape = format!("{:?}", parameter.shape);
        say(&format!("{:<widest$}  {shape:<20} {:>12}", parameter.name, parameter.count));
    }
    say(&format!("{:<widest$}  {:<20} {total:>12}", "total", ""));
    Ok(())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_file_without_an_input_says_how_to_give_one() {
        for model in ["quickstart-mlp.toml", "small-cnn.toml"] {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/models").join(model);
            let args = SummaryArgs { model: path, input: None, json: false };
            let error = run(&args).expect_err("it is for images of any size").to_string();
            expect!["the parameters depend on the size of the images, which FILE does not say: add --input and their height, width and channels, such as --input 28x28x1, or begin the file with a line input = [28, 28, 1]"]
                .assert_eq(&error.replace(&args.model.display().to_string(), "FILE"));
        }
    }
}
