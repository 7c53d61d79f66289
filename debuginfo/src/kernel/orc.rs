//! ORC tables: for every code address of a Linux kernel, where the caller's frame lies.
//!
//! Two arrays: sorted code addresses, each as a 32-bit distance from its own place, and as many rules of six bytes.
//! The meaning of the rules' last bits changed three times without a version number that memory would keep; it is told
//! by what the rules of a real table look like.
//!
//! Source: `arch/x86/include/asm/orc_types.h` of Linux 4.14 (1), 6.3 (2: `signal`) and 6.4 (3: types renumbered).

use evidence::bytes::{Endian, i32_at, slice_at, u16_at};
use evidence::{Addr, Memory, ToU64, ToUsize};
use std::ops::Range;

/// Bytes of an address and of a rule.
const ADDRESS: usize = 4;
const RULE: usize = 6;
/// `ORC_REG_SP`.
const RSP: usize = 5;
/// Most rules of one image: Debian's kernel has 385,000, one with everything built in some millions.
const LIMIT_RULES: usize = 32 << 20;
/// The version is told by so many pieces of a table in memory, evenly spread, of so many rules each (a page of bytes).
const PIECES: usize = 16;
const PIECE: usize = 680;
/// What messages call the arrays.
const ADDRESSES: &str = "the ORC addresses";
const RULES: &str = "the ORC rules";

/// What the bits of a rule mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrcVersion {
    /// Linux 4.14 to 6.2.
    V1,
    /// Linux 6.3.
    V2,
    /// Linux 6.4 and later.
    V3,
}

/// A register that an address is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the registers' names")]
pub enum Base {
    /// The rule says nothing: the register is unchanged (frame pointer) or there is no rule (stack pointer).
    Undefined,
    /// The caller's stack pointer.
    PreviousSp,
    Rdx,
    Rdi,
    Rbp,
    Rsp,
    R10,
    R13,
    /// The word at rbp plus offset.
    RbpIndirect,
    /// The word that the stack pointer points at; the offset is added to it.
    RspIndirect,
    /// A number without meaning.
    Unknown(u8),
}

/// What lies at the address that a rule gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrcKind {
    /// No rule: code that the tables do not describe.
    Undefined,
    /// The outermost function.
    End,
    /// The caller's frame; the return address lies below it.
    Call,
    /// A full set of registers that an exception, interrupt or system call saved (`struct pt_regs`).
    Registers,
    /// The five words that the processor pushed.
    InterruptFrame,
}

/// The rule for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrcRow {
    /// What the stack pointer's address is counted from.
    pub sp: Base,
    /// Bytes to add.
    pub sp_offset: i16,
    /// Where the caller's frame pointer was saved.
    pub fp: Base,
    /// Bytes to add.
    pub fp_offset: i16,
    /// What lies there.
    pub kind: OrcKind,
}

/// The table of one image.
#[derive(Debug)]
pub struct Orc {
    /// Where the first code address lies.
    place: Addr,
    /// How many rules there are.
    count: usize,
    table: Table,
    version: OrcVersion,
}

/// Where the two arrays are.
#[derive(Debug)]
enum Table {
    Held {
        addresses: Vec<u8>,
        rules: Vec<u8>,
    },
    /// In the memory that they describe: megabytes, of which a stack needs a few dozen words. The first rule's address.
    InMemory(Addr),
}

impl Orc {
    /// Reads the two arrays out of memory: code addresses and rules, each with its first and one-past-last address. A
    /// module's rules are of the version of its kernel, which must be given: they are too few to tell.
    ///
    /// # Errors
    /// What is missing or contradicts, in words.
    pub fn read(
        memory: &dyn Memory,
        addresses: &Range<Addr>,
        rules: &Range<Addr>,
        version: Option<OrcVersion>,
    ) -> Result<Self, String> {
        let take = |range: &Range<Addr>, width: usize, what: &str| {
            let mut bytes = vec![0; count(range, width, what)?.saturating_mul(width)];
            memory.read_exact(range.start, &mut bytes).map_err(|e| format!("{what}: {e}"))?;
            Ok::<_, String>(bytes)
        };
        let place = addresses.start;
        Self::new(place, take(addresses, ADDRESS, ADDRESSES)?, take(rules, RULE, RULES)?, version)
    }

