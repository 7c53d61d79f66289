//! Whatever index a file has, complete, partial, wrong or none, an address means the same.

use crate::peers::{assert_same, gdb, ours, ours_with, ours_without_locations, renamed, sample, without_templates};
use debuginfo::{Cache, Locator};
use std::path::{Path, PathBuf};
use std::process::Command;
use testdata::victims;
use testdata::workload::{self, Size};

fn run(folder: &Path, tool: &str, args: &[&str]) -> bool {
    let run = Command::new(tool).args(args).current_dir(folder).output();
    match run {
        Ok(run) => {
            assert!(run.status.success(), "{tool} {args:?}: {}", String::from_utf8_lossy(&run.stderr));
            true
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped {tool} {args:?}: not installed");
            false
        }
        Err(e) => panic!("{tool}: {e}"),
    }
}

fn copy(program: &Path, folder: &Path, name: &str) -> PathBuf {
    let to = folder.join(name);
    std::fs::copy(program, &to).unwrap();
    to
}

/// Overwrites a section of a copy.
fn change(program: &Path, section: &str, with: impl Fn(&mut [u8])) {
    let mut bytes = std::fs::read(program).unwrap();
    let modules = debuginfo::Modules::of_file(program, None, None, &debuginfo::Locator::default()).unwrap();
    let file = modules.list()[0].main().unwrap();
    let data = file.section_data(section).unwrap().unwrap();
    let at = bytes.windows(data.len()).position(|w| w == data).unwrap();
    with(&mut bytes[at..at + data.len()]);
    drop(modules);
    std::fs::write(program, bytes).unwrap();
}

#[test]
fn every_index_and_none_give_the_same_answers() {
    let program = victims::build("containers", "gcc-O2").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let pcs = sample(&program, 400);
    let expected = ours(&program, &pcs);

    let none = copy(&program, folder.path(), "none");
    if run(folder.path(), "objcopy", &["-R", ".debug_aranges", "none"]) {
        assert_same("no index", &pcs, &expected, &ours(&none, &pcs));
    }
    let indexed = copy(&none, folder.path(), "indexed");
    if run(folder.path(), "gdb-add-index", &["indexed"]) {
        assert_same(".gdb_index", &pcs, &expected, &ours(&indexed, &pcs));
        // Every range is said to belong to a unit that is not there, then to one that does not exist at all.
        change(&indexed, ".gdb_index", |bytes| {
            let first = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
            let end = u32::from_le_bytes(bytes[16..20].try_into().unwrap()) as usize;
            bytes[first..end].chunks_exact_mut(20).for_each(|entry| entry[16] = 77);
        });
        assert_same("wrong .gdb_index", &pcs, &expected, &ours(&indexed, &pcs));
    }
    let names = copy(&none, folder.path(), "names");
    if run(folder.path(), "gdb-add-index", &["-dwarf-5", "names"]) {
        assert_same(".debug_names", &pcs, &expected, &ours(&names, &pcs));
    }
    let lying = copy(&program, folder.path(), "lying");
    change(&lying, ".debug_aranges", |bytes| {
        // The first unit's offset (after length and version), and the start of its first range.
        bytes[6] ^= 0x55;
        bytes[17] ^= 0x01;
    });
    let (found, doubts) = crate::peers::ours_and_doubts(&lying, &pcs);
    assert_same("wrong .debug_aranges", &pcs, &expected, &found);
    assert!(doubts.iter().any(|d| d.why.contains("unit at 0x55")), "{doubts:?}");
    for how in ["zlib", "zlib-gnu", "zstd"] {
        let packed = copy(&program, folder.path(), how);
        if run(folder.path(), "objcopy", &[&format!("--compress-debug-sections={how}"), how]) {
            assert_same(how, &pcs, &expected, &ours(&packed, &pcs));
            // What only variables need may even be damaged.
            let file = debuginfo::elf::ElfFile::open(&packed).unwrap();
            let list = file.sections().iter().find(|s| s.name().contains("debug_loclists")).unwrap();
            let stream = usize::try_from(list.file_offset()).unwrap() + 64;
            drop(file);
            let mut bytes = std::fs::read(&packed).unwrap();
            bytes[stream..stream + 16].fill(0xff);
            std::fs::write(&packed, bytes).unwrap();
            assert_ne!(crate::peers::ours_and_doubts(&packed, &pcs).1, [], "{how}");
            assert_same(how, &pcs, &expected, &ours_without_locations(&packed, &pcs));
        }
    }
}

