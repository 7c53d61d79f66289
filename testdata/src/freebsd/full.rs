//! Full dumps: all memory as segments of an ELF core, with the machine's own page tables in it.

use super::{Memory, PAGE};
use std::collections::BTreeMap;

/// The machine, and what its tables are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the machines and their modes")]
pub enum Tables {
    /// So many levels.
    Amd64(u32),
    /// Pages of 4 KiB.
    Arm64,
    /// Pages of 16 KiB.
    Arm64Large,
    I386,
    I386Pae,
}

/// A form of tables of which every level but the last one leads to the next: bits of a page, bits of an index, levels,
/// what is added to an entry that leads to a table, and to one that leads to a page.
struct Form {
    page: u32,
    index: u32,
    levels: u32,
    table: u64,
    leaf: u64,
}

/// Adds page tables for everything that is mapped; returns the page of the topmost one. The tables with pages of 16 KiB
/// need [`Memory::grouped`] by 4.
pub fn add(memory: &mut Memory, tables: Tables) -> u64 {
    match tables {
        Tables::Amd64(levels) => page_tables(memory, levels),
        Tables::Arm64 => {
            let form = Form { page: 12, index: 9, levels: 4, table: 3, leaf: 0x703 };
            let (root, direct) = (walked(memory, &form), memory.page());
            // The direct map: a block of 1 GiB at 0xffffa00000000000.
            memory.entry(root, 320, (direct * PAGE) | 3);
            memory.entry(direct, 0, 0x701);
            root
        }
        Tables::Arm64Large => {
            let form = Form { page: 14, index: 11, levels: 4, table: 3, leaf: 0x703 };
            let (root, second, third) = (walked(memory, &form), memory.large_page(), memory.large_page());
            // Blocks of 32 MiB.
            memory.entry(root, 1, (second * PAGE) | 3);
            memory.entry(second, 0xffff_a000_0000_0000 >> 36 & 0x7ff, (third * PAGE) | 3);
            memory.entry(third, 0, 0x701);
            root
        }
        Tables::I386 => {
            let root = memory.page();
            memory.half_entry(root, 767, (root * PAGE) | 3);
            let mut leaves: BTreeMap<u64, u64> = BTreeMap::new();
            for (number, physical) in memory.maps.clone() {
                let leaf = *leaves.entry(number >> 10).or_insert_with(|| memory.page());
                memory.half_entry(root, number >> 10, (leaf * PAGE) | 3);
                memory.half_entry(leaf, number & 0x3ff, (physical * PAGE) | 3);
            }
            root
        }
        Tables::I386Pae => {
            let (root, directories) = (memory.page(), [(); 4].map(|()| memory.page()));
            let mut leaves: BTreeMap<u64, u64> = BTreeMap::new();
            for (n, directory) in directories.iter().enumerate() {
                memory.entry(root, n as u64, (directory * PAGE) | 1);
                // They are mapped right below 3 GiB.
                memory.entry(directories[2], 508 + n as u64, (directory * PAGE) | 3);
            }
            for (number, physical) in memory.maps.clone() {
                let leaf = *leaves.entry(number >> 9).or_insert_with(|| memory.page());
                memory.entry(directories[(number >> 18) as usize], number >> 9 & 0x1ff, (leaf * PAGE) | 3);
                memory.entry(leaf, number & 0x1ff, 0x8000_0000_0000_0003 | (physical * PAGE));
            }
            root
        }
    }
}