    /// The same for the large table of a kernel, which stays where it is: only pieces of the rules are read, to tell their
    /// version, and those around `entry`, a function that saves all registers: the rules of such functions are few, and
    /// tell the second version from the first. [`Orc::at`] wants the same memory.
    ///
    /// # Errors
    /// As [`Orc::read`].
    pub fn in_memory(
        memory: &dyn Memory,
        addresses: &Range<Addr>,
        rules: &Range<Addr>,
        entry: Addr,
    ) -> Result<Self, String> {
        let (have, want) = (count(addresses, ADDRESS, ADDRESSES)?, count(rules, RULE, RULES)?);
        if have != want {
            return Err(format!("{have} ORC addresses for {want} rules"));
        }
        let table = Table::InMemory(rules.start);
        let mut orc = Self { place: addresses.start, count: have, table, version: OrcVersion::V1 };
        let entry = orc.index(entry, memory)?.unwrap_or(0);
        let last = want.saturating_sub(PIECE);
        let spread = (0..PIECES).map(|n| last.saturating_mul(n).checked_div(PIECES).unwrap_or(0));
        let mut sample = Vec::new();
        for first in spread.chain([entry.min(last), last]) {
            let mut bytes = vec![0; want.min(PIECE).saturating_mul(RULE)];
            let at = rules.start.wrapping_add(first.saturating_mul(RULE).to_u64());
            memory.read_exact(at, &mut bytes).map_err(|e| format!("{RULES}: {e}"))?;
            sample.extend(bytes);
        }
        orc.version = tell(&sample).ok_or("the ORC rules are of no known version")?;
        Ok(orc)
    }

    /// A table from its two arrays; `place` is the runtime address of the first one. Without a version, the rules tell.
    ///
    /// # Errors
    /// They do not belong together, or no version of the format gives sense.
    pub fn new(place: Addr, addresses: Vec<u8>, rules: Vec<u8>, version: Option<OrcVersion>) -> Result<Self, String> {
        let (have, want) = (rules.len().checked_div(RULE), addresses.len().checked_div(ADDRESS));
        if have != want || have == Some(0) {
            return Err(format!("{} bytes of ORC addresses for {} bytes of rules", addresses.len(), rules.len()));
        }
        let version = version.or_else(|| tell(&rules)).ok_or("the ORC rules are of no known version")?;
        Ok(Self { place, count: have.unwrap_or(0), table: Table::Held { addresses, rules }, version })
    }

    /// Which version it is.
    #[must_use]
    pub const fn version(&self) -> OrcVersion {
        self.version
    }

