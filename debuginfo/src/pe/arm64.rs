//! Unwind data of ARM64 images: `.pdata` entries, packed or with `.xdata` records, and unwind codes.
//!
//! Source: Microsoft's "ARM64 exception handling". Each code stands for one instruction, so that what is to be undone at an
//! address is exact in prologues and epilogues as well. It describes; `unwind` carries it out.

use super::View;

/// Bytes of an entry of `.pdata`.
const ENTRY: u32 = 8;
/// Most words of unwind codes of one record: the field has 8 bits.
const LIMIT_CODE_WORDS: u32 = 255;
/// Most epilogue scopes of one record: the field has 16 bits.
const LIMIT_SCOPES: u32 = 0xffff;
/// Largest immediate that one `sub` of a packed prologue takes off the stack pointer.
const LARGEST_SUB: u32 = 4080;

const MISSING: &str = "its unwind information is not there";
const BAD_CODE: &str = "it has an unwind code that is not known";

/// What one instruction of a prologue did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Moved the stack pointer down by so many bytes.
    Alloc(u32),
    /// Stored registers (their numbers) so many bytes above the stack pointer.
    Save([Option<u8>; 2], u32),
    /// Moved the stack pointer down by so many bytes and stored registers there.
    Push([Option<u8>; 2], u32),
    /// Made x29 the stack pointer.
    SetFrame,
    /// Made x29 point so many bytes above the stack pointer.
    AddFrame(u32),
    /// Signed the link register.
    Sign,
    /// Nothing that matters, or stored floating point registers.
    Nothing,
    /// The processor's or the kernel's record of an interruption: stack pointer and program counter.
    MachineFrame,
    /// A `CONTEXT` lies on the stack.
    Context,
}

const LR: u8 = 30;

/// A function, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Function {
    begin: u32,
    /// The second word: packed, or the place of a record.
    data: u32,
}

