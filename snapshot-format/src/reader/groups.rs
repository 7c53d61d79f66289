//! Row groups: which blocks belong together, and which of their columns the writer wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek};

use super::block::OVER_BUDGET;
use super::{Reader, span};
use crate::doubts::{DAMAGED, INVALID, LIMIT};
use crate::format::block::{Header, kind};
use crate::format::column::{Decoded, decode, decode_head};
use crate::format::directory::Entry;
use crate::limits::LIMIT_GROUP_ROWS;
use crate::row::DataType;

/// Offset of a block that the directory lists and the file no longer has.
pub(super) const NOWHERE: u64 = u64::MAX;

/// Budget of decoded bytes and rows.
#[derive(Debug)]
pub(crate) struct Budget {
    left: u64,
}

impl Budget {
    pub(crate) const fn new(bytes: u64) -> Self {
        Self { left: bytes }
    }

    /// Whether there is room for `bytes`, which are then taken.
    pub(super) fn take(&mut self, bytes: u64) -> bool {
        let left = self.left.checked_sub(bytes);
        self.left = left.unwrap_or(0);
        left.is_some()
    }
}

/// The blocks of one row group.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) first: u64,
    pub(super) rows: u32,
    head: Option<Entry>,
    pub(super) columns: BTreeMap<u32, Entry>,
}

/// What became of a column of a group.
pub(super) enum Outcome {
    /// It was read.
    Read(Box<Decoded>),
    /// The writer left it out: it holds nothing, or zeros.
    Unwritten,
    /// It was written, and cannot be read.
    Lost,
    /// It is not there, and nothing says whether it was written.
    Unknown,
}

impl<R: Read + Seek> Reader<R> {
    /// The row groups of a table, in order and without overlap.
    pub(super) fn groups(&mut self, table: u32) -> Vec<Group> {
        let mut groups: BTreeMap<u32, Group> = BTreeMap::new();
        let mut strange = 0u64;
        for entry in self.directory.entries.iter().filter(|entry| entry.id.table == table) {
            let id = entry.id;
            if !matches!(id.kind, kind::HEAD | kind::COLUMN) || id.rows > LIMIT_GROUP_ROWS {
                strange = strange.saturating_add(u64::from(matches!(id.kind, kind::HEAD | kind::COLUMN)));
                continue;
            }
            let fresh = Group { first: id.first, rows: id.rows, ..Group::default() };
            let group = groups.entry(id.group).or_insert(fresh);
            if (group.first, group.rows) != (id.first, id.rows) {
                strange = strange.saturating_add(1);
            } else if id.kind == kind::HEAD {
                group.head.get_or_insert(*entry);
            } else {
                group.columns.entry(id.column).or_insert(*entry);
            }
        }
        let table = self.table_name(table);
        if strange > 0 {
            let why =
                format!("{strange} blocks of {table} contradict the others of their row group, or the limit of rows");
            self.doubts.push(INVALID, why);
        }
        let mut next = 0u64;
        let mut kept = Vec::new();
        for group in groups.into_values() {
            if group.first < next {
                let why = format!("rows {} of {table} are there twice", span(group.first, group.rows));
                self.doubts.push(INVALID, why);
                continue;
            }
            next = group.first.saturating_add(group.rows.into());
            kept.push(group);
        }
        kept
    }

    /// The columns that the writer wrote for a group; `None` if nothing says so any more.
    pub(super) fn written(&mut self, group: &Group, budget: &mut Budget) -> Option<BTreeSet<u32>> {
        if self.complete {
            return Some(group.columns.keys().copied().collect());
        }
        let (_, payload) = self.payload(&group.head?, budget).ok()?;
        Some(decode_head(&payload)?.into_iter().collect())
    }

    /// A column of a group.
    pub(super) fn column(
        &mut self,
        group: &Group,
        written: Option<&BTreeSet<u32>>,
        column: u32,
        data: Option<DataType>,
        budget: &mut Budget,
    ) -> Outcome {
        let Some(entry) = group.columns.get(&column) else {
            return match written {
                None => Outcome::Unknown,
                Some(written) if written.contains(&column) => Outcome::Lost,
                Some(_) => Outcome::Unwritten,
            };
        };
        if entry.offset == NOWHERE {
            return Outcome::Lost;
        }
        let decoded = self
            .payload(entry, budget)
            .and_then(|(header, payload)| decode_payload(&header, data, group.rows, &payload).map_err(str::to_owned));
        match decoded {
            Ok(decoded) => Outcome::Read(Box::new(decoded)),
            Err(why) => {
                let what = if why == OVER_BUDGET { LIMIT } else { DAMAGED };
                let why = format!("{} {why}", self.describe(&entry.id));
                self.doubts.push(what, why);
                Outcome::Lost
            }
        }
    }
}

fn decode_payload(header: &Header, data: Option<DataType>, rows: u32, payload: &[u8]) -> Result<Decoded, &'static str> {
    let found = DataType::from_number(header.data).ok_or("has an unknown data type")?;
    if data.is_some_and(|data| data != found) {
        return Err("has another data type than this version gives it");
    }
    decode(found, header.encoding, rows, payload)
}
