//! Byte-string streams: how the present values of a text or bytes column are laid out.

use std::collections::HashMap;

use super::ints::take_varints;
use super::varint::{Cursor, put};
use crate::convert::{ToU64, ToUsize, to_u32};

/// Lengths, then the bytes.
pub(crate) const PLAIN: u8 = 16;
/// Distinct strings, then which one each value is.
pub(crate) const DICTIONARY: u8 = 17;
/// Strings and how often each is repeated.
pub(crate) const RUNS: u8 = 18;

/// Byte strings in one heap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Strings {
    heap: Vec<u8>,
    /// Start and end in the heap, by entry.
    entries: Vec<(u32, u32)>,
    /// Entry, by value.
    refs: Vec<u32>,
}

impl Strings {
    /// The bytes of a value.
    pub(crate) fn get(&self, value: usize) -> Option<&[u8]> {
        let (start, end) = self.entries.get(self.refs.get(value)?.to_usize())?;
        self.heap.get(start.to_usize()..end.to_usize())
    }

    /// Whether every entry is UTF-8.
    pub(crate) fn is_text(&self) -> bool {
        self.entries.iter().all(|(start, end)| {
            self.heap.get(start.to_usize()..end.to_usize()).is_some_and(|bytes| std::str::from_utf8(bytes).is_ok())
        })
    }
}

/// Every layout worth trying, by encoding number.
pub(crate) fn candidates(values: &[&[u8]]) -> Vec<(u8, Vec<u8>)> {
    let mut out = vec![(PLAIN, plain(values))];
    if values.len() > 1 {
        out.push((DICTIONARY, dictionary(values)));
        out.extend(runs(values).map(|bytes| (RUNS, bytes)));
    }
    out
}

fn lengths<'a>(out: &mut Vec<u8>, values: impl IntoIterator<Item = &'a &'a [u8]>) {
    values.into_iter().for_each(|value| put(out, value.len().to_u64()));
}

fn plain(values: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    lengths(&mut out, values);
    values.iter().for_each(|value| out.extend_from_slice(value));
    out
}

fn dictionary(values: &[&[u8]]) -> Vec<u8> {
    let mut slots: HashMap<&[u8], u64> = HashMap::new();
    let mut entries: Vec<&[u8]> = Vec::new();
    let mut refs = Vec::new();
    for value in values {
        let next = slots.len().to_u64().saturating_add(1);
        let slot = *slots.entry(value).or_insert(next);
        if slot == next {
            entries.push(value);
            put(&mut refs, 0);
        } else {
            put(&mut refs, slot);
        }
    }
    let mut out = Vec::new();
    put(&mut out, entries.len().to_u64());
    lengths(&mut out, &entries);
    out.extend_from_slice(&refs);
    entries.iter().for_each(|entry| out.extend_from_slice(entry));
    out
}

fn runs(values: &[&[u8]]) -> Option<Vec<u8>> {
    let runs: Vec<&[&[u8]]> = values.chunk_by(|a, b| a == b).collect();
    if runs.len() > values.len() / 2 {
        return None;
    }
    let firsts: Vec<&[u8]> = runs.iter().filter_map(|run| run.first().copied()).collect();
    let mut out = Vec::new();
    put(&mut out, runs.len().to_u64());
    lengths(&mut out, &firsts);
    runs.iter().for_each(|run| put(&mut out, run.len().to_u64()));
    firsts.iter().for_each(|value| out.extend_from_slice(value));
    Some(out)
}

/// The `count` values of a stream, which must end the payload; an error names what is wrong with it.
pub(crate) fn decode(encoding: u8, at: &mut Cursor<'_>, count: usize) -> Result<Strings, &'static str> {
    let strings = match encoding {
        PLAIN => take_plain(at, count),
        DICTIONARY => take_dictionary(at, count),
        RUNS => take_runs(at, count),
        _ => return Err("has an unknown encoding"),
    };
    strings.ok_or("ends too early or contradicts itself")
}

/// The heap behind the cursor, cut into entries of the given lengths, which must use it up.
fn heap(at: &mut Cursor<'_>, lengths: &[u64], refs: Vec<u32>) -> Option<Strings> {
    let heap = at.take(at.rest().len())?.to_vec();
    let mut entries = Vec::with_capacity(lengths.len());
    let mut start = 0u64;
    for length in lengths {
        let end = start.checked_add(*length)?;
        entries.push((u32::try_from(start).ok()?, u32::try_from(end).ok()?));
        start = end;
    }
    (start == heap.len().to_u64()).then_some(Strings { heap, entries, refs })
}

fn take_plain(at: &mut Cursor<'_>, count: usize) -> Option<Strings> {
    let lengths = take_varints(at, count)?;
    heap(at, &lengths, (0..to_u32(count)).collect())
}

fn take_dictionary(at: &mut Cursor<'_>, count: usize) -> Option<Strings> {
    let distinct = at.varint()?;
    if distinct > count.to_u64() {
        return None;
    }
    let lengths = take_varints(at, distinct.to_usize())?;
    let mut next = 0u64;
    let mut refs = Vec::with_capacity(count);
    for slot in take_varints(at, count)? {
        let entry = match slot.checked_sub(1) {
            Some(entry) => entry,
            None => {
                let entry = next;
                next = next.checked_add(1)?;
                entry
            }
        };
        refs.push(u32::try_from(entry).ok().filter(|_| entry < distinct)?);
    }
    heap(at, &lengths, refs)
}

fn take_runs(at: &mut Cursor<'_>, count: usize) -> Option<Strings> {
    let runs = at.varint()?.to_usize();
    if runs > count {
        return None;
    }
    let lengths = take_varints(at, runs)?;
    let mut refs = Vec::with_capacity(count);
    for (entry, times) in (0u32..).zip(take_varints(at, runs)?) {
        let end = refs.len().checked_add(times.to_usize()).filter(|end| *end <= count)?;
        refs.resize(end, entry);
    }
    if refs.len() != count {
        return None;
    }
    heap(at, &lengths, refs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(values: &[&[u8]]) {
        for (encoding, bytes) in candidates(values) {
            let mut at = Cursor::new(&bytes);
            let strings = decode(encoding, &mut at, values.len()).unwrap();
            assert!(at.is_empty());
            for (index, value) in values.iter().enumerate() {
                assert_eq!(strings.get(index), Some(*value), "encoding {encoding}");
            }
            assert_eq!(strings.get(values.len()), None);
        }
    }

    #[test]
    fn chosen_values_survive_every_encoding() {
        check(&[]);
        check(&[b"", b"", b"a", b"", b"a", b"b"]);
        check(&[&b"same"[..]; 500]);
        assert_eq!(candidates(&[&b"x"[..]; 4]).len(), 3);
    }

    #[test]
    fn text_is_told_from_bytes() {
        let decode = |value: &[u8]| decode(PLAIN, &mut Cursor::new(&plain(&[value])), 1).unwrap();
        assert!(decode("é".as_bytes()).is_text());
        assert!(!decode(&[0xff]).is_text());
    }

    proptest! {
        #[test]
        fn any_values_survive(values in proptest::collection::vec("[ab]{0,3}", 0..100)) {
            check(&values.iter().map(String::as_bytes).collect::<Vec<_>>());
        }

        #[test]
        fn garbage_is_refused_or_read_without_harm(encoding in 16..20u8, bytes: Vec<u8>, count in 0..5000usize) {
            if let Ok(strings) = decode(encoding, &mut Cursor::new(&bytes), count) {
                prop_assert!((0..count).all(|value| strings.get(value).is_some()));
            }
        }
    }
}
