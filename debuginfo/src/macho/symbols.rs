//! Symbols of Mach-O images: `nlist` entries, bounded by the list of function starts.
//!
//! Entries have no size: a function reaches to the next symbol, to the next function's start, or to the end of its
//! section. So a function whose name was stripped is not taken for a part of the one before it.

use super::{MachO, Section};
use crate::images::SymbolKind;
use crate::symbols::{Stated, SymbolTable};
use evidence::ToUsize;
use evidence::bytes::{u8_at, u32_at, u64_at};

/// Most symbols read of one image: Chromium's framework has about a million.
const LIMIT_SYMBOLS: usize = 16 << 20;
/// Most function starts read of one image.
const LIMIT_STARTS: usize = 16 << 20;
/// Longest name. Swift's and C++'s mangled names reach some ten thousand bytes.
const LIMIT_NAME: usize = 65_535;

/// `n_type`: any of these bits mark an entry for debuggers.
const N_STAB: u8 = 0xe0;
const N_TYPE: u8 = 0x0e;
/// Defined in the section `n_sect`.
const N_SECT: u8 = 0x0e;
const N_EXT: u8 = 0x01;

/// The addresses in `LC_FUNCTION_STARTS`: differences as ULEB128, up to a 0.
pub(super) fn starts(list: &[u8], base: u64) -> Vec<u64> {
    let mut all = Vec::new();
    let (mut at, mut delta, mut shift) = (base, 0_u64, 0_u32);
    for byte in list {
        delta |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 != 0 {
            shift = shift.saturating_add(7);
            continue;
        }
        if delta == 0 || all.len() >= LIMIT_STARTS {
            break;
        }
        at = at.wrapping_add(delta);
        all.push(at);
        (delta, shift) = (0, 0);
    }
    all.dedup();
    // Deltas that wrap around are damage; a list that is not in order cannot be searched.
    if !all.is_sorted() {
        all.sort_unstable();
    }
    all
}

struct Found<'b> {
    name: &'b str,
    start: u64,
    section: usize,
    global: bool,
}

pub(super) fn read(image: &MachO, bytes: &[u8]) -> SymbolTable {
    let mut all = defined(image, bytes).unwrap_or_default();
    all.sort_by_key(|s| s.start);
    // What was stripped is not told from what was never there; the starts of functions say where names are missing.
    let kind = if all.is_empty() { SymbolKind::None } else { SymbolKind::Symtab };
    let code = image.sections.iter().filter(|s| s.executable);
    let low = code.clone().map(|s| s.address).min().unwrap_or(0);
    let high = code.map(|s| s.address.saturating_add(s.size)).max().unwrap_or(0);
    let mut table = SymbolTable::new(kind, low..high);
    let starts = image.starts(bytes);
    let (mut next, mut here) = (u64::MAX, u64::MAX);
    for symbol in all.iter().rev() {
        if symbol.start != here {
            (next, here) = (here, symbol.start);
        }
        let Some(section) = image.sections.get(symbol.section) else { continue };
        let mut end = next.min(section.address.saturating_add(section.size));
        if section.executable {
            let after = starts.partition_point(|start| *start <= symbol.start);
            end = starts.get(after).map_or(end, |start| end.min(*start));
        }
        let size = Some(end.saturating_sub(symbol.start));
        let function = section.executable;
        table.push(&Stated { name: symbol.name, start: symbol.start, size, function, global: symbol.global });
    }
    table.finish()
}

/// The entries that name a place in the image.
fn defined<'b>(image: &MachO, bytes: &'b [u8]) -> Option<Vec<Found<'b>>> {
    let symtab = image.symtab?;
    let (entries, strings) = (image.part(bytes, symtab.symbols)?, image.part(bytes, symtab.strings)?);
    let mut all = Vec::new();
    for raw in entries.chunks_exact(if image.is_64 { 16 } else { 12 }).take(LIMIT_SYMBOLS) {
        let (kind, section) = (u8_at(raw, 4)?, usize::from(u8_at(raw, 5)?));
        if kind & N_STAB != 0 || kind & N_TYPE != N_SECT {
            continue;
        }
        // Sections are counted from 1.
        let Some(section) = section.checked_sub(1) else { continue };
        let value = if image.is_64 { u64_at(raw, 8, image.endian)? } else { u32_at(raw, 8, image.endian)?.into() };
        let inside = |s: &Section| value.checked_sub(s.address).is_some_and(|inside| inside < s.size);
        if !image.sections.get(section).is_some_and(inside) {
            continue;
        }
        let Some(name) = name(strings, u32_at(raw, 0, image.endian)?) else { continue };
        all.push(Found { name, start: value, section, global: kind & N_EXT != 0 });
    }
    Some(all)
}

/// A symbol's name without the underscore that C names get; `None` for labels that compilers leave for themselves.
fn name(strings: &[u8], at: u32) -> Option<&str> {
    let tail = strings.get(at.to_usize()..)?;
    let tail = tail.get(..LIMIT_NAME).unwrap_or(tail);
    let end = tail.iter().position(|b| *b == 0)?;
    let name = std::str::from_utf8(tail.get(..end)?).ok()?;
    if name.is_empty() || name.starts_with("ltmp") || name.starts_with("l_") || name.starts_with('L') {
        return None;
    }
    Some(name.strip_prefix('_').unwrap_or(name)).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn function_starts() {
        assert_eq!(starts(&[0x80, 0x20, 0x10, 0x81, 0x01, 0, 0, 7], 0x1000), [0x2000, 0x2010, 0x2091]);
        assert_eq!(starts(&[], 5), [0; 0]);
        // A number without end, and one that wraps around.
        assert_eq!(starts(&[0x80; 40], 5), [0; 0]);
        let wraps = [4, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0];
        assert_eq!(starts(&wraps, 0x1000), [0x1003, 0x1004]);
    }

    #[test]
    fn names() {
        let strings = b"\0_main\0__ZN1a1bEv\0ltmp0\0l_.str\0-[A b]\0_\0_cut";
        let at = |n| name(strings, n);
        assert_eq!((at(0), at(1), at(7)), (None, Some("main"), Some("_ZN1a1bEv")));
        assert_eq!((at(18), at(24), at(31), at(38)), (None, None, Some("-[A b]"), None));
        assert_eq!((at(40), at(400)), (None, None));
    }
}
