//! Linux kernels.

use super::{Given, Kernel};

/// What a Linux kernel's memory says of it.
pub(super) fn outline(given: Given<'_>) -> Option<Kernel> {
    Some(Kernel::recorded(given))
}
