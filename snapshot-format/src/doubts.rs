//! What is missing or wrong in a snapshot, as doubts of its reading.

use crate::convert::ToU64;
use crate::limits::LIMIT_DOUBTS;
use crate::schema::Doubt;

/// The file ends before its end.
pub(crate) const CUT_OFF: &str = "snapshot-cut-off";
/// Bytes are not what the writer wrote.
pub(crate) const DAMAGED: &str = "snapshot-damaged";
/// Rows or columns could not be read.
pub(crate) const LOST: &str = "snapshot-lost";
/// A row refers to one that does not exist, or a value is out of range.
pub(crate) const INVALID: &str = "snapshot-invalid";
/// A limit of the reader was reached.
pub(crate) const LIMIT: &str = "snapshot-limit";

/// A bounded list of doubts.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    list: Vec<Doubt>,
    dropped: u64,
}

impl Doubts {
    /// Notes a doubt, or counts it when the list is full.
    pub(crate) fn push(&mut self, what: &str, why: String) {
        if self.list.len() < LIMIT_DOUBTS {
            self.list.push(Doubt { what: what.to_owned(), address: None, why });
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// The doubts so far; the last one counts those that had no room.
    pub(crate) fn list(&self) -> Vec<Doubt> {
        let mut list = self.list.clone();
        if self.dropped > 0 {
            let why =
                format!("{} more doubts about this snapshot beyond the first {}", self.dropped, list.len().to_u64());
            list.push(Doubt { what: LIMIT.to_owned(), address: None, why });
        }
        list
    }
}
