//! The model file, `model.toml`: read once, refused by line and key where it is wrong.
//!
//! ```toml
//! input = [28, 28, 1]            # optional: extents of a sample, of images height, width, channels; checked
//!
//! [normalize]                    # optional; on the device: (byte * scale - mean) / std
//! scale = 0.00392156862745098    # default 1/255
//! mean = [0.2860]                # default 0; one number, or one per channel
//! std = [0.3530]                 # default 1; one number, or one per channel
//!
//! [[layer]]
//! kind = "flatten"
//!
//! [[layer]]
//! kind = "linear"
//! out_features = 10              # in_features is inferred, and checked when given
//! ```
//!
//! | kind | keys (PyTorch's names, meanings and defaults) |
//! |---|---|
//! | `flatten`, `relu`, `silu`, `sigmoid`, `tanh`, `identity` | |
//! | `leaky-relu` | `negative_slope` (0.01) |
//! | `gelu` | `approximate` ("none", or "tanh") |
//! | `softmax`, `log-softmax` | `dim` (1; -1 is the last) |
//! | `dropout` | `p` (0.5) |
//! | `linear` | `out_features`, `in_features` (inferred), `bias` (true) |
//! | `conv1d`, `conv2d` | `out_channels`, `kernel_size`, `stride` (1), `padding` (0), `dilation` (1), `groups` (1), `bias` (true), `in_channels` (inferred) |
//! | `max-pool2d` | `kernel_size`, `stride` (kernel_size), `padding` (0), `dilation` (1), `ceil_mode` (false) |
//! | `avg-pool2d` | `kernel_size`, `stride` (kernel_size), `padding` (0), `ceil_mode` (false), `count_include_pad` (true) |
//! | `adaptive-avg-pool2d` | `output_size` |
//! | `batch-norm` | `num_features` (inferred), `eps` (1e-5), `momentum` (0.1), `affine` (true), `bias` (true), `track_running_stats` (true) |
//! | `layer-norm` | `normalized_shape` (the last extent), `eps` (1e-5), `elementwise_affine` (true), `bias` (true) |
//! | `group-norm` | `num_groups`, `num_channels` (inferred), `eps` (1e-5), `affine` (true), `bias` (true) |
//! | `embedding` | `num_embeddings`, `embedding_dim` |
//! | `reshape` | `shape`: one to three extents, of which one may be -1; `torch.nn.Unflatten(1, shape)` |
//! | `sequential` | `layers`: tables as `[[layer]]` |
//! | `residual` | `layers`, `downsample` (none): what is added after it; `activation` (none): the kind of the layer after the sum |
//!
//! `kernel_size`, `stride`, `padding`, `dilation` and `output_size` of images are one number, or `[height, width]`. Every layer may have a `name`,
//! which its parameters' names begin with; it is the layer's number otherwise.
//!
//! How the model learns is said in `[loss]` ([`crate::loss`]), `[optimizer]` ([`crate::optimizer`]), `[schedule]`
//! ([`crate::schedule`]) and `[train]` ([`crate::learn`]), all of them optional.

use std::path::{Path, PathBuf};
use std::{fs, io};

use thiserror::Error;
use toml::de::DeTable;

use crate::layers::RowSpec;
use crate::learn::LearnSpec;
use crate::registry::Registry;
pub use crate::section::Mistake;
use crate::section::{Section, line_at};

/// The largest extent of a sample.
const SAMPLE_MAX: usize = 1 << 24;

/// What a model file says.
#[derive(Debug, PartialEq)]
pub struct ModelSpec {
    /// The extents of a sample that it is made for, when it says so: for images height, width, channels.
    pub input: Option<Vec<usize>>,
    /// What to do with bytes before the first layer.
    pub normalize: NormalizeSpec,
    /// The layers, first to last.
    pub layers: RowSpec,
    /// How it learns.
    pub learn: LearnSpec,
}

/// How bytes become numbers around zero: `(byte * scale - mean) / std`.
#[derive(Clone, Debug, PartialEq)]
pub struct NormalizeSpec {
    /// What a byte is multiplied with.
    pub scale: f64,
    /// Subtracted after scaling.
    pub mean: PerChannel,
    /// Divided by at last, never 0.
    pub std: PerChannel,
}

impl Default for NormalizeSpec {
    fn default() -> Self {
        let one = |number| PerChannel { numbers: vec![number], line: 1 };
        Self { scale: 1.0 / 255.0, mean: one(0.0), std: one(1.0) }
    }
}

impl NormalizeSpec {
    /// Its numbers, wherever they stand.
    pub fn numbers(&self) -> (f64, &[f64], &[f64]) {
        (self.scale, &self.mean.numbers, &self.std.numbers)
    }
}

/// One number, or one per channel: which, the images decide.
#[derive(Clone, Debug, PartialEq)]
pub struct PerChannel {
    /// The numbers.
    pub numbers: Vec<f64>,
    /// Where they, or else their table, stand in the file, for whoever finds that they do not fit.
    pub line: usize,
}

/// Why a model file cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("read the model file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line of it is wrong.
    #[error("{}:{}: {}", path.display(), mistake.line, mistake.what)]
    Mistake {
        /// The file.
        path: PathBuf,
        /// Where, and what.
        mistake: Mistake,
    },
}

