//! Integer conversions that lose nothing on 64-bit hosts.

/// Widens to `u64`.
pub(crate) trait ToU64 {
    /// The same number.
    fn to_u64(self) -> u64;
}

/// Converts to `usize`, saturating where a host could not hold the number (64-bit hosts always can).
pub(crate) trait ToUsize {
    /// The same number.
    fn to_usize(self) -> usize;
}

impl ToU64 for usize {
    fn to_u64(self) -> u64 {
        u64::try_from(self).unwrap_or(u64::MAX)
    }
}

impl ToUsize for u64 {
    fn to_usize(self) -> usize {
        usize::try_from(self).unwrap_or(usize::MAX)
    }
}

impl ToUsize for u32 {
    fn to_usize(self) -> usize {
        usize::try_from(self).unwrap_or(usize::MAX)
    }
}

/// `len` as `u32`; lengths of blocks are far below its limit.
pub(crate) fn to_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
