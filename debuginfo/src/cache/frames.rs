//! What addresses of one file meant in earlier runs: functions, inlined calls and lines.
//!
//! The contents of such an entry, little-endian: number of texts (4), each text with its length before it (4);
//! number of addresses (4), for each its value (8) and the number of its frames (4), for each of them the numbers of its
//! three texts (function, linkage name, file: 4 each, counted from 1, 0 for none), line and column (4 each, 0 for none),
//! marks (4), start of the function (8), offsets of unit (8) and DIE (8).

use super::{Cache, Subject};
use crate::Module;
use crate::dwarf::{Part, Scope, SourceFrame, UnitId};
use evidence::bytes::{Endian, slice_at, u32_at, u64_at};
use evidence::{Svma, ToU64 as _, ToUsize as _};
use std::collections::HashMap;
use std::sync::Arc;

/// Most addresses kept for one file: the stacks of thousands of threads.
const LIMIT_ADDRESSES: usize = 1 << 16;
/// Most bytes kept for one file.
const LIMIT_BYTES: usize = 32 << 20;

const INLINE: u32 = 1;
const HAS_START: u32 = 2;
const HAS_SCOPE: u32 = 4;

/// The addresses known of one module, and where more of them may be kept.
pub(crate) struct Frames<'m> {
    cache: &'m Cache,
    subject: &'m Subject,
    what: String,
    known: HashMap<u64, Vec<SourceFrame>>,
}

impl<'m> Frames<'m> {
    /// What is kept for `module`; `None` where nothing can be: without a cache, without DWARF that is worth it, or where
    /// other files have a say whose identity the entry does not state.
    pub(crate) fn load(module: &'m Module) -> Option<Self> {
        let file = module.debug()?;
        let size = file.section(".debug_info").filter(|s| !s.is_nobits())?.size();
        if file.section(".gnu_debugaltlink").is_some() {
            return None;
        }
        file.keep_in(module.cache()?);
        let (cache, subject) = file.cache().filter(|(cache, _)| size >= cache.smallest)?;
        // The symbols of the image itself name what has no DWARF.
        let main = module.main().map_or((0, 0), |main| (main.size(), main.shape()));
        let what = format!("frames-{:x}-{:08x}", main.0, main.1);
        let known = cache.load(subject, &what).and_then(|kept| parse(&kept)).unwrap_or_default();
        Some(Self { cache, subject, what, known })
    }

    /// What an address meant.
    pub(crate) fn get(&self, at: Svma) -> Option<&Vec<SourceFrame>> {
        self.known.get(&at.0)
    }

    /// Keeps what was found out, before what was known already. What goes wrong costs the next run time, and nothing
    /// else.
    pub(crate) fn keep(&self, found: &HashMap<u64, Vec<SourceFrame>>) {
        let old = self.known.iter().filter(|(at, _)| !found.contains_key(at));
        let bytes = write(found.iter().chain(old).take(LIMIT_ADDRESSES));
        if bytes.len() <= LIMIT_BYTES {
            let size = bytes.len().to_u64();
            let _ = self.cache.fill(self.subject, &self.what, size, |out| out.write_all(&bytes));
        }
    }
}

/// Whether all of a frame can be written down: its DIE lies in the file itself.
pub(crate) fn can_keep(frame: &SourceFrame) -> bool {
    frame.line != Some(0) && frame.column != Some(0) && frame.scope.is_none_or(|s| s.unit.part == Part::Info)
}

