//! Public symbols: all that a stripped database has. They have names and starts, no sizes.
//!
//! Layout: "The PDB Public Symbol Stream" of LLVM's PDB documentation: a hash table, then the offsets of all records,
//! by address.

use super::dbi::Dbi;
use super::msf::{Msf, Stream};
use evidence::ToUsize;
use evidence::bytes::{Endian, u16_at, u32_at};

const LITTLE: Endian = Endian::Little;
const S_PUB32: u16 = 0x110e;
/// Longest record.
const LIMIT_RECORD: usize = 0xffff;
/// How many symbols of data before an address are passed over.
const LIMIT_BACK: usize = 16;

/// A public symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Public {
    pub name: String,
    pub rva: u32,
}

struct Entry {
    section: u16,
    offset: u32,
    is_code: bool,
    name: String,
}

fn entry(records: &Stream<'_>, at: usize) -> Option<Entry> {
    let length = records.half(at)?.to_usize().min(LIMIT_RECORD);
    let record = records.bytes(at.checked_add(2)?, length)?;
    if u16_at(&record, 0, LITTLE)? != S_PUB32 {
        return None;
    }
    let name = record.get(12..)?.split(|b| *b == 0).next()?;
    Some(Entry {
        // Bit 0: code, bit 1: function.
        is_code: u32_at(&record, 2, LITTLE)? & 3 != 0,
        offset: u32_at(&record, 6, LITTLE)?,
        section: u16_at(&record, 10, LITTLE)?,
        name: String::from_utf8_lossy(name).into_owned(),
    })
}

/// The last public symbol of code at or before an address, in the same section.
pub(super) fn at(msf: &Msf, file: &[u8], dbi: &Dbi, rva: u32) -> Option<Public> {
    let wanted = dbi.place(rva)?;
    let publics = msf.stream(file, dbi.publics?.into())?;
    let records = msf.stream(file, dbi.records?.into())?;
    let hash = publics.word(0)?.to_usize();
    let count = publics.word(4)?.to_usize().checked_div(4)?;
    // Behind a header of 28 bytes and the hash table.
    let map = hash.checked_add(28)?;
    let symbol = |n: usize| {
        let at = publics.word(map.checked_add(n.checked_mul(4)?)?)?;
        entry(&records, at.to_usize())
    };
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low.midpoint(high);
        let found = symbol(middle)?;
        if (found.section, found.offset) <= wanted {
            low = middle.checked_add(1)?;
        } else {
            high = middle;
        }
    }
    for back in 1..=LIMIT_BACK {
        let found = symbol(low.checked_sub(back)?)?;
        if found.section != wanted.0 {
            return None;
        }
        if found.is_code {
            return Some(Public { rva: dbi.rva(found.section, found.offset)?, name: found.name });
        }
    }
    None
}
