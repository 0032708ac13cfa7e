//! A step on the CPU begins on one of the threads that it is shared out among.

use std::fmt::Display;

use burn::tensor::Device;

use super::DeviceError;
use super::guard::guarded;

/// Computes a whole step. Burn shares out the work of each operation on the CPU among rayon's threads: from another thread
/// every one of them would be handed over and waited for, some sixty times in a step; from one of these it is at hand.
///
/// # Errors
/// As [`guarded`].
pub(crate) fn on_its_threads<T: Send>(
    device: &Device,
    doing: impl Display + Send,
    compute: impl FnOnce() -> T + Send,
) -> Result<T, DeviceError> {
    if *device == Device::flex() { rayon::scope(|_| guarded(doing, compute)) } else { guarded(doing, compute) }
}
