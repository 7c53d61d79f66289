//! Images of macOS and their dSYM bundles: functions and lines, symbols, and compact unwind information against LLVM's
//! own readers.

use debuginfo::elf::ElfFile;
use debuginfo::images::SymbolKind;
use debuginfo::macho::compact;
use debuginfo::{DebugInfo, Locator, Modules};
use evidence::bytes::Endian;
use evidence::{Doubts, Svma};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

fn build(machine: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    testdata::macos::build(machine, folder.path()).unwrap();
    folder
}

fn open(program: &Path) -> Modules {
    Modules::of_file(program, None, None, &Locator::default()).unwrap()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The addresses of code.
fn code(file: &ElfFile, step: usize) -> Vec<u64> {
    let text = file.section(".text").unwrap();
    (text.address().0..text.address().0 + text.size()).step_by(step).collect()
}

/// `function file:line:column` of each frame, innermost first, as llvm-symbolizer says: for each address.
fn by_llvm(image: &Path, addresses: &[u64]) -> Vec<Vec<String>> {
    let mut child = Command::new("llvm-symbolizer")
        .args(["--inlines", "--obj"])
        .arg(image)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let questions: String = addresses.iter().map(|a| format!("{a:#x}\n")).collect();
    std::thread::spawn(move || input.write_all(questions.as_bytes()).unwrap());
    let out = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let mut all = Vec::new();
    for answer in out.split("\n\n").filter(|a| !a.trim().is_empty()) {
        let lines: Vec<&str> = answer.lines().filter(|l| !l.is_empty()).collect();
        all.push(lines.chunks_exact(2).map(|pair| format!("{} {}", pair[0], pair[1])).collect());
    }
    assert_eq!(all.len(), addresses.len());
    all
}

#[test]
fn functions_lines_and_inlined_calls_are_those_of_llvm() {
    for (machine, step) in [("x86_64", 1), ("arm64", 4)] {
        let folder = build(machine);
        let program = folder.path().join("program");
        let modules = open(&program);
        let doubts = Doubts::new();
        let info = DebugInfo::new(&modules, &doubts);
        let addresses = code(&ElfFile::open(&program).unwrap(), step);
        let (mut compared, mut deep) = (0, 0);
        for (at, expected) in addresses.iter().zip(by_llvm(&program, &addresses)) {
            let found: Vec<String> = info
                .resolve(0, Svma(*at))
                .iter()
                .map(|f| {
                    let (name, file) = (f.function.as_deref().unwrap_or("??"), f.file.as_deref().unwrap_or("??"));
                    format!("{name} {file}:{}:{}", f.line.unwrap_or(0), f.column.unwrap_or(0))
                })
                .collect();
            // Code of no line: LLVM says line 0, here (as in gdb) the line before it goes on.
            let lineless = |f: &String| f.rsplit(':').nth(1) == Some("0");
            let name = |f: &String| f.split(' ').next().unwrap().to_owned();
            if expected.iter().any(lineless) {
                let names = |frames: &[String]| frames.iter().map(name).collect::<Vec<_>>();
                assert_eq!(names(&found), names(&expected), "{machine} at {at:#x}");
                continue;
            }
            assert_eq!(found, expected, "{machine} at {at:#x}");
            compared += 1;
            deep += usize::from(expected.len() > 2);
        }
        assert!(compared > 400 && deep > 3, "{machine}: {compared} {deep}");
        assert_eq!(modules.list()[0].report().problem, None);
        assert_eq!(format!("{:?}", doubts.sorted()), "[]");
    }
}

#[test]
fn symbols_are_those_of_llvm() {
    for machine in ["x86_64", "arm64"] {
        let folder = build(machine);
        let program = folder.path().join("program");
        // Without the bundle the symbol table is all there is.
        std::fs::remove_dir_all(folder.path().join("program.dSYM")).unwrap();
        let modules = open(&program);
        let doubts = Doubts::new();
        let info = DebugInfo::new(&modules, &doubts);
        let symbols = info.symbols(0).unwrap();
        let listed = output("llvm-nm", &["--no-demangle", "--defined-only", program.to_str().unwrap()]);
        let mut functions = 0;
        for line in listed.lines() {
            let [at, kind, name] = line.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{line}") };
            let at = u64::from_str_radix(at, 16).unwrap();
            let plain = name.strip_prefix('_').unwrap();
            if plain == "_mh_execute_header" || name.starts_with("__mh") || name == "dyld_private" {
                continue;
            }
            let found = symbols.by_name(plain).unwrap_or_else(|| panic!("{name}"));
            assert_eq!((found.start.0, found.is_function), (at, kind.eq_ignore_ascii_case("t")), "{name}");
            if found.is_function {
                // The last byte is still of this function, and the next one is of another.
                assert_eq!(symbols.at(Svma(at + found.size - 1)).unwrap().name, plain);
                assert_ne!(symbols.at(Svma(at + found.size)).map(|s| s.name.into_owned()).as_deref(), Some(plain));
                functions += 1;
            }
        }
        assert!(functions > 30, "{machine}: {functions}");
        assert_eq!(modules.list()[0].report().kind, SymbolKind::Symtab);
    }
}

#[test]
fn stripped_functions_are_not_those_before_them() {
    let folder = build("x86_64");
    let program = folder.path().join("program");
    std::fs::remove_dir_all(folder.path().join("program.dSYM")).unwrap();
    let full = open(&program);
    let doubts = Doubts::new();
    let info = DebugInfo::new(&full, &doubts);
    let place = |name| info.symbols(0).unwrap().by_name(name).unwrap().start;
    let (many, leaf) = (place("framed_many"), place("framed_leaf"));
    assert!(leaf < many, "the compiler keeps the order of the source");
    // Takes the name of the second one out of the symbol table.
    let mut bytes = std::fs::read(&program).unwrap();
    let file = ElfFile::open(&program).unwrap();
    let entry =
        (0..bytes.len() - 16).find(|at| bytes[at + 8..at + 16] == many.0.to_le_bytes() && bytes[at + 4] & 0xe == 0xe);
    bytes[entry.unwrap() + 4] = 0;
    drop(file);
    let stripped = folder.path().join("stripped");
    std::fs::write(&stripped, bytes).unwrap();
    let modules = open(&stripped);
    let info = DebugInfo::new(&modules, &doubts);
    let name = |at: u64| info.resolve(0, Svma(at)).pop().and_then(|f| f.function).map(|f| f.to_string());
    assert_eq!(name(leaf.0 + 2).as_deref(), Some("framed_leaf"));
    assert_eq!(name(many.0 + 2), None);
}

#[test]
fn compact_unwind_entries_are_those_of_llvm() {
    for machine in ["x86_64", "arm64"] {
        let folder = build(machine);
        let program = folder.path().join("program");
        let file = ElfFile::open(&program).unwrap();
        let table = file.section_data("__unwind_info").unwrap().unwrap();
        let listed = output("llvm-objdump", &["--macho", "--unwind-info", program.to_str().unwrap()]);
        let number = |line: &str, key: &str| {
            let rest = line.split_once(key)?.1.split_once("=0x")?.1;
            let end = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
            u32::from_str_radix(&rest[..end], 16).ok()
        };
        let mut entries: Vec<(u32, u32)> = Vec::new();
        for line in listed.lines().filter(|l| l.trim_start().starts_with('[')) {
            if let (Some(start), Some(encoding)) = (number(line, "function offset"), number(line, "encoding")) {
                entries.push((start, encoding));
            }
        }
        assert!(entries.len() > 20, "{listed}");
        for (n, (start, encoding)) in entries.iter().enumerate() {
            let found = compact::find(table, Endian::Little, *start).unwrap().unwrap();
            assert_eq!((found.start, found.encoding), (*start, *encoding), "{machine}");
            if let Some((next, _)) = entries.get(n + 1) {
                assert_eq!(found.end, *next, "{machine}");
                assert_eq!(compact::find(table, Endian::Little, next - 1), Ok(Some(found)));
            }
        }
        let kinds: std::collections::BTreeSet<u32> = entries.iter().map(|(_, e)| e >> 24 & 0xf).collect();
        println!("{machine}: {} entries of kinds {kinds:?}", entries.len());
        assert!(kinds.len() >= 2, "{kinds:?}");
    }
}
