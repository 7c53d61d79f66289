//! The parts of a mangled name.

/// Index of a [`Node`] in its tree.
pub(super) type Id = usize;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Qualifiers {
    pub(super) constant: bool,
    pub(super) volatile: bool,
    pub(super) restrict: bool,
    /// `"&"`, `"&&"` of a member function, or `""`.
    pub(super) reference: &'static str,
}

#[derive(Clone, Debug)]
pub(super) enum Node<'n> {
    Text(&'n str),
    Owned(String),
    /// `scope::name`
    Nested(Id, Id),
    /// A name with its template arguments.
    Template(Id, Vec<Id>),
    /// An argument pack, where it is an argument.
    Pack(Vec<Id>),
    /// An argument pack that a parameter stands for: one of its elements within an expansion.
    Element(Vec<Id>),
    /// A template parameter used before the arguments are known.
    Forward(usize),
    Constructor(Id),
    Destructor(Id),
    Conversion(Id),
    Lambda(Vec<Id>, usize),
    Unnamed(usize),
    Tagged(Id, &'n str),
    Encoding {
        result: Option<Id>,
        name: Id,
        parameters: Vec<Id>,
        qualifiers: Qualifiers,
    },
    Special(&'static str, Id),
    Clone(Id, &'n str),
    Qualified(Id, Qualifiers),
    /// `*`
    Pointer(Id),
    /// `&` or `&&`
    Reference(Id, bool),
    Function {
        result: Id,
        parameters: Vec<Id>,
        qualifiers: Qualifiers,
        noexcept: bool,
    },
    Array(Id, Option<Id>),
    Member(Id, Id),
    Expansion(Id),
    Literal(Id, &'n str),
    /// Pieces one after the other: an expression.
    Sequence(Vec<Id>),
    List(Vec<Id>),
}
