//! illumos kernel dumps and kernels made for tests: every form a dump can lie in, and a small kernel to dump.

pub mod ctf;
mod device;
pub mod dump;
mod header;
pub mod heap;
pub mod kernel;
pub mod ksyms;
pub mod layouts;
mod lzjb;
mod streams;
mod waits;

pub use dump::{Compression, Dump, Key};
