//! Files of weights: safetensors out and in, PyTorch's own in.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use burn::tensor::{TensorReadError, bf16, f16};
use pytorch_reader::{PytorchError, PytorchReader};
use safetensors::tensor::{TensorView, View};
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use thiserror::Error;
use zip::{CompressionMethod, ZipArchive};

use super::dict::{Mismatch, Numbers, StateDict, StateTensor};
use crate::model::Sequential;

/// Where a state dict stands in a file that also holds the optimizer's, the epoch and more.
const KEYS: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// Where weights are in the folder of a run or of a checkpoint.
const IN_FOLDER: [&str; 2] = ["model.safetensors", "latest/model.safetensors"];

/// How many times a PyTorch file's bytes its tensors may have: some share their numbers, but a view that repeats one
/// number could fill the memory.
const EXPANSION_MAX: u64 = 4;

/// Why weights cannot be read, written or taken.
#[derive(Debug, Error)]
pub enum StateError {
    /// The system does not let us.
    #[error("{doing} the weights {}", path.display())]
    Io {
        /// `read`, `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is a damaged safetensors file.
    #[error("read the weights {}: the safetensors file is damaged: {found}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong. It tells its own causes.
        found: SafeTensorError,
    },
    /// It is something else, or a damaged file of PyTorch.
    #[error(
        "read the weights {}: it is damaged, or neither a safetensors file nor one of torch.save(model.state_dict(), \
         ...): {found}",
        path.display()
    )]
    Pytorch {
        /// The file.
        path: PathBuf,
        /// What is wrong. It tells its own causes.
        found: Box<PytorchError>,
    },
    /// Its tensors would fill the memory.
    #[error(
        "read the weights {}: its tensors claim {claimed} bytes, but the file has {held}: save tensors that are \
         contiguous",
        path.display()
    )]
    Expanded {
        /// The file.
        path: PathBuf,
        /// What the tensors would need.
        claimed: u64,
        /// What there is.
        held: u64,
    },
    /// What it unpacks to would fill the memory.
    #[error(
        "read the weights {}: parts of the archive are compressed, which torch.save never does: save it anew",
        path.display()
    )]
    Compressed {
        /// The file.
        path: PathBuf,
    },
    /// There is no tensor in it.
    #[error("read the weights {}: there is no tensor in it: save model.state_dict()", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Bytes are no safetensors file.
    #[error(transparent)]
    Bytes(#[from] SafeTensorError),
    /// They are those of another model.
    #[error("the weights are those of another model")]
    Mismatch(#[from] Mismatch),
    /// They cannot be taken from the device.
    #[error(transparent)]
    Device(#[from] TensorReadError),
}

/// The state dict of a model as a safetensors file, which `safetensors.torch.load_file` reads. Equal models are equal
/// bytes.
///
/// # Errors
/// [`StateError::Device`] when the device fails.
pub fn to_bytes(model: &Sequential) -> Result<Vec<u8>, StateError> {
    model.state_dict()?.to_bytes()
}

/// Puts what [`to_bytes`] wrote into a model like that one.
///
/// # Errors
/// [`StateError::Bytes`] when it is no safetensors file, [`StateError::Mismatch`] when it is that of another model, which
/// is then as it was.
pub fn from_bytes(model: &mut Sequential, bytes: &[u8]) -> Result<(), StateError> {
    Ok(model.load_state_dict(&StateDict::from_bytes(bytes)?)?)
}

impl StateDict {
    /// Reads a file of weights: safetensors, or what `torch.save` wrote in any of its formats. No code in it is run.
    ///
    /// In a file of `torch.save`, the state dict may be all there is, or stand under the key `state_dict`,
    /// `model_state_dict` or `model`; that of a module that was saved whole is read as well. A folder is one that
    /// `trainer fit --out` wrote.
    ///
    /// *Source* <https://huggingface.co/docs/safetensors>; `torch.load(weights_only=True)`.
    ///
    /// # Errors
    /// [`StateError`], when the file cannot be read, is damaged or something else.
    pub fn read(path: &Path) -> Result<Self, StateError> {
        if let Some(file) = IN_FOLDER.iter().map(|file| path.join(file)).find(|file| file.is_file()) {
            return Self::read(&file);
        }
        let io_error = |source| StateError::Io { doing: "read", path: path.to_path_buf(), source };
        let mut begin = Vec::new();
        File::open(path).and_then(|file| file.take(9).read_to_end(&mut begin)).map_err(io_error)?;
        // The length of a header, and the bracket that it begins with.
        let state = if begin.get(8) == Some(&b'{') {
            let state = Self::from_safetensors(&fs::read(path).map_err(io_error)?);
            state.map_err(|found| StateError::Safetensors { path: path.to_path_buf(), found })?
        } else {
            Self::from_pytorch(path)?
        };
        if state.is_empty() {
            return Err(StateError::Empty { path: path.to_path_buf() });
        }
        Ok(state)
    }

    /// Reads the bytes of a safetensors file.
    ///
    /// # Errors
    /// [`StateError::Bytes`] when they are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        Ok(Self::from_safetensors(bytes)?)
    }

    fn from_safetensors(bytes: &[u8]) -> Result<Self, SafeTensorError> {
        let file = SafeTensors::deserialize(bytes)?;
        let tensor = |(name, view): (&str, TensorView<'_>)| {
            (name.to_owned(), StateTensor::new(view.shape(), view.dtype(), view.data()))
        };
        Ok(file.iter().map(tensor).collect())
    }

    fn from_pytorch(path: &Path) -> Result<Self, StateError> {
        let io_error = |source| StateError::Io { doing: "read", path: path.to_path_buf(), source };
        if is_compressed(File::open(path).map_err(io_error)?) {
            return Err(StateError::Compressed { path: path.to_path_buf() });
        }
        let below = |key: &&str| PytorchReader::with_top_level_key(path, key).ok().filter(|file| !file.is_empty());
        let file = KEYS.iter().find_map(below).map_or_else(|| PytorchReader::new(path), Ok);
        let file = file.map_err(|error| StateError::Pytorch { path: path.to_path_buf(), found: Box::new(error) })?;
        let held = fs::metadata(path).map_err(io_error)?.len();
        let tensors: BTreeMap<_, _> = file.into_tensors().into_iter().collect();
        let claimed = tensors.values().map(|tensor| tensor.byte_len() as u64).fold(0, u64::saturating_add);
        if claimed > held.saturating_mul(EXPANSION_MAX) {
            return Err(StateError::Expanded { path: path.to_path_buf(), claimed, held });
        }
        let tensor = |(name, tensor): (String, pytorch_reader::Tensor)| {
            let bytes = tensor.read().map_err(io_error)?;
            Ok((name, StateTensor::new(tensor.shape(), dtype(tensor.dtype()), &bytes)))
        };
        tensors.into_iter().map(tensor).collect()
    }

    /// The bytes of a safetensors file; always the same for the same tensors. Those that are no floats are left out.
    ///
    /// # Errors
    /// [`StateError::Bytes`] when there is too much of it.
    pub fn to_bytes(&self) -> Result<Vec<u8>, StateError> {
        let tensors = self.iter().filter_map(|(name, StateTensor { shape, numbers })| match numbers {
            Numbers::Floats(numbers) => Some((name, Floats { shape, numbers })),
            Numbers::Others(_) => None,
        });
        // As `safetensors.torch.save_file` has it; Hugging Face's libraries refuse files that do not say so.
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        Ok(safetensors::serialize(tensors, Some(metadata))?)
    }

    /// Writes a safetensors file, which takes the place of what is there when it is whole.
    ///
    /// # Errors
    /// [`StateError::Io`] when the system does not let us.
    pub fn write(&self, path: &Path) -> Result<(), StateError> {
        let bytes = self.to_bytes()?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let partial = path.with_file_name(name);
        let written = File::create(&partial).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&partial, path)
        });
        written.map_err(|source| {
            // It may not be there, and there is nothing more to be done.
            let _ = fs::remove_file(&partial);
            StateError::Io { doing: "write", path: path.to_path_buf(), source }
        })
    }
}

