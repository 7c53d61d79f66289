//! Minidumps of amd64, arm64 and i386, in all their versions.

use super::{Memory, PAGE, round};
use std::collections::BTreeMap;

/// The machine whose form is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the names in the header")]
pub enum Machine {
    Amd64,
    Arm64,
    I386,
    I386Pae,
}

/// What is written besides memory.
#[derive(Clone, Debug)]
pub struct Minidump {
    /// The machine.
    pub machine: Machine,
    /// The header's version.
    pub version: u32,
    /// The lowest address that the page tables stand for.
    pub kernel_base: u64,
    /// Where physical memory is mapped: virtual start and end, physical start.
    pub direct: (u64, u64, u64),
    /// The message buffer.
    pub messages: Vec<u8>,
}

impl Minidump {
    fn ranges(self: &Minidump, memory: &Memory) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for number in memory.pages.keys() {
            match ranges.last_mut() {
                Some(last) if last.1 == number * PAGE => last.1 += PAGE,
                _ => ranges.push((number * PAGE, (number + 1) * PAGE)),
            }
        }
        ranges
    }

    fn has_ranges(&self) -> bool {
        self.version >= if self.machine == Machine::Amd64 { 3 } else { 2 }
    }

    /// The kernel's page tables in the dump's own form.
    fn tables(&self, memory: &mut Memory) -> Vec<u8> {
        let base = self.kernel_base / PAGE;
        let maps: BTreeMap<u64, u64> =
            memory.maps.iter().filter(|(v, _)| **v >= base).map(|(v, p)| (v - base, *p)).collect();
        let last = maps.keys().last().map_or(0, |n| n + 1);
        let mut out = Vec::new();
        if self.machine == Machine::Amd64 && self.version >= 2 {
            let mut tables: BTreeMap<u64, u64> = BTreeMap::new();
            for (virtual_page, physical) in &maps {
                let table = *tables.entry(virtual_page / 512).or_insert_with(|| memory.page());
                memory.entry(table, virtual_page % 512, (physical * PAGE) | 0x8000_0000_0000_0003);
            }
            for n in 0..last.div_ceil(512) {
                out.extend(tables.get(&n).map_or(0, |t| (t * PAGE) | 3).to_le_bytes());
            }
            return out;
        }
        for n in 0..last {
            let entry = maps.get(&n).map_or(0, |p| (p * PAGE) | 3);
            match self.machine {
                Machine::I386 => out.extend((entry as u32).to_le_bytes()),
                _ => out.extend(entry.to_le_bytes()),
            }
        }
        out
    }

    /// The dump's bytes.
    #[must_use]
    pub fn write(&self, memory: &Memory) -> Vec<u8> {
        let mut memory = memory.clone();
        let tables = self.tables(&mut memory);
        let ranges = if self.has_ranges() { self.ranges(&memory) } else { Vec::new() };
        let mut raw_ranges: Vec<u8> =
            ranges.iter().flat_map(|(a, b)| [a.to_le_bytes(), b.to_le_bytes()].concat()).collect();
        if self.has_ranges() {
            raw_ranges.extend([0; 16]);
        }
        let bit = |number: u64| {
            if ranges.is_empty() {
                return number;
            }
            let mut first = 0;
            for (start, end) in &ranges {
                if (start / PAGE..end / PAGE).contains(&number) {
                    return first + number - start / PAGE;
                }
                first += (end - start) / PAGE;
            }
            unreachable!("every page is in a range")
        };
        let most = memory.pages.keys().map(|n| bit(*n)).max().unwrap_or(0);
        let mut bitmap = vec![0_u8; (most as usize / 64 + 1) * 8];
        for number in memory.pages.keys() {
            bitmap[bit(*number) as usize / 8] |= 1 << (bit(*number) % 8);
        }
        let name = match self.machine {
            Machine::Amd64 => "minidump FreeBSD/amd64",
            Machine::Arm64 => "minidump FreeBSD/arm64",
            Machine::I386 | Machine::I386Pae => "minidump FreeBSD/i386",
        };
        let mut header = name.as_bytes().to_vec();
        header.resize(24, 0);
        for field in [self.version, self.messages.len() as u32, bitmap.len() as u32, tables.len() as u32] {
            header.extend(field.to_le_bytes());
        }
        let (start, end, physical) = self.direct;
        let words: &[u64] = match self.machine {
            Machine::Amd64 => &[self.kernel_base, start, end],
            Machine::Arm64 => &[self.kernel_base, physical, start, end],
            _ => &[],
        };
        header.extend(words.iter().flat_map(|w| w.to_le_bytes()));
        if words.is_empty() {
            header.extend((self.kernel_base as u32).to_le_bytes());
            header.extend(u32::from(self.machine == Machine::I386Pae).to_le_bytes());
        }
        if self.has_ranges() {
            header.extend((raw_ranges.len() as u32).to_le_bytes());
        }
        let mut out = round(&header);
        for part in [&self.messages, &raw_ranges, &bitmap, &tables] {
            out.extend(round(part));
        }
        out.extend(memory.pages.values().flatten());
        out
    }
}
