//! The types of `cubecl-llvm` that `cubecl-cuda` names, without the LLVM behind them; README.md says why.
//!
//! Nothing here is reached: `cubecl-cuda` with its feature `cpp` compiles kernels with NVRTC. Should that feature
//! get lost, the first kernel fails with a sentence that names it.

use std::ffi::c_char;

use cubecl_core::ir::nvidia::SmArch;
use cubecl_core::prelude::KernelDefinition;
use cubecl_environment::backtrace::BackTrace;
use cubecl_runtime::compiler::CompilationError;
use cubecl_runtime::kernel::BufferIOAttr;

use crate::nvptx::ptx_version::PtxVersion;

/// The part about NVIDIA's assembly.
pub mod nvptx {
    /// Which version of it to write.
    pub mod ptx_version {
        use std::fmt;

        /// A version of PTX; there is none here.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum PtxVersion {}

        impl PtxVersion {
            /// Answers `None`: nothing here writes PTX.
            pub fn for_driver(_driver: i32) -> Option<Self> {
                None
            }
        }

        impl fmt::Display for PtxVersion {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {}
            }
        }
    }
}

/// The part common to all targets.
pub mod shared {
    /// What a target can be asked for.
    pub mod lowered_features {
        use cubecl_core::ir::DeviceProperties;

        /// A kind of device.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum GpuTarget {
            /// NVIDIA's.
            Nvptx,
        }

        /// Leaves `props` as they are: nothing is lowered here.
        pub fn restrict_features(_props: &mut DeviceProperties, _target: GpuTarget) {}
    }
}

/// A kind of device to compile for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LlvmTarget {
    /// NVIDIA's.
    #[default]
    Nvptx,
}

/// The compiler that is not there.
#[derive(Clone, Debug, Default)]
pub struct PlironCompiler {
    /// What to compile for.
    pub target: LlvmTarget,
}

impl PlironCompiler {
    /// Fails always.
    ///
    /// # Errors
    /// [`CompilationError::Generic`], naming the feature that is missing.
    pub fn compile(
        &mut self,
        _kernel: KernelDefinition,
        _options: &PlironOptions,
    ) -> Result<PlironArtifact, CompilationError> {
        Err(CompilationError::Generic {
            reason: "this build has no LLVM: enable the feature `cpp` of cubecl-cuda, which compiles with NVRTC".into(),
            backtrace: BackTrace::capture(),
        })
    }

    /// The name of what it would write.
    pub fn lang_tag(&self) -> &'static str {
        "llvm"
    }
}

/// What the compiler would go by.
#[derive(Clone, Debug, Default)]
pub struct PlironOptions {
    /// An AMD architecture; its type is never looked at.
    pub arch: Option<()>,
    /// An NVIDIA architecture.
    pub sm_arch: Option<SmArch>,
    /// The version of PTX to write.
    pub ptx_version: Option<PtxVersion>,
    /// Whether launch parameters are grid constants.
    pub grid_constants: bool,
    /// Whether to keep the compiled object.
    pub keep_object: bool,
}

/// A compiled kernel.
#[derive(Clone, Debug)]
pub enum PlironArtifact {
    /// For NVIDIA.
    NvptxCode(NvptxModule),
}

/// A kernel in PTX.
#[derive(Clone, Debug)]
pub struct NvptxModule {
    /// The text, ended by NUL.
    pub ptx: Vec<c_char>,
    /// The kernel's symbol.
    pub entrypoint: String,
    /// What it was made from.
    pub ir: String,
    /// Shared memory a launch needs.
    pub shared_memory_size: usize,
    /// What the kernel does with each buffer.
    pub io: Vec<BufferIOAttr>,
}
