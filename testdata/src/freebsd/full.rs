//! Full dumps of amd64: all memory as segments, with page tables of 4 or 5 levels in it.

use super::{Memory, PAGE};
use std::collections::BTreeMap;

/// Adds page tables for everything that is mapped; returns the top-level table's page.
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

/// The dump's bytes: an ELF core without notes, one segment per run of pages, the first one on a page.
#[must_use]
pub fn write(memory: &Memory) -> Vec<u8> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for number in memory.pages.keys() {
        match runs.last_mut() {
            Some(last) if last.0 + last.1 == *number => last.1 += 1,
            _ => runs.push((*number, 1)),
        }
    }
    let mut out = b"\x7fELF\x02\x01\x01\xff\0\0\0\0\0\0\0\0".to_vec();
    let half = |out: &mut Vec<u8>, n: u16| out.extend(n.to_le_bytes());
    half(&mut out, 4);
    half(&mut out, 62);
    out.extend(1_u32.to_le_bytes());
    for n in [0_u64, 64, 0] {
        out.extend(n.to_le_bytes());
    }
    out.extend(0_u32.to_le_bytes());
    for n in [64, 56, runs.len() as u16, 0, 0, 0] {
        half(&mut out, n);
    }
    let mut offset = (64 + 56 * runs.len() as u64).next_multiple_of(PAGE);
    let data = offset;
    for (number, count) in &runs {
        out.extend(1_u32.to_le_bytes());
        out.extend(4_u32.to_le_bytes());
        for n in [offset, number * PAGE, number * PAGE, count * PAGE, count * PAGE, PAGE] {
            out.extend(n.to_le_bytes());
        }
        offset += count * PAGE;
    }
    out.resize(data as usize, 0);
    out.extend(memory.pages.values().flatten());
    out
}