/// What is to be undone at `rva`, in order; `Ok(None)` when no entry covers it: then the code is a leaf, which leaves
/// stack and link register alone. With `returned`, `rva` is in a call, and meant is the place that it returns to: that
/// may be in a prologue, and behind a last call that does not return lies another function.
///
/// # Errors
/// When the table or a part of it is missing, or holds codes that are not known.
pub fn find(view: &View<'_>, rva: u32, returned: bool) -> Result<Option<Vec<Op>>, &'static str> {
    let table = view.file.exceptions;
    let count = table.size.checked_div(ENTRY).unwrap_or(0);
    if count == 0 {
        return Err("its image has no table of functions");
    }
    let missing = "its table of functions (.pdata) is not there";
    let entry = |n: u32| -> Result<Function, &'static str> {
        let mut raw = [0; 8];
        let at = n.checked_mul(ENTRY).and_then(|o| table.rva.checked_add(o)).ok_or(missing)?;
        view.read(at, &mut raw).ok_or(missing)?;
        let [a, b, c, d, e, f, g, h] = raw;
        Ok(Function { begin: u32::from_le_bytes([a, b, c, d]), data: u32::from_le_bytes([e, f, g, h]) })
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
    let function = entry(last)?;
    let word = rva.wrapping_sub(function.begin) >> 2;
    match function.data & 3 {
        0 => Record::read(view, function.data)?.at(word, returned),
        3 => Err("its entry in the table of functions is of an unknown kind"),
        kind => Ok(packed(function.data, kind == 2, word, returned)),
    }
}

/// The last `left` of the operations of a prologue.
fn rest(ops: &[Op], done: u32) -> Vec<Op> {
    let done = usize::try_from(done).unwrap_or(usize::MAX);
    ops.get(ops.len().saturating_sub(done)..).unwrap_or_default().to_vec()
}

/// A packed entry: the registers that it names are saved in one certain way.
fn packed(data: u32, fragment: bool, word: u32, returned: bool) -> Option<Vec<Op>> {
    let field = |shift: u32, bits: u32| data.wrapping_shr(shift) & 1_u32.wrapping_shl(bits).wrapping_sub(1);
    let length = field(2, 11);
    if word >= length {
        return None;
    }
    let word = word.wrapping_add(u32::from(returned));
    let ops = packed_prologue(data, true);
    if fragment {
        return Some(ops);
    }
    let count = u32::try_from(ops.len()).unwrap_or(u32::MAX);
    if word < count {
        return Some(rest(&ops, word));
    }
    // The epilogue is the prologue backwards, without the stores of arguments, and the return.
    let mirrored = packed_prologue(data, false);
    let count = u32::try_from(mirrored.len()).unwrap_or(u32::MAX);
    let begin = length.saturating_sub(count.saturating_add(1));
    match word.checked_sub(begin) {
        Some(done) => Some(mirrored.get(usize::try_from(done).ok()?..).unwrap_or_default().to_vec()),
        None => Some(ops),
    }
}

/// The prologue of a packed entry, last instruction first, with the stores of arguments or without.
fn packed_prologue(data: u32, stores_arguments: bool) -> Vec<Op> {
    let field = |shift: u32, bits: u32| data.wrapping_shr(shift) & 1_u32.wrapping_shl(bits).wrapping_sub(1);
    let (vectors, integers, homed, chain) = (field(13, 3), field(16, 4), field(20, 1), field(21, 2));
    let frame = field(23, 9).wrapping_mul(16);
    let vectors = if vectors == 0 { 0 } else { vectors.wrapping_add(1) };
    let link = u32::from(chain == 1);
    let below = integers.wrapping_add(link).wrapping_mul(8);
    let saved = below.wrapping_add(vectors.wrapping_mul(8)).wrapping_add(homed.wrapping_mul(64)).wrapping_add(15) & !15;
    let local = frame.saturating_sub(saved);
    let mut ops = Vec::new();
    if chain == 2 {
        ops.push(Op::Sign);
    }
    // The first store makes the room for all.
    let mut room = saved;
    let mut store = |ops: &mut Vec<Op>, registers: [Option<u8>; 2], offset: u32| {
        ops.push(if room == 0 { Op::Save(registers, offset) } else { Op::Push(registers, room) });
        room = 0;
    };
    let register = |n: u32| u8::try_from(n.wrapping_add(19)).ok();
    for n in (0..integers).step_by(2) {
        let second = if n.wrapping_add(1) < integers {
            register(n.wrapping_add(1))
        } else if link == 1 {
            Some(LR)
        } else {
            None
        };
        store(&mut ops, [register(n), second], n.wrapping_mul(8));
    }
    if link == 1 && integers & 1 == 0 {
        store(&mut ops, [Some(LR), None], integers.wrapping_mul(8));
    }
    for _ in (0..vectors).step_by(2) {
        ops.push(if room == 0 { Op::Nothing } else { Op::Alloc(room) });
        room = 0;
    }
    for _ in 0..homed.wrapping_mul(4) {
        if room != 0 {
            ops.push(Op::Alloc(room));
        } else if stores_arguments {
            ops.push(Op::Nothing);
        }
        room = 0;
    }
    let record = [Some(29), Some(LR)];
    if chain >= 2 && local <= 512 {
        if local > 0 {
            ops.push(Op::Push(record, local));
        }
        ops.push(Op::SetFrame);
    } else {
        if local > LARGEST_SUB {
            ops.push(Op::Alloc(LARGEST_SUB));
            ops.push(Op::Alloc(local.wrapping_sub(LARGEST_SUB)));
        } else if local > 0 {
            ops.push(Op::Alloc(local));
        }
        if chain >= 2 {
            ops.extend([Op::Save(record, 0), Op::SetFrame]);
        }
    }
    ops.reverse();
    ops
}

/// An `.xdata` record.
struct Record {
    /// Instructions of the function.
    length: u32,
    /// Where epilogues start (instructions from the function's start), and the first of their codes.
    scopes: Vec<(u32, u32)>,
    /// The one epilogue, at the end of the function, by its first code.
    last: Option<u32>,
    codes: Vec<u8>,
}

impl Record {
    fn read(view: &View<'_>, at: u32) -> Result<Self, &'static str> {
        let word = |at: u32| -> Result<u32, &'static str> {
            let mut raw = [0; 4];
            view.read(at, &mut raw).ok_or(MISSING)?;
            Ok(u32::from_le_bytes(raw))
        };
        let header = word(at)?;
        let field = |shift: u32, bits: u32| header.wrapping_shr(shift) & 1_u32.wrapping_shl(bits).wrapping_sub(1);
        if field(18, 2) != 0 {
            return Err("its unwind information is of an unknown version");
        }
        let mut next = at.checked_add(4).ok_or(MISSING)?;
        let (mut scopes, mut words) = (field(22, 5), field(27, 5));
        if scopes == 0 && words == 0 {
            let more = word(next)?;
            (scopes, words) = (more & LIMIT_SCOPES, more >> 16 & LIMIT_CODE_WORDS);
            next = next.checked_add(4).ok_or(MISSING)?;
        }
        let mut record = Self { length: field(0, 18), scopes: Vec::new(), last: None, codes: Vec::new() };
        if field(21, 1) == 1 {
            record.last = Some(scopes);
        } else {
            let mut raw = vec![0; usize::try_from(scopes).unwrap_or(0).saturating_mul(4)];
            view.read(next, &mut raw).ok_or(MISSING)?;
            for scope in raw.chunks_exact(4) {
                let scope = scope.try_into().map_or(0, u32::from_le_bytes);
                record.scopes.push((scope & 0x3_ffff, scope >> 22));
            }
            next = next.checked_add(scopes.saturating_mul(4)).ok_or(MISSING)?;
        }
        record.codes = vec![0; usize::try_from(words).unwrap_or(0).saturating_mul(4)];
        view.read(next, &mut record.codes).ok_or(MISSING)?;
        Ok(record)
    }

    fn at(&self, word: u32, returned: bool) -> Result<Option<Vec<Op>>, &'static str> {
        if word >= self.length {
            return Ok(None);
        }
        let word = word.wrapping_add(u32::from(returned));
        let all = codes(&self.codes, 0)?;
        if word < all.own {
            // Of a part of a function all that was done before it stays.
            let own = usize::try_from(all.own.wrapping_sub(word)).unwrap_or(usize::MAX);
            return Ok(Some(all.ops.get(own..).unwrap_or_default().to_vec()));
        }
        let mut scopes = self.scopes.clone();
        if let Some(index) = self.last {
            let size = codes(&self.codes, index)?.length();
            scopes.push((self.length.saturating_sub(size), index));
        }
        for (start, index) in scopes {
            let Some(done) = word.checked_sub(start) else { continue };
            let epilogue = codes(&self.codes, index)?;
            if done < epilogue.length() {
                let done = usize::try_from(done).unwrap_or(usize::MAX);
                return Ok(Some(epilogue.ops.get(done..).unwrap_or_default().to_vec()));
            }
        }
        Ok(Some(all.ops))
    }
}