/// Addresses of a generated program in every form, with and without the cache, are what gdb says of the plain one.
/// `POSTFAULT_WORKLOAD=medium` takes a thousand of the program of fourteen times the size.
#[test]
fn a_generated_program_means_the_same_in_every_form() {
    let (size, count) = match std::env::var("POSTFAULT_WORKLOAD").as_deref() {
        Ok("medium") => (Size::Medium, 1000),
        _ => (Size::Small, 250),
    };
    let program = workload::build(size, &[]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let pcs = sample(&program, count);
    let bare = |frames| renamed(frames, |name| without_templates(name).replace("&&", ""));
    let told = bare(gdb(&program, &pcs));
    let known = told.iter().filter(|frames| !frames.is_empty()).count();
    assert!(known * 10 > pcs.len() * 9, "gdb knows {known} of {}", pcs.len());
    let check = |form: &str, packed: &Path| {
        assert_same(form, &pcs, &told, &bare(ours(packed, &pcs)));
        let home = folder.path().join(format!("cache of {form}"));
        let locator = Locator { index: Some(Cache { smallest: 0, ..Cache::new(&home) }), ..Locator::default() };
        for look in ["first", "second"] {
            assert_same(&format!("{form}, {look} look"), &pcs, &told, &bare(ours_with(packed, &pcs, &locator)));
        }
        println!("{form}: {} addresses", pcs.len());
    };
    check("as it is", &program);
    for (form, tool, arguments) in [
        ("none", "objcopy", &["-R", ".debug_aranges"][..]),
        ("zlib", "objcopy", &["--compress-debug-sections=zlib"]),
        ("zstd", "objcopy", &["--compress-debug-sections=zstd"]),
        ("gdb-index", "gdb-add-index", &[]),
        ("debug-names", "gdb-add-index", &["-dwarf-5"]),
    ] {
        let packed = copy(&program, folder.path(), form);
        if run(folder.path(), tool, &[arguments, &[form]].concat()) {
            check(form, &packed);
        }
        std::fs::remove_file(&packed).unwrap();
    }
}

#[test]
fn aranges_of_some_units_do_not_hide_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let source = |name: &str, n: usize| {
        let text = format!(
            "int outer_{name}(int); static inline int twice(int x) {{\n return x * 2 + {n};\n}}\n\
             int work_{name}(int x) {{\n  return twice(x) + outer_{name}(x);\n}}\n"
        );
        std::fs::write(folder.path().join(format!("{name}.c")), text).unwrap();
    };
    source("first", 1);
    source("second", 2);
    let main = "int work_first(int), work_second(int); int outer_first(int x) { return x; }\n\
                int outer_second(int x) { return x + 1; }\n\
                int main(int c, char **v) { (void)v; return work_first(c) + work_second(c); }\n";
    std::fs::write(folder.path().join("main.c"), main).unwrap();
    // Of three units only gcc's says where it is.
    let built = run(folder.path(), "gcc", &["-g", "-O2", "-c", "first.c"])
        && run(folder.path(), "clang", &["-g", "-O2", "-c", "second.c"])
        && run(folder.path(), "clang", &["-g", "-O2", "-c", "main.c"])
        && run(folder.path(), "gcc", &["-o", "all", "first.o", "second.o", "main.o"]);
    if !built {
        return;
    }
    let program = folder.path().join("all");
    let pcs = sample(&program, 200);
    let found = ours(&program, &pcs);
    assert_same("partial .debug_aranges", &pcs, &crate::peers::gdb(&program, &pcs), &found);
    for name in ["work_first", "work_second", "outer_second", "main"] {
        assert!(found.iter().flatten().any(|(function, ..)| function == name), "{name} is found");
    }
}

