//! What a type is, as plain data: one node per type DIE, with references to other nodes by [`TypeId`].

use crate::dwarf::Scope;
use std::sync::Arc;

/// A type DIE of one module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId {
    /// Index of the module in [`Modules::list`](crate::Modules::list).
    pub module: usize,
    /// The DIE.
    pub at: Scope,
}

/// Languages whose spelling of types differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// C, assembler, and whatever is not named here.
    C,
    /// C++.
    Cpp,
    /// Rust.
    Rust,
}

impl Language {
    /// The family of a `DW_AT_language`.
    #[must_use]
    pub const fn of(language: Option<gimli::DwLang>) -> Self {
        match language {
            Some(
                gimli::DW_LANG_C_plus_plus
                | gimli::DW_LANG_C_plus_plus_03
                | gimli::DW_LANG_C_plus_plus_11
                | gimli::DW_LANG_C_plus_plus_14
                | gimli::DW_LANG_C_plus_plus_17
                | gimli::DW_LANG_C_plus_plus_20
                | gimli::DW_LANG_ObjC_plus_plus,
            ) => Self::Cpp,
            Some(gimli::DW_LANG_Rust) => Self::Rust,
            _ => Self::C,
        }
    }
}

/// A type.
#[derive(Clone, Debug)]
pub struct Type {
    /// Which one.
    pub id: TypeId,
    /// Its name with all enclosing namespaces and classes, without `struct` or `enum`; `None` when it has none.
    pub name: Option<Arc<str>>,
    /// The language of its unit.
    pub language: Language,
    /// Size in bytes, as its own DIE states it.
    pub size: Option<u64>,
    /// `DW_AT_alignment`, in bytes: only for types with an explicit one.
    pub alignment: Option<u64>,
    /// `DW_AT_declaration`: its definition is elsewhere, or nowhere.
    pub declaration: bool,
    /// What it is.
    pub kind: Kind,
}

impl Type {
    /// A type of which nothing is known, and why.
    pub(crate) fn unknown(id: TypeId, why: &str) -> Self {
        Self {
            id,
            name: None,
            language: Language::C,
            size: None,
            alignment: None,
            declaration: false,
            kind: Kind::Unknown(why.into()),
        }
    }
}

/// What a type is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A number, character or truth value.
    Base {
        /// `DW_AT_encoding`.
        encoding: gimli::DwAte,
    },
    /// A pointer or reference.
    Pointer {
        /// What it points to; `None` for `void`.
        target: Option<TypeId>,
        /// Which kind of pointer.
        sort: PointerSort,
    },
    /// A C++ pointer to member.
    MemberPointer {
        /// The member's type: a function type for methods.
        target: Option<TypeId>,
        /// The class.
        class: Option<TypeId>,
    },
    /// An array.
    Array {
        /// Type of an element.
        element: Option<TypeId>,
        /// Outermost first.
        dimensions: Vec<Dimension>,
        /// `DW_AT_GNU_vector`.
        vector: bool,
    },
    /// A structure, class or union.
    Structure(Structure),
    /// An enumeration.
    Enumeration(Enumeration),
    /// Another name for a type.
    Typedef {
        /// The type; `None` for `void`.
        target: Option<TypeId>,
    },
    /// A type with `const` and the like.
    Qualified {
        /// Which one.
        qualifier: Qualifier,
        /// The type; `None` for `void`.
        target: Option<TypeId>,
    },
    /// A function.
    Function {
        /// What it returns; `None` for `void`.
        result: Option<TypeId>,
        /// Its parameters' types, `this` included.
        parameters: Vec<Option<TypeId>>,
        /// Whether it ends in `...`.
        variadic: bool,
        /// Whether its parameters were declared; in C `int f()` leaves them open.
        prototyped: bool,
        /// Whether its first parameter is `this`.
        method: bool,
    },
    /// `DW_TAG_unspecified_type`: `decltype(nullptr)`, Rust's `!`.
    Unspecified,
    /// It could not be read, or is of a kind not known here; says why.
    Unknown(String),
}

