//! Names every distinct pc of all stacks once.

use crate::walk::Walked;
use debuginfo::DebugInfo;
use debuginfo::dwarf::SourceFrame;
use evidence::{Addr, Svma};
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// What each look-up address means.
#[derive(Default)]
pub(crate) struct Resolved {
    by_address: HashMap<Addr, At, RandomState>,
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

    /// Whether no address has a function of which more is known than its name.
    pub(crate) fn has_no_scopes(&self) -> bool {
        self.by_address.values().flat_map(|at| &at.frames).all(|frame| frame.scope.is_none())
    }

    /// What `lookup` means.
    pub(crate) fn at(&self, lookup: Addr) -> Option<&At> {
        self.by_address.get(&lookup)
    }
}

pub(crate) fn resolve(walked: &[Walked<'_>], info: &DebugInfo<'_>) -> Resolved {
    let mut by_address: HashMap<Addr, At, RandomState> = HashMap::default();
    let mut asked: Vec<(usize, Svma)> = Vec::new();
    let mut addresses: Vec<Addr> = Vec::new();
    for frame in walked.iter().flat_map(|w| &w.stack.frames) {
        let lookup = frame.lookup();
        let Entry::Vacant(place) = by_address.entry(lookup) else { continue };
        let found = info.modules().find(lookup);
        if let Some((index, module)) = found {
            asked.push((index, module.to_svma(lookup)));
            addresses.push(lookup);
        }
        place.insert(At { module: found.map(|(index, _)| index), frames: Vec::new() });
    }
    let answers = info.resolve_batch(&asked);
    for (address, frames) in addresses.into_iter().zip(answers) {
        if let Some(at) = by_address.get_mut(&address) {
            at.frames = frames;
        }
    }
    Resolved { by_address }
}
