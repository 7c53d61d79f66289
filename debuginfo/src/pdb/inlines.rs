//! Binary annotations: the ranges and lines of one inlined call, as changes of a state.
//!
//! Source: `cvinfo.h` (`CodeViewInfo`, `BinaryAnnotationOpcode`); LLVM's `encodeInlineLineTable` writes them.

use super::object::Line;

/// The line that an offset from the function's start belongs to; `None` when the call does not cover it.
pub(super) fn at(code: &[u8], wanted: u32, file: u32, line: u32) -> Option<Line> {
    let mut reader = Reader { code };
    let mut state = Line { file, line, column: None };
    let (mut base, mut offset) = (0_u32, 0_u32);
    // The entry before: where it starts, where it ends if that is known.
    let mut last: Option<(u32, Option<u32>, Line)> = None;
    let mut length: Option<u32> = None;
    let covers = |entry: &(u32, Option<u32>, Line), next: u32| {
        let end = entry.1.unwrap_or(next);
        wanted >= entry.0 && wanted < end
    };
    while let Some(op) = reader.number() {
        let emits = match op {
            // The end, or the padding behind it.
            0 => break,
            1 => {
                offset = reader.number()?;
                false
            }
            2 => {
                base = reader.number()?;
                false
            }
            3 => {
                offset = offset.wrapping_add(reader.number()?);
                true
            }
            4 => {
                let size = reader.number()?;
                if let Some(entry) = last.as_mut().filter(|e| e.1.is_none()) {
                    entry.1 = Some(entry.0.wrapping_add(size));
                }
                offset = offset.wrapping_add(size);
                false
            }
            5 => {
                state.file = reader.number()?;
                false
            }
            6 => {
                state.line = state.line.wrapping_add_signed(reader.signed()?);
                false
            }
            // Ends of lines, kinds of ranges, columns.
            7 | 8 | 10 | 13 => {
                reader.number()?;
                false
            }
            9 => {
                state.column = u16::try_from(reader.number()?).ok().filter(|c| *c > 0);
                false
            }
            11 => {
                let both = reader.number()?;
                state.line = state.line.wrapping_add_signed(signed(both >> 4));
                offset = offset.wrapping_add(both & 15);
                true
            }
            12 => {
                length = Some(reader.number()?);
                offset = offset.wrapping_add(reader.number()?);
                true
            }
            _ => return None,
        };
        if !emits {
            continue;
        }
        let here = base.wrapping_add(offset);
        if let Some(entry) = last.filter(|entry| covers(entry, here)) {
            return Some(entry.2);
        }
        last = Some((here, length.take().map(|n| here.wrapping_add(n)), state));
    }
    // Without a length, the last entry's end is not known: it is not believed.
    last.filter(|entry| entry.1.is_some() && covers(entry, 0)).map(|entry| entry.2)
}

struct Reader<'r> {
    code: &'r [u8],
}

impl Reader<'_> {
    /// A number of one, two or four bytes, most significant first.
    fn number(&mut self) -> Option<u32> {
        let (value, length) = match *self.code {
            [a @ 0..=0x7f, ..] => (u32::from(a), 1),
            [a @ 0x80..=0xbf, b, ..] => (u32::from_be_bytes([0, 0, a & 0x3f, b]), 2),
            [a @ 0xc0..=0xdf, b, c, d, ..] => (u32::from_be_bytes([a & 0x1f, b, c, d]), 4),
            _ => return None,
        };
        self.code = self.code.get(length..)?;
        Some(value)
    }

    fn signed(&mut self) -> Option<i32> {
        self.number().map(signed)
    }
}

/// The lowest bit is the sign.
fn signed(value: u32) -> i32 {
    let size = (value >> 1).cast_signed();
    if value & 1 != 0 { size.wrapping_neg() } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let mut reader = Reader { code: &[0x7f, 0x81, 0x02, 0xc0, 1, 2, 3, 0xe0] };
        let read: Vec<u32> = std::iter::from_fn(|| reader.number()).collect();
        assert_eq!(read, [0x7f, 0x102, 0x1_0203]);
        assert_eq!([signed(4), signed(5), signed(0)], [2, -2, 0]);
    }

    #[test]
    fn ranges_and_lines() {
        // At 0x10 line 5, at 0x14 line 7 for 6 bytes; then from 0x20 for 4 bytes line 7 still.
        let code = [3, 0x10, 11, (4 << 4) | 4, 4, 6, 12, 4, 6, 0];
        let line = |offset| at(&code, offset, 8, 5).map(|l| l.line);
        assert_eq!([0xf, 0x10, 0x13, 0x14, 0x19, 0x1a].map(line), [None, Some(5), Some(5), Some(7), Some(7), None]);
        assert_eq!([0x1f, 0x20, 0x23, 0x24].map(line), [None, Some(7), Some(7), None]);
        assert_eq!(at(&[3, 1], 1, 0, 1), None);
    }
}
