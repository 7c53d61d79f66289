//! A module's file: found, placed to where the kernel loaded it, and compared with what the dump holds of it.

use super::super::context::FreeBsd;
use super::symbols::Kept;
use debuginfo::elf::ElfFile;
use debuginfo::images::{Image, Outcome, Verified};
use evidence::bytes::{Endian, c_str_at, u8_at, u16_at, u32_at, u64_at};
use evidence::{Addr, ToUsize};
use std::collections::HashMap;
use std::path::Path;

/// Most bytes of code compared.
const LIMIT_CODE: usize = 64 << 10;
/// `int3`: what tracing puts at the start of a function.
const BREAKPOINT: u8 = 0xcc;
/// Most functions compared.
const LIMIT_FUNCTIONS: usize = 1 << 16;

/// What the dump says of a module.
pub(super) struct Module<'m> {
    pub base: Addr,
    pub size: Option<u64>,
    pub kept: Option<&'m Kept>,
}

fn other(found: impl Into<String>) -> Outcome {
    Outcome::Mismatch { expected: None, found: found.into() }
}

/// Takes a file for the image, when it is the one that was loaded.
pub(super) fn take(kernel: &FreeBsd<'_>, module: &Module<'_>, place: &Path, image: &mut Image) -> Outcome {
    let file = match ElfFile::open(place) {
        Ok(file) => file,
        Err(_) if !place.exists() => return Outcome::Missing,
        Err(e) => return Outcome::Unusable(e.to_string()),
    };
    if file.arch() != kernel.arch {
        return other(format!("a file for {}", file.arch().word()));
    }
    if file.is_relocatable() { relocatable(kernel, module, &file, image) } else { shared(module, file, image) }
}

/// Modules of amd64: relocatable objects, whose sections the kernel laid out.
fn relocatable(kernel: &FreeBsd<'_>, module: &Module<'_>, file: &ElfFile, image: &mut Image) -> Outcome {
    let Some((sections, end)) = file.kld_sections(module.base.0) else {
        return Outcome::Unusable("its section headers are damaged".into());
    };
    let own = end.wrapping_sub(module.base.0);
    // What the boot loader brought along counts its symbols, too.
    if module.size.is_some_and(|s| own > s) {
        return other(format!("a module of {own:#x} bytes"));
    }
    let placed = match file.placed(&sections) {
        Ok(placed) => placed,
        Err(e) => return Outcome::Unusable(e.to_string()),
    };
    if module.kept.and_then(|kept| has_functions(&placed, kept, 0)) == Some(false) {
        return other("its functions are not those in the dump");
    }
    if has_code(kernel, file, &sections) == Some(false) {
        return other("its code is not the one in the dump");
    }
    image.size = module.size.unwrap_or(own);
    image.slide = 0;
    image.sections = sections;
    image.file = Some((placed, Verified::Given));
    Outcome::Used
}

/// Modules of all others: shared objects.
fn shared(module: &Module<'_>, file: ElfFile, image: &mut Image) -> Outcome {
    let span = file.span();
    let own = span.end.saturating_sub(span.start & !0xfff);
    if span.is_empty() {
        return Outcome::Unusable("it has no segments".into());
    }
    if module.size.is_some_and(|s| own > s.next_multiple_of(4096)) {
        return other(format!("a module of {own:#x} bytes"));
    }
    let slide = module.base.0.wrapping_sub(span.start & !0xfff);
    if module.kept.and_then(|kept| has_functions(&file, kept, slide)) == Some(false) {
        return other("its functions are not those in the dump");
    }
    image.size = module.size.unwrap_or(own);
    image.slide = slide;
    image.file = Some((file, Verified::Given));
    Outcome::Used
}

/// Whether the functions of a file are where the kernel's own table has them; `None` when there is nothing to compare.
fn has_functions(file: &ElfFile, kept: &Kept, slide: u64) -> Option<bool> {
    let wide = file.address_size() == 8;
    let table = [".symtab", ".dynsym"].into_iter().find_map(|name| {
        let strings = if name == ".symtab" { ".strtab" } else { ".dynstr" };
        Some((file.section_data(name).ok()??, file.section_data(strings).ok()??))
    });
    let (symbols, names) = table?;
    let le = Endian::Little;
    let mut own: HashMap<String, Vec<u64>> = HashMap::new();
    for row in symbols.chunks_exact(if wide { 24 } else { 16 }).take(LIMIT_FUNCTIONS) {
        let (info, section) =
            if wide { (u8_at(row, 4)?, u16_at(row, 6, le)?) } else { (u8_at(row, 12)?, u16_at(row, 14, le)?) };
        let value = if wide { u64_at(row, 8, le)? } else { u32_at(row, 4, le)?.into() };
        if info & 0xf == 2 && section != 0 {
            let name = c_str_at(names, u32_at(row, 0, le)?.to_usize())?;
            own.entry(name).or_default().push(value.wrapping_add(slide));
        }
    }
    let functions = kept.0.iter().filter(|s| s.function).take(LIMIT_FUNCTIONS);
    let (mut same, mut all) = (0_usize, 0_usize);
    for symbol in functions {
        all = all.saturating_add(1);
        same = same.saturating_add(usize::from(own.get(&symbol.name).is_some_and(|at| at.contains(&symbol.start))));
    }
    // Every one of them is in the file that was loaded.
    (all > 0).then_some(same == all)
}

/// Whether the code of a relocatable file is the one in memory, but for what was relocated.
fn has_code(kernel: &FreeBsd<'_>, file: &ElfFile, sections: &[(Box<str>, u64)]) -> Option<bool> {
    let (code, changed) = file.unrelocated(".text")?;
    let (_, at) = sections.iter().find(|(name, _)| &**name == ".text")?;
    let mut memory = vec![0; code.len().min(LIMIT_CODE)];
    let (got, _) = kernel.memory().read(Addr(*at), &mut memory);
    let mut fixed = vec![true; got];
    for (offset, length) in changed {
        let end = offset.saturating_add(length).min(got);
        fixed.get_mut(offset.min(end)..end)?.fill(false);
    }
    let compared = code.iter().zip(&memory).zip(&fixed).filter(|(_, fixed)| **fixed);
    let (mut differing, mut all) = (0_usize, 0_usize);
    for ((own, there), _) in compared {
        all = all.saturating_add(1);
        differing = differing.saturating_add(usize::from(own != there && *there != BREAKPOINT));
    }
    // Probes overwrite an instruction here and there; code of another build differs everywhere.
    (all >= 16).then_some(differing.saturating_mul(1000) <= all)
}
