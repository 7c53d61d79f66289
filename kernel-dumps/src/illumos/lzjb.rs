//! lzjb, the compression of illumos's dump pages: decompression.
//!
//! The format (uts/common/os/compress.c): a byte of eight flags, lowest bit first, before every eight items; a flag of
//! 0 is a literal byte, a flag of 1 a copy of two bytes: 6 bits of length (less 3), 10 bits of distance. ZFS's lzjb
//! is the same, but illumos's kernel copy stops quietly at a bad distance, which is why the length is what tells.

/// Bits of a copy's length.
const MATCH_BITS: u32 = 6;
/// The shortest copy.
const MATCH_MIN: usize = 3;
/// Largest distance, and its mask.
const DISTANCE: usize = (1 << 10) - 1;

/// Decompresses at most `limit` bytes. A result shorter than asked for is how damage shows.
#[must_use]
pub fn decompress(input: &[u8], limit: usize) -> Vec<u8> {
    decompress_some(input, limit).0
}

/// The same, and how many bytes of the input it took. Undamaged, that is all of it.
#[must_use]
pub fn decompress_some(input: &[u8], limit: usize) -> (Vec<u8>, usize) {
    let mut out = Vec::with_capacity(limit.min(1 << 16));
    let mut items = input.iter().copied();
    'all: while out.len() < limit {
        let Some(flags) = items.next() else { break };
        for bit in 0..8_u32 {
            if out.len() >= limit {
                break 'all;
            }
            let Some(first) = items.next() else { break 'all };
            if flags.wrapping_shr(bit) & 1 == 0 {
                out.push(first);
                continue;
            }
            let Some(second) = items.next() else { break 'all };
            let length = usize::from(first >> (8 - MATCH_BITS)).saturating_add(MATCH_MIN);
            let distance = (usize::from(first) << 8 | usize::from(second)) & DISTANCE;
            let Some(mut from) = out.len().checked_sub(distance).filter(|_| distance > 0) else { break 'all };
            for _ in 0..length {
                if out.len() >= limit {
                    break;
                }
                let Some(byte) = out.get(from).copied() else { break 'all };
                out.push(byte);
                from = from.saturating_add(1);
            }
        }
    }
    let used = input.len().saturating_sub(items.len());
    (out, used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_copies_and_runs() {
        // Flags 0b0000_1000: three literals, then a copy of length 3 + 4 at distance 3.
        let stream = [0b0000_1000, b'a', b'b', b'c', 4 << 2, 3];
        assert_eq!(decompress(&stream, 10), b"abcabcabca");
        assert_eq!(decompress(&stream, 5), b"abcab");
        // One zero and a run of itself: 66 is the longest copy.
        let stream = [0b10, 0, 63 << 2, 1];
        assert_eq!(decompress(&stream, 4096), vec![0; 67]);
    }

    #[test]
    fn damage_gives_a_short_result() {
        assert_eq!(decompress(&[0b1, 0, 9], 16), b"");
        assert_eq!(decompress(&[0b1, 0, 0], 16), b"");
        assert_eq!(decompress(&[0, b'x'], 16), b"x");
        assert_eq!(decompress(&[], 16), b"");
    }
}
