//! The ELF header and the program headers of a core, in both classes and byte orders.
//!
//! Source: System V ABI, "ELF Header" and "Program Header"; `PN_XNUM` from `include/uapi/linux/elf.h`.

use crate::Error;
use crate::input::Source;
use evidence::bytes::{Endian, u8_at, u16_at, u32_at, u64_at};
use evidence::{Doubt, Doubts, ToU64, ToUsize};

/// `e_type` of a core.
pub const ET_CORE: u16 = 4;
/// `p_type` of memory.
pub const PT_LOAD: u32 = 1;
/// `p_type` of notes.
pub const PT_NOTE: u32 = 4;
/// `e_machine` numbers.
pub(super) const EM_386: u16 = 3;
pub(super) const EM_ARM: u16 = 40;
pub(super) const EM_X86_64: u16 = 62;
pub(super) const EM_AARCH64: u16 = 183;

/// `e_phnum` of a file whose number of program headers stands in `sh_info` of its first section header.
const PN_XNUM: u16 = 0xffff;
/// How many program headers are read. Linux allows 65,530 mappings by default, and 1,048,576 where a distribution
/// raises `vm.max_map_count`; there is one header for each, and a few more.
pub const LIMIT_SEGMENTS: u64 = 1_200_000;
/// The longest program header: 56 bytes in every file there is; larger ones would make a small count read gigabytes.
const LIMIT_ENTRY: u16 = 256;
/// Program headers per read.
const BATCH: u64 = 4096;

/// One program header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// `p_type`.
    pub kind: u32,
    /// `p_flags`: 1 execute, 2 write, 4 read; others belong to the system.
    pub flags: u32,
    /// Where its bytes start in the file.
    pub offset: u64,
    /// Its address.
    pub vaddr: u64,
    /// How many bytes of it are in the file.
    pub filesz: u64,
    /// How many bytes of address space it covers.
    pub memsz: u64,
}

/// The headers of an ELF file.
#[derive(Clone, Debug)]
pub struct Headers {
    /// 64-bit layout.
    pub wide: bool,
    /// The byte order of everything in the file.
    pub endian: Endian,
    /// `e_type`.
    pub kind: u16,
    /// `e_machine`.
    pub machine: u16,
    /// The program headers in the order of the file, except those of types nobody needs.
    pub segments: Vec<Segment>,
    /// Whether program headers were promised that the file or a limit cuts off.
    pub cut: bool,
}

/// Reads the headers of `source`.
///
/// # Errors
/// When it is no ELF file of a known class and byte order, or ends within its header.
pub fn read(source: &Source, doubts: &Doubts) -> Result<Headers, Error> {
    let head = source.bytes(0, 64);
    let bad = |offset, expected: &str, found: String| Err(Error::format(source.path(), offset, expected, found));
    if !head.starts_with(b"\x7fELF") {
        return bad(0, "the magic of an ELF file", format!("{:02x?}", head.get(..4).unwrap_or(&head)));
    }
    let wide = match u8_at(&head, 4) {
        Some(1) => false,
        Some(2) => true,
        other => return bad(4, "an ELF class of 1 (32 bits) or 2 (64 bits)", format!("{other:?}")),
    };
    let endian = match u8_at(&head, 5) {
        Some(1) => Endian::Little,
        Some(2) => Endian::Big,
        other => return bad(5, "a byte order of 1 (little) or 2 (big)", format!("{other:?}")),
    };
    let fields = EhdrFields::read(&head, wide, endian);
    let Some(ehdr) = fields else {
        return bad(head.len().to_u64(), "the rest of an ELF header", "the end of the file".into());
    };
    let mut headers =
        Headers { wide, endian, kind: ehdr.kind, machine: ehdr.machine, segments: Vec::new(), cut: false };
    let least = if wide { 56 } else { 32 };
    if ehdr.phnum != 0 && !(least..=LIMIT_ENTRY).contains(&ehdr.phentsize) {
        return bad(
            if wide { 54 } else { 42 },
            "program headers of 56 (64-bit) or 32 (32-bit) bytes, or a few more",
            format!("a size of {}", ehdr.phentsize),
        );
    }
    let count = count(source, &ehdr, wide, endian, doubts);
    read_segments(source, &ehdr, count, &mut headers, doubts);
    Ok(headers)
}

struct EhdrFields {
    kind: u16,
    machine: u16,
    phoff: u64,
    shoff: u64,
    phentsize: u16,
    phnum: u16,
}

