//! Stores identical stacks once.

use foldhash::fast::RandomState;
use snapshot_format::schema::{Frame, Stack};
use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};

/// Collects stacks, each distinct one once, and all their frames in one list.
#[derive(Default)]
pub(crate) struct StackTable {
    pub(crate) stacks: Vec<Stack>,
    pub(crate) frames: Vec<Frame>,
    hasher: RandomState,
    seen: HashMap<u64, Vec<u32>, RandomState>,
}

impl StackTable {
    /// The index of the stack with exactly these frames, added if it is new; `None` when the table is full.
    pub(crate) fn add(&mut self, frames: Vec<Frame>) -> Option<u32> {
        let mut hasher = self.hasher.build_hasher();
        frames.iter().for_each(|f| (f.pc, f.inline, f.line).hash(&mut hasher));
        let key = hasher.finish();
        for index in self.seen.get(&key).into_iter().flatten() {
            if self.frames_of(*index) == Some(&frames) {
                return Some(*index);
            }
        }
        let index = u32::try_from(self.stacks.len()).ok()?;
        let first = u32::try_from(self.frames.len()).ok()?;
        let count = u32::try_from(frames.len()).ok()?;
        self.stacks.push(Stack { first, count });
        self.frames.extend(frames);
        self.seen.entry(key).or_default().push(index);
        Some(index)
    }

    fn frames_of(&self, index: u32) -> Option<&[Frame]> {
        let stack = self.stacks.get(usize::try_from(index).ok()?)?;
        let first = usize::try_from(stack.first).ok()?;
        self.frames.get(first..first.checked_add(usize::try_from(stack.count).ok()?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identical_stacks_share_a_row() {
        let frame = |pc| Frame { pc, ..Frame::default() };
        let mut table = StackTable::default();
        assert_eq!(table.add(vec![frame(1), frame(2)]), Some(0));
        assert_eq!(table.add(vec![frame(1), frame(3)]), Some(1));
        assert_eq!(table.add(vec![frame(1), frame(2)]), Some(0));
        assert_eq!(table.frames.len(), 4);
    }
}
