//! The reader of Breakpad symbol files on any bytes: every question there is, at the addresses that the file mentions, by
//! index and by order.
#![no_main]

use debuginfo::SymFile;
use debuginfo::sym_file::Effort;
use evidence::bytes::Endian;
use evidence::testing::FakeMemory;
use evidence::{Addr, Arch, Register, Registers};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    // An honest first line, so that inputs reach what comes behind it.
    let mut text = b"MODULE Linux x86_64 0 fuzz\n".to_vec();
    text.extend_from_slice(bytes);
    let sym = SymFile::from_bytes(Path::new("fuzz.sym"), text.clone()).expect("it has a MODULE record");
    // As large files are read, which are too large for a fuzzer: what is found by the order is what the index finds.
    let effort = Effort { whole: 0, part: 0, samples: u64::MAX, apart: 1, rounds: u64::MAX };
    let sorted = SymFile::from_bytes(Path::new("fuzz.sym"), text).expect("as above").with_effort(effort);
    let memory = FakeMemory::new().with(Addr(0x1000), (0..=255).collect());
    let mut registers = Registers::new(Arch::X86_64);
    (0..17).for_each(|n| registers.set(Register(n), 0x1000 + u64::from(n)));
    let mut narrow = Registers::new(Arch::X86);
    (0..9).for_each(|n| narrow.set(Register(n), 0x1000 + u64::from(n)));
    let words = bytes.split(|b| !b.is_ascii_hexdigit()).filter_map(|w| std::str::from_utf8(w).ok());
    let mentioned = words.filter_map(|w| u64::from_str_radix(w, 16).ok()).take(64);
    for at in mentioned.flat_map(|at| [at.wrapping_sub(1), at, at.wrapping_add(1)]) {
        let frames = sym.resolve(at, 0);
        assert!(frames.last().is_none_or(|f| !f.inline), "the last frame is the function itself");
        assert_eq!(frames, sorted.resolve(at, 0));
        assert_eq!(sym.public_at(at), sorted.public_at(at));
        assert_eq!(sym.cfi_at(at), sorted.cfi_at(at));
        assert_eq!(sym.stack_win_at(at), sorted.stack_win_at(at));
        if let Some(rules) = sym.cfi_at(at) {
            assert!(rules.range.contains(&at));
            let _ = rules.evaluate(&registers, &memory, Endian::Little);
        }
        if let Some(frame) = sym.stack_win_at(at) {
            assert!(frame.range.contains(&at));
            let start = frame.return_address_expected_at(0x1000, 4);
            let _ = frame.evaluate(&narrow, 4, start, &memory);
        }
    }
});
