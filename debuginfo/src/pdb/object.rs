//! One object file's part of a database: its functions, their lines and inlined calls.
//!
//! Layout: LLVM's "CodeView Symbol Records", `CodeViewSymbols.def` and `DebugLinesSubsection`; Microsoft's `cvinfo.h`.

use super::dbi::{Dbi, ObjectFile};
use super::inlines;
use evidence::ToUsize;
use evidence::bytes::{Endian, slice_at, u16_at, u32_at};

const LITTLE: Endian = Endian::Little;
/// Deepest nesting of blocks and inlined calls; LLVM's own inliner stops far earlier.
const LIMIT_DEPTH: usize = 4096;

const S_END: u16 = 0x6;
const S_INLINESITE: u16 = 0x114d;
const S_INLINESITE2: u16 = 0x115d;
const S_INLINESITE_END: u16 = 0x114e;
const S_PROC_ID_END: u16 = 0x114f;
const S_BLOCK32: u16 = 0x1103;
const S_THUNK32: u16 = 0x1102;
const S_WITH32: u16 = 0x1104;
const S_SEPCODE: u16 = 0x1132;
/// `S_[GL]PROC32`, with `_ID`, with `_DPC`.
const PROCEDURES: [u16; 6] = [0x1110, 0x110f, 0x1147, 0x1146, 0x1155, 0x1156];

/// The bytes of one object file's stream.
#[derive(Debug)]
pub(super) struct Object {
    bytes: Box<[u8]>,
    symbols: usize,
    c13: usize,
    /// By address.
    functions: Vec<Function>,
}

/// A function.
#[derive(Clone, Debug)]
pub(super) struct Function {
    pub start: u32,
    pub size: u32,
    name: usize,
    /// Its records, from the one behind its own to its end.
    body: usize,
}

/// A line of source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// Place in the object file's table of files.
    pub file: u32,
    pub line: u32,
    pub column: Option<u16>,
}

/// An inlined call: the function's number, and the line that the address belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inlined {
    pub function: u32,
    pub line: Option<Line>,
}

struct Record<'r> {
    kind: u16,
    data: &'r [u8],
    next: usize,
}

impl Object {
    pub(super) fn read(bytes: Box<[u8]>, part: &ObjectFile, dbi: &Dbi) -> Option<Self> {
        let c13 = part.symbols.checked_add(part.c11)?;
        c13.checked_add(part.c13).filter(|end| *end <= bytes.len())?;
        let mut object = Self { bytes, symbols: part.symbols, c13, functions: Vec::new() };
        let mut functions = Vec::new();
        let mut at = 4;
        while let Some(record) = object.record(at) {
            if PROCEDURES.contains(&record.kind)
                && let Some(function) = object.function(&record, at, dbi)
            {
                functions.push(function);
            }
            at = record.next;
        }
        functions.sort_by_key(|f| f.start);
        object.functions = functions;
        Some(object)
    }

    /// Bytes that it takes.
    pub(super) fn size(&self) -> usize {
        self.bytes.len().saturating_add(self.functions.len().saturating_mul(size_of::<Function>()))
    }

    fn function(&self, record: &Record<'_>, at: usize, dbi: &Dbi) -> Option<Function> {
        let word = |offset| u32_at(record.data, offset, LITTLE);
        Some(Function {
            start: dbi.rva(u16_at(record.data, 32, LITTLE)?, word(28)?)?,
            size: word(12)?,
            // Behind the record's length and kind.
            name: at.checked_add(4 + 35)?,
            body: record.next,
        })
    }

