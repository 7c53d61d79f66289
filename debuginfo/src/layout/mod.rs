//! Structures by name, whatever describes them.
//!
//! A kernel dump is read through the layouts of a handful of structures: where in `task_struct` the pid lies, how large
//! a `thread_t` is. BTF, CTF and DWARF can all say it; whoever walks the structures asks here and does not care which
//! one answered. Nothing has a built-in offset: what no description knows is absent.

mod dwarf;
mod fields;

pub use dwarf::DwarfLayouts;
pub use fields::{Fields, Unread};

/// Longest dotted path that is followed: kernels nest a few levels only.
pub const LIMIT_PATH: usize = 16;

/// A description of structures.
pub trait Layouts: Send + Sync {
    /// A member by its dotted path, from the start of structure, union or typedef `of`: `member("task_struct",
    /// "thread.sp")`. Members of anonymous structures and unions are found as if they were members of what encloses
    /// them. Pointers are not followed. An array is named as a whole; `name[3]` is one element of it.
    fn member(&self, of: &str, path: &str) -> Option<Member>;

    /// The size of a structure, union, enumeration, base type or typedef, in bytes.
    fn size_of(&self, name: &str) -> Option<u64>;

    /// The value of an enumerator of any enumeration.
    fn enumerator(&self, name: &str) -> Option<i64>;

    /// What describes: `DWARF`, `BTF`, `CTF`.
    fn source(&self) -> &'static str;
}

/// Where a member lies in its structure, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Bytes from the start of the structure. For a bit field: the byte that holds its least significant bit
    /// (little-endian).
    pub offset: u64,
    /// Its size in bytes; for a bit field, bytes from `offset` that hold all of it.
    pub size: u64,
    /// For a bit field: its least significant bit within the byte at `offset`, and how many bits it has.
    pub bits: Option<(u8, u8)>,
    /// What it is, typedefs and qualifiers followed.
    pub shape: Shape,
    /// The name of its type, or of what it points to or has as elements, typedefs followed; without `struct`.
    pub type_name: Option<Box<str>>,
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// An integer, character, boolean or enumeration.
    Integer {
        /// Whether it is signed.
        signed: bool,
    },
    /// A pointer.
    Pointer,
    /// An array.
    Array {
        /// How many elements; 0 for a flexible array member.
        count: u64,
        /// Bytes of one element.
        element: u64,
    },
    /// A structure or union.
    Structure,
    /// Anything else.
    Other,
}

/// The parts of a dotted path with their indexes: `a.b[3].c`.
pub fn parts(path: &str) -> impl Iterator<Item = (&str, Option<u64>)> {
    path.split('.').take(LIMIT_PATH).map(|part| match part.strip_suffix(']').and_then(|p| p.split_once('[')) {
        Some((name, index)) => (name, index.parse().ok()),
        None => (part, None),
    })
}

/// Several descriptions, the best first: each question goes on to the next one until one answers.
pub struct Layered(pub Vec<Box<dyn Layouts>>);

impl Layouts for Layered {
    fn member(&self, of: &str, path: &str) -> Option<Member> {
        self.0.iter().find_map(|l| l.member(of, path))
    }
    fn size_of(&self, name: &str) -> Option<u64> {
        self.0.iter().find_map(|l| l.size_of(name))
    }
    fn enumerator(&self, name: &str) -> Option<i64> {
        self.0.iter().find_map(|l| l.enumerator(name))
    }
    fn source(&self) -> &'static str {
        self.0.first().map_or("nothing", |l| l.source())
    }
}