impl ModelSpec {
    /// Whether both are the same model, wherever its lines stand and however it learns.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.input, self.normalize.numbers()) == (&other.input, other.normalize.numbers())
            && self.layers == other.layers
    }

    /// Reads a model file, whose layers may be any of `registry`; gives back its text too, for the checkpoint.
    ///
    /// # Errors
    /// [`ConfigError::Read`] when there is no such text file, [`ConfigError::Mistake`] with the line when a key, a
    /// value or the syntax is wrong.
    pub fn read(path: &Path, registry: &Registry) -> Result<(Self, String), ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
        match Self::parse_with(&text, registry) {
            Ok(spec) => Ok((spec, text)),
            Err(mistake) => Err(ConfigError::Mistake { path: path.to_path_buf(), mistake }),
        }
    }

    /// Reads the text of a model file.
    ///
    /// # Errors
    /// The first [`Mistake`] found.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        Self::parse_with(text, &Registry::builtin())
    }

    /// Reads the text of a model file, whose layers may be any of `registry`.
    ///
    /// # Errors
    /// The first [`Mistake`] found.
    pub fn parse_with(text: &str, registry: &Registry) -> Result<Self, Mistake> {
        let document = DeTable::parse(text).map_err(|error| Mistake {
            line: error.span().map_or(1, |span| line_at(text, span.start)),
            what: error.message().to_owned(),
        })?;
        let mut root = Section::new(text, "the file".to_owned(), document.span(), document.get_ref());
        let input = parse_input(&mut root)?;
        let normalize = match root.table("normalize", "[normalize]")? {
            Some(section) => parse_normalize(section)?,
            None => NormalizeSpec::default(),
        };
        let layers = RowSpec::parse(&mut root, "layer", "[[layer]]", registry)?;
        let learn = LearnSpec::parse(&mut root)?;
        root.finish()?;
        if layers.is_empty() {
            return Err(root.mistake("there is no layer: begin each with a line [[layer]]"));
        }
        Ok(Self { input, normalize, layers, learn })
    }
}

fn parse_input(root: &mut Section<'_>) -> Result<Option<Vec<usize>>, Mistake> {
    let wanted = "must be the extents of a sample, such as [28, 28, 1] for images: height, width, channels";
    let Some(extents) = root.counts("input", wanted)? else { return Ok(None) };
    let fits = (1..=3).contains(&extents.len()) && extents.iter().all(|extent| (1..=SAMPLE_MAX).contains(extent));
    if fits { Ok(Some(extents)) } else { Err(root.mistake_at("input", wanted)) }
}