/// A sequence of codes.
struct Codes {
    ops: Vec<Op>,
    /// How many of them are this part's own; those behind are of the parts that came before.
    own: u32,
}

impl Codes {
    /// Instructions of an epilogue: its codes, and the return.
    fn length(&self) -> u32 {
        u32::try_from(self.ops.len()).unwrap_or(u32::MAX).saturating_add(1)
    }
}

/// Reads codes from the one at `index` to the end.
fn codes(raw: &[u8], index: u32) -> Result<Codes, &'static str> {
    let mut at = usize::try_from(index).unwrap_or(usize::MAX);
    let mut ops: Vec<Raw> = Vec::new();
    let mut own = None;
    loop {
        let rest = raw.get(at..).filter(|rest| !rest.is_empty()).ok_or("its unwind codes have no end")?;
        let (code, size) = one(rest).ok_or(BAD_CODE)?;
        at = at.saturating_add(size);
        match code {
            Raw::End => break,
            Raw::EndOfPart => own = own.or(Some(ops.len())),
            other => ops.push(other),
        }
    }
    let own = u32::try_from(own.unwrap_or(ops.len())).unwrap_or(u32::MAX);
    let mut found = Vec::with_capacity(ops.len());
    for (n, code) in ops.iter().enumerate() {
        found.push(match code {
            Raw::Op(op) => *op,
            _ => next_pair(ops.get(n..).unwrap_or_default()).ok_or(BAD_CODE)?,
        });
    }
    Ok(Codes { ops: found, own })
}