/// Without a cache, with an empty one, a full one, and with entries that were damaged in every way.
#[test]
fn the_cache_changes_no_answer() {
    let program = victims::build("containers", "gcc-O2").unwrap();
    let folder = tempfile::tempdir().unwrap();
    // Every tenth address is one that no unit knows: all of them are scanned for those.
    let mut pcs = sample(&program, 100);
    for pc in pcs.iter_mut().step_by(10) {
        *pc = 1;
    }
    let expected = ours(&program, &pcs);
    for how in ["none", "zlib", "zlib-gnu", "zstd"] {
        let packed = copy(&program, folder.path(), how);
        if !run(folder.path(), "objcopy", &["-R", ".debug_aranges", &format!("--compress-debug-sections={how}"), how]) {
            return;
        }
        let home = folder.path().join(format!("cache-{how}"));
        let locator = Locator { index: Some(Cache { smallest: 0, ..Cache::new(&home) }), ..Locator::default() };
        let check = |what: &str| {
            assert_same(&format!("{how}, {what}"), &pcs, &expected, &ours_with(&packed, &pcs, &locator));
            let list = std::fs::read_dir(home.join("index")).unwrap();
            let mut entries: Vec<PathBuf> = list.map(|e| e.unwrap().path()).collect();
            entries.sort();
            entries
        };
        let entries = check("empty cache");
        let kept = |what: &str| entries.iter().any(|e| e.to_str().unwrap().ends_with(what));
        assert!(kept("units-unnamed"), "{entries:?}");
        assert!(how == "none" || (kept("debug_info") && kept("debug_str")), "{entries:?}");
        assert_eq!(check("full cache"), entries);
        // Half of the addresses are known, the others are new.
        std::fs::remove_dir_all(&home).unwrap();
        let (some, all) = (&pcs[..pcs.len() / 2], &expected);
        assert_same(how, some, &all[..some.len()], &ours_with(&packed, some, &locator));
        assert_eq!(check("half a cache"), entries);
        let frames = |e: &PathBuf| e.file_name().unwrap().to_str().unwrap().contains("-frames-");
        assert_eq!(entries.iter().filter(|e| frames(e)).count(), 1, "{entries:?}");
        entries.iter().filter(|e| !frames(e)).for_each(|e| std::fs::remove_file(e).unwrap());
        assert_eq!(check("answers only").len(), 1, "nothing else is read or made");
        std::fs::remove_dir_all(&home).unwrap();
        check("empty cache again");
        for damage in if how == "zlib-gnu" || how == "zstd" { 0..0 } else { 0..4 } {
            for (n, entry) in entries.iter().enumerate() {
                let mut bytes = std::fs::read(entry).unwrap();
                match damage {
                    0 => bytes.iter_mut().skip(4096).step_by(100).for_each(|b| *b ^= 0xff),
                    1 => bytes.truncate(bytes.len() / 2),
                    2 => bytes = std::fs::read(&entries[(n + 1) % entries.len()]).unwrap(),
                    _ => bytes.fill(0xff),
                }
                // As another process would: what is mapped somewhere is not changed.
                std::fs::remove_file(entry).unwrap();
                std::fs::write(entry, bytes).unwrap();
            }
            assert_eq!(check(&format!("damage {damage}")), entries);
        }
        std::fs::remove_dir_all(&home).unwrap();
        std::fs::write(&home, "no folder").unwrap();
        assert_same(how, &pcs, &expected, &ours_with(&packed, &pcs, &locator));
    }
}
