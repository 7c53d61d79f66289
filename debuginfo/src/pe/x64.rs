//! Unwind data of x86-64 images: `RUNTIME_FUNCTION` (`.pdata`) and `UNWIND_INFO` (`.xdata`).
//!
//! Source: Microsoft's "x64 exception handling"; the second version's epilogue codes: LLVM's `Win64EH.h`. It describes;
//! `unwind` carries it out.

use super::View;

/// Bytes of a `RUNTIME_FUNCTION`.
const ENTRY: u32 = 12;
const FLAG_CHAINED: u8 = 4;

/// A function, or a part of one: `[begin, end)`, and where its `UNWIND_INFO` lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields of RUNTIME_FUNCTION")]
pub struct RuntimeFunction {
    pub begin: u32,
    pub end: u32,
    pub unwind: u32,
}

/// What one instruction of a prologue did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Pushed a register (number as in instructions).
    Push(u8),
    /// Moved the stack pointer down by so many bytes.
    Alloc(u32),
    /// Made the frame register point into the frame.
    SetFrame,
    /// Stored a register at an offset from the frame.
    Save(u8, u32),
    /// Stored an XMM register: not recovered.
    SaveXmm,
    /// An interrupt: the processor pushed rip, cs, eflags, rsp, ss, and an error code if `true`.
    MachineFrame(bool),
}

/// An operation, done when the program counter is at least so many bytes behind the function's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "described above")]
pub struct Code {
    pub after: u8,
    pub op: Op,
}

/// An `UNWIND_INFO`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Bytes of the prologue.
    pub prologue: u8,
    /// The frame register (number as in instructions) and how far it points above the frame's base, if there is one.
    pub frame: Option<(u8, u32)>,
    /// Latest instruction first.
    pub codes: Vec<Code>,
    /// Ranges of the epilogues, as distances from the end of the function: (start, bytes). Only version 2 states them.
    pub epilogues: Vec<(u32, u32)>,
    /// The entry whose description goes on where this one ends.
    pub chained: Option<RuntimeFunction>,
}

/// The entry that covers `rva`; `Ok(None)` when there is none: then the code is a leaf, which leaves the stack alone.
///
/// # Errors
/// When the table or a part of it is missing.
pub fn find(view: &View<'_>, rva: u32) -> Result<Option<RuntimeFunction>, &'static str> {
    let table = view.file.exceptions;
    let count = table.size.checked_div(ENTRY).unwrap_or(0);
    if count == 0 {
        return Err("its image has no table of functions");
    }
    let missing = "its table of functions (.pdata) is not there";
    let entry = |n: u32| -> Result<RuntimeFunction, &'static str> {
        let mut raw = [0; 12];
        let at = n.checked_mul(ENTRY).and_then(|o| table.rva.checked_add(o)).ok_or(missing)?;
        view.read(at, &mut raw).ok_or(missing)?;
        Ok(function(&raw))
    };
    // The last entry that begins at or before the address.
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low.midpoint(high);
        if entry(middle)?.begin <= rva {
            low = middle.saturating_add(1);
        } else {
            high = middle;
        }
    }
    let Some(last) = low.checked_sub(1) else { return Ok(None) };
    let mut found = entry(last)?;
    if rva >= found.end {
        return Ok(None);
    }
    // An odd place is that of another entry, which has the description.
    if found.unwind & 1 != 0 {
        let mut raw = [0; 12];
        view.read(found.unwind & !1, &mut raw).ok_or(missing)?;
        found.unwind = function(&raw).unwind;
    }
    Ok(Some(found))
}

fn function(raw: &[u8; 12]) -> RuntimeFunction {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *raw;
    RuntimeFunction {
        begin: u32::from_le_bytes([a, b, c, d]),
        end: u32::from_le_bytes([e, f, g, h]),
        unwind: u32::from_le_bytes([i, j, k, l]),
    }
}

