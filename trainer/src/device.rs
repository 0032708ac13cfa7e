//! Where a model computes: `cpu`, `wgpu` or `cuda[:N]`, checked before the first tensor is made.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
use thiserror::Error;

/// A device as the user names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// Burn's pure Rust backend.
    Cpu,
    /// The best graphics adapter, over Vulkan, Metal or DirectX.
    Wgpu,
    /// The NVIDIA GPU of this number.
    Cuda(usize),
}

/// Why a device cannot be used.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// There is no such device.
    #[error("unknown device {0:?}: it may be cpu, wgpu, cuda or cuda:N")]
    Unknown(String),
    /// The program was built without it.
    #[error(
        "this trainer was built without {}: build with `cargo build --release -p batchmill-trainer --features {feature}`",
        feature.to_uppercase()
    )]
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
    #[error(
        "open {choice}: it is there, but cannot compute (its driver says why above): use --device cpu, or {remedy}"
    )]
    Broken {
        /// What was asked for.
        choice: DeviceChoice,
        /// What is most often missing.
        remedy: &'static str,
    },
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::Unknown(text.to_owned());
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "wgpu" => Ok(Self::Wgpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", number)) => number.parse().map(Self::Cuda).map_err(|_| unknown()),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Wgpu => f.write_str("wgpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl DeviceChoice {
    /// Finds the device and lets it compute once: burn itself opens a device at its first tensor, and panics when it
    /// cannot.
    ///
    /// # Errors
    /// [`DeviceError`] when it is not compiled in, not there, or does not compute.
    pub fn open(self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            Self::Wgpu => self.open_wgpu(),
            Self::Cuda(number) => self.open_cuda(number),
        }
    }

    #[cfg(feature = "wgpu")]
    fn open_wgpu(self) -> Result<Device, DeviceError> {
        use burn::tensor::{DeviceKind, DeviceType};

        if Device::enumerate(DeviceType::Wgpu).is_empty() {
            return Err(DeviceError::Absent { choice: self, found: "no graphics adapter was".to_owned() });
        }
        self.try_out(Device::wgpu(DeviceKind::DefaultDevice), "install a Vulkan driver")
    }

    #[cfg(not(feature = "wgpu"))]
    fn open_wgpu(self) -> Result<Device, DeviceError> {
        Err(DeviceError::NotCompiledIn { feature: "wgpu" })
    }

    #[cfg(feature = "cuda")]
    fn open_cuda(self, number: usize) -> Result<Device, DeviceError> {
        let found = Device::enumerate(burn::tensor::DeviceType::Cuda).len();
        if number >= found {
            let found = match found {
                0 => "no CUDA device was".to_owned(),
                1 => "only cuda:0 was".to_owned(),
                _ => format!("only cuda:0 to cuda:{} were", found - 1),
            };
            return Err(DeviceError::Absent { choice: self, found });
        }
        self.try_out(Device::cuda(number), "set CUDA_PATH to a CUDA toolkit (libnvrtc and headers)")
    }

    #[cfg(not(feature = "cuda"))]
    fn open_cuda(self, _number: usize) -> Result<Device, DeviceError> {
        Err(DeviceError::NotCompiledIn { feature: "cuda" })
    }

    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    fn try_out(self, device: Device, remedy: &'static str) -> Result<Device, DeviceError> {
        use burn::tensor::Tensor;

        let compute = || (Tensor::<1>::ones([2], &device) * 2.0).sum().try_into_scalar::<f32>();
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(compute)) {
            Ok(Ok(4.0)) => Ok(device),
            _ => Err(DeviceError::Broken { choice: self, remedy }),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_device_is_read_as_it_is_written() {
        for (text, choice) in
            [("cpu", DeviceChoice::Cpu), ("wgpu", DeviceChoice::Wgpu), ("cuda:3", DeviceChoice::Cuda(3))]
        {
            assert_eq!(text.parse::<DeviceChoice>().expect("a device"), choice);
            assert_eq!(choice.to_string(), text);
        }
        assert_eq!("cuda".parse::<DeviceChoice>().expect("a device"), DeviceChoice::Cuda(0));
        for wrong in ["", "gpu", "CPU", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "wgpu:0"] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong:?} was read as a device");
        }
        expect![[r#"unknown device "gpu": it may be cpu, wgpu, cuda or cuda:N"#]]
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
}