impl StateTensor {
    /// Reads little-endian numbers.
    fn new(shape: &[usize], dtype: Dtype, bytes: &[u8]) -> Self {
        let numbers = match dtype {
            Dtype::F32 => floats(bytes, f32::from_le_bytes),
            Dtype::F64 => floats(bytes, |bytes| rounded(f64::from_le_bytes(bytes))),
            Dtype::F16 => floats(bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::BF16 => floats(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            other => Numbers::Others(other),
        };
        Self { shape: shape.to_vec(), numbers }
    }
}

/// Whether a file is an archive with compressed parts: 100 KB of them may be the pickle of 10 GB of Python objects.
fn is_compressed(file: File) -> bool {
    let Ok(mut archive) = ZipArchive::new(BufReader::new(file)) else { return false };
    (0..archive.len())
        .any(|idx| archive.by_index_raw(idx).is_ok_and(|part| part.compression() != CompressionMethod::Stored))
}

fn floats<const N: usize>(bytes: &[u8], float: impl Fn([u8; N]) -> f32) -> Numbers {
    let (each, _) = bytes.as_chunks::<N>();
    Numbers::Floats(each.iter().map(|bytes| float(*bytes)).collect())
}

/// The nearest number of half the bits.
#[expect(clippy::cast_possible_truncation, reason = "a model has no other numbers than these")]
fn rounded(number: f64) -> f32 {
    number as f32
}

/// The type by the name that safetensors gives it.
fn dtype(dtype: pytorch_reader::DType) -> Dtype {
    use pytorch_reader::DType;
    match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::I8 => Dtype::I8,
        DType::U64 => Dtype::U64,
        DType::U32 => Dtype::U32,
        DType::U16 => Dtype::U16,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
    }
}

/// A tensor to be written.
struct Floats<'a> {
    shape: &'a [usize],
    numbers: &'a [f32],
}

impl View for Floats<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    fn data_len(&self) -> usize {
        size_of_val(self.numbers)
    }
}
