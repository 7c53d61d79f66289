//! The lines of a symbol file, and their fields.

use evidence::{ToU64, ToUsize};

/// Longest record read: rustc's longest names have some tens of thousands of bytes, and one `STACK CFI` record holds
/// the rules of a few dozen registers. What is longer is cut off there.
const LIMIT_RECORD: usize = 1 << 20;

/// Fields of one record, divided by blanks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'l>(&'l [u8]);

impl<'l> Fields<'l> {
    /// The next field.
    pub(super) fn word(&mut self) -> Option<&'l [u8]> {
        let start = self.0.iter().position(|b| *b != b' ')?;
        let rest = self.0.get(start..)?;
        let end = memchr::memchr(b' ', rest).unwrap_or(rest.len());
        self.0 = rest.get(end..)?;
        rest.get(..end)
    }

    /// The next field as a hexadecimal number.
    pub(super) fn hex(&mut self) -> Option<u64> {
        hex(self.word()?)
    }

    /// The next field as a decimal number.
    pub(super) fn decimal(&mut self) -> Option<u64> {
        std::str::from_utf8(self.word()?).ok()?.parse().ok()
    }

    /// Everything that follows, without the blanks around it.
    pub(super) fn rest(self) -> &'l [u8] {
        self.0.trim_ascii()
    }
}

/// A hexadecimal number of up to 64 bits, without `0x`.
pub(super) fn hex(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 16 {
        return None;
    }
    text.iter().try_fold(0_u64, |n, b| {
        let digit = char::from(*b).to_digit(16)?;
        Some(n.wrapping_shl(4) | u64::from(digit))
    })
}

/// The line at `at`, without its end, and where the next one starts.
pub(super) fn line(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let tail = bytes.get(at..).filter(|t| !t.is_empty())?;
    let length = memchr::memchr(b'\n', tail).unwrap_or(tail.len());
    looked_at(length.to_u64());
    let text = tail.get(..length.min(LIMIT_RECORD))?;
    Some((text.strip_suffix(b"\r").unwrap_or(text), at.saturating_add(length).saturating_add(1)))
}

/// Where the first line begins that does not begin before `at`.
pub(super) fn line_start(bytes: &[u8], at: u64) -> usize {
    let at = at.to_usize();
    let Some(before) = at.checked_sub(1) else { return 0 };
    let tail = bytes.get(before..).unwrap_or_default();
    let length = memchr::memchr(b'\n', tail).unwrap_or(tail.len());
    looked_at(length.to_u64());
    at.saturating_add(length).min(bytes.len())
}

/// Counts how many bytes were looked at, for tests that some questions need only few.
#[cfg(not(test))]
pub(super) const fn looked_at(_: u64) {}

#[cfg(test)]
thread_local! {
    /// How many bytes this thread has looked at.
    pub(super) static LOOKED_AT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
pub(super) fn looked_at(bytes: u64) {
    LOOKED_AT.set(LOOKED_AT.get() + bytes);
}

/// What a line is, by its first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Module,
    Info,
    File,
    InlineOrigin,
    Func,
    Inline,
    Line,
    Public,
    StackWin,
    CfiInit,
    CfiDelta,
    /// A blank line, or a record that nobody defined.
    Other,
}

/// What a line is, and what follows its first words.
pub(super) fn kind(line: &[u8]) -> (Kind, Fields<'_>) {
    const WORDS: [(&[u8], Kind); 8] = [
        (b"FUNC ", Kind::Func),
        (b"STACK CFI INIT ", Kind::CfiInit),
        (b"STACK CFI ", Kind::CfiDelta),
        (b"STACK WIN ", Kind::StackWin),
        (b"PUBLIC ", Kind::Public),
        (b"FILE ", Kind::File),
        (b"INLINE_ORIGIN ", Kind::InlineOrigin),
        (b"INLINE ", Kind::Inline),
    ];
    const RARE: [(&[u8], Kind); 2] = [(b"MODULE ", Kind::Module), (b"INFO ", Kind::Info)];
    match line.first() {
        // `FUNC` and `FILE` are no numbers: those are written in lower case, and followed by a blank.
        Some(b'0'..=b'9' | b'a'..=b'f') => return (Kind::Line, Fields(line)),
        None => return (Kind::Other, Fields(line)),
        _ => {}
    }
    for (word, kind) in WORDS.iter().chain(&RARE) {
        if let Some(rest) = line.strip_prefix(*word) {
            return (*kind, Fields(rest));
        }
    }
    let upper = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let number = upper > 0 && line.get(upper) == Some(&b' ');
    (if number { Kind::Line } else { Kind::Other }, Fields(line))
}

/// `[m] address`, as `FUNC` and `PUBLIC` begin: whether several functions have this very code, and the address.
pub(super) fn flagged(fields: &mut Fields<'_>) -> Option<(bool, u64)> {
    let word = fields.word()?;
    if word == b"m" { Some((true, fields.hex()?)) } else { Some((false, hex(word)?)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_their_first_words() {
        let check = |text: &str, expected| assert_eq!(kind(text.as_bytes()).0, expected, "{text}");
        check("FUNC 10 2 0 f", Kind::Func);
        check("FACE 10 2 0", Kind::Line);
        check("fade 10 2 0", Kind::Line);
        check("STACK CFI INIT 0 1 .cfa: $rsp", Kind::CfiInit);
        check("STACK CFI 0 .cfa: $rsp", Kind::CfiDelta);
        check("INLINE_ORIGIN 1 a", Kind::InlineOrigin);
        check("INLINE 0 1 2 3 4 5", Kind::Inline);
        check("", Kind::Other);
        check("FUNCTION", Kind::Other);
    }

    #[test]
    fn numbers_of_more_than_64_bits_are_none() {
        assert_eq!(hex(b"ffffffffffffffff"), Some(u64::MAX));
        assert_eq!(hex(b"10000000000000000"), None);
        assert_eq!(hex(b"-1"), None);
        assert_eq!(hex(b""), None);
    }

    #[test]
    fn lines_end_as_on_any_system() {
        let text = b"ab\r\ncd\n\nef";
        assert_eq!(line(text, 0), Some((&b"ab"[..], 4)));
        assert_eq!(line(text, 4), Some((&b"cd"[..], 7)));
        assert_eq!(line(text, 7), Some((&b""[..], 8)));
        assert_eq!(line(text, 8), Some((&b"ef"[..], 11)));
        assert_eq!(line(text, 11), None);
        assert_eq!([0, 1, 4, 5, 8, 9].map(|at| line_start(text, at)), [0, 4, 4, 7, 8, 10]);
    }
}
