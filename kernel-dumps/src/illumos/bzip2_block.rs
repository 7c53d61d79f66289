//! bzip2's own blocks: each can be decompressed alone, wherever in a stream it lies.
//!
//! A block begins with 48 known bits at any bit position and holds its own checksum. Put between a file header and an
//! end mark it is a whole bzip2 file, which the library decompresses and checks.

use bzip2::read::BzDecoder;
use evidence::bytes::slice_at;
use std::io::Read as _;

/// First bits of a block, and of the end of a bzip2 stream.
const BLOCK: u64 = 0x3141_5926_5359;
const END: u64 = 0x1772_4538_5090;
/// Bits of either.
const MAGIC_BITS: u64 = 48;
const MASK: u64 = (1 << MAGIC_BITS) - 1;
/// The most a block can become: 900,000 bytes of which every five may stand for 259.
const LIMIT_PLAIN: u64 = 48 << 20;
/// The longest compressed block: 900,000 bytes that do not shrink, and tables.
pub(super) const LIMIT_PACKED: u64 = 2 << 20;

/// What begins at a bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Block(u64),
    End(u64),
}

impl Mark {
    pub(super) const fn bit(self) -> u64 {
        match self {
            Self::Block(at) | Self::End(at) => at,
        }
    }
}

/// Looks for marks in bytes that come piece by piece.
pub(super) struct Scanner {
    /// For every value of the third whole byte of a mark, whether it can be one at some shift.
    third: [bool; 256],
    last: u64,
    /// Bytes seen.
    seen: u64,
}

impl Scanner {
    pub(super) fn new() -> Self {
        let mut third = [false; 256];
        for magic in [BLOCK, END] {
            for shift in 0..8_u32 {
                // With the mark `shift` bits into its first byte, this is the byte two further on.
                let value = magic.wrapping_shr(24_u32.saturating_add(shift)) & 0xff;
                if let Some(slot) = usize::try_from(value).ok().and_then(|v| third.get_mut(v)) {
                    *slot = true;
                }
            }
        }
        Self { third, last: 0, seen: 0 }
    }

    /// Takes the next bytes.
    pub(super) fn feed(&mut self, bytes: &[u8], mut found: impl FnMut(Mark)) {
        for byte in bytes {
            self.last = self.last << 8 | u64::from(*byte);
            self.seen = self.seen.saturating_add(1);
            // Of the last seven bytes, the fifth from the end is the third of a mark that begins in the first.
            let probe = usize::try_from(self.last.wrapping_shr(32) & 0xff).unwrap_or(0);
            if self.seen < 7 || !self.third.get(probe).copied().unwrap_or(false) {
                continue;
            }
            for shift in 0..8_u32 {
                let bits = self.last.wrapping_shr(8_u32.saturating_sub(shift)) & MASK;
                if bits == BLOCK || bits == END {
                    let first = self.seen.saturating_sub(7).saturating_mul(8);
                    // With seven bytes seen, shift 0 means that the mark begins with the first of them.
                    let at = first.saturating_add(u64::from(shift));
                    found(if bits == BLOCK { Mark::Block(at) } else { Mark::End(at) });
                }
            }
        }
    }
}

/// Decompresses the block in the bits `from..to` of `bytes`; `None` when it is damaged. `level` is the digit of the bzip2
/// stream's header: how large blocks can be, and how much memory it takes.
pub(super) fn decode(bytes: &[u8], level: u8, from: u64, to: u64) -> Option<Vec<u8>> {
    let shift = u32::try_from(from & 7).ok()?;
    let start = usize::try_from(from >> 3).ok()?;
    let bits = to.checked_sub(from)?;
    let whole = usize::try_from(bits >> 3).ok()?;
    let mut file = vec![b'B', b'Z', b'h', level];
    let byte = |n: usize| {
        let pair = u16::from(*bytes.get(start.checked_add(n)?)?) << 8
            | u16::from(bytes.get(start.checked_add(n)?.checked_add(1)?).copied().unwrap_or(0));
        u8::try_from(pair.wrapping_shr(8_u32.saturating_sub(shift)) & 0xff).ok()
    };
    for n in 0..whole {
        file.push(byte(n)?);
    }
    let rest = u32::try_from(bits & 7).ok()?;
    let crc = slice_at(&file, 10, 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes)?;
    // The last bits, the end mark, and the checksum of all blocks: that of the only one.
    let tail = u128::from(if rest == 0 { 0 } else { byte(whole)?.wrapping_shr(8_u32.saturating_sub(rest)) });
    let tail = (tail << 48 | u128::from(END)) << 32 | u128::from(crc);
    let tail_bits = rest.checked_add(80)?;
    let tail = tail.checked_shl(128_u32.checked_sub(tail_bits)?)?;
    let tail_bytes = usize::try_from(tail_bits.div_ceil(8)).ok()?;
    file.extend_from_slice(tail.to_be_bytes().get(..tail_bytes)?);
    let mut plain = Vec::new();
    BzDecoder::new(&*file).take(LIMIT_PLAIN).read_to_end(&mut plain).ok()?;
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bzip2::Compression;
    use bzip2::read::BzEncoder;

    fn packed(level: u32, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        BzEncoder::new(plain, Compression::new(level)).read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn every_block_is_found_and_decompressed_alone() {
        let mut seed = 1_u32;
        let plain: Vec<u8> = (0..450_000)
            .map(|n| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if n % 5000 < 1000 { 0 } else { (seed >> 24) as u8 & 0x3f }
            })
            .collect();
        let file = packed(1, &plain);
        let mut marks = Vec::new();
        let mut scanner = Scanner::new();
        for piece in file.chunks(1000) {
            scanner.feed(piece, |m| marks.push(m));
        }
        assert_eq!(marks[0], Mark::Block(32));
        assert!(matches!(marks.last(), Some(Mark::End(_))));
        assert!(marks.len() > 4, "{marks:?}");
        let mut together = Vec::new();
        for pair in marks.windows(2) {
            together.extend(decode(&file, b'1', pair[0].bit(), pair[1].bit()).unwrap());
        }
        assert!(together == plain);
        let mut bad = file.clone();
        bad[2000] ^= 4;
        assert_eq!(decode(&bad, b'1', marks[0].bit(), marks[1].bit()), None);
        assert!(decode(&bad, b'1', marks[1].bit(), marks[2].bit()).is_some());
    }
}
