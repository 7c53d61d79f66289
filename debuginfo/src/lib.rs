//! Images, symbols, lines, inlines, types and call frame information.
//!
//! Input: a target's mappings and memory, and the debug files that belong to them by build-id. Output: what a program
//! counter, a frame or a type means. It does not unwind, and it does not decide what is worth showing. Only
//! [`locate`] touches the disk; a file whose build-id differs from the image in memory is named and never used.
//!
//! Two layers: [`Modules`] owns the files; [`DebugInfo`] borrows from it and builds each module's tables when they are
//! first asked for. Section data is read in place from the mapped file and never copied, unless it is compressed.
#![deny(unsafe_code)]
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

mod build_id;
mod cache;
pub mod cfi;
pub mod ctf;
mod debug_info;
pub mod demangle;
pub mod dwarf;
pub mod elf;
mod error;
pub mod eval;
pub mod images;
pub mod kernel;
pub mod layout;
pub mod locate;
pub mod macho;
#[allow(unsafe_code, reason = "the one module that maps files")]
mod map;
mod parallel;
pub mod pdb;
pub mod pe;
mod single;
pub mod sym_file;
pub mod symbols;
pub mod types;

pub use build_id::BuildId;
pub use cache::{Cache, LIMIT_CACHE};
pub use debug_info::DebugInfo;
pub use error::Error;
pub use images::{Backed, Module, Modules};
pub use locate::Locator;
pub use sym_file::SymFile;

/// Section bytes in the byte order of their file: what gimli reads from.
pub type Slice<'m> = gimli::EndianSlice<'m, gimli::RunTimeEndian>;
