//! The opcodes of a line number program (DWARF 5, section 6.2.5), carried out without keeping anything.
//!
//! A backtrace asks a unit for a few lines, and the program has to be read from its start to know which of its sequences
//! has them: so it is gone through twice, first for the sequences' addresses alone, then for the rows of those that
//! are asked for.

use crate::Slice;
use evidence::ToUsize;
use evidence::bytes::{Endian, u8_at, u16_at, u32_at, u64_at};
use gimli::{LineProgramHeader, Reader as _};
use std::ops::Range;

/// The opcodes, and what the header says of them.
#[derive(Debug)]
pub(super) struct Program<'m> {
    code: &'m [u8],
    endian: Endian,
    address_size: u8,
    minimum_length: u64,
    maximum_operations: u64,
    is_stmt: bool,
    opcode_base: u8,
    /// What each special opcode adds to the line and to the operations: divisions are slow.
    special: Box<[(i64, u64); 256]>,
    /// How many arguments each standard opcode has, from opcode 1 on.
    arguments: &'m [u8],
}

/// The registers of the state machine that say which line an address has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Registers {
    pub(super) address: u64,
    pub(super) file: u64,
    pub(super) line: u64,
    pub(super) column: u64,
    pub(super) discriminator: u64,
    pub(super) is_stmt: bool,
    operation: u64,
    /// The linker dropped the code: no row counts until the next address.
    dropped: bool,
}

/// What an opcode did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// It changed registers.
    Nothing,
    /// It made a row.
    Row,
    /// It ended the sequence; the address is the first behind it.
    End,
}

/// One contiguous piece of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sequence {
    pub(super) addresses: Range<u64>,
    /// Its opcodes.
    pub(super) opcodes: Range<usize>,
}

impl<'m> Program<'m> {
    pub(super) fn new(header: &LineProgramHeader<Slice<'m>>) -> Self {
        let buffer = header.raw_program_buf();
        let big = buffer.endian() == gimli::RunTimeEndian::Big;
        Self {
            code: buffer.slice(),
            endian: Endian::from_big(big),
            address_size: header.address_size(),
            minimum_length: header.minimum_instruction_length().into(),
            maximum_operations: header.maximum_operations_per_instruction().max(1).into(),
            is_stmt: header.default_is_stmt(),
            opcode_base: header.opcode_base(),
            special: special(header),
            arguments: header.standard_opcode_lengths().slice(),
        }
    }

    /// The registers at the start of a sequence.
    pub(super) const fn start(&self) -> Registers {
        let is_stmt = self.is_stmt;
        Registers { address: 0, file: 1, line: 1, column: 0, discriminator: 0, is_stmt, operation: 0, dropped: false }
    }

    /// The sequences, and what is wrong with the program where it cannot be read to its end.
    pub(super) fn sequences(&self) -> (Vec<Sequence>, Option<&'static str>) {
        let mut sequences = Vec::new();
        let (mut at, mut first) = (0, 0);
        let mut registers = self.start();
        let mut start = u64::MAX;
        while at < self.code.len() {
            match self.step(&mut at, &mut registers) {
                Ok(Done::Nothing) => {}
                Ok(Done::Row) => start = start.min(registers.address),
                Ok(Done::End) => {
                    let addresses = start..registers.address;
                    if addresses.start < addresses.end && !registers.dropped {
                        sequences.push(Sequence { addresses, opcodes: first..at });
                    }
                    (first, start, registers) = (at, u64::MAX, self.start());
                }
                Err(why) => return (sequences, Some(why)),
            }
        }
        (sequences, None)
    }

    /// Calls `with` for each row of a sequence, until it gives `false`.
    pub(super) fn rows(&self, sequence: &Sequence, mut with: impl FnMut(&Registers) -> bool) {
        let mut at = sequence.opcodes.start;
        let mut registers = self.start();
        while at < sequence.opcodes.end {
            match self.step(&mut at, &mut registers) {
                Ok(Done::Nothing) => {}
                Ok(Done::Row) => {
                    if !with(&registers) {
                        return;
                    }
                    registers.discriminator = 0;
                }
                Ok(Done::End) | Err(_) => return,
            }
        }
    }