fn write<'f>(addresses: impl Iterator<Item = (&'f u64, &'f Vec<SourceFrame>)>) -> Vec<u8> {
    let (mut numbers, mut texts): (HashMap<&str, u32>, Vec<u8>) = (HashMap::new(), Vec::new());
    let (mut body, mut count) = (Vec::new(), 0_u32);
    for (at, frames) in addresses {
        count = count.saturating_add(1);
        body.extend(at.to_le_bytes());
        body.extend(u32::try_from(frames.len()).unwrap_or(0).to_le_bytes());
        for frame in frames {
            for text in [&frame.function, &frame.linkage_name, &frame.file] {
                let number = text.as_deref().map_or(0, |text| {
                    let next = u32::try_from(numbers.len()).unwrap_or(0).saturating_add(1);
                    *numbers.entry(text).or_insert_with(|| {
                        texts.extend(u32::try_from(text.len()).unwrap_or(0).to_le_bytes());
                        texts.extend(text.as_bytes());
                        next
                    })
                });
                body.extend(number.to_le_bytes());
            }
            let marks = [(frame.inline, INLINE), (frame.function_start.is_some(), HAS_START)];
            let marks = marks.into_iter().chain([(frame.scope.is_some(), HAS_SCOPE)]);
            let marks = marks.filter(|(set, _)| *set).fold(0, |all, (_, mark)| all | mark);
            for number in [frame.line.unwrap_or(0), frame.column.unwrap_or(0), marks] {
                body.extend(number.to_le_bytes());
            }
            let scope = frame.scope.map_or((0, 0), |s| (s.unit.offset.to_u64(), s.die.0.to_u64()));
            for number in [frame.function_start.map_or(0, |s| s.0), scope.0, scope.1] {
                body.extend(number.to_le_bytes());
            }
        }
    }
    let mut all = u32::try_from(numbers.len()).unwrap_or(0).to_le_bytes().to_vec();
    all.append(&mut texts);
    all.extend(count.to_le_bytes());
    all.append(&mut body);
    all
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let taken = slice_at(self.bytes, self.at, count)?;
        self.at = self.at.saturating_add(count);
        Some(taken)
    }

    fn word(&mut self) -> Option<u32> {
        u32_at(self.take(4)?, 0, Endian::Little)
    }

    fn long(&mut self) -> Option<u64> {
        u64_at(self.take(8)?, 0, Endian::Little)
    }

    fn frame(&mut self, texts: &[Arc<str>]) -> Option<SourceFrame> {
        let mut text = || match self.word()?.checked_sub(1) {
            None => Some(None),
            Some(number) => Some(Some(Arc::clone(texts.get(number.to_usize())?))),
        };
        let (function, linkage_name, file) = (text()?, text()?, text()?);
        let (line, column, marks) = (self.word()?, self.word()?, self.word()?);
        let (start, unit, die) = (self.long()?, self.long()?, self.long()?);
        let unit = UnitId { part: Part::Info, offset: unit.to_usize() };
        let scope = Scope { unit, die: gimli::UnitOffset(die.to_usize()) };
        Some(SourceFrame {
            function,
            linkage_name,
            file,
            line: Some(line).filter(|n| *n != 0),
            column: Some(column).filter(|n| *n != 0),
            inline: marks & INLINE != 0,
            function_start: (marks & HAS_START != 0).then_some(Svma(start)),
            scope: (marks & HAS_SCOPE != 0).then_some(scope),
        })
    }
}

/// `None` unless everything is as it should be.
fn parse(bytes: &[u8]) -> Option<HashMap<u64, Vec<SourceFrame>>> {
    let mut reader = Reader { bytes: bytes.get(..bytes.len().min(LIMIT_BYTES))?, at: 0 };
    let mut texts = Vec::new();
    for _ in 0..reader.word()? {
        let length = reader.word()?.to_usize();
        texts.push(Arc::from(std::str::from_utf8(reader.take(length)?).ok()?));
    }
    let mut known = HashMap::new();
    for _ in 0..reader.word()? {
        let (at, count) = (reader.long()?, reader.word()?);
        let frames: Option<Vec<SourceFrame>> = (0..count).map(|_| reader.frame(&texts)).collect();
        known.insert(at, frames?);
    }
    (reader.at == bytes.len()).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> HashMap<u64, Vec<SourceFrame>> {
        let frame = |name: &str, line| SourceFrame {
            function: Some(name.into()),
            file: Some("a.c".into()),
            line,
            column: Some(3),
            inline: line.is_none(),
            function_start: Some(Svma(0x1000)),
            scope: Some(Scope { unit: UnitId { part: Part::Info, offset: 11 }, die: gimli::UnitOffset(42) }),
            ..SourceFrame::default()
        };
        let bare = SourceFrame { linkage_name: Some("_Z1fv".into()), ..SourceFrame::default() };
        [(0x1004, vec![frame("inner", None), frame("outer", Some(7))]), (0, vec![]), (u64::MAX, vec![bare])].into()
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(parse(&write(some().iter())), Some(some()));
    }

    #[test]
    fn damaged_contents_are_nothing_or_other_frames_but_never_harm() {
        let good = write(some().iter());
        for length in 0..good.len() {
            assert_eq!(parse(&good[..length]), None, "cut to {length}");
        }
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                let _ = parse(&bad);
            }
        }
    }
}
