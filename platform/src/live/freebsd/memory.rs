//! Memory through `PT_IO`: short where a mapping ends.

use super::attach::Held;
use evidence::{Absent, Addr, Extent, Mapping, Memory, ToU64};
use std::sync::Arc;

/// Bytes read at a time, so that the stop's guard is not held for long.
const PIECE: usize = 1 << 20;

/// The memory of a stopped process; behind its release everything is [`Absent::Released`].
pub(super) struct LiveMemory {
    held: Arc<Held>,
    extents: Vec<Extent>,
}

impl LiveMemory {
    pub(super) fn new(held: Arc<Held>, mappings: &[Mapping]) -> Self {
        let extents = mappings.iter().map(|m| Extent { range: m.range.clone(), absent: None }).collect();
        Self { held, extents }
    }

    fn mapped(&self, at: Addr) -> bool {
        let after = self.extents.partition_point(|e| e.range.start <= at);
        after.checked_sub(1).and_then(|n| self.extents.get(n)).is_some_and(|e| e.range.contains(&at))
    }
}

impl Memory for LiveMemory {
    fn read(&self, at: Addr, into: &mut [u8]) -> (usize, Option<Absent>) {
        let mut done = 0_usize;
        while done < into.len() {
            let end = done.saturating_add(PIECE).min(into.len());
            let here = at.wrapping_add(done.to_u64());
            let Some(part) = into.get_mut(done..end) else { break };
            match self.held.with(|system, pid| system.read(pid, here.0, part)) {
                None => return (done, Some(Absent::Released)),
                Some(Ok(0) | Err(_)) => {
                    return (done, Some(if self.mapped(here) { Absent::Denied } else { Absent::Unmapped }));
                }
                Some(Ok(got)) => done = done.saturating_add(got),
            }
        }
        (done, None)
    }

    fn extents(&self) -> &[Extent] {
        &self.extents
    }
}
