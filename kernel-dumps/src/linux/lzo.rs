//! LZO1X decompression, the format of the kernel's `lzo1x_decompress_safe`.
//!
//! Source: Documentation/staging/lzo.rst (the stream format as the kernel decodes it). Every copy is checked against
//! both buffers; run-length extensions of version 1 streams (17 as first byte) are not used in dumps and are refused.

/// Why a stream could not be decompressed: where in the input it went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged(pub usize);

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn byte(&mut self) -> Result<usize, Damaged> {
        let b = self.bytes.get(self.at).ok_or(Damaged(self.at))?;
        self.at = self.at.saturating_add(1);
        Ok(usize::from(*b))
    }

    fn pair(&mut self) -> Result<usize, Damaged> {
        let low = self.byte()?;
        Ok(low | self.byte()?.wrapping_shl(8))
    }

    /// A length that continues in further bytes: zeros count 255 each, the first other byte ends it.
    fn length(&mut self, start: usize, limit: usize) -> Result<usize, Damaged> {
        let mut length = start;
        loop {
            let b = self.byte()?;
            length = length.saturating_add(if b == 0 { 255 } else { b });
            if b != 0 {
                return Ok(length);
            }
            if length > limit {
                return Err(Damaged(self.at));
            }
        }
    }
}

/// Decompresses `input`; the result may not become longer than `limit` bytes.
///
/// # Errors
/// The offset at which the stream stops making sense.
pub fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, Damaged> {
    let mut i = Input { bytes: input, at: 0 };
    let mut out: Vec<u8> = Vec::with_capacity(limit.min(1 << 16));
    // How many literals the last instruction copied: 0, 1 to 3, or 4 for "more"; it changes what codes 0 to 15 mean.
    let mut state = 0_usize;
    if let Some(first) = input.first().copied().map(usize::from).filter(|b| *b > 17) {
        i.at = 1;
        let n = first.saturating_sub(17);
        literals(&mut i, &mut out, n, limit)?;
        state = n.min(4);
    }
    loop {
        let at = i.at;
        let code = i.byte()?;
        let (length, distance, next) = if code >= 64 {
            // LLLDDDSS (64 and up): length 3 to 8, distance in 11 bits.
            let high = i.byte()?;
            let length = code.wrapping_shr(5).saturating_add(1);
            (length, high.wrapping_shl(3).saturating_add(code.wrapping_shr(2) & 7).saturating_add(1), code & 3)
        } else if code >= 32 {
            let length = if code & 31 == 0 { i.length(31, limit)? } else { code & 31 }.saturating_add(2);
            let pair = i.pair()?;
            (length, pair.wrapping_shr(2).saturating_add(1), pair & 3)
        } else if code >= 16 {
            let length = if code & 7 == 0 { i.length(7, limit)? } else { code & 7 }.saturating_add(2);
            let pair = i.pair()?;
            let distance = (code & 8).wrapping_shl(11).saturating_add(pair.wrapping_shr(2)).saturating_add(16384);
            if distance == 16384 {
                // The end-of-stream marker.
                return if length == 3 { Ok(out) } else { Err(Damaged(at)) };
            }
            (length, distance, pair & 3)
        } else if state == 0 {
            let n = if code == 0 { i.length(15, limit)? } else { code }.saturating_add(3);
            literals(&mut i, &mut out, n, limit)?;
            state = 4;
            continue;
        } else {
            let high = i.byte()?;
            let near = high.wrapping_shl(2).saturating_add(code.wrapping_shr(2)).saturating_add(1);
            if state == 4 { (3, near.saturating_add(2048), code & 3) } else { (2, near, code & 3) }
        };
        copy(&mut out, distance, length, limit).ok_or(Damaged(at))?;
        literals(&mut i, &mut out, next, limit)?;
        state = next;
    }
}

fn literals(i: &mut Input<'_>, out: &mut Vec<u8>, n: usize, limit: usize) -> Result<(), Damaged> {
    let end = i.at.saturating_add(n);
    let bytes = i.bytes.get(i.at..end).ok_or(Damaged(i.at))?;
    if out.len().saturating_add(n) > limit {
        return Err(Damaged(i.at));
    }
    out.extend_from_slice(bytes);
    i.at = end;
    Ok(())
}

/// Repeats `length` bytes from `distance` back; they may overlap what is being written.
fn copy(out: &mut Vec<u8>, distance: usize, length: usize, limit: usize) -> Option<()> {
    if out.len().saturating_add(length) > limit {
        return None;
    }
    let from = out.len().checked_sub(distance)?;
    for n in 0..length {
        let byte = *out.get(from.saturating_add(n))?;
        out.push(byte);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_a_match() {
        // 17 + 4 literals "abcd", a match of length 4 at distance 4 (code 0x6c: length 4, distance low bits 3), end.
        let stream = [17 + 4, b'a', b'b', b'c', b'd', 0x6c, 0, 0x11, 0, 0];
        assert_eq!(decompress(&stream, 100).unwrap(), b"abcdabcd");
        assert!(decompress(&stream, 7).is_err());
        for cut in 0..stream.len() {
            assert!(decompress(&stream[..cut], 100).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_long_run_overlaps_itself() {
        // "x", then 32-code with length 0 extended: 31 + 200 + 2 bytes at distance 1.
        let stream = [17 + 4, b'x', b'x', b'x', b'x', 32, 200, 0, 0, 0x11, 0, 0];
        assert_eq!(decompress(&stream, 4096).unwrap(), vec![b'x'; 4 + 233]);
    }
}
