//! What tests stand on: victim programs, synthetic inputs and the way to the shared fixtures.
//!
//! Input: nothing but compilers and the sources in this folder. Output: programs, running processes, cores and byte
//! images. It looks at no crash itself, and it is linked into tests and benchmarks only.
#![forbid(unsafe_code)]

pub mod ctf;
pub mod elfcore;
pub mod fixtures;
pub mod freebsd;
pub mod illumos;
pub mod macos;
pub mod memory;
pub mod minidump;
pub mod victims;
pub mod windows;
pub mod workload;
