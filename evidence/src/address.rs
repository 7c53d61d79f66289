//! Kinds of address are types, so that one cannot stand where another is meant.

use std::fmt;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl $name {
            /// The address `by` bytes further on, unless that leaves the 64-bit space.
            #[must_use]
            pub const fn checked_add(self, by: u64) -> Option<Self> {
                match self.0.checked_add(by) { Some(v) => Some(Self(v)), None => None }
            }
            /// The address `by` bytes further on, or the last address there is.
            #[must_use]
            pub const fn saturating_add(self, by: u64) -> Self { Self(self.0.saturating_add(by)) }
            /// The address `by` bytes further on, modulo 2^64, as processors compute it.
            #[must_use]
            pub const fn wrapping_add(self, by: u64) -> Self { Self(self.0.wrapping_add(by)) }
            /// The address `by` bytes before, modulo 2^64.
            #[must_use]
            pub const fn wrapping_sub(self, by: u64) -> Self { Self(self.0.wrapping_sub(by)) }
            /// How many bytes `self` lies after `base`; `None` when it lies before.
            #[must_use]
            pub const fn offset_from(self, base: Self) -> Option<u64> { self.0.checked_sub(base.0) }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{:#x}", self.0) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, concat!(stringify!($name), "({:#x})"), self.0) }
        }
    };
}

address! {
    /// An address in the virtual address space it came from; never a file offset, never an SVMA.
    Addr
}
address! {
    /// A machine-physical address.
    PhysAddr
}
address! {
    /// A "stated" virtual address: what an image file says, before the image was slid to where it runs.
    Svma
}
address! {
    /// A position in a file, in bytes from its start.
    FileOffset
}
