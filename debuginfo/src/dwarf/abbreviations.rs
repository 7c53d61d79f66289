//! Tables of abbreviations, each parsed once however many units share it.

use crate::Slice;
use gimli::{DebugAbbrev, DebugAbbrevOffset, Error, Reader as _, Section as _, UnitHeader};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Largest table parsed, in bytes: 100 times the largest of Chromium. In memory it becomes some 40 times as large.
pub const LIMIT_TABLE: usize = 1 << 20;

/// Most bytes of tables kept for one module: 5 times what a 2 GB debug file has in all.
pub const LIMIT_TABLES: usize = 1 << 23;

/// Most abbreviations read in one scan of root DIEs. Real tables have the root's first, so a scan takes one or two
/// steps for each unit; the limit is for tables made to be long and shared by many units.
pub const LIMIT_ABBREVIATION_STEPS: u64 = 1 << 28;

type Key = (usize, usize);

/// The tables of one module and of its alternate and split files.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// By address of the section in our memory, and offset in it.
    known: Mutex<HashMap<Key, Arc<gimli::Abbreviations>>>,
    bytes: AtomicUsize,
}

impl Tables {
    /// The table of a unit.
    pub(crate) fn of<'m>(
        &self,
        sections: &gimli::Dwarf<Slice<'m>>,
        header: &UnitHeader<Slice<'m>>,
    ) -> Result<Arc<gimli::Abbreviations>, Error> {
        let section = sections.debug_abbrev.reader();
        let offset = header.debug_abbrev_offset().0;
        let key = (section.slice().as_ptr().addr(), offset);
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = known().get(&key) {
            return Ok(Arc::clone(table));
        }
        let mut rest = *section;
        rest.skip(offset)?;
        let len = table_len(rest)?;
        if self.bytes.fetch_add(len, Ordering::Relaxed).saturating_add(len) > LIMIT_TABLES {
            return Err(Error::UnexpectedEof(rest.offset_id()));
        }
        let table = Arc::new(sections.debug_abbrev.abbreviations(DebugAbbrevOffset(offset))?);
        Ok(Arc::clone(known().entry(key).or_insert(table)))
    }
}

/// Bytes of the table that `rest` starts with.
fn table_len(rest: Slice<'_>) -> Result<usize, Error> {
    let mut at = rest;
    while !at.is_empty() {
        let done = declaration(&mut at)?.is_none();
        let len = rest.len().saturating_sub(at.len());
        if len > LIMIT_TABLE {
            return Err(Error::UnexpectedEof(at.offset_id()));
        }
        if done {
            break;
        }
    }
    Ok(rest.len().saturating_sub(at.len()))
}

/// Steps over one declaration; gives its code, `None` at the end of the table.
fn declaration(at: &mut Slice<'_>) -> Result<Option<u64>, Error> {
    let code = at.read_uleb128()?;
    if code == 0 {
        return Ok(None);
    }
    at.read_uleb128()?;
    at.read_u8()?;
    loop {
        let (name, form) = (at.read_uleb128()?, at.read_uleb128()?);
        if form == u64::from(gimli::DW_FORM_implicit_const.0) {
            at.read_sleb128()?;
        }
        if (name, form) == (0, 0) {
            return Ok(Some(code));
        }
    }
}

/// A table with nothing but the abbreviation of the unit's root DIE, which is almost always the first of hundreds.
pub(crate) fn of_root<'m>(
    section: &DebugAbbrev<Slice<'m>>,
    header: &UnitHeader<Slice<'m>>,
    steps: &AtomicU64,
) -> Result<Arc<gimli::Abbreviations>, Error> {
    let mut entry = header.range_from(header.root_offset()..)?;
    let wanted = entry.read_uleb128()?;
    let mut at = *section.reader();
    at.skip(header.debug_abbrev_offset().0)?;
    loop {
        if steps.fetch_add(1, Ordering::Relaxed) >= LIMIT_ABBREVIATION_STEPS {
            return Err(Error::InvalidAbbreviationCode(wanted));
        }
        let start = at;
        let code = declaration(&mut at)?.ok_or(Error::InvalidAbbreviationCode(wanted))?;
        if code == wanted {
            let len = start.len().saturating_sub(at.len());
            let one = DebugAbbrev::new(start.slice().get(..len).unwrap_or_default(), start.endian());
            return one.abbreviations(DebugAbbrevOffset(0)).map(Arc::new);
        }
    }
}
