//! One `FUNC` record with what follows it: its lines and the calls that were inlined into it.

use super::text::{Fields, Kind, flagged, hex, kind, line};
use evidence::ToUsize;
use std::borrow::Cow;
use std::ops::Range;

/// Most records read of one function: generated interpreters reach some hundred thousand lines.
const LIMIT_LINES: usize = 4 << 20;
/// Deepest nesting of inlined calls. Compilers stop at some dozens.
const LIMIT_DEPTH: usize = 1024;

/// A function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function<'f> {
    /// Where its code lies: addresses relative to the module's base.
    pub range: Range<u64>,
    /// Bytes of parameters that its caller pushes on the stack (x86 Windows; 0 elsewhere).
    pub parameters: u64,
    /// Its name, as the file writes it: demangled by most writers.
    pub name: Cow<'f, str>,
    /// Several functions have this very code, and this is the name of only one of them.
    pub multiple: bool,
}

/// The place of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Number of its `FILE` record; `None` where the (older) format does not say.
    pub(super) file: Option<u64>,
    pub(super) line: u32,
}

/// A call that was inlined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inlined {
    pub(super) level: u64,
    /// Where the caller makes it.
    pub(super) site: Place,
    /// Number of its `INLINE_ORIGIN` record.
    pub(super) origin: u64,
}

/// What a function says about one address.
#[derive(Debug, Default)]
pub(super) struct At {
    pub(super) place: Option<Place>,
    /// By level, 0 (the outermost) first, without gaps.
    pub(super) inlined: Vec<Inlined>,
    /// Whether a limit was reached before its last record.
    pub(super) cut_off: bool,
}

/// The `FUNC` record in a line.
pub(super) fn function(text: &[u8]) -> Option<Function<'_>> {
    let (Kind::Func, mut fields) = kind(text) else { return None };
    let (multiple, start) = flagged(&mut fields)?;
    let end = start.checked_add(fields.hex()?)?;
    let parameters = fields.hex()?;
    Some(Function { range: start..end, parameters, name: String::from_utf8_lossy(fields.rest()), multiple })
}

/// What the records behind the `FUNC` record at `offset` say about `address`.
pub(super) fn at(bytes: &[u8], offset: u64, address: u64) -> At {
    let mut result = At::default();
    let Some((_, mut next)) = line(bytes, offset.to_usize()) else { return result };
    let mut levels: Vec<Inlined> = Vec::new();
    for n in 0_usize.. {
        let Some((text, after)) = line(bytes, next) else { break };
        if n >= LIMIT_LINES {
            result.cut_off = true;
            break;
        }
        let (kind, fields) = kind(text);
        match kind {
            Kind::Line if result.place.is_none() => result.place = place(fields, address),
            Kind::Inline if levels.len() < LIMIT_DEPTH => levels.extend(inlined(fields, address)),
            Kind::Inline => result.cut_off = true,
            Kind::Line | Kind::Other | Kind::Info => {}
            _ => break,
        }
        next = after;
    }
    levels.sort_by_key(|i| i.level);
    levels.dedup_by_key(|i| i.level);
    let known = levels.iter().zip(0_u64..).take_while(|(i, n)| i.level == *n).count();
    levels.truncate(known);
    result.inlined = levels;
    result
}

/// `address size line file`, if it covers `at`.
fn place(mut fields: Fields<'_>, at: u64) -> Option<Place> {
    let start = fields.hex()?;
    let size = fields.hex()?;
    if at.checked_sub(start)? >= size {
        return None;
    }
    let line = u32::try_from(fields.decimal()?).ok()?;
    Some(Place { line, file: Some(fields.decimal()?) })
}

/// `level call-line [call-file] origin {address size}`, if one of the ranges covers `at`. Only the number of fields
/// tells the older form, without the file.
fn inlined(fields: Fields<'_>, at: u64) -> Option<Inlined> {
    let mut count = 0_usize;
    let mut counter = fields;
    while counter.word().is_some() {
        count = count.saturating_add(1);
    }
    let mut fields = fields;
    let level = fields.decimal()?;
    let line = u32::try_from(fields.decimal()?).ok()?;
    let file = if count.is_multiple_of(2) { Some(fields.decimal()?) } else { None };
    let origin = fields.decimal()?;
    let mut covered = false;
    while let Some(start) = fields.word() {
        let (start, size) = (hex(start)?, fields.hex()?);
        covered |= at.checked_sub(start).is_some_and(|offset| offset < size);
    }
    covered.then_some(Inlined { level, site: Place { file, line }, origin })
}

/// The name in an `INLINE_ORIGIN` record. The older form has the number of a file before it (-1 for none).
pub(super) fn origin_name(text: &[u8]) -> Option<Cow<'_, str>> {
    let (Kind::InlineOrigin, mut fields) = kind(text) else { return None };
    fields.decimal()?;
    let mut older = fields;
    let is_number = |word: &[u8]| {
        let digits = word.strip_prefix(b"-").unwrap_or(word);
        !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
    };
    let fields = if older.word().is_some_and(is_number) && !older.rest().is_empty() { older } else { fields };
    Some(String::from_utf8_lossy(fields.rest()))
}

/// The path in a `FILE` record.
pub(super) fn file_name(text: &[u8]) -> Option<Cow<'_, str>> {
    let (Kind::File, mut fields) = kind(text) else { return None };
    fields.decimal()?;
    Some(String::from_utf8_lossy(fields.rest()))
}
