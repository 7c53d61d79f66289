//! What a Linux kernel carries of itself in its own memory: symbols, types, unwind tables.
//!
//! A crash dump of a current kernel holds all three, so that it can be analysed without the kernel's file. Everything
//! here is read from memory (or from the sections of a file that hold the same bytes) and is as hostile as any input.

mod btf;
mod kallsyms;
mod name_index;
mod orc;
mod scan;

pub use btf::{Btf, BtfError};
pub use kallsyms::{Kallsyms, Places, Symbol};
pub use orc::{Base, Orc, OrcKind, OrcRow, OrcVersion};
pub use scan::find_kallsyms;
