//! Where a model computes: `cpu`, `wgpu[:N]`, `cuda[:N]` or `auto`, checked before the first tensor is made.

mod guard;
mod list;
mod memory;
mod threads;
#[cfg(feature = "wgpu")]
mod wgpu;

use std::fmt;
use std::io::{self, Write as _};
use std::str::FromStr;

use burn::tensor::Device;
use thiserror::Error;

pub use self::guard::guarded;
pub use self::list::{Found, list};
pub(crate) use self::threads::on_its_threads;

/// A device as the user names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first of cuda, wgpu and cpu that computes; not a graphics adapter that is only software.
    Auto,
    /// Burn's pure Rust backend.
    Cpu,
    /// The graphics adapter of this number, over Vulkan, Metal or DirectX. Those that compute fastest come first, as
    /// far as their kind tells.
    Wgpu(usize),
    /// The NVIDIA GPU of this number.
    Cuda(usize),
}

/// Why a device cannot be used.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// There is no such device.
    #[error(
        "unknown device {0:?}: it may be auto, cpu, wgpu, wgpu:N, cuda or cuda:N; `trainer devices` lists those of this machine"
    )]
    Unknown(String),
    /// The program was built without it.
    #[error("this trainer was built without {}: {}", feature.to_uppercase(), how_to_build(feature))]
    NotCompiledIn {
        /// The feature to build with.
        feature: &'static str,
    },
    /// The machine has no such device.
    #[error("open {choice}: {found} found on this machine: use --device cpu, or check the driver")]
    Absent {
        /// What was asked for.
        choice: DeviceChoice,
        /// How many there are.
        found: String,
    },
    /// It is there, but does not compute.
    #[error("open {choice}: it is there, but cannot compute: {reason}: use --device cpu, or {remedy}")]
    Broken {
        /// What was asked for.
        choice: DeviceChoice,
        /// What it or its driver said.
        reason: String,
        /// What is most often missing.
        remedy: &'static str,
    },
    /// It had not enough memory for what was asked of it.
    #[error("{doing}: the device has not enough memory ({reason}): lower the batch size, or use --device cpu")]
    OutOfMemory {
        /// What was being done.
        doing: String,
        /// What it or its driver said.
        reason: String,
    },
    /// It stopped in the middle.
    #[error("{doing}: the device stopped: {reason}")]
    Stopped {
        /// What was being done.
        doing: String,
        /// What it or its driver said.
        reason: String,
    },
}

