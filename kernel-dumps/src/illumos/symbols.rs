//! The symbol table in the dump (`ksyms`): an ELF file without types, one flat table over all modules.

use super::dumphdr::DumpHeader;
use super::lzjb;
use super::map::Map;
use crate::source::{ReadAt, exact};
use evidence::{Addr, Doubt, ToU64, ToUsize};
use object::{Object as _, ObjectSymbol as _};

/// Bytes of a symbol table: a kernel with hundreds of modules has less than 20 MB.
const LIMIT_TABLE: u64 = 256 << 20;

/// The table, decompressed; empty when there is none.
pub(super) fn table(source: &dyn ReadAt, h: &DumpHeader, doubts: &mut Vec<Doubt>) -> Vec<u8> {
    let mut doubt = |why: String| doubts.push(Doubt::at("dump-symbols", Addr(h.ksyms), why));
    if h.ksyms_csize == 0 || h.ksyms_size == 0 {
        return Vec::new();
    }
    if h.ksyms_size > LIMIT_TABLE || h.ksyms_csize > LIMIT_TABLE {
        doubt(format!("a symbol table of {} bytes is not believed (limit {LIMIT_TABLE})", h.ksyms_size));
        return Vec::new();
    }
    let Some(bytes) = exact(source, h.ksyms, h.ksyms_csize.to_usize()) else {
        doubt(format!("the symbol table ({} bytes) is cut off with the end of the file", h.ksyms_csize));
        return Vec::new();
    };
    // Kernels since 2010 store it as it is; older ones compressed it as one block.
    if h.ksyms_csize >= h.ksyms_size {
        return bytes;
    }
    let table = lzjb::decompress(&bytes, h.ksyms_size.to_usize());
    if table.len().to_u64() < h.ksyms_size {
        doubt(format!("the symbol table is damaged after {} of {} bytes", table.len(), h.ksyms_size));
    }
    table
}

/// The addresses of symbols, in the order of `names`.
pub(super) fn find(table: &[u8], names: &[&str]) -> Vec<Option<u64>> {
    let mut found = vec![None; names.len()];
    let Ok(file) = object::File::parse(table) else { return found };
    for symbol in file.symbols() {
        let Ok(name) = symbol.name_bytes() else { continue };
        if let Some(slot) = names.iter().position(|n| n.as_bytes() == name).and_then(|n| found.get_mut(n)) {
            slot.get_or_insert(symbol.address());
        }
    }
    found
}

/// The key of the kernel's own translations: the address of `kas`, or the one space that has kernel addresses.
pub(super) fn kernel_space(kas: Option<u64>, map: &Map, doubts: &mut Vec<Doubt>) -> Option<u64> {
    if let Some(kas) = kas.filter(|k| map.knows(*k)) {
        return Some(kas);
    }
    let spaces = map.kernel_spaces();
    let Some(only) = spaces.first().filter(|_| spaces.len() == 1) else {
        let why = format!("the kernel's address space is unknown: no symbol kas, and {} candidates", spaces.len());
        doubts.push(Doubt::new("dump-symbols", why));
        return None;
    };
    if kas.is_some() {
        let why = format!(
            "the map has no entries of kas ({:#x}); {only:#x} has kernel addresses and was used",
            kas.unwrap_or(0)
        );
        doubts.push(Doubt::new("dump-symbols", why));
    }
    Some(*only)
}