    /// The record at an offset of the stream; `None` at the end.
    fn record(&self, at: usize) -> Option<Record<'_>> {
        let all = self.bytes.get(..self.symbols)?;
        let length = u16_at(all, at, LITTLE)?.to_usize();
        let start = at.checked_add(2)?;
        let kind = u16_at(all, start, LITTLE)?;
        let data = slice_at(all, start.checked_add(2)?, length.checked_sub(2)?)?;
        Some(Record { kind, data, next: start.checked_add(length)? })
    }

    /// The function that covers an RVA.
    pub(super) fn function_at(&self, rva: u32) -> Option<&Function> {
        let index = self.functions.partition_point(|f| f.start <= rva).checked_sub(1)?;
        self.functions.get(index).filter(|f| rva.checked_sub(f.start).is_some_and(|o| o < f.size))
    }

    pub(super) fn name(&self, function: &Function) -> String {
        let rest = self.bytes.get(function.name..self.symbols).unwrap_or_default();
        let name = rest.split(|b| *b == 0).next().unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }

    /// The inlined calls that an RVA lies in, outermost first.
    pub(super) fn inlined(&self, function: &Function, rva: u32) -> Vec<Inlined> {
        let Some(offset) = rva.checked_sub(function.start) else { return Vec::new() };
        let mut found = Vec::new();
        // For each open record, whether the address can still be inside of it.
        let mut open: Vec<bool> = Vec::new();
        let mut at = function.body;
        while let Some(record) = self.record(at) {
            let inside = open.last().copied().unwrap_or(true);
            match record.kind {
                S_END | S_PROC_ID_END | S_INLINESITE_END if open.pop().is_none() => break,
                S_INLINESITE | S_INLINESITE2 => {
                    let skip = if record.kind == S_INLINESITE { 12 } else { 16 };
                    let site = if inside { self.site(&record, skip, offset) } else { None };
                    open.push(site.is_some());
                    found.extend(site);
                }
                S_BLOCK32 | S_THUNK32 | S_WITH32 | S_SEPCODE => open.push(inside),
                _ => {}
            }
            if open.len() > LIMIT_DEPTH {
                break;
            }
            at = record.next;
        }
        found
    }

    fn site(&self, record: &Record<'_>, skip: usize, offset: u32) -> Option<Inlined> {
        let function = u32_at(record.data, 8, LITTLE)?;
        let first = self.inlinee(function);
        let (file, line) = first.unwrap_or_default();
        let at = inlines::at(record.data.get(skip..)?, offset, file, line)?;
        Some(Inlined { function, line: first.map(|_| at) })
    }

    /// File and line of an inlined function's declaration (`DEBUG_S_INLINEELINES`).
    fn inlinee(&self, function: u32) -> Option<(u32, u32)> {
        for data in self.parts(0xf6) {
            let more = u32_at(data, 0, LITTLE)? == 1;
            let mut at = 4_usize;
            while let Some(entry) = slice_at(data, at, 12) {
                if u32_at(entry, 0, LITTLE)? == function {
                    return Some((u32_at(entry, 4, LITTLE)?, u32_at(entry, 8, LITTLE)?));
                }
                at = at.checked_add(12)?;
                if more {
                    let count = u32_at(data, at, LITTLE)?.to_usize();
                    at = at.checked_add(count.checked_mul(4)?)?.checked_add(4)?;
                }
            }
        }
        None
    }

    /// The parts of the line information of one kind.
    fn parts(&self, wanted: u32) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.get(self.c13..).unwrap_or_default();
        std::iter::from_fn(move || {
            loop {
                let kind = u32_at(rest, 0, LITTLE)?;
                let length = u32_at(rest, 4, LITTLE)?.to_usize();
                let data = slice_at(rest, 8, length)?;
                rest = rest.get(length.checked_add(8)?.checked_next_multiple_of(4)?..).unwrap_or_default();
                if kind == wanted {
                    return Some(data);
                }
            }
        })
    }

    /// The line of the physical code at an RVA (`DEBUG_S_LINES`).
    pub(super) fn line(&self, rva: u32, dbi: &Dbi) -> Option<Line> {
        self.parts(0xf2).find_map(|data| {
            let start = dbi.rva(u16_at(data, 4, LITTLE)?, u32_at(data, 0, LITTLE)?)?;
            let offset = rva.checked_sub(start).filter(|o| u32_at(data, 8, LITTLE).is_some_and(|size| o < &size))?;
            line_of(data, offset, u16_at(data, 6, LITTLE)? & 1 != 0)
        })
    }

    /// Where the name of a file is in the table of names (`DEBUG_S_FILECHKSMS`).
    pub(super) fn file_name(&self, file: u32) -> Option<u32> {
        self.parts(0xf4).find_map(|data| u32_at(data, file.to_usize(), LITTLE))
    }
}

/// The last line that starts at or before an offset, over all files of a function.
fn line_of(data: &[u8], offset: u32, columns: bool) -> Option<Line> {
    /// Code that debuggers step over: it has no line.
    const HIDDEN: [u32; 2] = [0xfe_efee, 0xf0_0f00];
    let mut best: Option<(u32, Line)> = None;
    let mut at = 12_usize;
    while let Some(head) = slice_at(data, at, 12) {
        let (file, count) = (u32_at(head, 0, LITTLE)?, u32_at(head, 4, LITTLE)?.to_usize());
        let size = u32_at(head, 8, LITTLE)?.to_usize();
        let lines = slice_at(data, at.checked_add(12)?, count.checked_mul(8)?)?;
        let width = at.checked_add(12)?.checked_add(lines.len())?;
        for (n, entry) in lines.chunks_exact(8).enumerate() {
            let start = u32_at(entry, 0, LITTLE)?;
            if start > offset || best.is_some_and(|(known, _)| known > start) {
                continue;
            }
            let line = u32_at(entry, 4, LITTLE)? & 0xff_ffff;
            let place = width.checked_add(n.checked_mul(4)?)?;
            let column = if columns { u16_at(data, place, LITTLE).filter(|c| *c > 0) } else { None };
            best = Some((start, Line { file, line, column }));
        }
        // A block of no length would be met again and again.
        at = at.checked_add(size.max(12))?;
    }
    best.map(|(_, line)| line).filter(|l| !HIDDEN.contains(&l.line))
}