    /// How many rules there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn address(&self, index: usize, memory: &dyn Memory) -> Result<Addr, String> {
        let at = index.saturating_mul(ADDRESS);
        let place = self.place.wrapping_add(at.to_u64());
        let distance = match &self.table {
            Table::Held { addresses, .. } => i32_at(addresses, at, Endian::Little).ok_or("no such ORC address")?,
            Table::InMemory(_) => {
                let word = memory.read_u32(place, Endian::Little).map_err(|e| format!("{ADDRESSES}: {e}"))?;
                word.cast_signed()
            }
        };
        Ok(place.wrapping_add(i64::from(distance).cast_unsigned()))
    }

    fn index(&self, pc: Addr, memory: &dyn Memory) -> Result<Option<usize>, String> {
        let (mut low, mut high) = (0_usize, self.len());
        while low < high {
            let middle = low.saturating_add(high.saturating_sub(low) >> 1);
            if self.address(middle, memory)? <= pc {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        Ok(low.checked_sub(1))
    }

    /// The rule that covers a runtime address: the last one at or before it.
    ///
    /// The caller makes sure that the address lies in the image: the last rule has no end. `memory` is that of the kernel.
    ///
    /// # Errors
    /// The part of the table that is needed cannot be read, in words.
    pub fn at(&self, pc: Addr, memory: &dyn Memory) -> Result<Option<OrcRow>, String> {
        let Some(index) = self.index(pc, memory)? else { return Ok(None) };
        let at = index.saturating_mul(RULE);
        Ok(match &self.table {
            Table::Held { rules, .. } => slice_at(rules, at, RULE).and_then(|rule| row(rule, self.version)),
            Table::InMemory(start) => {
                let mut rule = [0; RULE];
                let read = memory.read_exact(start.wrapping_add(at.to_u64()), &mut rule);
                read.map_err(|e| format!("{RULES}: {e}"))?;
                row(&rule, self.version)
            }
        })
    }
}

/// How many elements lie in `range`.
fn count(range: &Range<Addr>, width: usize, what: &str) -> Result<usize, String> {
    let length = range.end.offset_from(range.start).unwrap_or(0).to_usize();
    let count = length.checked_div(width).unwrap_or(0);
    if count == 0 || count > LIMIT_RULES {
        return Err(format!("{what} at {} has {length} bytes", range.start));
    }
    Ok(count)
}

fn base(number: u16) -> Base {
    match number {
        0 => Base::Undefined,
        1 => Base::PreviousSp,
        2 => Base::Rdx,
        3 => Base::Rdi,
        4 => Base::Rbp,
        5 => Base::Rsp,
        6 => Base::R10,
        7 => Base::R13,
        8 => Base::RbpIndirect,
        9 => Base::RspIndirect,
        n => Base::Unknown(u8::try_from(n).unwrap_or(u8::MAX)),
    }
}

fn row(rule: &[u8], version: OrcVersion) -> Option<OrcRow> {
    let signed = |at| u16_at(rule, at, Endian::Little).map(u16::cast_signed);
    let flags = u16_at(rule, 4, Endian::Little)?;
    let (sp, fp) = (base(flags & 0xf), base(flags >> 4 & 0xf));
    let end = match version {
        OrcVersion::V1 => flags & 0x400 != 0,
        OrcVersion::V2 => flags & 0x800 != 0,
        OrcVersion::V3 => false,
    };
    let kind = match (version, flags >> 8 & 0x7) {
        (OrcVersion::V3, 1) => OrcKind::End,
        (OrcVersion::V3, 2) => OrcKind::Call,
        (OrcVersion::V3, 3) => OrcKind::Registers,
        (OrcVersion::V3, 4) => OrcKind::InterruptFrame,
        (OrcVersion::V3, _) => OrcKind::Undefined,
        _ if sp == Base::Undefined && end => OrcKind::End,
        _ if sp == Base::Undefined => OrcKind::Undefined,
        (_, kind) => match kind & 3 {
            0 => OrcKind::Call,
            1 => OrcKind::Registers,
            2 => OrcKind::InterruptFrame,
            _ => OrcKind::Undefined,
        },
    };
    Some(OrcRow { sp, sp_offset: signed(0)?, fp, fp_offset: signed(2)?, kind })
}

/// Tells the version by the rules themselves. Nearly all describe calls with the stack pointer as base: type 0 in the
/// first two versions, 2 in the third. The second one has the bit that says "a signal frame" where the first has the
/// end mark, which only rules without a base can have. Where another base is the most common, registers have other
/// numbers (as they are said to have in 7.1), and nothing here would be right.
fn tell(rules: &[u8]) -> Option<OrcVersion> {
    let (mut old, mut new, mut signal) = (0_usize, 0_usize, 0_usize);
    let mut bases = [0_usize; 16];
    for rule in rules.chunks_exact(RULE) {
        let flags = u16_at(rule, 4, Endian::Little)?;
        if let Some(count) = bases.get_mut(usize::from(flags & 0xf)).filter(|_| flags & 0xf != 0) {
            *count = count.saturating_add(1);
        }
        if !matches!(base(flags & 0xf), Base::Rsp | Base::Rbp) {
            continue;
        }
        match flags >> 8 & 0x7 {
            0 => old = old.saturating_add(1),
            2 => new = new.saturating_add(1),
            5 | 6 => signal = signal.saturating_add(1),
            _ => {}
        }
    }
    if bases.iter().max() != bases.get(RSP) {
        return None;
    }
    match (old > new, signal > 0) {
        (true, false) => Some(OrcVersion::V1),
        (true, true) => Some(OrcVersion::V2),
        (false, _) if new > 0 => Some(OrcVersion::V3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evidence::testing::FakeMemory;

    /// (address, sp base, sp offset, fp base, fp offset, bits from 8 on)
    type Rule = (u64, u16, i16, u16, i16, u16);

    fn table(rules: &[Rule]) -> Orc {
        let place = 0xffff_ffff_8200_0000_u64;
        let (mut addresses, mut bytes) = (Vec::new(), Vec::new());
        for (n, (at, sp, sp_offset, fp, fp_offset, kind)) in rules.iter().enumerate() {
            let here = place + n as u64 * 4;
            addresses.extend(i32::try_from(at.wrapping_sub(here).cast_signed()).unwrap().to_le_bytes());
            bytes.extend(sp_offset.to_le_bytes());
            bytes.extend(fp_offset.to_le_bytes());
            bytes.extend((sp | fp << 4 | kind << 8).to_le_bytes());
        }
        Orc::new(Addr(place), addresses, bytes, None).unwrap()
    }

    /// Held tables need no memory.
    fn at(orc: &Orc, pc: Addr) -> Option<OrcRow> {
        orc.at(pc, &FakeMemory::new()).unwrap()
    }

    const TEXT: u64 = 0xffff_ffff_8100_0000;

    #[test]
    fn the_rule_at_or_before_the_address() {
        let orc = table(&[
            (TEXT, 5, 8, 0, 0, 0),
            (TEXT + 1, 5, 16, 1, -16, 0),
            (TEXT + 9, 0, 0, 0, 0, 4),
            (TEXT + 12, 0, 0, 0, 0, 0),
        ]);
        assert_eq!((orc.version(), orc.len()), (OrcVersion::V1, 4));
        assert_eq!(at(&orc, Addr(TEXT - 1)), None);
        let row = |sp_offset, fp, fp_offset| OrcRow { sp: Base::Rsp, sp_offset, fp, fp_offset, kind: OrcKind::Call };
        assert_eq!(at(&orc, Addr(TEXT)), Some(row(8, Base::Undefined, 0)));
        assert_eq!(at(&orc, Addr(TEXT + 8)), Some(row(16, Base::PreviousSp, -16)));
        assert_eq!(at(&orc, Addr(TEXT + 9)).map(|r| r.kind), Some(OrcKind::End));
        assert_eq!(at(&orc, Addr(u64::MAX)).map(|r| r.kind), Some(OrcKind::Undefined));
    }

    #[test]
    fn versions_are_told_by_their_rules() {
        let second = table(&[(TEXT, 5, 8, 0, 0, 0), (TEXT + 4, 5, 0, 0, 0, 1 | 4), (TEXT + 9, 0, 0, 0, 0, 8)]);
        assert_eq!(second.version(), OrcVersion::V2);
        assert_eq!(at(&second, Addr(TEXT + 5)).map(|r| r.kind), Some(OrcKind::Registers));
        assert_eq!(at(&second, Addr(TEXT + 9)).map(|r| r.kind), Some(OrcKind::End));
        let third = table(&[(TEXT, 5, 8, 0, 0, 2), (TEXT + 4, 5, 0, 0, 0, 3 | 8), (TEXT + 9, 0, 0, 0, 0, 1)]);
        assert_eq!(third.version(), OrcVersion::V3);
        assert_eq!(at(&third, Addr(TEXT + 5)).map(|r| r.kind), Some(OrcKind::Registers));
        assert_eq!(at(&third, Addr(TEXT + 9)).map(|r| r.kind), Some(OrcKind::End));
    }

    /// A table that stays in memory answers as one that was taken out of it, also of the second version, which only the
    /// rules of the entry code tell.
    #[test]
    fn in_memory_as_held() {
        let count = 40_000_u64;
        let entry = TEXT + 8 * 3210;
        let rules: Vec<Rule> = (0..count)
            .map(|n| match TEXT + 8 * n {
                at if at == entry => (at, 5, 0, 0, 0, 1 | 4),
                at => (at, 5, i16::try_from(n % 512).unwrap() * 8, 0, 0, 0),
            })
            .collect();
        let held = table(&rules);
        let Table::Held { addresses, rules: bytes } = &held.table else { unreachable!() };
        let place = held.place;
        let start = Addr(0xffff_ffff_8300_0000);
        let ranges = [place..place.wrapping_add(4 * count), start..start.wrapping_add(6 * count)];
        let memory = FakeMemory::new().with(place, addresses.clone()).with(start, bytes.clone());
        let there = Orc::in_memory(&memory, &ranges[0], &ranges[1], Addr(entry)).unwrap();
        assert_eq!((there.version(), there.len()), (OrcVersion::V2, held.len()));
        assert_eq!(held.version(), OrcVersion::V2);
        for at in (0..count).step_by(97).chain([0, count - 1, 3210]).map(|n| Addr(TEXT + 8 * n + 3)) {
            assert_eq!(there.at(at, &memory), Ok(super::tests::at(&held, at)), "{at}");
        }
        assert_eq!(there.at(Addr(TEXT - 1), &memory), Ok(None));
        // A hole is an answer of its own: not "no rule".
        assert!(there.at(Addr(TEXT), &FakeMemory::new()).unwrap_err().contains("the ORC addresses"));
        let without = FakeMemory::new().with(place, addresses.clone());
        assert!(Orc::in_memory(&without, &ranges[0], &ranges[1], Addr(entry)).is_err());
        assert!(Orc::in_memory(&memory, &ranges[0], &(start..start.wrapping_add(12)), Addr(entry)).is_err());
    }

    #[test]
    fn renumbered_registers_are_refused() {
        let other = [8, 0, 0, 0, 3, 2].repeat(10);
        assert!(Orc::new(Addr(0), vec![0; 40], other, None).unwrap_err().contains("version"));
    }

    #[test]
    fn garbage_is_refused() {
        assert!(Orc::new(Addr(0), vec![0; 8], vec![0; 6], None).is_err());
        assert!(Orc::new(Addr(0), vec![0; 4], vec![0; 6], None).is_err());
        assert!(Orc::new(Addr(0), Vec::new(), Vec::new(), None).is_err());
    }
}
