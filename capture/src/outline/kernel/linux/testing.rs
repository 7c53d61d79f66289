//! A kernel made by a test: VMCOREINFO lines and memory.

use super::context::{Described, Linux};
use super::info::Info;
use debuginfo::layout::Fields;
use debuginfo::{DebugInfo, Modules};
use evidence::bytes::Endian;
use evidence::testing::{FakeMemory, FakeTarget};
use evidence::{Attribute, Doubt, Doubts, Target as _};
use std::sync::OnceLock;

/// Runs `then` on a kernel of these VMCOREINFO lines and this memory; what it returns, and the doubts.
pub(super) fn with<R>(
    lines: &[(String, String)],
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
    let info = Info::of(&target);
    let linux = Linux {
        info: &info,
        fields: Fields { layouts: &described, memory: target.memory(), endian: Endian::Little, pointer: 8 },
        doubts: &doubts,
        kallsyms: None,
        file: &tables,
        slide: 0,
    };
    let result = then(&linux);
    (result, doubts.sorted())
}

/// `SYMBOL(..)`, `OFFSET(..)` and `SIZE(..)` lines.
pub(super) fn lines(symbols: &[(&str, u64)], offsets: &[(&str, u64)], sizes: &[(&str, u64)]) -> Vec<(String, String)> {
    let symbols = symbols.iter().map(|(n, v)| (format!("SYMBOL({n})"), format!("{v:x}")));
    let offsets = offsets.iter().map(|(n, v)| (format!("OFFSET({n})"), v.to_string()));
    let sizes = sizes.iter().map(|(n, v)| (format!("SIZE({n})"), v.to_string()));
    symbols.chain(offsets).chain(sizes).collect()
}
