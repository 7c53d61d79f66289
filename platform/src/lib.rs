//! User programs as evidence: live processes, user cores and minidumps.
//!
//! Input: a process id, or a file. Output: a stopped program as an [`evidence::Target`]. The crate does not look at
//! debug information and it does not unwind; it says what the operating system or the file recorded, and why something
//! is missing. File formats are never behind `cfg(target_os)`; only the folders below [`live`] are.
//!
//! This is the one crate besides `debuginfo::map` in which `unsafe` is allowed: the system calls that no kept library
//! wraps.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

pub mod elfcore;
mod error;
pub mod input;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod kvm;
pub mod linux_abi;
pub mod live;
pub mod minidump;

pub use error::{Error, Refusal};
