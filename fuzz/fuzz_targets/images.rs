//! The readers of images of macOS and Windows on any bytes: sections, symbols and unwind information at many addresses.
#![no_main]

use debuginfo::elf::ElfFile;
use debuginfo::macho::compact;
use debuginfo::pe::{PeFile, View, arm64, x64};
use evidence::bytes::Endian;
use evidence::testing::FakeMemory;
use evidence::{Addr, Svma};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, rest)) = bytes.split_first() else { return };
    // An honest first word, so that inputs reach what comes behind it.
    let mut image = match kind & 3 {
        0 => vec![0xcf, 0xfa, 0xed, 0xfe],
        1 => vec![0xce, 0xfa, 0xed, 0xfe],
        2 => vec![0xca, 0xfe, 0xba, 0xbe],
        _ => b"MZ".to_vec(),
    };
    image.extend_from_slice(rest);
    if kind & 3 == 3 {
        let memory = FakeMemory::new().with(Addr(0x1000), image.clone());
        let Some(file) = PeFile::from_memory("fuzz.exe", Addr(0x1000), &memory) else { return };
        let view = View { file: &file, memory: &memory, base: Addr(0x1000) };
        let _ = (file.exports().len(), file.debug_id(), file.code_id());
        for rva in (0..4096).step_by(36) {
            let _ = arm64::find(&view, rva, kind & 4 == 0);
            if let Ok(Some(found)) = x64::find(&view, rva) {
                let _ = x64::info(&view, found.unwind);
            }
        }
        return;
    }
    let Ok(file) = ElfFile::from_bytes("fuzz", image) else { return };
    let macho = file.macho().expect("its magic number says so");
    let symbols = macho.symbols(file.bytes());
    assert!(symbols.len() <= file.bytes().len(), "every symbol takes bytes");
    for at in (0..1 << 16).step_by(1021) {
        let address = macho.header_address().unwrap_or(0).wrapping_add(at);
        assert!(macho.function_at(file.bytes(), address).is_none_or(|f| f.contains(&address)));
        let _ = (symbols.covering(address), macho.is_code(address), file.bytes_at(Svma(address)).map(<[u8]>::len));
        for section in file.sections().iter().filter(|s| s.name() == "__unwind_info") {
            let Ok(Some(table)) = file.data_of(section) else { continue };
            if let Ok(Some(entry)) = compact::find(table, Endian::Little, at as u32) {
                let _ = (compact::x86_64(entry.encoding), compact::aarch64(entry.encoding));
            }
        }
    }
});
