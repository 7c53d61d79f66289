//! Recovery: finding every complete block of a file without a usable directory.

use std::collections::HashSet;
use std::io::{Read, Seek, SeekFrom};

use super::Reader;
use super::groups::{Budget, NOWHERE};
use crate::convert::{ToU64, ToUsize, to_u32};
use crate::doubts::{CUT_OFF, DAMAGED, LIMIT, LOST};
use crate::format::block::{Header, Id, LIMIT_HEADER, SYNC, find_sync, kind};
use crate::format::directory::{Directory, Entry};
use crate::format::header::{self, TRAILER_BYTES};
use crate::limits::{LIMIT_BLOCK, LIMIT_BLOCKS, LIMIT_RESCAN};

/// Bytes that are looked at together.
const WINDOW: usize = 64 << 10;

/// Where the first block may lie: behind the magic, should the rest of the header be missing.
const FIRST: u64 = 8;

/// A part of the file in memory.
#[derive(Default)]
struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// The bytes from `at` on that are in memory, at least `least` of them unless the file ends or cannot be read.
    fn get<R: Read + Seek>(&mut self, source: &mut R, at: u64, least: usize) -> &[u8] {
        let skip = at.checked_sub(self.start).map(ToUsize::to_usize);
        let have = skip.and_then(|skip| self.bytes.len().checked_sub(skip));
        if have.is_none_or(|have| have < least) {
            self.start = at;
            self.bytes.clear();
            if source.seek(SeekFrom::Start(at)).is_ok() {
                // What a failing read yielded before is used; nothing else is lost.
                let _ = source.take(WINDOW.to_u64()).read_to_end(&mut self.bytes);
            }
        }
        self.bytes.get(at.saturating_sub(self.start).to_usize()..).unwrap_or_default()
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Fills the directory with what scanning finds, and says what is missing.
    pub(super) fn recover(&mut self) {
        let mut window = Window::default();
        let mut written = None;
        let mut rescan = LIMIT_RESCAN;
        let mut at = FIRST;
        let mut last_end = FIRST;
        let mut last: Option<Id> = None;
        let mut damaged = HashSet::new();
        while let Some((header, head)) = self.next_header(&mut window, &mut at) {
            if at > last_end && last.is_some() {
                let why =
                    format!("{} bytes at offset {last_end:#x} belong to no intact block", at.saturating_sub(last_end));
                self.doubts.push(DAMAGED, why);
            }
            if self.directory.entries.len() >= LIMIT_BLOCKS {
                self.doubts.push(
                    LIMIT,
                    format!("the file has more than {LIMIT_BLOCKS} blocks; those from {at:#x} on are not read"),
                );
                break;
            }
            let payload = at.saturating_add(head.to_u64());
            let end = payload.saturating_add(header.stored.into());
            let entry = Entry { id: header.id, offset: at, length: to_u32(head).saturating_add(header.stored) };
            at = payload;
            last_end = payload;
            last = Some(header.id);
            if end > self.length || header.stored > LIMIT_BLOCK {
                let what = self.describe(&header.id);
                let why = format!("{what} ends at offset {end:#x}, and the file at {:#x}", self.length);
                self.doubts.push(CUT_OFF, why);
            } else if !self.checksum_holds(&mut window, payload, &header) {
                let why = format!("{} fails its checksum at offset {:#x}", self.describe(&header.id), entry.offset);
                self.doubts.push(DAMAGED, why);
                damaged.insert(header.id);
                match rescan.checked_sub(header.stored.into()) {
                    Some(left) => rescan = left,
                    None => at = end,
                }
            } else {
                at = end;
                last_end = end;
                if header.id.kind == kind::DIRECTORY {
                    written = Some(entry);
                } else {
                    self.directory.entries.push(entry);
                }
            }
        }
        let budget = &mut Budget::new(LIMIT_BLOCK.into());
        let written = written.and_then(|entry| self.payload(&entry, budget).ok());
        let written = written.and_then(|(_, payload)| Directory::decode(&payload));
        self.say_what_is_missing(written, &damaged, last_end, last);
    }

    /// The next intact header at or behind `at`, which is moved to it; and the header's length.
    fn next_header(&mut self, window: &mut Window, at: &mut u64) -> Option<(Header, usize)> {
        while *at < self.length {
            if let Some(found) = Header::parse(window.get(&mut self.source, *at, LIMIT_HEADER)) {
                return Some(found);
            }
            let from = at.saturating_add(1);
            let bytes = window.get(&mut self.source, from, LIMIT_HEADER);
            let skip = match find_sync(bytes) {
                Some(position) => position,
                None if bytes.is_empty() => WINDOW,
                // The sync bytes may begin in the last three.
                None => bytes.len().saturating_sub(SYNC.len()),
            };
            *at = from.saturating_add(skip.to_u64());
        }
        None
    }

    fn checksum_holds(&mut self, window: &mut Window, mut at: u64, header: &Header) -> bool {
        let mut hasher = crc32fast::Hasher::new();
        let end = at.saturating_add(header.stored.into());
        while at < end {
            let want = end.saturating_sub(at).to_usize();
            let bytes = window.get(&mut self.source, at, 1);
            let bytes = bytes.get(..want).unwrap_or(bytes);
            if bytes.is_empty() {
                return false;
            }
            hasher.update(bytes);
            at = at.saturating_add(bytes.len().to_u64());
        }
        hasher.finalize() == header.crc
    }

    fn say_what_is_missing(
        &mut self,
        written: Option<Directory>,
        damaged: &HashSet<Id>,
        last_end: u64,
        last: Option<Id>,
    ) {
        if let Some(written) = written {
            self.directory.tables = written.tables;
            self.complete = true;
            let found: HashSet<Id> = self.directory.entries.iter().map(|entry| entry.id).collect();
            for entry in written.entries.iter().filter(|entry| !found.contains(&entry.id)) {
                if !damaged.contains(&entry.id) {
                    let why = format!("{} is missing", self.describe(&entry.id));
                    self.doubts.push(LOST, why);
                }
                // Readers then know that it was written.
                self.directory.entries.push(Entry { offset: NOWHERE, ..*entry });
            }
            if self.trailer_at(last_end) {
                let extra = self.length.saturating_sub(last_end).saturating_sub(TRAILER_BYTES.to_u64());
                if extra > 0 {
                    self.doubts
                        .push(DAMAGED, format!("{extra} bytes follow the end of the snapshot and are not part of it"));
                }
            } else {
                self.doubts.push(CUT_OFF, format!("the trailer at offset {last_end:#x} is missing or damaged"));
            }
            return;
        }
        let after = last
            .map_or_else(|| "before its first block".to_owned(), |id| format!("in or after {}", self.describe(&id)));
        let why = format!(
            "the file ends at offset {:#x} without a directory, {after}: rows and tables that would follow are missing \
             (the order is {})",
            self.length,
            crate::tables::TABLES.join(", ")
        );
        self.doubts.push(CUT_OFF, why);
    }

    fn trailer_at(&mut self, offset: u64) -> bool {
        self.bytes_at(offset, TRAILER_BYTES).is_some_and(|bytes| header::parse_trailer(&bytes).is_some())
    }
}
