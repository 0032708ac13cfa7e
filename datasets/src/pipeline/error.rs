//! Why rows could not be filled, and whether a sample is to blame.

use batchmill_protocol::position::{Position, Rows};
use batchmill_protocol::tensor::FieldSpec;
use thiserror::Error;

use crate::dataset::SampleError;
use crate::quarantine::is_passing;
use crate::transform::TransformError;

/// Rows that could not be filled.
#[derive(Debug, Error)]
pub enum FillError {
    /// A sample could not be read.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// A transform could not change a sample.
    #[error("{sample}: transform {place}, `{kind}`")]
    Transform {
        /// What a person calls the sample.
        sample: String,
        /// The place of the transform in the chain, counted from 1 as people do.
        place: usize,
        /// Its name.
        kind: String,
        /// Why not.
        source: TransformError,
    },
    /// A sample cannot become a row.
    #[error("{sample}")]
    Collate {
        /// What a person calls the sample.
        sample: String,
        /// Why not.
        source: TransformError,
    },
    /// A sample has another dtype or shape than the stream's first.
    #[error(
        "{sample}: {found}, but that of the stream's first sample is {} {}; {}",
        expected.dtype,
        expected.shape,
        remedy(found)
    )]
    Mismatch {
        /// What a person calls the sample.
        sample: String,
        /// The field as this sample has it.
        found: Box<FieldSpec>,
        /// The field as the first sample has it.
        expected: Box<FieldSpec>,
    },
    /// A sample lacks a field that the stream's first has.
    #[error(
        "{sample}: no field `{field}`, which the stream's first sample has; every sample must have the same fields"
    )]
    Missing {
        /// What a person calls the sample.
        sample: String,
        /// The field.
        field: String,
    },
    /// A sample cannot be used, and neither can what was drawn to stand in for it.
    #[error("{sample} cannot be used, nor can the {attempts} drawn to substitute it")]
    NoSubstitute {
        /// What a person calls the sample.
        sample: String,
        /// The substitutes tried.
        attempts: u64,
        /// Why the sample itself cannot be used.
        source: Box<FillError>,
    },
    /// None of the samples tried tells the fields of the stream.
    #[error("none of the dataset's first {tried} samples can be used; the first")]
    Survey {
        /// The samples tried.
        tried: u64,
        /// Why the first cannot be used.
        source: Box<FillError>,
    },
    /// The sampler gave an index that the dataset does not have.
    #[error("the sampler gave sample {index} for place {place} of epoch {epoch}, but the dataset has {samples}")]
    Sampler {
        /// What it gave.
        index: u64,
        /// The place in the epoch.
        place: u64,
        /// The epoch.
        epoch: u64,
        /// How many there are.
        samples: u64,
    },
    /// The rows asked for are not in the batch.
    #[error("{rows} of {position} were asked for; an epoch has {steps} steps, this batch {batch_rows} rows")]
    Outside {
        /// What was asked for.
        rows: Rows,
        /// Of which batch.
        position: Position,
        /// The batches of an epoch.
        steps: u64,
        /// The rows of the batch; none where there is no such batch.
        batch_rows: u32,
    },
}

impl FillError {
    /// Whether a sample is to blame, so that `on_bad` says what becomes of it.
    ///
    /// Otherwise the error stands whatever the policy: the data changed under the stream, this process lacks something
    /// that another may have, or the sampler or the caller asked for what there is not.
    pub fn is_bad_sample(&self) -> bool {
        match self {
            Self::Sample(error) => error.is_bad_sample(),
            Self::Transform { source, .. } => !is_passing(source),
            Self::Collate { .. } | Self::Mismatch { .. } | Self::Missing { .. } => true,
            Self::NoSubstitute { .. } | Self::Survey { .. } | Self::Sampler { .. } | Self::Outside { .. } => false,
        }
    }
}

fn remedy(found: &FieldSpec) -> &'static str {
    // An image: height, width, channels.
    if found.shape.0.len() == 3 {
        "a batch needs images of one size: add the transforms `resize` and `center-crop` (--resize N --crop N)"
    } else {
        "a batch needs samples of one shape: make the dataset give it, or a transform, or a rule under `collate`"
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use batchmill_protocol::tensor::Dtype;

    use super::*;
    use crate::decode::{DecodeError, Format};

    fn sample(error: SampleError) -> FillError {
        error.into()
    }

    fn name() -> String {
        "a.jpg".to_owned()
    }

    fn decode(source: DecodeError) -> FillError {
        sample(SampleError::Decode { sample: name(), source })
    }

    fn transform(source: TransformError) -> FillError {
        FillError::Transform { sample: name(), place: 1, kind: "resize".to_owned(), source }
    }

    fn too_many_files() -> io::Error {
        io::Error::from_raw_os_error(24)
    }

    #[test]
    fn the_policy_is_for_samples_that_are_to_blame() {
        let field = Box::new(FieldSpec::new("image", Dtype::U8, [1]));
        let broken = |text: &str| DecodeError::Broken { format: Format::Png, source: text.into() };
        let bad = [
            sample(SampleError::new(name(), "torn")),
            sample(SampleError::Read { sample: name(), source: io::ErrorKind::PermissionDenied.into() }),
            // Where there is no index to say that it was there before.
            sample(SampleError::Read { sample: name(), source: io::ErrorKind::NotFound.into() }),
            sample(SampleError::Read { sample: name(), source: io::ErrorKind::UnexpectedEof.into() }),
            decode(broken("no end")),
            decode(DecodeError::Truncated { format: Format::Jpeg }),
            decode(DecodeError::TooLarge { height: 1, width: 1 }),
            transform(TransformError::new("too thin")),
            FillError::Mismatch { sample: name(), found: field.clone(), expected: field },
            FillError::Missing { sample: name(), field: "image".to_owned() },
        ];
        for error in bad {
            assert!(error.is_bad_sample(), "{error}");
        }
        let others = [
            sample(SampleError::Changed { sample: name(), found: "it is gone".to_owned() }),
            sample(SampleError::Read { sample: name(), source: too_many_files() }),
            sample(SampleError::Read { sample: name(), source: io::ErrorKind::OutOfMemory.into() }),
            sample(SampleError::caused_by(name(), "ask the archive", too_many_files())),
            decode(DecodeError::Memory),
            decode(DecodeError::Decoder { source: "it does not start".into() }),
            transform(TransformError::caused_by("ask the archive", too_many_files())),
            FillError::Sampler { index: 1, place: 0, epoch: 0, samples: 1 },
            FillError::Outside { rows: Rows { lo: 0, hi: 1 }, position: Position::default(), steps: 0, batch_rows: 0 },
            FillError::NoSubstitute { sample: name(), attempts: 32, source: Box::new(decode(broken("no end"))) },
            FillError::Survey { tried: 100, source: Box::new(decode(broken("no end"))) },
        ];
        for error in others {
            assert!(!error.is_bad_sample(), "{error}");
        }
    }
}
