//! Which instructions the kernels use.

use crate::simd::{Avx2, Avx512, Avx512Vnni, Portable, Simd};
use thiserror::Error;

/// A set of instructions that the kernels are compiled for. All give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// AVX-512 with the integer dot product.
    Avx512Vnni,
    /// AVX-512 F, BW, VL, DQ.
    Avx512,
    /// AVX2, FMA, F16C.
    Avx2,
    /// What every processor can.
    Portable,
}

/// Why a tier cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TierError {
    /// No tier has this name.
    #[error("`{0}` is no kernel tier: {names}", names = Tier::ALL.map(Tier::as_str).join(", "))]
    Unknown(String),
    /// This processor lacks its instructions.
    #[error("this processor has no {0}")]
    Unsupported(&'static str),
}

impl Tier {
    /// Fastest first.
    pub const ALL: [Self; 4] = [Self::Avx512Vnni, Self::Avx512, Self::Avx2, Self::Portable];

    /// The fastest tier of this processor.
    pub fn detect() -> Self {
        Self::ALL.into_iter().find(|tier| tier.is_supported()).unwrap_or(Self::Portable)
    }

    /// The tier `name`, which this processor must have; without a name its fastest one.
    ///
    /// # Errors
    /// When there is no such tier, or this processor lacks it.
    pub fn choose(name: Option<&str>) -> Result<Self, TierError> {
        let Some(name) = name else { return Ok(Self::detect()) };
        let found = Self::ALL.into_iter().find(|tier| tier.as_str() == name);
        let tier = found.ok_or_else(|| TierError::Unknown(name.to_owned()))?;
        if tier.is_supported() { Ok(tier) } else { Err(TierError::Unsupported(tier.as_str())) }
    }

    /// The name in flags and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Avx512Vnni => "avx512-vnni",
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// Whether this processor has the instructions.
    #[cfg(target_arch = "x86_64")]
    pub fn is_supported(self) -> bool {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        let avx512 = avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq");
        match self {
            Self::Avx512Vnni => avx512 && is_x86_feature_detected!("avx512vnni"),
            Self::Avx512 => avx512,
            Self::Avx2 => avx2,
            Self::Portable => true,
        }
    }

    /// Whether this processor has the instructions.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn is_supported(self) -> bool {
        self == Self::Portable
    }
}

/// A kernel with its arguments.
pub(crate) trait Kernel {
    /// Runs with the instructions of `S`. Implementations are `#[inline(always)]`, and so is everything they call:
    /// only then is the code compiled for the tier that [`launch`] names.
    ///
    /// # Safety
    /// The processor has the instructions of `S`, and the kernel's own pointers are good.
    unsafe fn run<S: Simd>(&self);
}

/// Runs `kernel` with the instructions of `tier`.
///
/// # Safety
/// `tier` is supported, and what [`Kernel::run`] asks for.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn launch<K: Kernel>(tier: Tier, kernel: &K) {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
    unsafe fn avx512_vnni<K: Kernel>(kernel: &K) {
        // SAFETY: the caller's promise.
        unsafe { kernel.run::<Avx512Vnni>() }
    }
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
    unsafe fn avx512<K: Kernel>(kernel: &K) {
        // SAFETY: the caller's promise.
        unsafe { kernel.run::<Avx512>() }
    }
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn avx2<K: Kernel>(kernel: &K) {
        // SAFETY: the caller's promise.
        unsafe { kernel.run::<Avx2>() }
    }
    // SAFETY: the caller's promise.
    unsafe {
        match tier {
            Tier::Avx512Vnni => avx512_vnni(kernel),
            Tier::Avx512 => avx512(kernel),
            Tier::Avx2 => avx2(kernel),
            Tier::Portable => kernel.run::<Portable>(),
        }
    }
}

/// Runs `kernel` portably.
///
/// # Safety
/// What [`Kernel::run`] asks for.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) unsafe fn launch<K: Kernel>(_tier: Tier, kernel: &K) {
    // SAFETY: the caller's promise.
    unsafe { kernel.run::<Portable>() }
}

#[cfg(test)]
mod tests;
