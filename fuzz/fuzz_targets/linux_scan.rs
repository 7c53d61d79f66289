//! Dumps without VMCOREINFO: the search for it in physical memory, and what is believed of what it finds.
#![no_main]

mod linux;

use libfuzzer_sys::fuzz_target;

/// Bytes of input for each page.
const CHUNK: usize = 256;
const PAGE: usize = 4096;

/// A page that the search looks at: text as the kernel writes it, with numbers of the input.
fn page(chunk: &[u8]) -> Vec<u8> {
    let byte = |at: usize| u64::from(chunk.get(at).copied().unwrap_or(0));
    let mut page = Vec::new();
    if byte(0) & 1 == 1 {
        // Behind the header of a note.
        page.resize(24, 0);
    }
    page.extend(b"OSRELEASE=6.1\n");
    if byte(0) & 2 == 2 {
        let table = 0xffff_ffff_8000_0000 + (byte(1) << 12);
        let lines = format!(
            "SYMBOL(init_uts_ns)={:x}\nSYMBOL(swapper_pg_dir)={table:x}\nNUMBER(phys_base)={}\nNUMBER(pgtable_l5_enabled)={}\n",
            0xffff_ffff_8000_0000 + (byte(2) << 8),
            byte(3) << 12,
            byte(4) & 1,
        );
        page.extend(lines.as_bytes());
    }
    page.extend(chunk.get(5..).unwrap_or_default());
    if byte(0) & 4 == 4 {
        // A page table instead: entries that lead to the first pages.
        page = chunk.iter().flat_map(|b| ((u64::from(b >> 4) << 12) | u64::from(b & 15)).to_le_bytes()).collect();
    }
    page.resize(PAGE, 0);
    page
}

fuzz_target!(|bytes: &[u8]| {
    let memory: Vec<u8> = bytes.chunks(CHUNK).take(256).flat_map(page).collect();
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([4, 0, 62, 0, 1, 0, 0, 0]);
    for word in [0, 64, 0] {
        file.extend(u64::to_le_bytes(word));
    }
    file.extend([0; 4]);
    for half in [64, 56, 1, 64, 0, 0] {
        file.extend(u16::to_le_bytes(half));
    }
    file.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    let size = u64::try_from(memory.len()).expect("short");
    for word in [PAGE as u64, 0, 0, size, size, 0] {
        file.extend(word.to_le_bytes());
    }
    file.resize(PAGE, 0);
    file.extend(memory);
    linux::exercise(file);
});