/// A code as it is stored.
enum Raw {
    Op(Op),
    /// Stores the pair behind the one that the following codes store.
    Next,
    End,
    EndOfPart,
}

/// The pair that `save_next` stands for: so many pairs behind the one that is named.
fn next_pair(codes: &[Raw]) -> Option<Op> {
    let named = codes.iter().position(|c| !matches!(c, Raw::Next))?;
    let further = u32::try_from(named).ok()?;
    let (registers, offset) = match codes.get(named)? {
        Raw::Op(Op::Save(registers, offset)) => (registers, *offset),
        Raw::Op(Op::Push(registers, _)) => (registers, 0),
        // Floating point registers.
        Raw::Op(Op::Nothing | Op::Alloc(_)) => return Some(Op::Nothing),
        _ => return None,
    };
    let add = |register: Option<u8>| {
        let number = u32::from(register?).checked_add(further.checked_mul(2)?)?;
        u8::try_from(number).ok().filter(|n| *n < 29)
    };
    let pair = [Some(add(registers[0])?), Some(add(registers[1])?)];
    Some(Op::Save(pair, offset.checked_add(further.checked_mul(16)?)?))
}

/// One code, and its size in bytes.
fn one(raw: &[u8]) -> Option<(Raw, usize)> {
    let first = *raw.first()?;
    let byte = |n: usize| raw.get(n).copied().map(u32::from);
    let head = u32::from(first);
    let wide = || Some(head << 8 | byte(1)?);
    let register = |n: u32, base: u32| u8::try_from(n.wrapping_add(base)).ok().filter(|n| *n <= 28);
    let pair = |n: u32| Some([Some(register(n, 19)?), Some(register(n, 20)?)]);
    let op = |op: Op, size: usize| Some((Raw::Op(op), size));
    match first {
        0x00..=0x1f => op(Op::Alloc((head & 0x1f).wrapping_mul(16)), 1),
        0x20..=0x3f => op(Op::Push([Some(19), Some(20)], (head & 0x1f).wrapping_mul(8)), 1),
        0x40..=0x7f => op(Op::Save([Some(29), Some(LR)], (head & 0x3f).wrapping_mul(8)), 1),
        0x80..=0xbf => op(Op::Push([Some(29), Some(LR)], (head & 0x3f).wrapping_add(1).wrapping_mul(8)), 1),
        0xc0..=0xc7 => op(Op::Alloc((wide()? & 0x7ff).wrapping_mul(16)), 2),
        0xc8..=0xcb => op(Op::Save(pair(wide()? >> 6 & 15)?, (wide()? & 0x3f).wrapping_mul(8)), 2),
        0xcc..=0xcf => op(Op::Push(pair(wide()? >> 6 & 15)?, (wide()? & 0x3f).wrapping_add(1).wrapping_mul(8)), 2),
        0xd0..=0xd3 => {
            let number = wide()? >> 6 & 15;
            // x30 is 11 behind x19.
            let register = if number == 11 { Some(LR) } else { Some(register(number, 19)?) };
            op(Op::Save([register, None], (wide()? & 0x3f).wrapping_mul(8)), 2)
        }
        0xd4..=0xd5 => {
            let number = wide()? >> 5 & 15;
            let register = if number == 11 { Some(LR) } else { Some(register(number, 19)?) };
            op(Op::Push([register, None], (wide()? & 0x1f).wrapping_add(1).wrapping_mul(8)), 2)
        }
        0xd6..=0xd7 => {
            let number = (wide()? >> 6 & 7).wrapping_mul(2);
            op(Op::Save([Some(register(number, 19)?), Some(LR)], (wide()? & 0x3f).wrapping_mul(8)), 2)
        }
        // Floating point: only how far the stack pointer moves matters.
        0xd8..=0xd9 | 0xdc..=0xdd => op(wide().map(|_| Op::Nothing)?, 2),
        0xda..=0xdb => op(Op::Alloc((wide()? & 0x3f).wrapping_add(1).wrapping_mul(8)), 2),
        0xde => op(Op::Alloc((wide()? & 0x1f).wrapping_add(1).wrapping_mul(8)), 2),
        0xe0 => op(Op::Alloc((byte(1)? << 16 | byte(2)? << 8 | byte(3)?).wrapping_mul(16)), 4),
        0xe1 => op(Op::SetFrame, 1),
        0xe2 => op(Op::AddFrame(byte(1)?.wrapping_mul(8)), 2),
        0xe3 => op(Op::Nothing, 1),
        0xe4 => Some((Raw::End, 1)),
        0xe5 => Some((Raw::EndOfPart, 1)),
        0xe6 => Some((Raw::Next, 1)),
        0xe7 => op(any_register(byte(1)?, byte(2)?)?, 3),
        0xe9 => op(Op::MachineFrame, 1),
        0xea => op(Op::Context, 1),
        // clear_unwound_to_call.
        0xec => op(Op::Nothing, 1),
        0xfc => op(Op::Sign, 1),
        _ => None,
    }
}

