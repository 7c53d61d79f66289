//! Damaged files: anything may be wrong in the answer, but there is one, soon, and no panic.

use debuginfo::elf::ElfFile;
use debuginfo::{DebugInfo, Locator, Modules};
use evidence::testing::{FakeMemory, FakeTarget};
use evidence::{Addr, Doubts, Mapping, Protection, Svma};
use proptest::prelude::*;
use std::io::Write as _;
use std::sync::OnceLock;

fn originals() -> &'static Vec<Vec<u8>> {
    static FILES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    FILES.get_or_init(|| {
        let read = |variant| std::fs::read(testdata::victims::build("null_deref", variant).unwrap()).unwrap();
        ["gcc-O2", "stripped", "minidebuginfo", "m32-O2", "debug-frame", "debuglink", "dwz"].map(read).to_vec()
    })
}

/// Uses every table of a file.
fn exercise(bytes: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let Ok(modules) = Modules::of_file(file.path(), None, None, &Locator::default()) else { return };
    let doubts = Doubts::new();
    let info = DebugInfo::new(&modules, &doubts);
    let module = &modules.list()[0];
    let _ = (module.report(), module.supplementary(), module.mini_debug_info());
    let symbols = info.symbols(0).unwrap();
    let known: Vec<_> = symbols.iter().take(2000).collect();
    for symbol in &known {
        let _ = (symbols.at(symbol.start), symbols.object_at(symbol.start), symbols.by_name(&symbol.name));
        let _ = symbol.demangled();
    }
    let cfi = info.cfi(0).unwrap();
    let span = module.size.min(1 << 16);
    for at in (0..span).step_by(16).map(|o| module.base.0.wrapping_add(o)).chain([0, 1, u64::MAX]) {
        let _ = cfi.row(Svma(at), &doubts);
        let _ = symbols.at(Svma(at));
    }
}

/// The image as a loader would have laid it out, with its bytes where its headers say.
fn in_memory(bytes: &[u8], base: u64) -> (FakeTarget, FakeMemory) {
    let mut target = FakeTarget::new();
    let mut memory = FakeMemory::new();
    target.identity.executable = Some("/nonexistent/program".into());
    let Ok(file) = ElfFile::from_bytes("image", bytes.to_vec()) else { return (target, memory) };
    for segment in file.segments().iter().take(16) {
        let start = (segment.file_offset & !0xfff).min(bytes.len() as u64);
        let end = segment.file_offset.saturating_add(segment.file_size).min(bytes.len() as u64).max(start);
        let at = Addr(base.wrapping_add(segment.address.0 & !0xfff));
        let Some(last) = at.checked_add(end - start) else { continue };
        if target.mappings.last().is_some_and(|m: &Mapping| m.range.end > at) || end == start {
            continue;
        }
        memory = memory.with(at, bytes[start as usize..end as usize].to_vec());
        target.mappings.push(Mapping {
            range: at..last,
            protection: Some(Protection { read: true, write: segment.writable, execute: segment.executable }),
            shared: None,
            file_offset: start,
            path: Some("/nonexistent/program".into()),
            deleted: false,
            file_id: None,
            open: Vec::new(),
        });
    }
    (target, memory)
}

fn outline(bytes: &[u8]) -> usize {
    let (target, memory) = in_memory(bytes, 0x5555_5555_0000);
    let doubts = Doubts::new();
    let modules = Modules::outline(&target, &memory, &Locator::default(), &doubts);
    let info = DebugInfo::new(&modules, &doubts);
    for (index, module) in modules.list().iter().enumerate() {
        let _ = module.report();
        for at in (0..0x4000).step_by(64) {
            let _ = info.cfi(index).and_then(|c| c.row(Svma(at), &doubts));
            let _ = info.symbols(index).and_then(|s| s.at(Svma(at)));
        }
    }
    modules.list().len()
}

#[test]
fn the_undamaged_image_is_found() {
    assert_eq!(outline(&originals()[0]), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bytes(
        which in 0..7_usize,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..24),
    ) {
        let mut bytes = originals()[which].clone();
        let len = bytes.len();
        for (index, value, place) in flips {
            // Headers at both ends of the file are where damage does most.
            let at = match place {
                0 => index.index(1024.min(len)),
                1 => len - 1 - index.index(2048.min(len)),
                _ => index.index(len),
            };
            bytes[at] = value;
        }
        exercise(&bytes);
        outline(&bytes);
    }

    #[test]
    fn cut_off(which in 0..7_usize, at in any::<prop::sample::Index>()) {
        let bytes = &originals()[which];
        let bytes = &bytes[..at.index(bytes.len())];
        exercise(bytes);
        outline(bytes);
    }

    #[test]
    fn call_frame_sections_of_noise(noise in prop::collection::vec(any::<u8>(), 64..512), start in 0..256_usize) {
        let mut bytes = originals()[0].clone();
        let file = ElfFile::from_bytes("image", bytes.clone()).unwrap();
        for name in [".eh_frame", ".eh_frame_hdr"] {
            let section = file.section(name).unwrap();
            let at = section.file_offset() as usize;
            let end = at + section.size() as usize;
            for (slot, value) in bytes[at..end].iter_mut().skip(start).zip(&noise) {
                *slot = *value;
            }
        }
        exercise(&bytes);
    }

    #[test]
    fn names_of_any_kind(name in "(_Z|_R|_ZN|\\?)?[ -~]{0,300}", repeat in 1..2000_usize) {
        let _ = debuginfo::demangle::demangle(&name);
        let _ = debuginfo::demangle::demangle(&format!("_Z{}", name.repeat(repeat)));
        let _ = debuginfo::demangle::demangle(&format!("_ZN{}E", "1aI".repeat(repeat)));
        let _ = debuginfo::demangle::demangle(&format!("_R{}", "NvC".repeat(repeat)));
    }
}