/// Tables of a form for all that is mapped; the page of the topmost.
fn walked(memory: &mut Memory, form: &Form) -> u64 {
    let large = form.page > 12;
    let new = |memory: &mut Memory| if large { memory.large_page() } else { memory.page() };
    let root = new(memory);
    let mask = (1_u64 << form.index) - 1;
    let mut tables: BTreeMap<(u32, u64), u64> = BTreeMap::new();
    let pages: BTreeMap<u64, u64> = memory.maps.iter().map(|(v, p)| ((v * PAGE) >> form.page, *p)).collect();
    for (number, physical) in pages {
        // The bits above the 48 of an address are no index.
        let number = number & ((1 << (48 - form.page)) - 1);
        let physical = ((physical * PAGE) >> form.page) << form.page;
        let mut table = root;
        for level in (1..form.levels).rev() {
            let above = number >> (form.index * level);
            let next = *tables.entry((level, above)).or_insert_with(|| new(memory));
            memory.entry(table, above & mask, (next * PAGE) | form.table);
            table = next;
        }
        memory.entry(table, number & mask, physical | form.leaf);
    }
    root
}

/// Adds amd64's page tables for everything that is mapped; returns the top-level table's page.
pub fn page_tables(memory: &mut Memory, levels: u32) -> u64 {
    let root = memory.page();
    // The kernel's own tables point at themselves.
    memory.entry(root, 256, (root * PAGE) | 0x8000_0000_0000_0003);
    let mut tables: BTreeMap<(u32, u64), u64> = BTreeMap::new();
    for (number, physical) in memory.maps.clone() {
        let mut table = root;
        for level in (1..levels).rev() {
            let above = number >> (9 * level);
            let next = match tables.get(&(level, above)) {
                Some(next) => *next,
                None => {
                    let next = memory.page();
                    tables.insert((level, above), next);
                    memory.entry(table, above & 0x1ff, (next * PAGE) | 0x23);
                    next
                }
            };
            table = next;
        }
        memory.entry(table, number & 0x1ff, (physical * PAGE) | 3);
    }
    root
}

/// An amd64 dump's bytes, as [`write_for`].
#[must_use]
pub fn write(memory: &Memory) -> Vec<u8> {
    write_for(memory, Tables::Amd64(4))
}

/// The dump's bytes: an ELF core without notes, one segment per run of pages, the first one on a page.
#[must_use]
pub fn write_for(memory: &Memory, tables: Tables) -> Vec<u8> {
    let wide = !matches!(tables, Tables::I386 | Tables::I386Pae);
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for number in memory.pages.keys() {
        match runs.last_mut() {
            Some(last) if last.0 + last.1 == *number => last.1 += 1,
            _ => runs.push((*number, 1)),
        }
    }
    let mut out = b"\x7fELF\x02\x01\x01\xff\0\0\0\0\0\0\0\0".to_vec();
    out[4] = if wide { 2 } else { 1 };
    let half = |out: &mut Vec<u8>, n: u16| out.extend(n.to_le_bytes());
    let word = |out: &mut Vec<u8>, n: u64| out.extend(&n.to_le_bytes()[..if wide { 8 } else { 4 }]);
    let (header, entry) = if wide { (64_u16, 56_u16) } else { (52, 32) };
    half(&mut out, 4);
    half(
        &mut out,
        match tables {
            Tables::Amd64(_) => 62,
            Tables::Arm64 | Tables::Arm64Large => 183,
            Tables::I386 | Tables::I386Pae => 3,
        },
    );
    out.extend(1_u32.to_le_bytes());
    for n in [0, u64::from(header), 0] {
        word(&mut out, n);
    }
    out.extend(0_u32.to_le_bytes());
    for n in [header, entry, runs.len() as u16, 0, 0, 0] {
        half(&mut out, n);
    }
    let mut offset = (u64::from(header) + u64::from(entry) * runs.len() as u64).next_multiple_of(PAGE);
    let data = offset;
    for (number, count) in &runs {
        out.extend(1_u32.to_le_bytes());
        if wide {
            out.extend(4_u32.to_le_bytes());
        }
        for n in [offset, number * PAGE, number * PAGE, count * PAGE, count * PAGE] {
            word(&mut out, n);
        }
        if !wide {
            out.extend(4_u32.to_le_bytes());
        }
        word(&mut out, PAGE);
        offset += count * PAGE;
    }
    out.resize(data as usize, 0);
    out.extend(memory.pages.values().flatten());
    out
}