/// `save_any_reg`: `0pxrrrrr ffoooooo`.
fn any_register(second: u32, third: u32) -> Option<Op> {
    let (pair, moves, number) = (second >> 6 & 1 == 1, second >> 5 & 1 == 1, second & 0x1f);
    let (kind, offset) = (third >> 6, third & 0x3f);
    if second & 0x80 != 0 || kind > 2 {
        return None;
    }
    let offset = if moves {
        offset.wrapping_add(1).wrapping_mul(16)
    } else {
        offset.wrapping_mul(if pair || kind == 2 { 16 } else { 8 })
    };
    let registers = if kind == 0 {
        let register = |n: u32| u8::try_from(n).ok().filter(|n| *n <= LR);
        [Some(register(number)?), if pair { Some(register(number.wrapping_add(1))?) } else { None }]
    } else {
        [None; 2]
    };
    Some(if moves { Op::Push(registers, offset) } else { Op::Save(registers, offset) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(raw: &[u8]) -> Result<Vec<Op>, &'static str> {
        codes(raw, 0).map(|c| c.ops)
    }

    #[test]
    fn codes_of_every_kind() {
        let raw = [
            0x03, 0x24, 0x42, 0x83, 0xc1, 0x00, 0xc8, 0xc2, 0xcd, 0x03, 0xd2, 0xc1, 0xd5, 0x62, 0xd6,
            0x41, // integers
            0xd8, 0x41, 0xda, 0x43, 0xdc, 0x41, 0xde, 0x21, // vectors
            0xe0, 0, 1, 2, 0xe1, 0xe2, 4, 0xe3, 0xe7, 0x53, 0x02, 0xe9, 0xea, 0xec, 0xfc, 0xe4,
        ];
        let pair = |a| [Some(a), Some(a + 1)];
        let expected = [
            Op::Alloc(48),
            Op::Push(pair(19), 32),
            Op::Save(pair(29), 16),
            Op::Push(pair(29), 32),
            Op::Alloc(4096),
            Op::Save(pair(22), 16),
            Op::Push(pair(23), 32),
            Op::Save([Some(30), None], 8),
            Op::Push([Some(30), None], 24),
            Op::Save([Some(21), Some(30)], 8),
            Op::Nothing,
            Op::Alloc(32),
            Op::Nothing,
            Op::Alloc(16),
            Op::Alloc(258 * 16),
            Op::SetFrame,
            Op::AddFrame(32),
            Op::Nothing,
            Op::Save(pair(19), 32),
            Op::MachineFrame,
            Op::Context,
            Op::Nothing,
            Op::Sign,
        ];
        assert_eq!(all(&raw).unwrap(), expected);
        assert_eq!((all(&[0xe3]), all(&[0xf0, 0xe4])), (Err("its unwind codes have no end"), Err(BAD_CODE)));
    }

    #[test]
    fn pairs_that_follow_each_other() {
        // stp x19, x20, [sp, -48]!; stp x21, x22, [sp, 16]; stp x23, x24, [sp, 32].
        let pair = |a| [Some(a), Some(a + 1)];
        let expected = [Op::Save(pair(23), 32), Op::Save(pair(21), 16), Op::Push(pair(19), 48)];
        assert_eq!(all(&[0xe6, 0xe6, 0x26, 0xe4]).unwrap(), expected);
        // Behind x28 there is none, and it must be behind something.
        assert_eq!(all(&[0xe6, 0xca, 0x02, 0xe4]), Err(BAD_CODE));
        assert_eq!(all(&[0xe6, 0xe1, 0xe4]), Err(BAD_CODE));
    }

    #[test]
    fn parts_and_epilogues() {
        // 16 instructions; a prologue of two, an epilogue of one and its return at 10; a part's own code is one.
        let record =
            |scopes: Vec<(u32, u32)>, last, codes: &[u8]| Record { length: 16, scopes, last, codes: codes.into() };
        let plain = [0xe1, 0x81, 0xe4, 0x81, 0xe4];
        let frame = Op::Push([Some(29), Some(30)], 16);
        let at = |r: &Record, word: u32| r.at(word, false).unwrap();
        for r in [record(vec![(10, 3)], None, &plain), record(vec![], Some(3), &plain)] {
            let epilogue = if r.last.is_some() { 14 } else { 10 };
            assert_eq!(at(&r, 0), Some(vec![]));
            assert_eq!(at(&r, 1), Some(vec![frame]));
            assert_eq!(at(&r, 2), Some(vec![Op::SetFrame, frame]));
            assert_eq!(at(&r, epilogue), Some(vec![frame]));
            assert_eq!(at(&r, epilogue + 1), Some(vec![]));
            assert_eq!(at(&r, 16), None);
        }
        let part = record(vec![], Some(9), &[0x02, 0xe5, 0x81, 0xe4]);
        assert_eq!(part.at(0, false).unwrap(), Some(vec![frame]));
        assert!(part.at(4, false).is_err());
    }

    #[test]
    fn packed_entries() {
        let entry = |length: u32, vectors: u32, integers: u32, homed: u32, chain: u32, frame: u32| {
            1 | length << 2 | vectors << 13 | integers << 16 | homed << 20 | chain << 21 | frame << 23
        };
        let pair = |a| [Some(a), Some(a + 1)];
        // stp x19, x20, [sp, -32]!; str x21, [sp, 16]; stp x29, x30, [sp, -64]!; mov x29, sp.
        let data = entry(30, 0, 3, 0, 3, 6);
        let full = vec![Op::SetFrame, Op::Push(pair(29), 64), Op::Save([Some(21), None], 16), Op::Push(pair(19), 32)];
        assert_eq!(packed(data, false, 10, false), Some(full.clone()));
        assert_eq!(packed(data, true, 0, false), Some(full.clone()));
        assert_eq!(packed(data, false, 0, false), Some(vec![]));
        assert_eq!(packed(data, false, 2, false), Some(full[2..].to_vec()));
        assert_eq!(packed(data, false, 25, false), Some(full.clone()));
        assert_eq!(packed(data, false, 27, false), Some(full[2..].to_vec()));
        assert_eq!(packed(data, false, 29, false), Some(vec![]));
        assert_eq!((packed(data, false, 30, false), packed(data, false, 3, true)), (None, Some(full.clone())));
        assert_eq!(packed(data, false, 2, true), Some(full[1..].to_vec()));
        // stp x19, lr, [sp, -32]!; stp d8, d9, [sp, 16]; sub sp, sp, 16.
        let data = entry(30, 1, 1, 0, 1, 3);
        let full = vec![Op::Alloc(16), Op::Nothing, Op::Push([Some(19), Some(30)], 32)];
        assert_eq!(packed(data, true, 0, false), Some(full));
    }
}