fn parse_normalize(mut section: Section<'_>) -> Result<NormalizeSpec, Mistake> {
    let default = NormalizeSpec::default();
    let scale = section.number("scale")?.unwrap_or(default.scale);
    let mut per_channel = |key, default: PerChannel| {
        let numbers = section.numbers(key)?.unwrap_or(default.numbers);
        Ok(PerChannel { numbers, line: section.line_of(key) })
    };
    let mean = per_channel("mean", default.mean)?;
    let std = per_channel("std", default.std)?;
    if mean.numbers.is_empty() {
        return Err(section.mistake_at("mean", "has no number: write one, or one per channel"));
    }
    if std.numbers.is_empty() || std.numbers.contains(&0.0) {
        return Err(section.mistake_at("std", "must have a number, and none of them 0: it divides"));
    }
    section.finish()?;
    Ok(NormalizeSpec { scale, mean, std })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[test]
    fn a_model_file_says_what_it_means() {
        let text = r#"
            input = [32, 28, 3]
            [normalize]
            scale = 1
            mean = [0.5, 0.25, 0]
            std = 2
            [[layer]]
            kind = "conv2d"
            out_channels = 8
            kernel_size = [3, 5]
            padding = 1
            [[layer]]
            kind = "relu"
        "#;
        let spec = ModelSpec::parse(text).expect("the text is right");
        assert_eq!(spec.input, Some(vec![32, 28, 3]));
        let mean = PerChannel { numbers: vec![0.5, 0.25, 0.0], line: 5 };
        let std = PerChannel { numbers: vec![2.0], line: 6 };
        assert_eq!(spec.normalize, NormalizeSpec { scale: 1.0, mean, std });
        assert_eq!(spec.layers.len(), 2);
    }

    #[test]
    fn a_model_is_the_same_wherever_its_lines_stand() {
        let text = "[normalize]\nmean = 0.5\n[[layer]]\nkind = 'linear'\nout_features = 10\n";
        let same = |other: &str| {
            let parse = |text| ModelSpec::parse(text).expect("the text is right");
            parse(text).is_same(&parse(other))
        };
        assert!(same(&format!("# A comment.\n\n{text}")));
        for (from, to) in
            [("10", "11"), ("0.5", "0.25"), ("mean", "std"), ("[normalize]", "input = [2, 2, 1]\n[normalize]")]
        {
            assert!(!same(&text.replace(from, to)), "{from} or {to} makes no difference");
        }
    }

    #[test]
    fn a_whole_number_may_be_hexadecimal_wherever_a_number_may_stand() {
        let text = "[normalize]\nmean = [0x10, -2]\nscale = 1_0\n[[layer]]\nkind = 'linear'\nout_features = 0x10\n";
        let spec = ModelSpec::parse(text).expect("the text is right");
        assert_eq!(spec.normalize.numbers(), (10.0, &[16.0, -2.0][..], &[1.0][..]));
    }

    fn check(text: &str, expected: Expect) {
        let mistake = ModelSpec::parse(text).expect_err("the text is wrong");
        expected.assert_eq(&format!("{}: {}", mistake.line, mistake.what));
    }

    #[test]
    fn a_wrong_key_is_named_with_its_line_and_the_nearest_right_one() {
        check(
            "[[layer]]\nkind = 'flatten'\n[[layer]]\nkind = 'linear'\noutfeatures = 10\n",
            expect!["5: unknown key `outfeatures` in [[layer]] 1 (linear): did you mean `out_features`?"],
        );
        check(
            "[[layer]]\nkind = 'linear'\nin_features = 10\n",
            expect!["1: [[layer]] 0 (linear) has no `out_features`"],
        );
        check("[[layers]]\nkind = 'relu'\n", expect!["1: unknown key `layers` in the file: did you mean `layer`?"]);
        check(
            "[[layer]]\nkind = 'relu'\ncolour = 3\n",
            expect!["3: unknown key `colour` in [[layer]] 0 (relu): it may have `kind`, `name`"],
        );
        check(
            "[normalise]\nmean = 1\n[[layer]]\nkind = 'relu'\n",
            expect!["1: unknown key `normalise` in the file: did you mean `normalize`?"],
        );
    }

    #[test]
    fn a_wrong_value_is_named_with_its_line() {
        check("[[layer]]\nkind = 'liner'\n", expect!["2: unknown kind of layer `liner`: did you mean `linear`?"]);
        check(
            "[[layer]]\nkind = 'lstm'\n",
            expect![
                "2: unknown kind of layer `lstm`: it may be `flatten`, `linear`, `relu`, `leaky-relu`, `gelu`, `silu`, `sigmoid`, `tanh`, `softmax`, `log-softmax`, `dropout`, `identity`, `conv1d`, `conv2d`, `max-pool2d`, `avg-pool2d`, `adaptive-avg-pool2d`, `batch-norm`, `layer-norm`, `group-norm`, `embedding`, `reshape`, `sequential`, `residual`"
            ],
        );
        check("[[layer]]\nout_features = 10\n", expect!["1: [[layer]] 0 has no `kind`"]);
        check("[[layer]]\nkind = 'linear'\n", expect!["1: [[layer]] 0 (linear) has no `out_features`"]);
        check(
            "[[layer]]\nkind = 'linear'\nout_features = 0\n",
            expect!["3: `out_features` is 0: it must be a whole number from 1 to 1048576"],
        );
        check(
            "[[layer]]\nkind = 'linear'\nout_features = 'ten'\n",
            expect!["3: `out_features` is \"ten\": it must be a whole number from 1 to 1048576"],
        );
        check(
            "[[layer]]\nkind = 'linear'\nout_features = 10\nbias = 1\n",
            expect!["4: `bias` is 1: it must be true or false"],
        );
        check(
            "[[layer]]\nkind = 'conv2d'\nout_channels = 8\nkernel_size = [3, 3, 3]\n",
            expect!["4: `kernel_size` must be one whole number from 1 to 1024, or two, [height, width]"],
        );
        check("[[layer]]\nkind = 'dropout'\np = 1.0\n", expect!["3: `p` is 1: it must be from 0 to below 1"]);
        check(
            "[[layer]]\nkind = 'max-pool2d'\nkernel_size = 2\npadding = 2\n",
            expect!["4: `padding` must be at most half of `kernel_size`"],
        );
        check(
            "input = [28, 0]\n[[layer]]\nkind = 'relu'\n",
            expect![
                "1: `input` must be the extents of a sample, such as [28, 28, 1] for images: height, width, channels"
            ],
        );
        check(
            "[normalize]\nstd = [0.5, 0.0]\n[[layer]]\nkind = 'relu'\n",
            expect!["2: `std` must have a number, and none of them 0: it divides"],
        );
        check(
            "[[layer]]\nkind = 'flatten'\n[[layer]]\nkind = 'residual'\nlayers = [{ kind = 'relu' }]\nactivation = 'linear'\n",
            expect!["6: `activation` is \"linear\": it has no `out_features`"],
        );
        check(
            "[[layer]]\nkind = 'residual'\nlayers = [{ kind = 'relu', name = 'downsample' }]\ndownsample = [{ kind = 'relu' }]\n",
            expect!["4: `downsample` is the name of one of `layers` too: name that one else"],
        );
        check("[[layer]]\nkind = 'relu\n", expect!["2: invalid literal string, expected `'`"]);
        check("", expect!["1: there is no layer: begin each with a line [[layer]]"]);
        check("layer = 3\n", expect!["1: `layer` is 3: it must be [[layer]]"]);
    }
}
