//! Column payloads: presence, then a stream of the present values.

use super::varint::Cursor;
use super::{ints, strings};
use crate::convert::{ToU64, ToUsize, to_u32};
use crate::row::{Cell, DataType};

/// Every cell is present.
const ALL: u8 = 0;
/// A bitmap follows, one bit a row, least significant first.
const BITMAP: u8 = 1;

/// One column of one row group, on its way to disk.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    present: Vec<bool>,
    numbers: Vec<u64>,
    heap: Vec<u8>,
    ends: Vec<usize>,
    /// Something is not null (optional columns) or not zero (the others).
    informative: bool,
}

impl Pending {
    /// Appends a cell; the bytes it takes in memory.
    pub(crate) fn push(&mut self, cell: Cell<'_>, optional: bool) -> usize {
        self.informative |= if optional { !matches!(cell, Cell::Null) } else { !cell.is_zero() };
        self.present.push(!matches!(cell, Cell::Null));
        if let Some(bytes) = cell.string() {
            self.heap.extend_from_slice(bytes);
            self.ends.push(self.heap.len());
            return bytes.len().saturating_add(9);
        }
        self.numbers.extend(cell.number());
        9
    }

    /// Whether a reader would know the column if it were not written.
    pub(crate) const fn is_informative(&self) -> bool {
        self.informative
    }

    /// Every payload worth trying, by encoding.
    pub(crate) fn candidates(&self, data: DataType) -> Vec<(u8, Vec<u8>)> {
        let streams = if data.is_string() {
            let starts = std::iter::once(&0).chain(&self.ends);
            let values: Vec<&[u8]> =
                starts.zip(&self.ends).map(|(start, end)| self.heap.get(*start..*end).unwrap_or_default()).collect();
            strings::candidates(&values)
        } else {
            ints::candidates(&self.numbers)
        };
        let presence = self.presence();
        let whole = |stream: Vec<u8>| presence.iter().copied().chain(stream).collect();
        streams.into_iter().map(|(encoding, stream)| (encoding, whole(stream))).collect()
    }

    fn presence(&self) -> Vec<u8> {
        if self.present.iter().all(|present| *present) {
            return vec![ALL];
        }
        let byte = |bits: &[bool]| bits.iter().rev().fold(0u8, |byte, bit| (byte << 1) | u8::from(*bit));
        std::iter::once(BITMAP).chain(self.present.chunks(8).map(byte)).collect()
    }
}

/// One decoded column of one row group.
#[derive(Clone, Debug)]
pub(crate) struct Decoded {
    data: DataType,
    rows: u32,
    /// Row to value, [`u32::MAX`] for absent; `None` when all are present.
    slots: Option<Vec<u32>>,
    values: Values,
}

#[derive(Clone, Debug)]
enum Values {
    Numbers(Vec<u64>),
    Strings(strings::Strings),
}

impl Decoded {
    /// The cell of a row of the group.
    pub(crate) fn get(&self, row: u32) -> Option<Cell<'_>> {
        if row >= self.rows {
            return None;
        }
        let value = match &self.slots {
            None => row,
            Some(slots) => *slots.get(row.to_usize())?,
        };
        if value == u32::MAX {
            return Some(Cell::Null);
        }
        match &self.values {
            Values::Numbers(numbers) => Cell::from_number(self.data, *numbers.get(value.to_usize())?),
            Values::Strings(strings) if self.data == DataType::Text => {
                std::str::from_utf8(strings.get(value.to_usize())?).ok().map(Cell::Text)
            }
            Values::Strings(strings) => strings.get(value.to_usize()).map(Cell::Bytes),
        }
    }
}

/// Reads a payload; an error names what is wrong with it.
pub(crate) fn decode(data: DataType, encoding: u8, rows: u32, payload: &[u8]) -> Result<Decoded, &'static str> {
    let mut at = Cursor::new(payload);
    let slots = match at.byte() {
        Some(ALL) => None,
        Some(BITMAP) => {
            let bits = at.take(rows.to_usize().div_ceil(8)).ok_or("has no whole bitmap")?;
            Some(slots(bits, rows))
        }
        _ => return Err("has unknown presence"),
    };
    let count = match &slots {
        None => rows.to_usize(),
        Some(slots) => slots.iter().filter(|slot| **slot != u32::MAX).count(),
    };
    let values = if data.is_string() {
        Values::Strings(strings::decode(encoding, &mut at, count)?)
    } else {
        Values::Numbers(ints::decode(encoding, &mut at, count)?)
    };
    if !at.is_empty() {
        return Err("goes on after its last value");
    }
    match &values {
        Values::Strings(strings) if data == DataType::Text && !strings.is_text() => return Err("is not UTF-8"),
        Values::Numbers(numbers) if data == DataType::Bool && numbers.iter().any(|number| *number > 1) => {
            return Err("has a truth value that is neither 0 nor 1");
        }
        _ => {}
    }
    Ok(Decoded { data, rows, slots, values })
}