    /// Carries out the opcode at `at`. A row stands in the registers until the next call, which the caller makes with
    /// the discriminator cleared.
    #[inline]
    fn step(&self, at: &mut usize, registers: &mut Registers) -> Result<Done, &'static str> {
        let opcode = self.byte(at)?;
        if opcode >= self.opcode_base {
            let (lines, operations) = self.special(opcode);
            registers.advance_line(lines);
            self.advance(registers, operations)?;
            return Ok(registers.row());
        }
        match gimli::DwLns(opcode) {
            gimli::DwLns(0) => return self.extended(at, registers),
            gimli::DW_LNS_copy => return Ok(registers.row()),
            gimli::DW_LNS_advance_pc => {
                let operations = self.unsigned(at)?;
                self.advance(registers, operations)?;
            }
            gimli::DW_LNS_advance_line => registers.advance_line(self.signed(at)?),
            gimli::DW_LNS_set_file => registers.file = self.unsigned(at)?,
            gimli::DW_LNS_set_column => registers.column = self.unsigned(at)?,
            gimli::DW_LNS_negate_stmt => registers.is_stmt = !registers.is_stmt,
            gimli::DW_LNS_const_add_pc => self.advance(registers, self.special(u8::MAX).1)?,
            gimli::DW_LNS_fixed_advance_pc => {
                let by = u16_at(self.code, *at, self.endian).ok_or(CUT)?;
                *at = at.saturating_add(2);
                if !registers.dropped {
                    registers.address = self.sum(registers.address, by.into())?;
                    registers.operation = 0;
                }
            }
            gimli::DW_LNS_set_basic_block | gimli::DW_LNS_set_prologue_end | gimli::DW_LNS_set_epilogue_begin => {}
            gimli::DW_LNS_set_isa => {
                self.unsigned(at)?;
            }
            // Of a later version, which says how many arguments to step over.
            _ => {
                let count = self.arguments.get(usize::from(opcode).wrapping_sub(1)).ok_or("an opcode is unknown")?;
                for _ in 0..*count {
                    self.unsigned(at)?;
                }
            }
        }
        Ok(Done::Nothing)
    }

    #[inline]
    fn special(&self, opcode: u8) -> (i64, u64) {
        self.special.get(usize::from(opcode)).copied().unwrap_or_default()
    }

    #[cold]
    fn extended(&self, at: &mut usize, registers: &mut Registers) -> Result<Done, &'static str> {
        let length = self.unsigned(at)?.to_usize();
        let start = *at;
        let end = start.checked_add(length).filter(|end| *end <= self.code.len()).ok_or(CUT)?;
        let opcode = if length == 0 { None } else { u8_at(self.code, start) }.ok_or("an opcode has no length")?;
        *at = end;
        let mut inside = start.saturating_add(1);
        match gimli::DwLne(opcode) {
            gimli::DW_LNE_end_sequence => return Ok(Done::End),
            gimli::DW_LNE_set_address => {
                let address = match self.address_size {
                    8 => u64_at(self.code, inside, self.endian),
                    4 => u32_at(self.code, inside, self.endian).map(u64::from),
                    2 => u16_at(self.code, inside, self.endian).map(u64::from),
                    _ => None,
                };
                let room = end.checked_sub(inside).is_some_and(|room| room >= usize::from(self.address_size));
                let address = address.filter(|_| room).ok_or("an address is cut off")?;
                // Linkers leave -1, -2, 0 or the offset alone where they dropped the code; addresses go up in what
                // they kept.
                registers.dropped = address < registers.address || address >= self.highest().wrapping_sub(1);
                if !registers.dropped {
                    (registers.address, registers.operation) = (address, 0);
                }
            }
            gimli::DW_LNE_set_discriminator => {
                registers.discriminator = self.unsigned(&mut inside)?;
                if inside > end {
                    return Err(CUT);
                }
            }
            _ => {}
        }
        Ok(Done::Nothing)
    }

    /// The highest address there is.
    fn highest(&self) -> u64 {
        u64::MAX.checked_shr(64_u32.saturating_sub(u32::from(self.address_size).saturating_mul(8))).unwrap_or(u64::MAX)
    }

    fn sum(&self, address: u64, by: u64) -> Result<u64, &'static str> {
        address.checked_add(by).filter(|sum| *sum <= self.highest()).ok_or("an address is too large")
    }

    #[inline]
    fn advance(&self, registers: &mut Registers, operations: u64) -> Result<(), &'static str> {
        if registers.dropped {
            return Ok(());
        }
        let instructions = if self.maximum_operations == 1 {
            operations
        } else {
            let operations = registers.operation.wrapping_add(operations);
            registers.operation = operations.checked_rem(self.maximum_operations).unwrap_or(0);
            operations.checked_div(self.maximum_operations).unwrap_or(0)
        };
        registers.address = self.sum(registers.address, self.minimum_length.wrapping_mul(instructions))?;
        Ok(())
    }

    #[inline]
    fn byte(&self, at: &mut usize) -> Result<u8, &'static str> {
        let byte = self.code.get(*at).ok_or(CUT)?;
        *at = at.saturating_add(1);
        Ok(*byte)
    }

    /// ULEB128; numbers of more than 64 bits are damage.
    #[inline]
    fn unsigned(&self, at: &mut usize) -> Result<u64, &'static str> {
        let first = self.byte(at)?;
        if first < 0x80 {
            return Ok(first.into());
        }
        let (mut value, mut shift) = (u64::from(first & 0x7f), 7_u32);
        loop {
            let byte = self.byte(at)?;
            let bits = u64::from(byte & 0x7f);
            if shift > 63 || (shift == 63 && bits > 1) {
                return Err("a number has more than 64 bits");
            }
            value |= bits.wrapping_shl(shift);
            if byte < 0x80 {
                return Ok(value);
            }
            shift = shift.saturating_add(7);
        }
    }

    /// SLEB128.
    #[inline]
    fn signed(&self, at: &mut usize) -> Result<i64, &'static str> {
        let (mut value, mut shift) = (0_u64, 0_u32);
        loop {
            let byte = self.byte(at)?;
            let bits = u64::from(byte & 0x7f);
            if shift > 63 || (shift == 63 && !matches!(bits, 0 | 0x7f)) {
                return Err("a number has more than 64 bits");
            }
            value |= bits.wrapping_shl(shift);
            shift = shift.saturating_add(7);
            if byte < 0x80 {
                if byte & 0x40 != 0 && shift < 64 {
                    value |= u64::MAX.wrapping_shl(shift);
                }
                return Ok(value.cast_signed());
            }
        }
    }
}

