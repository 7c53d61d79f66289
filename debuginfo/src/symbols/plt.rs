//! Names for the stubs of the procedure linkage table.
//!
//! A stub jumps through a slot of the global offset table, and a relocation says which symbol that slot is for. Stubs
//! differ by linker and options, so the jump is looked for instead of a layout: `.plt`, `.plt.sec`, `.plt.got`.

use super::table::{self, Entry, Raw};
use crate::elf::ElfFile;
use evidence::{Arch, ToU64, ToUsize, bytes};
use std::collections::HashMap;

/// Bytes between the possible starts of stubs.
const STEP: usize = 8;

struct Stubs<'m> {
    /// Symbol names by the address of their slot.
    slots: HashMap<u64, &'m [u8]>,
    /// i386 position-independent stubs address slots from here.
    got: Option<u64>,
}

/// A symbol for each stub whose target is known.
pub(super) fn read(file: &ElfFile) -> Vec<Entry<'_>> {
    let mut found = Vec::new();
    let slots = slots(file);
    if slots.is_empty() {
        return found;
    }
    let got = file.section(".got.plt").or_else(|| file.section(".got")).map(|s| s.address().0);
    let stubs = Stubs { slots, got };
    for name in [".plt", ".plt.sec", ".plt.got"] {
        let (Some(section), Ok(Some(code))) = (file.section(name), file.section_data(name)) else { continue };
        let base = section.address().0;
        let mut start = 0_usize;
        while let Some(rest) = code.get(start..).filter(|r| !r.is_empty()) {
            let at = base.wrapping_add(start.to_u64());
            // The first entry of a lazy table calls the resolver and jumps through a slot without a symbol.
            let Some((slot, length)) = jump(rest, at, file.arch(), &stubs) else {
                start = start.saturating_add(STEP);
                continue;
            };
            let step = length.next_multiple_of(if name == ".plt.got" && length <= STEP { STEP } else { 2 * STEP });
            if let Some(symbol) = stubs.slots.get(&slot) {
                found.push(Entry { start: at, size: step.to_u64(), name: symbol, global: false, stub: true });
            }
            start = start.saturating_add(step);
        }
    }
    found
}

/// The slot that the stub at the start of `code` jumps through, and the stub's length up to the jump's end.
fn jump(code: &[u8], at: u64, arch: Arch, stubs: &Stubs<'_>) -> Option<(u64, usize)> {
    let known = |slot: u64, length| stubs.slots.contains_key(&slot).then_some((slot, length));
    match arch {
        Arch::X86_64 | Arch::X86 => {
            // [endbr] [bnd] jmp *slot; endbr64 is f3 0f 1e fa, endbr32 f3 0f 1e fb.
            let mut skip = if matches!(code.get(..4), Some([0xf3, 0x0f, 0x1e, 0xfa | 0xfb])) { 4 } else { 0 };
            if code.get(skip) == Some(&0xf2) {
                skip = skip.saturating_add(1);
            }
            let operand = bytes::u32_at(code, skip.saturating_add(2), bytes::Endian::Little)?;
            let length = skip.saturating_add(6);
            let signed = i64::from(operand.cast_signed()).cast_unsigned();
            let slot = match (arch, code.get(skip..)?.get(..2)?) {
                (Arch::X86_64, [0xff, 0x25]) => at.wrapping_add(length.to_u64()).wrapping_add(signed),
                (Arch::X86, [0xff, 0x25]) => u64::from(operand),
                (Arch::X86, [0xff, 0xa3]) => stubs.got?.wrapping_add(signed) & 0xffff_ffff,
                _ => return None,
            };
            known(slot, length)
        }
        Arch::Aarch64 => {
            // [bti c] adrp x16, page; ldr x17, [x16, #low]
            let word = |n: usize| bytes::u32_at(code, n.checked_mul(4)?, bytes::Endian::Little);
            let skip = usize::from(word(0)? == 0xd503_245f);
            let (page, load) = (word(skip)?, word(skip.saturating_add(1))?);
            if page & 0x9f00_001f != 0x9000_0010 || load & 0xffc0_03ff != 0xf940_0211 {
                return None;
            }
            let high = u64::from((page >> 5) & 0x7_ffff);
            let offset = (high << 2) | u64::from((page >> 29) & 3);
            // 21 bits, signed, in pages.
            let offset = (offset << 43).cast_signed().wrapping_shr(43).cast_unsigned() << 12;
            let adrp = at.wrapping_add(skip.saturating_mul(4).to_u64()) & !0xfff;
            let slot = adrp.wrapping_add(offset).wrapping_add(u64::from((load >> 10) & 0xfff) << 3);
            known(slot, 16)
        }
        Arch::Arm | Arch::Other => None,
    }
}

/// Which symbol each slot is for, by the relocations that the loader applies.
fn slots(file: &ElfFile) -> HashMap<u64, &[u8]> {
    let mut slots = HashMap::new();
    let Some(table) = table::section(file, ".dynsym") else { return slots };
    for name in [".rela.plt", ".rel.plt", ".rela.dyn", ".rel.dyn"] {
        let Ok(Some(data)) = file.section_data(name) else { continue };
        read_relocations(data, name.starts_with(".rela"), file.arch(), table, &mut slots);
    }
    slots
}

/// Bytes per entry: (r_offset, r_info) and for RELA an addend, each as wide as an address.
fn read_relocations<'m>(data: &[u8], addend: bool, arch: Arch, table: Raw<'m>, slots: &mut HashMap<u64, &'m [u8]>) {
    let word: usize = if table.is_64 { 8 } else { 4 };
    let size = word.saturating_mul(if addend { 3 } else { 2 });
    for entry in data.chunks_exact(size) {
        let field = |at| {
            if word == 8 {
                bytes::u64_at(entry, at, table.endian)
            } else {
                bytes::u32_at(entry, at, table.endian).map(u64::from)
            }
        };
        let (Some(slot), Some(info)) = (field(0), field(word)) else { continue };
        let (symbol, kind) = if table.is_64 { (info >> 32, info & 0xffff_ffff) } else { (info >> 8, info & 0xff) };
        // R_X86_64_GLOB_DAT 6, JUMP_SLOT 7; R_386_GLOB_DAT 6, JMP_SLOT 7; R_AARCH64_GLOB_DAT 1025, JUMP_SLOT 1026.
        let wanted = match arch {
            Arch::X86_64 | Arch::X86 => matches!(kind, 6 | 7),
            Arch::Aarch64 => matches!(kind, 1025 | 1026),
            Arch::Arm | Arch::Other => false,
        };
        if !wanted || symbol == 0 {
            continue;
        }
        let name = table.get(symbol.to_usize()).map(|s| table.name(&s)).unwrap_or_default();
        if !name.is_empty() {
            slots.insert(slot, name);
        }
    }
}
