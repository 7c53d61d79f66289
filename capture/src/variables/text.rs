//! Characters and strings as text.

use std::fmt::Write as _;

/// Bytes as text: UTF-8 as it is; a byte that is none becomes `\xNN`, and a backslash in such a text is doubled.
pub(super) fn bytes(raw: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(raw) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(raw.len());
    for chunk in raw.utf8_chunks() {
        out.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Text in double quotes, as gdb and C write it.
pub(super) fn quoted(raw: &[u8]) -> String {
    let mut out = String::with_capacity(raw.len().saturating_add(2));
    out.push('"');
    for chunk in raw.utf8_chunks() {
        for c in chunk.valid().chars() {
            escape(c, '"', &mut out);
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\{byte:03o}");
        }
    }
    out.push('"');
    out
}

fn escape(c: char, quote: char, out: &mut String) {
    match c {
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        '\\' => out.push_str("\\\\"),
        c if c == quote => {
            out.push('\\');
            out.push(c);
        }
        c if u32::from(c) < 0x20 || u32::from(c) == 0x7f => {
            let _ = write!(out, "\\{:03o}", u32::from(c));
        }
        c => out.push(c),
    }
}

/// A character with its number, as gdb writes it: `97 'a'`, `-23 '\351'`, `233 L'é'`.
pub(super) fn character(number: i128, size: usize, prefix: &str) -> String {
    let mut out = format!("{number} {prefix}'");
    let code = if size == 1 { number & 0xff } else { number };
    match u32::try_from(code).ok().filter(|c| size > 1 || *c < 0x80).and_then(char::from_u32) {
        Some(c) => escape(c, '\'', &mut out),
        None => {
            let _ = write!(out, "\\{:03o}", code & 0xffff_ffff);
        }
    }
    out.push('\'');
    out
}

/// UTF-16 or UTF-32 units (of `size` bytes) as text; what is no character becomes U+FFFD.
pub(super) fn wide(raw: &[u8], size: usize) -> String {
    let number = |unit: &[u8]| unit.iter().rev().fold(0_u32, |n, b| n.wrapping_shl(8) | u32::from(*b));
    let units = raw.chunks_exact(size.max(1)).map(number);
    if size == 2 {
        let units = units.map(|u| u16::try_from(u).unwrap_or(0xfffd));
        char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    } else {
        units.map(|u| char::from_u32(u).unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_as_gdb_writes_them() {
        assert_eq!(character(97, 1, ""), "97 'a'");
        assert_eq!(character(10, 1, ""), "10 '\\n'");
        assert_eq!(character(0, 1, ""), "0 '\\000'");
        assert_eq!(character(-23, 1, ""), "-23 '\\351'");
        assert_eq!(character(39, 1, ""), "39 '\\''");
        assert_eq!(character(233, 4, "L"), "233 L'\u{e9}'");
    }

    #[test]
    fn bytes_that_are_no_text_stay_visible() {
        assert_eq!(bytes(b"a\\b"), "a\\b");
        assert_eq!(bytes(b"a\\b\xff"), "a\\\\b\\xff");
        assert_eq!(quoted(b"x\"\n\xff"), "\"x\\\"\\n\\377\"");
        assert_eq!(wide(&[0x61, 0, 0x3d, 0xd8, 0, 0xde], 2), "a\u{1f600}");
        assert_eq!(wide(&[0x61, 0, 0, 0], 4), "a");
    }
}
