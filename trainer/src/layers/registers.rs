//! Loops that compute with whole registers, by the instructions that this processor has.

use pulp::{Simd, WithSimd};

/// As many numbers as the widest register that is used holds.
pub(super) const LANES: usize = 8;

/// Whether this processor has the instructions that the loops are made for: fused multiplication and addition.
pub(super) fn are_fast() -> bool {
    #[cfg(target_arch = "x86_64")]
    return pulp::x86::V3::try_new().is_some();
    #[cfg(not(target_arch = "x86_64"))]
    cfg!(target_arch = "aarch64")
}

/// Runs `op` with the instructions that this processor has.
pub(super) fn vectorized<T: WithSimd>(op: T) -> T::Output {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return Simd::vectorize(simd, op);
    }
    pulp::Arch::new().dispatch(op)
}

/// The first `V` registers of `numbers`.
#[inline(always)]
pub(super) fn first<S: Simd, const V: usize>(numbers: &[f32]) -> &[S::f32s; V] {
    let (registers, _) = S::as_simd_f32s(&numbers[..V * S::F32_LANES]);
    registers.first_chunk().expect("the slice is of so many")
}
