//! Variables and their values.
//!
//! A process of a thousand threads has millions of rows and some hundred names, which the rows share.

use std::sync::Arc;

/// Where a variable comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants say it")]
pub enum VariableKind {
    Parameter,
    #[default]
    Local,
    Global,
    Tls,
    /// A member, element or pointee: its parent row says of what.
    Member,
}

impl VariableKind {
    /// All of them, in the order of their numbers on disk.
    pub const ALL: [Self; 5] = [Self::Parameter, Self::Local, Self::Global, Self::Tls, Self::Member];

    /// The word of the JSON contract.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Parameter => "parameter",
            Self::Local => "local",
            Self::Global => "global",
            Self::Tls => "tls",
            Self::Member => "member",
        }
    }
}

/// A value as shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// No value of its own: a structure whose children hold it, or absent.
    #[default]
    None,
    /// A signed integer.
    Signed(i64),
    /// An unsigned integer.
    Unsigned(u64),
    /// A floating-point number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// An address (pointer or reference).
    Pointer(u64),
    /// Text: a string, an enumerator's name, a 128-bit number, a pointer with its symbol.
    Text(String),
}

/// A variable, or a part of one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Variable {
    /// Thread id; `None` for globals.
    pub thread: Option<u64>,
    /// Index of the frame within the thread's stack, inlined frames counted.
    pub frame: Option<u32>,
    /// Row of the structure, array or pointer this is a part of.
    pub parent: Option<u32>,
    /// Name; `[3]` for elements, `*` for pointees.
    pub name: Arc<str>,
    /// Type, in the source language's spelling.
    pub type_name: Arc<str>,
    /// Where it comes from.
    pub kind: VariableKind,
    /// The value.
    pub value: Value,
    /// Address of its first byte, when it lies in memory.
    pub address: Option<u64>,
    /// Why there is no value: `optimised-out`, or a word of absence.
    pub absent: Option<Arc<str>>,
    /// A limit cut its children or its text short.
    pub truncated: bool,
    /// Line of its declaration.
    pub line: Option<u64>,
}
