//! The names that an image exports: a small part of its functions, and where nothing else is known, all there is.

use super::{LITTLE, PeFile};
use crate::images::SymbolKind;
use crate::symbols::{Stated, SymbolTable};
use evidence::ToUsize;
use evidence::bytes::{u16_at, u32_at};

/// Most exports of one image: ordinals have 16 bits.
const LIMIT_EXPORTS: u32 = 1 << 16;
/// Longest name: mangled C++ names of Windows are cut off at 4 KiB by its own linker.
const LIMIT_NAME: usize = 4096;

/// Reads the export directory ("PE Format", ".edata Section").
///
/// The names' sizes are not stated, and what lies between two exports may be any function: so they are labels, which
/// name an address only when nothing else does.
pub(super) fn read(file: &PeFile) -> SymbolTable {
    let code = file.sections.iter().filter(|s| s.executable);
    let start = code.clone().map(|s| u64::from(s.rva)).min().unwrap_or(0);
    let end = code.map(|s| u64::from(s.rva).saturating_add(s.size.into())).max().unwrap_or(0);
    let mut table = SymbolTable::new(SymbolKind::PeExports, start..end);
    let _ = fill(file, &mut table);
    table
}

fn fill(file: &PeFile, table: &mut SymbolTable) -> Option<()> {
    let directory = file.bytes_at(file.exports.rva)?;
    if file.exports.size == 0 {
        return None;
    }
    let word = |at: usize| u32_at(directory, at, LITTLE);
    let (functions, names) = (word(20)?, word(24)?.min(LIMIT_EXPORTS));
    let addresses = file.bytes_at(word(28)?)?;
    let pointers = file.bytes_at(word(32)?)?;
    let ordinals = file.bytes_at(word(36)?)?;
    for n in 0..names.to_usize() {
        let ordinal = u16_at(ordinals, n.checked_mul(2)?, LITTLE)?;
        if u32::from(ordinal) >= functions {
            continue;
        }
        let rva = u32_at(addresses, usize::from(ordinal).checked_mul(4)?, LITTLE)?;
        // An address inside of the directory is the name of what it is forwarded to.
        let forwarded = rva.checked_sub(file.exports.rva).is_some_and(|inside| inside < file.exports.size);
        let name = file.bytes_at(u32_at(pointers, n.checked_mul(4)?, LITTLE)?);
        let Some(name) = name.map(|b| b.get(..LIMIT_NAME).unwrap_or(b)) else { continue };
        let Some(name) = name.split(|b| *b == 0).next().and_then(|b| std::str::from_utf8(b).ok()) else { continue };
        if forwarded || name.is_empty() {
            continue;
        }
        let function = file.is_code(rva.into()) == Some(true);
        table.push(&Stated { name, start: rva.into(), size: Some(0), function, global: true });
    }
    Some(())
}
