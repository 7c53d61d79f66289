//! Live processes, one folder per operating system; the folders hold the same file names.
//!
//! A live process is stopped for as short a time as possible and always runs on exactly as before.

#[cfg(unix)]
pub mod freebsd;
#[cfg(unix)]
pub mod illumos;
#[cfg(target_os = "linux")]
pub mod linux;

#[cfg(target_os = "linux")]
pub use linux::{LiveTarget, Options, Released, Stop, attach};

#[cfg(target_os = "illumos")]
pub use illumos::{LiveTarget, Options, Released, Stop, attach};

#[cfg(target_os = "freebsd")]
pub use freebsd::{LiveTarget, Options, Released, Stop, attach};
