//! Names of functions that were inlined: they are items of the stream of ids, whose scopes are ids or types.
//!
//! Layout: LLVM's "The PDB TPI and IPI Streams" and `CodeViewTypes.def`.

use super::msf::{Msf, Stream};
use evidence::ToUsize;
use evidence::bytes::{Endian, u16_at, u32_at};

const LITTLE: Endian = Endian::Little;
/// Scopes inside of scopes.
const LIMIT_DEPTH: usize = 16;
/// Records that are passed to reach one: the index of offsets has an entry for each 8 KiB.
const LIMIT_STEPS: usize = 1 << 16;

const TPI: u32 = 2;
const IPI: u32 = 4;

/// The qualified name of an inlined function.
pub(super) fn function(msf: &Msf, file: &[u8], id: u32) -> Option<String> {
    item(msf, file, id, LIMIT_DEPTH)
}

fn item(msf: &Msf, file: &[u8], id: u32, depth: usize) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    let record = record(msf, file, IPI, id)?;
    let word = |at| u32_at(&record, at, LITTLE);
    let join = |scope: Option<String>, name: String| match scope {
        Some(scope) => format!("{scope}::{name}"),
        None => name,
    };
    match u16_at(&record, 0, LITTLE)? {
        // LF_FUNC_ID: scope, type, name.
        0x1601 => {
            let scope = word(2).filter(|n| *n != 0).and_then(|n| item(msf, file, n, depth));
            Some(join(scope, text(&record, 10)?))
        }
        // LF_MFUNC_ID: class, type, name.
        0x1602 => Some(join(class(msf, file, word(2)?), text(&record, 10)?)),
        // LF_STRING_ID: list of parts, text.
        0x1605 => text(&record, 6),
        _ => None,
    }
}

/// The name of a class, structure, union or enumeration.
fn class(msf: &Msf, file: &[u8], index: u32) -> Option<String> {
    let record = record(msf, file, TPI, index)?;
    let number = match u16_at(&record, 0, LITTLE)? {
        // LF_CLASS, LF_STRUCTURE, LF_INTERFACE: the size is behind fields, base and vtable shape.
        0x1504 | 0x1505 | 0x1519 => 18,
        // LF_UNION: behind the fields.
        0x1506 => 10,
        // LF_ENUM: no size; count, properties, type, fields.
        0x1507 => return text(&record, 14),
        _ => return None,
    };
    // A number below 0x8000 is itself, else the type of the number that follows.
    let skip = match u16_at(&record, number, LITTLE)? {
        0..=0x7fff => 2,
        0x8000 => 3,
        0x8001 | 0x8002 => 4,
        0x8003 | 0x8004 => 6,
        0x8009 | 0x800a => 10,
        _ => return None,
    };
    text(&record, number.checked_add(skip)?)
}

fn text(record: &[u8], at: usize) -> Option<String> {
    let name = record.get(at..)?.split(|b| *b == 0).next()?;
    Some(String::from_utf8_lossy(name).into_owned())
}

/// The record of an index, from its kind on.
fn record(msf: &Msf, file: &[u8], number: u32, index: u32) -> Option<Vec<u8>> {
    let stream = msf.stream(file, number)?;
    let (head, first, end) = (stream.word(4)?.to_usize(), stream.word(8)?, stream.word(12)?);
    if !(first..end).contains(&index) {
        return None;
    }
    let (mut here, offset) = start(msf, file, &stream, index).unwrap_or((first, 0));
    let mut at = head.checked_add(offset.to_usize())?;
    for _ in 0..LIMIT_STEPS {
        let length = stream.half(at)?.to_usize();
        if here == index {
            return Some(stream.bytes(at.checked_add(2)?, length)?.into_owned());
        }
        here = here.checked_add(1)?;
        at = at.checked_add(2)?.checked_add(length)?;
    }
    None
}

/// The last index at or before the wanted one whose place is stated: (index, offset).
fn start(msf: &Msf, file: &[u8], stream: &Stream<'_>, index: u32) -> Option<(u32, u32)> {
    let hash = msf.stream(file, stream.half(20)?.into())?;
    let (at, size) = (stream.word(40)?.to_usize(), stream.word(44)?.to_usize());
    let (mut low, mut high) = (0, size.checked_div(8)?);
    let entry = |n: usize| -> Option<(u32, u32)> {
        let place = at.checked_add(n.checked_mul(8)?)?;
        Some((hash.word(place)?, hash.word(place.checked_add(4)?)?))
    };
    while low < high {
        let middle = low.midpoint(high);
        if entry(middle)?.0 <= index {
            low = middle.checked_add(1)?;
        } else {
            high = middle;
        }
    }
    entry(low.checked_sub(1)?)
}
