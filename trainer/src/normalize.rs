//! Rows of a batch become what the first layer takes: on the device, bytes of images around zero, the rest as it is.

use batchmill_protocol::tensor::{Dtype, FieldSpec};
use burn::tensor::{DType, Device, Int, Tensor, TensorData, TensorReadError};

use crate::config::{Mistake, NormalizeSpec, PerChannel};
use crate::fields::Input;
use crate::shape::{Activation, ImageShape};

/// Images as they arrive. *Shape* `[batch, height, width, channels]`, values 0-255.
#[derive(Clone, Debug)]
pub enum Pixels {
    /// Bytes, on a device that knows them.
    Bytes(Tensor<4, Int>),
    /// The same as `f32`, on a device that does not (WGSL has no bytes).
    Floats(Tensor<4>),
}

impl Pixels {
    /// Brings images to `device`. On the CPU the tensor borrows `bytes`; a GPU takes one copy, or one conversion on
    /// the host when it knows no bytes.
    ///
    /// # Panics
    /// When the length of `bytes` is not that of `images` images of `shape`.
    pub fn new(bytes: bytes::Bytes, images: usize, shape: ImageShape, device: &Device) -> Self {
        let extents = [images, shape.height, shape.width, shape.channels];
        if device.supports_dtype(DType::U8) {
            let field = FieldSpec::new("", Dtype::U8, [shape.height, shape.width, shape.channels]);
            Self::Bytes(Tensor::from_data(numbers(bytes, images, &field), (device, DType::U8)))
        } else {
            let floats: Vec<f32> = bytes.iter().copied().map(f32::from).collect();
            Self::Floats(Tensor::from_data(TensorData::new(floats, extents), device))
        }
    }

    /// The bytes of one image, *shape* `[height, width, channels]`. Waits for the device.
    ///
    /// # Errors
    /// When the device fails.
    fn row(&self, row: usize) -> Result<Vec<u8>, TensorReadError> {
        let rows = row..row + 1;
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone().slice(rows).try_into_data()?.iter::<u8>().collect()),
            Self::Floats(floats) => Ok(floats.clone().slice(rows).try_into_data()?.iter::<u8>().collect()),
        }
    }

    fn float(self) -> Tensor<4> {
        match self {
            Self::Bytes(bytes) => bytes.float(),
            Self::Floats(floats) => floats,
        }
    }
}

/// The numbers of a batch as they arrive.
#[derive(Clone, Debug)]
pub enum Raw {
    /// Images of bytes.
    Pixels(Pixels),
    /// Anything else, in the extents that the stream states.
    Numbers(Activation),
}

impl Raw {
    /// The bytes of one image in the order of its field, those of `f32` where it is not one of bytes; none when it is no
    /// image. Waits for the device.
    ///
    /// # Errors
    /// When the device fails.
    pub fn image(&self, row: usize) -> Result<Vec<u8>, TensorReadError> {
        match self {
            Self::Pixels(pixels) => pixels.row(row),
            Self::Numbers(Activation::Image(x)) => {
                let numbers = x.clone().slice(row..row + 1).try_into_data()?;
                Ok(numbers.iter::<f32>().flat_map(f32::to_le_bytes).collect())
            }
            Self::Numbers(_) => Ok(Vec::new()),
        }
    }

    /// Brings `rows` rows of a field to `device`. On the CPU bytes and `f32` are borrowed; a GPU takes one copy.
    ///
    /// # Panics
    /// When the length of `bytes` is not that of `rows` rows of `field`, or `kind` not what the field is.
    pub fn new(bytes: bytes::Bytes, rows: usize, field: &FieldSpec, kind: &Input, device: &Device) -> Self {
        match kind {
            Input::Image(shape) => Self::Pixels(Pixels::new(bytes, rows, *shape, device)),
            Input::Indices(_) => {
                // Converted on the host to the device's integer, which is i32 nearly everywhere.
                let numbers = numbers(bytes, rows, field).convert::<i64>();
                Self::Numbers(Activation::Indices(Tensor::from_data(numbers, device)))
            }
            Input::Floats(_) | Input::FloatImage(_) => {
                let numbers = floats(bytes, rows, field);
                Self::Numbers(match field.shape.0.len() {
                    1 => Activation::Flat(Tensor::from_data(numbers, (device, DType::F32))),
                    2 => Activation::Sequence(Tensor::from_data(numbers, (device, DType::F32))),
                    3 => Activation::Image(Tensor::from_data(numbers, (device, DType::F32))),
                    rank => unreachable!("`Input::of` refuses {rank} extents"),
                })
            }
        }
    }
}

/// `rows` rows of a field as `f32`, where they lie if they are.
pub(crate) fn floats(bytes: bytes::Bytes, rows: usize, field: &FieldSpec) -> TensorData {
    let numbers = numbers(bytes, rows, field);
    if numbers.dtype() == DType::F32 { numbers } else { numbers.convert::<f32>() }
}