impl EhdrFields {
    fn read(head: &[u8], wide: bool, endian: Endian) -> Option<Self> {
        let half = |at| u16_at(head, at, endian);
        let word = |at| u32_at(head, at, endian).map(u64::from);
        Some(if wide {
            Self {
                kind: half(16)?,
                machine: half(18)?,
                phoff: u64_at(head, 32, endian)?,
                shoff: u64_at(head, 40, endian)?,
                phentsize: half(54)?,
                phnum: half(56)?,
            }
        } else {
            Self {
                kind: half(16)?,
                machine: half(18)?,
                phoff: word(28)?,
                shoff: word(32)?,
                phentsize: half(42)?,
                phnum: half(44)?,
            }
        })
    }
}

/// The number of program headers, through [`PN_XNUM`].
fn count(source: &Source, ehdr: &EhdrFields, wide: bool, endian: Endian, doubts: &Doubts) -> u64 {
    if ehdr.phnum != PN_XNUM {
        return u64::from(ehdr.phnum);
    }
    let info_at = if wide { 44 } else { 28 };
    let section = source.bytes(ehdr.shoff, 64);
    if ehdr.shoff != 0
        && let Some(count) = u32_at(&section, info_at, endian).filter(|n| *n >= u32::from(PN_XNUM))
    {
        return u64::from(count);
    }
    // Linux writes that section header at the very end, so a truncated core has none. It also writes the notes right
    // behind the program headers, and their own header comes first.
    let entry = source.bytes(ehdr.phoff, usize::from(ehdr.phentsize));
    let size = u64::from(ehdr.phentsize);
    let guess = segment(&entry, wide, endian)
        .filter(|s| s.kind == PT_NOTE)
        .and_then(|s| s.offset.checked_sub(ehdr.phoff)?.checked_div(size))
        .filter(|n| *n >= u64::from(PN_XNUM));
    let used = guess.unwrap_or_else(|| u64::from(PN_XNUM));
    doubts.push(Doubt::new(
        "headers",
        format!(
            "the number of program headers should stand in a section header at file offset {:#x}, which is not there; \
             {used} of them fit before what follows and were read",
            ehdr.shoff
        ),
    ));
    used
}

fn read_segments(source: &Source, ehdr: &EhdrFields, count: u64, headers: &mut Headers, doubts: &Doubts) {
    let size = u64::from(ehdr.phentsize).max(1);
    let there = source.len().saturating_sub(ehdr.phoff).checked_div(size).unwrap_or(0);
    let wanted = count.min(LIMIT_SEGMENTS);
    if count > LIMIT_SEGMENTS {
        headers.cut = true;
        doubts.push(Doubt::new(
            "headers",
            format!("the file claims {count} program headers; the first {LIMIT_SEGMENTS} are used"),
        ));
    }
    if there < wanted {
        headers.cut = true;
        doubts.push(Doubt::new(
            "headers",
            format!(
                "the file ends at offset {:#x}, within its {count} program headers at {:#x}: {there} of them are there",
                source.len(),
                ehdr.phoff
            ),
        ));
    }
    let mut left = wanted.min(there);
    let mut at = ehdr.phoff;
    while left > 0 {
        let batch = left.min(BATCH);
        let raw = source.bytes(at, batch.saturating_mul(size).to_usize());
        let entries = raw.chunks(size.to_usize().max(1)).filter_map(|e| segment(e, headers.wide, headers.endian));
        headers.segments.extend(entries.filter(|s| matches!(s.kind, PT_LOAD | PT_NOTE)));
        if raw.len().to_u64() < batch.saturating_mul(size) {
            headers.cut = true;
            break;
        }
        left = left.saturating_sub(batch);
        at = at.saturating_add(batch.saturating_mul(size));
    }
}

fn segment(raw: &[u8], wide: bool, endian: Endian) -> Option<Segment> {
    let word = |at| u32_at(raw, at, endian);
    if wide {
        let long = |at| u64_at(raw, at, endian);
        Some(Segment {
            kind: word(0)?,
            flags: word(4)?,
            offset: long(8)?,
            vaddr: long(16)?,
            filesz: long(32)?,
            memsz: long(40)?,
        })
    } else {
        let long = |at| word(at).map(u64::from);
        Some(Segment {
            kind: word(0)?,
            flags: word(24)?,
            offset: long(4)?,
            vaddr: long(8)?,
            filesz: long(16)?,
            memsz: long(20)?,
        })
    }
}
