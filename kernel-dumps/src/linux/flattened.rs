//! makedumpfile's flattened form: the pieces of a dump in the order in which they were written to a pipe.
//!
//! Source: makedumpfile.h, `struct makedumpfile_header` and `makedumpfile_data_header`: a 4096-byte header, then pieces
//! of (big-endian i64 offset, i64 size, bytes), ended by offset and size of -1. Pieces go back, and later ones win:
//! the inner header is written again at the end.

use crate::source::{ReadAt, exact};
use evidence::bytes::{Endian, u64_at};
use evidence::{Doubt, ToU64, ToUsize};
use std::collections::BTreeMap;
use std::io;

#[cfg(test)]
/// First bytes of the file.
const SIGNATURE: &[u8] = b"makedumpfile\0\0\0\0";
const HEADER: u64 = 4096;
const PIECE_HEADER: u64 = 16;
/// Most pieces indexed. makedumpfile writes its buffers of 4 MiB; a terabyte makes 262,144 of them.
const LIMIT_PIECES: usize = 8 << 20;

/// The dump inside a flattened file, without rewriting it.
pub struct Flattened {
    inner: Box<dyn ReadAt>,
    /// Start in the inner dump, to (end there, where the bytes lie in the outer file). Disjoint.
    pieces: BTreeMap<u64, (u64, u64)>,
    size: u64,
    /// Bytes of all pieces.
    stored: u64,
    /// What was odd about it.
    pub doubts: Vec<Doubt>,
}

impl Flattened {
    /// Indexes the pieces of `inner`, reading nothing but their headers.
    #[must_use]
    pub fn new(inner: Box<dyn ReadAt>) -> Self {
        let mut flat = Self { inner, pieces: BTreeMap::new(), size: 0, stored: 0, doubts: Vec::new() };
        let mut at = HEADER;
        for count in 0_usize.. {
            let Some(header) = exact(&*flat.inner, at, PIECE_HEADER.to_usize()) else {
                flat.doubt(format!("the flattened file ends at {at:#x} without its end mark: it was cut off"));
                break;
            };
            let (Some(offset), Some(size)) = (u64_at(&header, 0, Endian::Big), u64_at(&header, 8, Endian::Big)) else {
                break;
            };
            if offset == u64::MAX {
                break;
            }
            let data = at.saturating_add(PIECE_HEADER);
            if offset > i64::MAX.cast_unsigned()
                || size > i64::MAX.cast_unsigned()
                || size == 0
                || count >= LIMIT_PIECES
            {
                flat.doubt(format!("piece {count} at {at:#x} is damaged: offset {offset:#x}, size {size:#x}"));
                break;
            }
            let there = flat.inner.size().saturating_sub(data).min(size);
            flat.insert(offset, there, data);
            at = data.saturating_add(size);
        }
        flat
    }

    fn doubt(&mut self, why: String) {
        self.doubts.push(Doubt::new("flattened", why));
    }

    /// Puts a piece over what was there before.
    fn insert(&mut self, start: u64, length: u64, data: u64) {
        let end = start.saturating_add(length);
        if start >= end {
            return;
        }
        let overlapped: Vec<(u64, u64, u64)> = self
            .pieces
            .range(..end)
            .rev()
            .take_while(|(_, (e, _))| *e > start)
            .map(|(s, (e, d))| (*s, *e, *d))
            .collect();
        for (s, e, d) in overlapped {
            self.pieces.remove(&s);
            if s < start {
                self.pieces.insert(s, (start, d));
            }
            if e > end {
                self.pieces.insert(end, (e, d.saturating_add(end.saturating_sub(s))));
            }
        }
        self.pieces.insert(start, (end, data));
        self.stored = self.stored.saturating_add(length);
        self.size = self.size.max(end);
    }
}

impl ReadAt for Flattened {
    /// Bytes that no piece wrote read as zero, as in the sparse file that makedumpfile would have made.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let want = self.size.saturating_sub(offset).min(into.len().to_u64()).to_usize();
        let Some(into) = into.get_mut(..want) else { return Ok(0) };
        into.fill(0);
        let end = offset.saturating_add(want.to_u64());
        for (start, (stop, data)) in self.pieces.range(..end).rev() {
            if *stop <= offset {
                break;
            }
            let (from, to) = ((*start).max(offset), (*stop).min(end));
            let target = from.saturating_sub(offset).to_usize()..to.saturating_sub(offset).to_usize();
            let Some(part) = into.get_mut(target) else { continue };
            let got = self.inner.read_at(data.saturating_add(from.saturating_sub(*start)), part)?;
            if got < part.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(want)
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn stored(&self) -> u64 {
        self.stored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(pieces: &[(u64, &[u8])], end: bool) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.resize(4096, 0);
        for (offset, data) in pieces {
            bytes.extend(offset.to_be_bytes());
            bytes.extend((data.len() as u64).to_be_bytes());
            bytes.extend(*data);
        }
        if end {
            bytes.extend([0xff; 16]);
        }
        bytes
    }

    /// A piece far away makes the dump large, and nothing else: no more is allocated than there is.
    #[test]
    fn a_hole_is_not_allocated() {
        let flat = Flattened::new(Box::new(file(&[(0, b"head"), (1 << 50, b"tail")], true)));
        assert_eq!((flat.size(), flat.stored()), ((1 << 50) + 4, 8));
        assert_eq!(exact(&flat, 0, 1 << 40), None);
        assert_eq!(exact(&flat, 2, 4).as_deref(), Some(&b"ad\0\0"[..]));
    }

    #[test]
    fn later_pieces_win() {
        let flat = Flattened::new(Box::new(file(&[(0, b"aaaaaaaa"), (12, b"cc"), (2, b"bb"), (0, b"Z")], true)));
        let mut all = vec![9; 20];
        assert_eq!(flat.read_at(0, &mut all).unwrap(), 14);
        assert_eq!(&all[..14], b"Zabbaaaa\0\0\0\0cc");
        assert_eq!(flat.size(), 14);
        assert!(flat.doubts.is_empty());
        let mut part = [0; 3];
        assert_eq!(flat.read_at(3, &mut part).unwrap(), 3);
        assert_eq!(&part, b"baa");
    }

    #[test]
    fn cut_off_and_damaged_files_are_said_to_be() {
        let whole = file(&[(0, b"aaaaaaaa"), (8, b"bbbb")], true);
        for cut in 4096..=whole.len() {
            let flat = Flattened::new(Box::new(whole[..cut].to_vec()));
            assert_eq!(flat.doubts.is_empty(), cut == whole.len(), "{cut}");
        }
        let flat = Flattened::new(Box::new(file(&[(0, b"aa"), (u64::MAX - 1, b"x")], true)));
        assert_eq!(flat.doubts.len(), 1);
        assert_eq!(flat.size(), 2);
    }
}