/// Reads an `UNWIND_INFO`.
///
/// # Errors
/// When it is missing, of an unknown version, or has a code that is not known.
pub fn info(view: &View<'_>, at: u32) -> Result<Info, &'static str> {
    let missing = "its unwind information is not there";
    let mut head = [0; 4];
    view.read(at, &mut head).ok_or(missing)?;
    let [kind, prologue, count, frame] = head;
    let version = kind & 7;
    if !matches!(version, 1 | 2) {
        return Err("its unwind information is of an unknown version");
    }
    let mut raw = vec![0; usize::from(count).saturating_mul(2)];
    let codes = at.checked_add(4).ok_or(missing)?;
    view.read(codes, &mut raw).ok_or(missing)?;
    let mut info = Info { prologue, ..Info::default() };
    if frame & 15 != 0 {
        info.frame = Some((frame & 15, u32::from(frame >> 4).saturating_mul(16)));
    }
    if (kind >> 3) & FLAG_CHAINED != 0 {
        // Behind the codes, which are an even number.
        let even = u32::from(count).saturating_add(1) & !1;
        let mut entry = [0; 12];
        let at = codes.checked_add(even.saturating_mul(2)).ok_or(missing)?;
        view.read(at, &mut entry).ok_or(missing)?;
        info.chained = Some(function(&entry));
    }
    read_codes(&raw, version, &mut info).ok_or("its unwind codes cannot be read")?;
    Ok(info)
}

fn read_codes(raw: &[u8], version: u8, info: &mut Info) -> Option<()> {
    let slot = |n: usize| -> Option<u16> {
        let at = n.checked_mul(2)?;
        Some(u16::from_le_bytes([*raw.get(at)?, *raw.get(at.checked_add(1)?)?]))
    };
    let far = |n: usize| Some(u32::from(slot(n)?) | u32::from(slot(n.checked_add(1)?)?).wrapping_shl(16));
    let slots = raw.len().checked_div(2)?;
    let mut epilogue = None;
    let mut n = 0_usize;
    while n < slots {
        let [after, code] = slot(n)?.to_le_bytes();
        let (kind, value) = (code & 15, code >> 4);
        let next = n.checked_add(1)?;
        let (op, used) = match kind {
            0 => (Op::Push(value), 1),
            1 if value == 0 => (Op::Alloc(u32::from(slot(next)?).checked_mul(8)?), 2),
            1 if value == 1 => (Op::Alloc(far(next)?), 3),
            2 => (Op::Alloc(u32::from(value).checked_mul(8)?.checked_add(8)?), 1),
            3 => (Op::SetFrame, 1),
            4 => (Op::Save(value, u32::from(slot(next)?).checked_mul(8)?), 2),
            5 => (Op::Save(value, far(next)?), 3),
            6 if version == 2 => {
                // The first one says how long epilogues are, and whether one is at the end; each further one where.
                let start = u32::from(after) | u32::from(value).wrapping_shl(8);
                match epilogue {
                    None => {
                        epilogue = Some(u32::from(after));
                        if value & 1 != 0 {
                            info.epilogues.push((after.into(), after.into()));
                        }
                    }
                    Some(size) if start != 0 => info.epilogues.push((start, size)),
                    Some(_) => {}
                }
                n = next;
                continue;
            }
            6 if version == 1 => (Op::SaveXmm, 2),
            7 if version == 1 => (Op::SaveXmm, 3),
            8 => (Op::SaveXmm, 2),
            9 => (Op::SaveXmm, 3),
            10 => (Op::MachineFrame(value == 1), 1),
            _ => return None,
        };
        info.codes.push(Code { after, op });
        n = n.checked_add(used)?;
    }
    (n == slots).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(raw: &[u8], version: u8) -> Option<Info> {
        let mut info = Info::default();
        read_codes(raw, version, &mut info).map(|()| info)
    }

    #[test]
    fn codes_of_every_kind() {
        let raw = [
            0x30, 0x99, 0x10, 0, 1, 0, // xmm9, far
            0x28, 0x68, 2, 0, // xmm6 at 0x20
            0x20, 0x75, 0x78, 0x56, 4, 0, // rdi, far
            0x18, 0x34, 3, 0, // rbx at 24
            0x10, 0x03, // frame register
            0x0c, 0x11, 0, 0, 2, 0, // 0x20000 bytes
            0x08, 0x01, 0, 2, // 0x1000 bytes
            0x04, 0xf2, // 128 bytes
            0x02, 0x50, // rbp
            0, 0x1a, // machine frame with error code
        ];
        let info = codes(&raw, 1).unwrap();
        let found: Vec<(u8, Op)> = info.codes.iter().map(|c| (c.after, c.op)).collect();
        let expected = [
            (0x30, Op::SaveXmm),
            (0x28, Op::SaveXmm),
            (0x20, Op::Save(7, 0x4_5678)),
            (0x18, Op::Save(3, 24)),
            (0x10, Op::SetFrame),
            (0x0c, Op::Alloc(0x2_0000)),
            (0x08, Op::Alloc(0x1000)),
            (0x04, Op::Alloc(128)),
            (0x02, Op::Push(5)),
            (0x00, Op::MachineFrame(true)),
        ];
        assert_eq!(found, expected);
        // Cut in the middle of an operation, and an operation that does not exist.
        assert_eq!((codes(&raw[..2], 1), codes(&[0, 0x0b], 1)), (None, None));
    }

    #[test]
    fn epilogues_of_the_second_version() {
        // 5 bytes long, one at the end, others 0x120 and 0x40 before it, padding.
        let raw = [5, 0x16, 0x20, 0x16, 0x40, 0x06, 0, 0x06, 4, 0x42];
        let info = codes(&raw, 2).unwrap();
        assert_eq!(info.epilogues, [(5, 5), (0x120, 5), (0x40, 5)]);
        assert_eq!(info.codes, [Code { after: 4, op: Op::Alloc(40) }]);
    }
}
