//! Frames by a symbol file that we wrote are those by the program's own debug information: in the core of every victim.

use debuginfo::images::{Image, Verified};
use debuginfo::locate::StoreKey;
use debuginfo::sym_file;
use debuginfo::{Backed, DebugInfo, Locator, Modules};
use evidence::{Arch, Doubts, Registers, Target as _};
use platform::elfcore;
use std::path::Path;
use testdata::victims::{self, Language, VictimError};
use unwind::{Limits, unwind};

/// Writes the symbol file of `program` into a store.
fn write(program: &Path, store: &Path) -> StoreKey {
    let modules = Modules::of_file(program, None, None, &Locator::default()).unwrap();
    let doubts = Doubts::new();
    let info = DebugInfo::new(&modules, &doubts);
    let key = sym_file::key_of(info.module(0).unwrap()).unwrap();
    let folder = store.join(key.name()).join(key.id());
    std::fs::create_dir_all(&folder).unwrap();
    let mut text = Vec::new();
    sym_file::write(&info, 0, &mut text).unwrap();
    std::fs::write(folder.join(format!("{}.sym", key.name())), text).unwrap();
    key
}

/// Compares all threads; gives how many frames of the program itself were compared, and how many of them by CFI.
fn check(program: &Path, core: &Path) -> usize {
    let target = elfcore::open(core, &elfcore::Options::default()).unwrap();
    let doubts = Doubts::new();
    let locator = Locator { executable: Some(program.to_owned()), ..Locator::default() };
    let by_dwarf = Modules::outline(&target, target.memory(), &locator, &doubts);
    let store = tempfile::tempdir().unwrap();
    let key = write(program, store.path());
    // All images but the program keep their files.
    let images = by_dwarf.list().iter().map(|m| {
        let main = m.main().filter(|f| f.path() == program);
        let file = m.main().filter(|_| main.is_none()).and_then(|f| debuginfo::elf::ElfFile::open(f.path()).ok());
        Image {
            slide: if main.is_some() { m.base.0 } else { m.slide },
            build_id: m.build_id.clone(),
            file: file.map(|f| (f, Verified::BuildId)),
            store: main.map(|_| key.clone()),
            ..Image::at(if main.is_some() { "/nowhere/program" } else { &m.path }, m.base, m.size)
        }
    });
    let symbols = vec![store.path().to_owned()];
    let images: Vec<Image> = images.collect();
    // Rust programs that panic map their own file a second time.
    assert!(images.iter().any(|i| i.store.is_some()), "{}", program.display());
    let by_file = Modules::of_images(images, target.mappings(), &Locator { symbols, ..Locator::default() });
    let memory = Backed::new(target.memory(), &by_dwarf);
    let (dwarf, file) = (DebugInfo::new(&by_dwarf, &doubts), DebugInfo::new(&by_file, &doubts));
    let limits = Limits { frames: 2000, ..Limits::default() };
    let mut compared = 0;
    for thread in target.threads() {
        let expected = unwind(&thread.registers, &memory, &dwarf, &limits);
        let found = unwind(&thread.registers, &memory, &file, &limits);
        let what = format!("{} thread {}", core.display(), thread.id.0);
        let pcs = |s: &unwind::Stack| s.frames.iter().map(|f| format!("{:#x}", f.pc.0)).collect::<Vec<_>>();
        assert_eq!(pcs(&found), pcs(&expected), "{what}");
        for (frame, expected) in found.frames.iter().zip(&expected.frames) {
            assert_eq!(frame.trust, expected.trust, "{what} {}", frame.pc);
            let kept = |r: &Registers| r.iter().filter(|(r, _)| r.0 < 17).collect::<Vec<_>>();
            assert_eq!(kept(&frame.registers), kept(&expected.registers), "{what} {}", frame.pc);
            let name = |modules: &Modules, info: &DebugInfo<'_>| {
                let (index, module) = modules.find(frame.lookup())?;
                let frames = info.resolve(index, module.to_svma(frame.lookup()));
                let each = frames.iter().map(|f| (f.function.clone(), f.file.clone(), f.line));
                Some(each.collect::<Vec<_>>())
            };
            assert_eq!(name(&by_file, &file), name(&by_dwarf, &dwarf), "{what} {}", frame.pc);
            compared +=
                usize::from(by_dwarf.find(frame.lookup()).is_some_and(|(_, m)| m.base == by_dwarf.list()[0].base));
        }
    }
    assert!(target.identity().arch == Arch::X86_64 || target.identity().arch == Arch::X86);
    compared
}

#[test]
fn every_victim() {
    let mut all = 0;
    for victim in victims::all() {
        // The Rust ones hold the same standard library each: one of them stands for all, unless all are asked for.
        let is_rust = victim.language == Language::Rust;
        if is_rust && victim.name != "rust_panic" && !testdata::fixtures::required("POSTFAULT_ALL_VICTIMS") {
            continue;
        }
        let variant = victim.variants[0];
        let core = match victim.signal {
            Some(_) => victims::crash_core(victim.name, variant),
            None => victims::wait_gcore(victim.name, variant),
        };
        match (victims::build(victim.name, variant), core) {
            (Ok(program), Ok(core)) => {
                let frames = check(&program, &core);
                println!("{} {variant}: {frames} frames", victim.name);
                all += frames;
            }
            (_, Err(VictimError::MissingTool { tool })) | (Err(VictimError::MissingTool { tool }), _) => {
                println!("skipped {} {variant}: no {tool}", victim.name);
            }
            (program, core) => println!("skipped {} {variant}: {program:?} {core:?}", victim.name),
        }
    }
    println!("{all} frames");
    assert!(all > 200 || !testdata::fixtures::required("POSTFAULT_REQUIRE_CORES"), "{all}");
}
