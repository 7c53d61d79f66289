//! A kernel made by a test: VMCOREINFO lines and memory.

use super::context::{Described, Linux};
use super::info::Info;
use debuginfo::layout::{Fields, Layouts, Member, Shape};
use debuginfo::{DebugInfo, Modules};
use evidence::bytes::Endian;
use evidence::testing::{FakeMemory, FakeTarget};
use evidence::{Attribute, Doubt, Doubts, Target as _};
use std::collections::HashMap;
use std::sync::OnceLock;

/// Runs `then` on a kernel of these VMCOREINFO lines and this memory; what it returns, and the doubts.
pub(super) fn with<R>(
    lines: &[(String, String)],
    memory: FakeMemory,
    then: impl FnOnce(&Linux<'_>) -> R,
) -> (R, Vec<Doubt>) {
    run(lines, None, memory, then)
}

/// As [`with`], with structures that are described.
pub(super) fn with_structures<R>(
    lines: &[(String, String)],
    structures: &Structures,
    memory: FakeMemory,
    then: impl FnOnce(&Linux<'_>) -> R,
) -> (R, Vec<Doubt>) {
    run(lines, Some(structures), memory, then)
}

fn run<R>(
    lines: &[(String, String)],
    structures: Option<&Structures>,
    memory: FakeMemory,
    then: impl FnOnce(&Linux<'_>) -> R,
) -> (R, Vec<Doubt>) {
    let mut target = FakeTarget::new();
    target.memory = memory;
    target.attributes = lines
        .iter()
        .map(|(key, value)| Attribute {
            key: format!("vmcoreinfo.{key}").into(),
            thread: None,
            value: value.as_str().into(),
        })
        .collect();
    let (modules, doubts) = (Modules::default(), Doubts::new());
    let tables = DebugInfo::new(&modules, &doubts);
    let described = Described { btf: None, info: &tables, dwarf: OnceLock::new() };
    let layouts: &dyn Layouts = match structures {
        Some(structures) => structures,
        None => &described,
    };
    let info = Info::of(&target);
    let linux = Linux {
        info: &info,
        fields: Fields { layouts, memory: target.memory(), endian: Endian::Little, pointer: 8 },
        doubts: &doubts,
        kallsyms: None,
        file: &tables,
        slide: 0,
    };
    let result = then(&linux);
    (result, doubts.sorted())
}

/// Structures as a test wants them.
#[derive(Default)]
pub(super) struct Structures {
    members: HashMap<(&'static str, &'static str), Member>,
    sizes: HashMap<&'static str, u64>,
    enumerators: HashMap<&'static str, i64>,
}

impl Structures {
    fn add(&mut self, of: &'static str, path: &'static str, offset: u64, size: u64, shape: Shape) -> &mut Self {
        self.members.insert((of, path), Member { offset, size, bits: None, shape, type_name: None });
        self
    }

    /// An unsigned integer.
    pub(super) fn integer(&mut self, of: &'static str, path: &'static str, offset: u64, size: u64) -> &mut Self {
        self.add(of, path, offset, size, Shape::Integer { signed: false })
    }

    pub(super) fn pointer(&mut self, of: &'static str, path: &'static str, offset: u64) -> &mut Self {
        self.add(of, path, offset, 8, Shape::Pointer)
    }

    /// A structure inside of another.
    pub(super) fn place(&mut self, of: &'static str, path: &'static str, offset: u64) -> &mut Self {
        self.add(of, path, offset, 8, Shape::Structure)
    }

    pub(super) fn array(
        &mut self,
        of: &'static str,
        path: &'static str,
        offset: u64,
        count: u64,
        element: u64,
    ) -> &mut Self {
        self.add(of, path, offset, count * element, Shape::Array { count, element })
    }

    pub(super) fn size(&mut self, of: &'static str, size: u64) -> &mut Self {
        self.sizes.insert(of, size);
        self
    }

    pub(super) fn enumerator(&mut self, name: &'static str, value: i64) -> &mut Self {
        self.enumerators.insert(name, value);
        self
    }
}

impl Layouts for Structures {
    fn member(&self, of: &str, path: &str) -> Option<Member> {
        self.members.get(&(of, path)).cloned()
    }
    fn size_of(&self, name: &str) -> Option<u64> {
        self.sizes.get(name).copied()
    }
    fn enumerator(&self, name: &str) -> Option<i64> {
        self.enumerators.get(name).copied()
    }
    fn source(&self) -> &'static str {
        "a test"
    }
}

/// `SYMBOL(..)`, `OFFSET(..)` and `SIZE(..)` lines.
pub(super) fn lines(symbols: &[(&str, u64)], offsets: &[(&str, u64)], sizes: &[(&str, u64)]) -> Vec<(String, String)> {
    let symbols = symbols.iter().map(|(n, v)| (format!("SYMBOL({n})"), format!("{v:x}")));
    let offsets = offsets.iter().map(|(n, v)| (format!("OFFSET({n})"), v.to_string()));
    let sizes = sizes.iter().map(|(n, v)| (format!("SIZE({n})"), v.to_string()));
    symbols.chain(offsets).chain(sizes).collect()
}
