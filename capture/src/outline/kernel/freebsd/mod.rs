//! FreeBSD kernels.

use super::{Given, Kernel};

/// What a FreeBSD kernel's memory says of it.
pub(super) fn outline(given: Given<'_>) -> Option<Kernel> {
    Some(Kernel::recorded(given))
}
