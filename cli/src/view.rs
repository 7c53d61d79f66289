//! A snapshot with the look-ups that all renderers need.

use snapshot_format::Snapshot;
use snapshot_format::schema::{Frame, Module, RegisterValue, Thread, Variable};
use std::collections::HashMap;
use std::fmt::Write as _;

/// A snapshot and indices over its rows.
pub struct View<'s> {
    /// The rows.
    pub snapshot: &'s Snapshot,
    roots: HashMap<(Option<u64>, Option<u32>), Vec<u32>>,
    children: HashMap<u32, Vec<u32>>,
    registers: HashMap<(u64, u32), (usize, usize)>,
    first_with_stack: HashMap<u32, u64>,
}

impl<'s> View<'s> {
    /// Indexes `snapshot`.
    #[must_use]
    pub fn new(snapshot: &'s Snapshot) -> Self {
        let mut roots: HashMap<_, Vec<u32>> = HashMap::new();
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for (row, v) in (0_u32..).zip(&snapshot.variables) {
            match v.parent {
                Some(parent) => children.entry(parent).or_default().push(row),
                None => roots.entry((v.thread, v.frame)).or_default().push(row),
            }
        }
        let mut registers: HashMap<(u64, u32), (usize, usize)> = HashMap::new();
        for (row, r) in snapshot.registers.iter().enumerate() {
            let range = registers.entry((r.thread, r.frame)).or_insert((row, row));
            range.1 = row + 1;
        }
        let mut first_with_stack = HashMap::new();
        for t in &snapshot.threads {
            if let Some(stack) = t.stack {
                first_with_stack.entry(stack).or_insert(t.id);
            }
        }
        Self { snapshot, roots, children, registers, first_with_stack }
    }

    /// Whether frames have addresses: those that a log prints have none.
    #[must_use]
    pub fn knows_addresses(&self) -> bool {
        self.snapshot.identity.origin != "log"
    }

    /// The frames of a thread, innermost first.
    #[must_use]
    pub fn frames(&self, thread: &Thread) -> &'s [Frame] {
        let range = thread.stack.and_then(|s| self.snapshot.stacks.get(s as usize)).map(|s| {
            let first = s.first as usize;
            first..first.saturating_add(s.count as usize)
        });
        range.and_then(|r| self.snapshot.frames.get(r)).unwrap_or_default()
    }

    /// Index of the first physical frame: where the recorded registers belong.
    #[must_use]
    pub fn first_physical(&self, frames: &[Frame]) -> u32 {
        frames.iter().position(|f| !f.inline).and_then(|i| u32::try_from(i).ok()).unwrap_or(0)
    }

    /// An earlier thread with the same stack.
    #[must_use]
    pub fn same_stack_as(&self, thread: &Thread) -> Option<u64> {
        let first = *self.first_with_stack.get(&thread.stack?)?;
        (first != thread.id).then_some(first)
    }

    /// Registers of a physical frame of a thread.
    #[must_use]
    pub fn registers(&self, thread: u64, frame: u32) -> &'s [RegisterValue] {
        let range = self.registers.get(&(thread, frame));
        range.and_then(|(from, to)| self.snapshot.registers.get(*from..*to)).unwrap_or_default()
    }

    /// The module of a frame.
    #[must_use]
    pub fn module(&self, frame: &Frame) -> Option<&'s Module> {
        self.snapshot.modules.get(frame.module? as usize)
    }

    /// Rows of the variables of a frame (or, for `None`, of globals).
    #[must_use]
    pub fn variables(&self, thread: Option<u64>, frame: Option<u32>) -> &[u32] {
        self.roots.get(&(thread, frame)).map(Vec::as_slice).unwrap_or_default()
    }

    /// A variable.
    #[must_use]
    pub fn variable(&self, row: u32) -> Option<&'s Variable> {
        self.snapshot.variables.get(row as usize)
    }

    /// Rows of the parts of a variable.
    #[must_use]
    pub fn children(&self, row: u32) -> &[u32] {
        self.children.get(&row).map(Vec::as_slice).unwrap_or_default()
    }

    /// The value of an attribute that is not about one thread.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<&'s str> {
        self.snapshot.attributes.iter().find(|a| a.key == key && a.thread.is_none()).map(|a| a.value.as_str())
    }
}

/// Bytes as lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}