fn special(header: &LineProgramHeader<Slice<'_>>) -> Box<[(i64, u64); 256]> {
    let (base, range) = (i64::from(header.line_base()), header.line_range());
    let mut table = Box::new([(0, 0); 256]);
    for (opcode, slot) in (0..=u8::MAX).zip(table.iter_mut()) {
        let adjusted = opcode.wrapping_sub(header.opcode_base());
        let line = adjusted.checked_rem(range).unwrap_or(0);
        *slot = (base.saturating_add(line.into()), adjusted.checked_div(range).unwrap_or(0).into());
    }
    table
}

const CUT: &str = "it ends in the middle of an opcode";

impl Registers {
    const fn row(&mut self) -> Done {
        if self.dropped {
            self.discriminator = 0;
            return Done::Nothing;
        }
        Done::Row
    }

    /// Lines below 0 are 0.
    const fn advance_line(&mut self, by: i64) {
        self.line = if by < 0 {
            self.line.saturating_sub(by.unsigned_abs())
        } else {
            self.line.wrapping_add(by.unsigned_abs())
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A table of version 5 with one directory and one file, and this program.
    fn table(program: &[u8], operations: u8) -> Vec<u8> {
        let mut rest = vec![1, operations, 1, (-5_i8).to_le_bytes()[0], 14, 14];
        rest.extend([0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 2]);
        rest.extend([1, 1, 8, 1, b'/', 0, 1, 1, 8, 1, b'f', 0]);
        let mut body = vec![5, 0, 8, 0];
        body.extend(u32::try_from(rest.len()).unwrap().to_le_bytes());
        body.extend(rest);
        body.extend(program);
        let mut table = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
        table.extend(body);
        table
    }

    type Seen = (u64, u64, u64, u64, u64, bool);

    /// Complete sequences, with their rows and ends.
    fn ours(program: &Program<'_>) -> (Vec<(Vec<Seen>, u64)>, bool) {
        let (sequences, damage) = program.sequences();
        let all = sequences.iter().map(|sequence| {
            let mut rows = Vec::new();
            program.rows(sequence, |r| {
                rows.push((r.address, r.file, r.line, r.column, r.discriminator, r.is_stmt));
                true
            });
            (rows, sequence.addresses.end)
        });
        (all.collect(), damage.is_some())
    }

    fn gimlis(program: gimli::IncompleteLineProgram<Slice<'_>>) -> (Vec<(Vec<Seen>, u64)>, bool) {
        let (mut sequences, mut rows) = (Vec::new(), Vec::<Seen>::new());
        let mut machine = program.rows();
        loop {
            match machine.next_row() {
                Ok(Some((_, row))) if row.end_sequence() => {
                    let rows = std::mem::take(&mut rows);
                    if rows.iter().map(|r| r.0).min().is_some_and(|start| start < row.address()) {
                        sequences.push((rows, row.address()));
                    }
                }
                Ok(Some((_, row))) => {
                    let column = match row.column() {
                        gimli::ColumnType::LeftEdge => 0,
                        gimli::ColumnType::Column(c) => c.get(),
                    };
                    let line = row.line().map_or(0, std::num::NonZero::get);
                    rows.push((row.address(), row.file_index(), line, column, row.discriminator(), row.is_stmt()));
                }
                Ok(None) => return (sequences, false),
                Err(_) => return (sequences, true),
            }
        }
    }

    /// Whether a sequence that has rows ends in dropped code: gimli gives those rows to the next one.
    fn ends_dropped(program: &Program<'_>) -> bool {
        let (mut at, mut registers, mut rows) = (0, program.start(), false);
        while at < program.code.len() {
            match program.step(&mut at, &mut registers) {
                Ok(Done::End) if rows && registers.dropped => return true,
                Ok(Done::End) => (registers, rows) = (program.start(), false),
                Ok(Done::Row) => rows = true,
                Ok(Done::Nothing) => {}
                Err(_) => break,
            }
        }
        false
    }

    fn compare(opcodes: &[u8], operations: u8) -> usize {
        let bytes = table(opcodes, operations);
        let section = gimli::DebugLine::new(&bytes, gimli::RunTimeEndian::Little);
        let program = section.program(gimli::DebugLineOffset(0), 8, None, None).unwrap();
        let read = Program::new(program.header());
        if ends_dropped(&read) {
            return 0;
        }
        let own = ours(&read);
        assert_eq!(own, gimlis(program), "{opcodes:x?}");
        own.0.len()
    }

    #[test]
    fn every_opcode_does_what_it_does_elsewhere() {
        let at = |address: u64| [&[0, 9, 2], &address.to_le_bytes()[..]].concat();
        let end = [0, 1, 1].to_vec();
        let opcodes = [
            &at(0x1000)[..],
            &[5, 7, 3, 0xe4, 0, 1, 4, 2, 20, 6, 8, 11, 10, 255, 9, 4, 1, 12, 3, 7, 0, 2, 4, 9, 1, 1, 2, 0x90, 1, 13, 5],
            &[13, 1, 2, 0, 2, 0x80, 1, 30],
            &end,
        ];
        for operations in [1, 4] {
            assert_eq!(compare(&opcodes.concat(), operations), 1);
            // The linker dropped the second of three.
            let dropped = [at(0x1000), vec![40, 2, 4], end.clone(), at(u64::MAX), vec![40, 50], end.clone()].concat();
            let three = [dropped, at(0), vec![90, 91], end.clone()].concat();
            assert_eq!(compare(&three, operations), 2);
            for cut in 0..three.len() {
                compare(&three[..cut], operations);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

        #[test]
        fn any_program_is_read_alike(
            pieces in prop::collection::vec(
                prop_oneof![
                    4 => any::<u8>().prop_map(|b| vec![b]),
                    2 => (0..0x8000_u64).prop_map(|a| [&[0, 9, 2], &a.to_le_bytes()[..]].concat()),
                    1 => any::<u64>().prop_map(|a| [&[0, 9, 2], &a.to_le_bytes()[..]].concat()),
                    2 => Just(vec![0, 1, 1]),
                    1 => prop::collection::vec(any::<u8>(), 1..12),
                ],
                0..60,
            ),
            operations in prop_oneof![Just(1_u8), Just(3)],
        ) {
            compare(&pieces.concat(), operations);
        }
    }
}
