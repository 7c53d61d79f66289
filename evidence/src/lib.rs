//! What a stopped program shows, before anyone interprets it.
//!
//! Input: nothing but what a backend recorded. Output: the traits [`Target`], [`Memory`] and [`Machine`], the plain
//! types they speak in, and decorators over them. The crate does no I/O, and it never looks at debug information:
//! every answer here is evidence as it was recorded, or an [`Absent`] that says why there is none.
#![forbid(unsafe_code)]
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

#[cfg(not(target_pointer_width = "64"))]
compile_error!("postfault addresses dumps larger than 4 GiB: it needs a 64-bit host");

mod absent;
mod address;
pub mod bytes;
mod convert;
mod doubts;
mod event;
mod identity;
mod mapping;
mod memory;
mod paged;
pub mod paging;
mod redacted;
mod registers;
mod target;
pub mod testing;
mod thread;
mod x87;

pub use absent::Absent;
pub use address::{Addr, FileOffset, PhysAddr, Svma};
pub use convert::{ToU64, ToUsize};
pub use doubts::{Doubt, Doubts, LIMIT_DOUBTS};
pub use event::{Access, Event, Signal};
pub use identity::{Arch, Identity, Origin, Os};
pub use mapping::{ImageHint, Mapping, ModuleId, Protection};
pub use memory::{Extent, Memory, Read, ReadError};
pub use paged::Paged;
pub use redacted::Redacted;
pub use registers::{Register, Registers, Vectors, register_name, register_number};
pub use target::{Attribute, Gaps, ImageSymbols, Machine, Note, OpenFile, Target};
pub use thread::{Context, Thread, ThreadId, ThreadState};
pub use x87::X87;