/// `rows` rows of a field, which keep `bytes` alive and are read where they lie. *Shape* `[rows, ...]`.
pub(crate) fn numbers(bytes: bytes::Bytes, rows: usize, field: &FieldSpec) -> TensorData {
    let extents: Vec<usize> = [rows].into_iter().chain(field.shape.0.iter().copied()).collect();
    let dtype = match field.dtype {
        // Both are one byte that is 0 or 1.
        Dtype::Bool | Dtype::U8 => DType::U8,
        Dtype::I8 => DType::I8,
        Dtype::U16 => DType::U16,
        Dtype::I16 => DType::I16,
        Dtype::U32 => DType::U32,
        Dtype::I32 => DType::I32,
        Dtype::U64 => DType::U64,
        Dtype::I64 => DType::I64,
        Dtype::F16 => DType::F16,
        Dtype::Bf16 => DType::BF16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
    };
    let property = burn::tensor::AllocationProperty::File;
    TensorData::from_bytes(burn::tensor::Bytes::from_shared(bytes, property), extents, dtype)
}

/// Makes of a batch what the first layer takes: images of bytes as `(byte * scale - mean) / std`, channels first; the
/// rest as it is.
#[derive(Clone, Debug)]
pub enum Normalizer {
    /// Images of bytes.
    Pixels(Box<PixelNormalizer>),
    /// Images of real numbers, whose channels stand last.
    ChannelsLast,
    /// What the model takes already.
    Keep,
}

impl Normalizer {
    /// Prepares `spec` for samples of `kind`.
    ///
    /// # Errors
    /// When `mean` or `std` has neither one number nor one per channel, with its line in the model file; when there is
    /// something to normalize that is no image of bytes.
    pub fn new(spec: &NormalizeSpec, kind: &Input, device: &Device) -> Result<Self, Mistake> {
        match kind {
            Input::Image(shape) => PixelNormalizer::new(spec, *shape, device).map(Box::new).map(Self::Pixels),
            _ if spec.numbers() != NormalizeSpec::default().numbers() => {
                let what = "[normalize] is for images of bytes, and these samples are others: leave it out, and give the \
                            stream a transform of kind \"normalize\"";
                Err(Mistake { line: spec.mean.line, what: what.to_owned() })
            }
            Input::FloatImage(_) => Ok(Self::ChannelsLast),
            Input::Floats(_) | Input::Indices(_) => Ok(Self::Keep),
        }
    }

    /// Gives what a model takes: images `[batch, channels, height, width]`, the rest in its own shape.
    ///
    /// # Panics
    /// When it was prepared for other samples.
    pub fn apply(&self, raw: Raw) -> Activation {
        match (self, raw) {
            (Self::Pixels(normalizer), Raw::Pixels(pixels)) => Activation::Image(normalizer.apply(pixels)),
            (Self::ChannelsLast, Raw::Numbers(Activation::Image(x))) => Activation::Image(x.permute([0, 3, 1, 2])),
            (Self::Keep, Raw::Numbers(x)) => x,
            (normalizer, raw) => unreachable!("{normalizer:?} was prepared for other samples than {raw:?}"),
        }
    }
}

/// `(byte * scale - mean) / std`, as one multiplication and one addition.
#[derive(Clone, Debug)]
pub struct PixelNormalizer {
    shape: ImageShape,
    /// Factors for one row of pixels: `[1, width * channels]`. A whole row, not one pixel, so that the device's
    /// innermost loop is long.
    factors: Tensor<2>,
    /// What is then added, of the same shape.
    shifts: Tensor<2>,
}

impl PixelNormalizer {
    fn new(spec: &NormalizeSpec, shape: ImageShape, device: &Device) -> Result<Self, Mistake> {
        let mean = per_channel("mean", &spec.mean, shape.channels)?;
        let std = per_channel("std", &spec.std, shape.channels)?;
        let row = |number: &dyn Fn(usize) -> f64| {
            let numbers: Vec<f64> = (0..shape.width * shape.channels).map(|idx| number(idx % shape.channels)).collect();
            Tensor::from_data(TensorData::new(numbers, [1, shape.width * shape.channels]), device)
        };
        let factors = row(&|channel| spec.scale / std[channel]);
        let shifts = row(&|channel| -mean[channel] / std[channel]);
        Ok(Self { shape, factors, shifts })
    }

    /// Gives what a model takes. *Shape* `[batch, channels, height, width]`.
    fn apply(&self, pixels: Pixels) -> Tensor<4> {
        let ImageShape { height, width, channels } = self.shape;
        let floats = pixels.float();
        let images = floats.dims()[0];
        let rows = floats.reshape([images * height, width * channels]);
        let rows = rows * self.factors.clone() + self.shifts.clone();
        rows.reshape([images, height, width, channels]).permute([0, 3, 1, 2])
    }
}

