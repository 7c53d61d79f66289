//! What was looked for, where, and what came of it: the record behind `postfault symbols`.

use crate::BuildId;
use std::fmt;
use std::path::PathBuf;

/// What came of looking at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The file belongs to the image and is used.
    Used,
    /// There is no such file.
    Missing,
    /// The operating system refused, or the file is no ELF file: what was said.
    Unusable(String),
    /// The file is of another build.
    Mismatch {
        /// What the image's build-id is.
        expected: Option<BuildId>,
        /// What was found instead, in words.
        found: String,
    },
    /// The file belongs to the image and holds nothing that was wanted.
    Stripped,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Used => f.write_str("used"),
            Self::Missing => f.write_str("not there"),
            Self::Unusable(why) => write!(f, "unusable: {why}"),
            Self::Mismatch { expected: Some(expected), found } => {
                write!(f, "of another build: expected build-id {expected}, found {found}")
            }
            Self::Mismatch { expected: None, found } => write!(f, "of another build: {found}"),
            Self::Stripped => f.write_str("has no debug information"),
        }
    }
}

/// The best that is known about the code of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SymbolKind {
    /// DWARF.
    Dwarf,
    /// A full symbol table.
    Symtab,
    /// Exported symbols only.
    Dynsym,
    /// A kernel's table of its own symbols, read out of its memory.
    Kallsyms,
    /// A Breakpad symbol file.
    SymFile,
    /// A program database of Windows.
    Pdb,
    /// The exported names of an image of Windows.
    PeExports,
    /// Nothing.
    #[default]
    None,
}

impl SymbolKind {
    /// The word of the JSON contract.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Dwarf => "dwarf",
            Self::Symtab => "symtab",
            Self::Dynsym => "dynsym",
            Self::Kallsyms => "kallsyms",
            Self::SymFile => "sym-file",
            Self::Pdb => "pdb",
            Self::PeExports => "pe-exports",
            Self::None => "none",
        }
    }
}

/// How sure it is that the file is the one that ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Verified {
    /// The build-id in memory is the build-id in the file.
    BuildId,
    /// Memory has no build-id; all program headers in memory are those of the file.
    ProgramHeaders,
    /// Memory has neither; the mapped ranges are where the file's segments would be.
    Layout,
    /// It was read out of the target's memory.
    Memory,
    /// The user asked about this very file.
    Given,
    /// There is no file.
    #[default]
    Not,
}

/// What is known about the files of one image.
#[derive(Clone, Debug, Default)]
pub struct FileReport {
    /// The image file in use.
    pub main: Option<PathBuf>,
    /// How it was verified.
    pub verified: Verified,
    /// The separate debug file in use.
    pub debug: Option<PathBuf>,
    /// dwz's alternate file in use.
    pub supplementary: Option<PathBuf>,
    /// Every place that was looked at, in order.
    pub searched: Vec<(PathBuf, Outcome)>,
    /// What is missing or wrong, in words; `None` when nothing is.
    pub problem: Option<String>,
    /// What would fix it, in words.
    pub remedy: Option<String>,
    /// The best that is known about its code.
    pub kind: SymbolKind,
}