/// Kinds of pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointerSort {
    /// `*`
    Pointer,
    /// `&`
    Reference,
    /// `&&`
    RvalueReference,
}

/// `const` and its kin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the variants say it")]
pub enum Qualifier {
    Const,
    Volatile,
    Restrict,
    Atomic,
}

/// One dimension of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dimension {
    /// How many elements.
    pub count: Count,
}

/// A number of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// So many.
    Known(u64),
    /// An attribute of the subrange DIE (`DW_AT_count` or `DW_AT_upper_bound`) says it at run time.
    Dynamic {
        /// The subrange.
        at: Scope,
        /// Whether it is a count; else an upper bound, with the lower bound beside it.
        is_count: bool,
        /// First index.
        lower: i64,
    },
    /// Nobody says: a flexible array member, or `extern int a[]`.
    Unknown,
}

/// A structure, class or union.
#[derive(Clone, Debug, Default)]
pub struct Structure {
    /// A union: all members at the same place.
    pub union: bool,
    /// The keyword it was declared with.
    pub keyword: &'static str,
    /// Bases, data members and static members in declaration order.
    pub members: Vec<Member>,
    /// Rust: alternatives chosen by a discriminant.
    pub variants: Option<VariantPart>,
    /// Template arguments in order.
    pub parameters: Vec<TemplateParameter>,
    /// There were more members than are kept.
    pub truncated: bool,
}

/// A member or base.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name; `None` for bases and anonymous structures and unions.
    pub name: Option<Arc<str>>,
    /// Its type.
    pub ty: Option<TypeId>,
    /// What it is to its class.
    pub role: Role,
    /// Where in the structure it lies.
    pub position: Position,
    /// Made by the compiler (`_vptr.X`).
    pub artificial: bool,
    /// Its DIE.
    pub at: Scope,
}

/// What a member is to its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A data member.
    Field,
    /// A base class.
    Base,
    /// A virtual base class.
    VirtualBase,
    /// A static data member.
    Static,
}

/// Where a member lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// So many bytes from the structure's start.
    Byte(u64),
    /// A bit field.
    Bits {
        /// Number of its least significant bit, counted from bit 0 of the structure's first byte (little-endian).
        start: u64,
        /// How many bits.
        size: u64,
    },
    /// `DW_AT_data_member_location` is an expression that takes the structure's address (virtual bases).
    Expression,
    /// It has no place in the structure (static members), or none that could be understood.
    None,
}

/// Rust's `DW_TAG_variant_part`.
#[derive(Clone, Debug)]
pub struct VariantPart {
    /// The member that tells which; `None` when there is only one alternative.
    pub discriminant: Option<Box<Member>>,
    /// The alternatives.
    pub variants: Vec<Variant>,
}

/// One alternative of a variant part.
#[derive(Clone, Debug)]
pub struct Variant {
    /// `DW_AT_discr_value`; `None` for the one that applies to all other values.
    pub value: Option<i128>,
    /// What it holds: with rustc one member, named as the alternative.
    pub members: Vec<Member>,
}

/// A template argument.
#[derive(Clone, Debug)]
pub struct TemplateParameter {
    /// The parameter's name.
    pub name: Option<Arc<str>>,
    /// The argument, or for values the value's type.
    pub ty: Option<TypeId>,
    /// The value of a non-type argument.
    pub value: Option<i128>,
}

/// An enumeration.
#[derive(Clone, Debug)]
pub struct Enumeration {
    /// The type of its values, when stated.
    pub underlying: Option<TypeId>,
    /// `enum class`.
    pub class: bool,
    /// Names (qualified as the language wants them) and values in declaration order.
    pub enumerators: Vec<(Arc<str>, i128)>,
    /// Every value is 0 or a single bit (gdb's rule): a value without a name is shown as names joined by `|`.
    pub flags: bool,
    /// Some value is negative.
    pub signed: bool,
}