fn per_channel(key: &str, spec: &PerChannel, channels: usize) -> Result<Vec<f64>, Mistake> {
    match *spec.numbers {
        [one] => Ok(vec![one; channels]),
        ref all if all.len() == channels => Ok(all.to_vec()),
        ref other => {
            let (numbers, remedy) = (other.len(), "write one number, or one per channel");
            let what = format!("`{key}` has {numbers} numbers, but images have {channels} channels: {remedy}");
            Err(Mistake { line: spec.line, what })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Memory that is not ours, such as a slot: tells when it is given back.
    struct Owner {
        bytes: Vec<u8>,
        given_back: Arc<AtomicBool>,
    }

    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }

    impl Drop for Owner {
        fn drop(&mut self) {
            self.given_back.store(true, Ordering::Relaxed);
        }
    }

    const SHAPE: ImageShape = ImageShape { height: 2, width: 3, channels: 1 };

    #[test]
    fn on_the_cpu_a_batch_becomes_a_tensor_without_a_copy() {
        let given_back = Arc::new(AtomicBool::new(false));
        let owner = Owner { bytes: (0..24).collect(), given_back: Arc::clone(&given_back) };
        let address = owner.bytes.as_ptr();
        let Pixels::Bytes(tensor) = Pixels::new(bytes::Bytes::from_owner(owner), 4, SHAPE, &Device::flex()) else {
            panic!("the CPU knows bytes");
        };
        assert!(!given_back.load(Ordering::Relaxed), "the tensor does not hold the batch");
        let data = tensor.into_data();
        assert_eq!(data.bytes().as_ptr(), address, "the tensor's numbers lie elsewhere");
        drop(data);
        assert!(given_back.load(Ordering::Relaxed), "the batch was not given back");
    }

    #[test]
    fn a_normalized_batch_holds_the_memory_no_longer() {
        let given_back = Arc::new(AtomicBool::new(false));
        let owner = Owner { bytes: (0..24).collect(), given_back: Arc::clone(&given_back) };
        let device = Device::flex();
        let normalizer = PixelNormalizer::new(&NormalizeSpec::default(), SHAPE, &device).expect("one number fits");
        let _x = normalizer.apply(Pixels::new(bytes::Bytes::from_owner(owner), 4, SHAPE, &device));
        assert!(given_back.load(Ordering::Relaxed));
    }

    #[test]
    fn every_channel_is_normalized_by_its_own_numbers_and_comes_first() {
        let shape = ImageShape { height: 1, width: 2, channels: 3 };
        let per_channel = |numbers: &[f64]| PerChannel { numbers: numbers.to_vec(), line: 7 };
        let (mean, std) = (per_channel(&[1.0, 2.0, 3.0]), per_channel(&[1.0, 2.0, 4.0]));
        let spec = NormalizeSpec { scale: 0.1, mean, std };
        let device = Device::flex();
        let normalizer = PixelNormalizer::new(&spec, shape, &device).expect("three numbers fit");
        let bytes = bytes::Bytes::from_static(&[10, 20, 30, 40, 60, 110]);
        for pixels in [
            Pixels::new(bytes.clone(), 1, shape, &device),
            Pixels::Floats(Tensor::from_data([[[[10.0, 20.0, 30.0], [40.0, 60.0, 110.0]]]], &device)),
        ] {
            let x = normalizer.apply(pixels);
            assert_eq!(x.dims(), [1, 3, 1, 2]);
            let numbers: Vec<f32> = x.into_data().iter::<f32>().collect();
            for (number, expected) in numbers.iter().zip([0.0, 3.0, 0.0, 2.0, 0.0, 2.0]) {
                assert!((number - expected).abs() < 1e-5, "{numbers:?}");
            }
        }
        let spec = NormalizeSpec { mean: per_channel(&[1.0, 2.0]), ..spec };
        let error = PixelNormalizer::new(&spec, shape, &device).expect_err("two numbers do not fit three channels");
        let what = "`mean` has 2 numbers, but images have 3 channels: write one number, or one per channel".to_owned();
        assert_eq!(error, Mistake { line: 7, what });
    }

    #[test]
    fn what_is_no_image_of_bytes_is_not_normalized_here() {
        let table = |keys: &str| {
            let layers = "[[layer]]\nkind = 'linear'\nout_features = 3\n";
            let spec =
                crate::config::ModelSpec::parse(&format!("input = [4]\n{keys}{layers}")).expect("the text is right");
            Normalizer::new(&spec.normalize, &Input::Floats(vec![4]), &Device::flex()).map(drop)
        };
        assert!(table("").is_ok() && table("[normalize]\nmean = 0\n").is_ok());
        for (keys, line) in [("[normalize]\nscale = 1\n", 2), ("\n[normalize]\nstd = 2\n", 3)] {
            let mistake = table(keys).expect_err("there is something to normalize");
            assert!(
                mistake.line == line && mistake.what.starts_with("[normalize] is for images of bytes"),
                "{mistake}"
            );
        }
    }
}
