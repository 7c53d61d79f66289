//! Integer conversions that cannot lose anything on the 64-bit hosts this project supports.

/// Widens to `u64`.
pub trait ToU64 {
    /// The same number as `u64`.
    fn to_u64(self) -> u64;
}

/// Converts to `usize`.
pub trait ToUsize {
    /// The same number as `usize` (saturating where a host could not hold it; 64-bit hosts always can).
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

impl ToUsize for u16 {
    fn to_usize(self) -> usize {
        usize::from(self)
    }
}
