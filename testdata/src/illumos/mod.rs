//! illumos kernel dumps and kernels made for tests: every form a dump can lie in, and a small kernel to dump.

mod device;
pub mod dump;
mod header;
mod lzjb;
mod streams;

pub use dump::{Compression, Dump, Key};