/// The command that builds a trainer with a feature.
fn how_to_build(feature: &str) -> String {
    format!("build with `cargo build --release -p batchmill-trainer --features {feature}`")
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let (kind, number) = match text.split_once(':') {
            // `parse` alone would take "+1" and "01".
            Some((kind, number)) => {
                let parsed = number.parse::<usize>().ok().filter(|parsed| parsed.to_string() == number);
                (kind, Some(parsed.ok_or_else(|| DeviceError::Unknown(text.to_owned()))?))
            }
            None => (text, None),
        };
        match (kind, number) {
            ("auto", None) => Ok(Self::Auto),
            ("cpu", None) => Ok(Self::Cpu),
            ("wgpu", number) => Ok(Self::Wgpu(number.unwrap_or(0))),
            ("cuda", number) => Ok(Self::Cuda(number.unwrap_or(0))),
            _ => Err(DeviceError::Unknown(text.to_owned())),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Wgpu(number) => write!(f, "wgpu:{number}"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl DeviceChoice {
    /// Finds the device and lets it compute once: burn itself opens a device at its first tensor, and panics when it
    /// cannot. Of `auto` a line on standard error says what it became.
    ///
    /// # Errors
    /// [`DeviceError`] when it is not compiled in, not there, or does not compute.
    pub fn open(self) -> Result<Device, DeviceError> {
        self.open_and_name().map(|(_, device)| device)
    }

    /// As [`open`](Self::open), with what `auto` became: what is written down of a training says where it was computed.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_and_name(self) -> Result<(Self, Device), DeviceError> {
        let (choice, device) = self.resolve()?;
        if self == Self::Auto {
            // Where nobody reads it, it is lost.
            let _ = writeln!(io::stderr(), "--device auto: this is {choice}");
        }
        Ok((choice, device))
    }

    /// As [`open_and_name`](Self::open_and_name), without the line about it.
    ///
    /// # Errors
    /// As [`open`](Self::open); `auto` always becomes something.
    pub fn resolve(self) -> Result<(Self, Device), DeviceError> {
        let device = match self {
            Self::Auto => return Ok(first_that_computes()),
            Self::Cpu => Device::flex(),
            Self::Wgpu(number) => open_wgpu(number)?,
            Self::Cuda(number) => open_cuda(number)?,
        };
        Ok((self, device))
    }

    /// That only `count` devices of its kind were found.
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    fn absent(self, what: &str, kind: &str, count: usize) -> DeviceError {
        let found = match count {
            0 => format!("no {what} was"),
            1 => format!("only {kind}:0 was"),
            _ => format!("only {kind}:0 to {kind}:{} were", count - 1),
        };
        DeviceError::Absent { choice: self, found }
    }

    /// Has the device compute something.
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    fn try_out(self, device: Device, remedy: &'static str) -> Result<Device, DeviceError> {
        use burn::tensor::Tensor;

        let broken = |reason| DeviceError::Broken { choice: self, reason, remedy };
        match guard::hear(|| (Tensor::<1>::ones([2], &device) * 2.0).sum().try_into_scalar::<f32>()) {
            Ok(Ok(4.0)) => Ok(device),
            Ok(Ok(other)) => Err(broken(format!("it says that 2 + 2 is {other}"))),
            Ok(Err(error)) => Err(broken(guard::reason_of(&error.to_string()))),
            Err(reason) => Err(broken(reason)),
        }
    }
}

/// What `auto` means. Software that takes the place of a graphics adapter computes, but slower than burn's own CPU
/// backend.
fn first_that_computes() -> (DeviceChoice, Device) {
    #[cfg(feature = "wgpu")]
    let adapters = wgpu::adapters().into_iter().enumerate().filter(|(_, adapter)| !adapter.is_software());
    #[cfg(feature = "wgpu")]
    let adapters = adapters.map(|(number, _)| DeviceChoice::Wgpu(number));
    #[cfg(not(feature = "wgpu"))]
    let adapters = std::iter::empty();
    let cards = (0..cuda_cards()).map(DeviceChoice::Cuda);
    let computes = |choice: DeviceChoice| choice.resolve().ok();
    cards.chain(adapters).find_map(computes).unwrap_or_else(|| (DeviceChoice::Cpu, Device::flex()))
}

#[cfg(feature = "wgpu")]
fn open_wgpu(number: usize) -> Result<Device, DeviceError> {
    let choice = DeviceChoice::Wgpu(number);
    let mut adapters = wgpu::adapters();
    if number >= adapters.len() {
        return Err(choice.absent("graphics adapter", "wgpu", adapters.len()));
    }
    choice.try_out(adapters.swap_remove(number).device, "install a Vulkan driver")
}

#[cfg(not(feature = "wgpu"))]
fn open_wgpu(_number: usize) -> Result<Device, DeviceError> {
    Err(DeviceError::NotCompiledIn { feature: "wgpu" })
}

/// How many NVIDIA GPUs there are. Without a driver there is none, and nothing fails.
#[cfg(feature = "cuda")]
fn cuda_cards() -> usize {
    Device::enumerate(burn::tensor::DeviceType::Cuda).len()
}

#[cfg(not(feature = "cuda"))]
fn cuda_cards() -> usize {
    0
}

#[cfg(feature = "cuda")]
fn open_cuda(number: usize) -> Result<Device, DeviceError> {
    let (choice, found) = (DeviceChoice::Cuda(number), cuda_cards());
    if number >= found {
        return Err(choice.absent("CUDA device", "cuda", found));
    }
    choice.try_out(Device::cuda(number), "set CUDA_PATH to a CUDA toolkit (libnvrtc and headers)")
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(_number: usize) -> Result<Device, DeviceError> {
    Err(DeviceError::NotCompiledIn { feature: "cuda" })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_device_is_read_as_it_is_written() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("wgpu:1", DeviceChoice::Wgpu(1)),
            ("cuda:3", DeviceChoice::Cuda(3)),
        ] {
            assert_eq!(text.parse::<DeviceChoice>().expect("a device"), choice);
            assert_eq!(choice.to_string(), text);
        }
        assert_eq!("wgpu".parse::<DeviceChoice>().expect("a device"), DeviceChoice::Wgpu(0));
        assert_eq!("cuda".parse::<DeviceChoice>().expect("a device"), DeviceChoice::Cuda(0));
        let wrong =
            ["", "gpu", "CPU", "cpu:0", "auto:0", "cuda:", "cuda:x", "cuda:-1", "cuda:+1", "cuda:01", "wgpu:0:0"];
        for wrong in wrong {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong:?} was read as a device");
        }
        expect![[r#"unknown device "gpu": it may be auto, cpu, wgpu, wgpu:N, cuda or cuda:N; `trainer devices` lists those of this machine"#]]
            .assert_eq(&"gpu".parse::<DeviceChoice>().expect_err("there is none").to_string());
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_device_that_is_not_compiled_in_says_how_to_build_it() {
        let error = DeviceChoice::Cuda(0).open().expect_err("the feature is off");
        expect![
            "this trainer was built without CUDA: build with `cargo build --release -p batchmill-trainer --features cuda`"
        ]
        .assert_eq(&error.to_string());
    }

    #[test]
    fn the_cpu_is_always_there() {
        assert!(DeviceChoice::Cpu.open().is_ok());
    }

    #[cfg(not(any(feature = "cuda", feature = "wgpu")))]
    #[test]
    fn auto_is_the_cpu_where_nothing_else_is_compiled_in() {
        let (choice, device) = DeviceChoice::Auto.resolve().expect("the CPU is always there");
        assert_eq!((choice, device), (DeviceChoice::Cpu, Device::flex()));
    }
}
