//! Which symbol an address has is what gdb's `info symbol` says, in executables and libraries of several forms.

use debuginfo::images::SymbolKind;
use debuginfo::{DebugInfo, Locator, Modules};
use evidence::{Doubts, Svma};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

fn gdb(file: &Path, addresses: &[u64]) -> Vec<Option<String>> {
    let mut script = tempfile::NamedTempFile::new().unwrap();
    writeln!(script, "set print demangle off\nset print asm-demangle off").unwrap();
    for address in addresses {
        writeln!(script, "info symbol {address:#x}").unwrap();
    }
    let output = Command::new("gdb")
        .args(["-batch", "-nx", "-ex", "set debuginfod enabled off"])
        .args([Path::new("-x"), script.path(), file])
        .output()
        .expect("gdb is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter(|l| l.contains(" in section ") || l.starts_with("No symbol matches"));
    // Stubs of indirect functions have no symbol: gdb makes up `*ABS*+0x26730@plt` for them, which names nothing.
    let named = |l: &str| !l.starts_with("No symbol") && !l.starts_with("*ABS*");
    let found: Vec<_> =
        lines.map(|l| named(l).then(|| l.split([' ', '@']).next().unwrap().to_string() + plt(l))).collect();
    assert_eq!(found.len(), addresses.len(), "{}", String::from_utf8_lossy(&output.stderr));
    found
}

fn plt(line: &str) -> &'static str {
    if line.split(' ').next().is_some_and(|name| name.ends_with("@plt")) { "@plt" } else { "" }
}

/// Compares about `count` addresses spread over the code of the file; gives how many had a symbol.
#[track_caller]
fn check(file: &Path, kind: SymbolKind, count: usize) -> usize {
    let modules = Modules::of_file(file, None, None, &Locator::default()).unwrap();
    let doubts = Doubts::new();
    let info = DebugInfo::new(&modules, &doubts);
    let symbols = info.symbols(0).unwrap();
    assert_eq!(symbols.kind(), kind, "{}", file.display());
    let code = modules.list()[0].main().unwrap();
    let sections = code.sections().iter().filter(|s| s.flags() & 4 != 0 && s.size() > 0);
    let total: u64 = sections.clone().map(debuginfo::elf::Section::size).sum();
    let step = (total / count as u64).max(1);
    let addresses: Vec<u64> = sections
        .flat_map(|s| (0..s.size()).step_by(step as usize).map(|o| s.address().0 + o).collect::<Vec<_>>())
        .collect();
    let expected = gdb(file, &addresses);
    let ours: Vec<_> = addresses.iter().map(|a| symbols.at(Svma(*a)).map(|s| s.name.into_owned())).collect();
    for ((address, ours), expected) in addresses.iter().zip(&ours).zip(&expected) {
        assert_eq!(ours, expected, "{} at {address:#x}", file.display());
    }
    assert_eq!(doubts.into_sorted(), vec![]);
    ours.iter().flatten().count()
}

#[test]
fn victims_in_several_forms() {
    for (variant, kind) in [
        ("gcc-O2", SymbolKind::Symtab),
        ("no-pie", SymbolKind::Symtab),
        ("lld", SymbolKind::Symtab),
        ("m32-O2", SymbolKind::Symtab),
        ("stripped", SymbolKind::Dynsym),
        ("minidebuginfo", SymbolKind::Symtab),
    ] {
        let program = testdata::victims::build("null_deref", variant).unwrap();
        assert!(check(&program, kind, 400) > 10);
    }
    let program = testdata::victims::build("containers", "gcc-O0").unwrap();
    assert!(check(&program, SymbolKind::Symtab, 1500) > 1000);
    let program = testdata::victims::build("null_deref", "static").unwrap();
    assert!(check(&program, SymbolKind::Symtab, 3000) > 2000);
}

#[test]
fn system_libraries() {
    for library in ["libc.so.6", "libstdc++.so.6", "libm.so.6"] {
        let paths = ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/usr/lib"];
        let Some(path) = paths.iter().map(|d| Path::new(d).join(library)).find(|p| p.exists()) else {
            println!("skipped: no {library} here");
            continue;
        };
        let path = path.canonicalize().unwrap();
        let kind = DebugInfo::new(&Modules::of_file(&path, None, None, &Locator::default()).unwrap(), &Doubts::new())
            .symbols(0)
            .unwrap()
            .kind();
        assert!(check(&path, kind, 2000) > 100);
    }
}
