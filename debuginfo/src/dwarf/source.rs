//! What a pc means in source terms.

use super::UnitId;
use evidence::Svma;
use std::sync::Arc;

/// A function that a pc lies in: an inlined one, or the physical one that contains them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFrame {
    /// Demangled (or plain C) name.
    pub function: Option<Arc<str>>,
    /// Linkage name.
    pub linkage_name: Option<Arc<str>>,
    /// Source file: for the innermost frame that of the line table, for outer ones that of the call site. Absolute as
    /// far as the compiler recorded directories; `.` and `..` in it are kept.
    pub file: Option<Arc<str>>,
    /// Line, from 1.
    pub line: Option<u32>,
    /// Column, from 1.
    pub column: Option<u32>,
    /// Whether this frame is an inlined call.
    pub inline: bool,
    /// Start of the range of the physical function that the pc lies in: its entry, or the start of its cold part.
    pub function_start: Option<Svma>,
    /// Where its DIE is, for variables; `None` when the name came from a symbol table.
    pub scope: Option<Scope>,
}

/// The place of a DIE in one module: a `DW_TAG_subprogram` or `DW_TAG_inlined_subroutine` for a [`SourceFrame`], any
/// DIE for [`Dwarf::follow`](super::Dwarf::follow).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// Its unit, for [`Dwarf::unit`](super::Dwarf::unit).
    pub unit: UnitId,
    /// Offset of the DIE from the start of the unit's header.
    pub die: gimli::UnitOffset,
}
