//! Names every distinct pc of all stacks once.

use crate::walk::Walked;
use debuginfo::DebugInfo;
use debuginfo::dwarf::SourceFrame;
use evidence::{Addr, Svma};
use std::collections::BTreeMap;

/// What each look-up address means.
#[derive(Default)]
pub(crate) struct Resolved {
    by_address: BTreeMap<Addr, At>,
}

/// The meaning of one look-up address.
#[derive(Default)]
pub(crate) struct At {
    /// Index of the module.
    pub(crate) module: Option<usize>,
    /// Inlined calls innermost first, the physical function last; empty when nothing is known.
    pub(crate) frames: Vec<SourceFrame>,
}

impl Resolved {
    /// Functions by their look-up addresses, as a test says.
    #[cfg(test)]
    pub(crate) fn named(names: &[(Addr, &str)]) -> Self {
        let at = |name: &&str| At {
            module: None,
            frames: vec![SourceFrame { function: Some((*name).into()), ..SourceFrame::default() }],
        };
        Self { by_address: names.iter().map(|(a, name)| (*a, at(name))).collect() }
    }

    /// What `lookup` means.
    pub(crate) fn at(&self, lookup: Addr) -> Option<&At> {
        self.by_address.get(&lookup)
    }
}

pub(crate) fn resolve(walked: &[Walked<'_>], info: &DebugInfo<'_>) -> Resolved {
    let mut by_address: BTreeMap<Addr, At> = BTreeMap::new();
    let mut asked: Vec<(usize, Svma)> = Vec::new();
    let mut addresses: Vec<Addr> = Vec::new();
    for frame in walked.iter().flat_map(|w| &w.stack.frames) {
        let lookup = frame.lookup();
        if by_address.contains_key(&lookup) {
            continue;
        }
        let found = info.modules().find(lookup);
        if let Some((index, module)) = found {
            asked.push((index, module.to_svma(lookup)));
            addresses.push(lookup);
        }
        by_address.insert(lookup, At { module: found.map(|(index, _)| index), frames: Vec::new() });
    }
    let answers = info.resolve_batch(&asked);
    for (address, frames) in addresses.into_iter().zip(answers) {
        if let Some(at) = by_address.get_mut(&address) {
            at.frames = frames;
        }
    }
    Resolved { by_address }
}
