//! What a pc means in source terms.

use evidence::Svma;
use std::sync::Arc;

/// A function that a pc lies in: an inlined one, or the physical one that contains them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFrame {
    /// Demangled (or plain C) name.
    pub function: Option<Arc<str>>,
    /// Linkage name.
    pub linkage_name: Option<Arc<str>>,
    /// Source file: for the innermost frame that of the line table, for outer ones that of the call site.
    pub file: Option<Arc<str>>,
    /// Line, from 1.
    pub line: Option<u32>,
    /// Column, from 1.
    pub column: Option<u32>,
    /// Whether this frame is an inlined call.
    pub inline: bool,
    /// Entry address of the physical function.
    pub function_start: Option<Svma>,
    /// Where its DIE is, for variables; `None` when the name came from a symbol table.
    pub scope: Option<Scope>,
}

/// A `DW_TAG_subprogram` or `DW_TAG_inlined_subroutine` of one module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Index of the unit in the module's [`Dwarf`](super::Dwarf).
    pub unit: usize,
    /// Offset of the DIE in the unit.
    pub die: usize,
}