fn slots(bits: &[u8], rows: u32) -> Vec<u32> {
    let mut next = 0u32;
    let slot = |row: u32| {
        let byte = bits.get((row >> 3).to_usize()).copied().unwrap_or(0);
        if byte.wrapping_shr(row & 7) & 1 == 0 {
            return u32::MAX;
        }
        let slot = next;
        next = next.saturating_add(1);
        slot
    };
    (0..rows).map(slot).collect()
}

/// The payload of a row group's head: its columns, each number relative to the one before.
pub(crate) fn encode_head(columns: &[u32]) -> Vec<u8> {
    let mut out = Vec::new();
    super::varint::put(&mut out, columns.len().to_u64());
    let mut last = 0u32;
    for column in columns {
        super::varint::put(&mut out, u64::from(column.saturating_sub(last)));
        last = *column;
    }
    out
}

/// Reads what [`encode_head`] wrote.
pub(crate) fn decode_head(payload: &[u8]) -> Option<Vec<u32>> {
    let mut at = Cursor::new(payload);
    let count = at.varint()?.to_usize();
    let mut last = 0u32;
    let mut columns = Vec::with_capacity(count.min(payload.len()));
    for _ in 0..count {
        last = last.checked_add(at.varint32()?)?;
        columns.push(last);
    }
    Some(columns).filter(|columns| to_u32(columns.len()) != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(data: DataType, optional: bool, cells: &[Cell<'_>]) {
        let mut pending = Pending::default();
        for cell in cells {
            pending.push(*cell, optional);
        }
        for (encoding, payload) in pending.candidates(data) {
            let decoded = decode(data, encoding, to_u32(cells.len()), &payload).unwrap();
            let back: Vec<_> = (0..decoded.rows).map(|row| decoded.get(row).unwrap()).collect();
            assert_eq!(back, cells);
            assert_eq!(decoded.get(decoded.rows), None);
            for cut in 0..payload.len() {
                // Whatever a shorter payload says, it says it without harm.
                let _ =
                    decode(data, encoding, to_u32(cells.len()), &payload[..cut]).map(|short| short.get(0).is_some());
            }
        }
    }

    #[test]
    fn cells_of_every_type_survive_with_gaps() {
        check(DataType::Unsigned, true, &[Cell::Null, Cell::Unsigned(u64::MAX), Cell::Null, Cell::Unsigned(0)]);
        check(DataType::Signed, false, &[Cell::Signed(i64::MIN), Cell::Signed(-1), Cell::Signed(5)]);
        check(DataType::Bool, false, &[Cell::Bool(true), Cell::Bool(false), Cell::Bool(false)]);
        check(DataType::Float, false, &[Cell::Float(-0.5), Cell::Float(f64::INFINITY), Cell::Float(0.0)]);
        check(DataType::Text, true, &[Cell::Text("rax"), Cell::Null, Cell::Text(""), Cell::Text("rax"), Cell::Null]);
        check(DataType::Bytes, true, &[Cell::Bytes(&[0xff, 0]), Cell::Null]);
    }

    #[test]
    fn a_column_that_says_nothing_is_known_for_it() {
        let mut pending = Pending::default();
        pending.push(Cell::Null, true);
        assert!(!pending.is_informative());
        pending.push(Cell::Unsigned(0), true);
        assert!(pending.is_informative());
        let mut zeros = Pending::default();
        zeros.push(Cell::Unsigned(0), false);
        zeros.push(Cell::Text(""), false);
        assert!(!zeros.is_informative());
    }

    #[test]
    fn heads_survive() {
        assert_eq!(decode_head(&encode_head(&[1, 4, 900])), Some(vec![1, 4, 900]));
        assert_eq!(decode_head(&[0xff, 0xff, 0x7f]), None);
    }

    #[test]
    fn text_must_be_utf8_and_bools_must_be_bools() {
        let mut bytes = Pending::default();
        bytes.push(Cell::Bytes(&[0xff]), false);
        let (encoding, payload) = bytes.candidates(DataType::Bytes).remove(0);
        assert!(decode(DataType::Text, encoding, 1, &payload).is_err());
        let mut number = Pending::default();
        number.push(Cell::Unsigned(2), false);
        let (encoding, payload) = number.candidates(DataType::Unsigned).remove(0);
        assert!(decode(DataType::Bool, encoding, 1, &payload).is_err());
    }
}
