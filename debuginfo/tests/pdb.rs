//! Program databases and images of Windows: against LLVM's own reader, in stores and at servers, damaged.

use debuginfo::images::{Image, Native, Outcome, SymbolKind};
use debuginfo::locate::StoreKey;
use debuginfo::pdb::PdbFile;
use debuginfo::pe::PeFile;
use debuginfo::{DebugInfo, Locator, Modules};
use evidence::{Addr, Arch, Doubts};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

const BASE: u64 = 0x7ff6_1234_0000;
/// Where the linker places images of programs.
const LINKED: u64 = 0x1_4000_0000;

fn build(machine: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    testdata::windows::build(machine, folder.path()).unwrap();
    folder
}

/// The addresses (RVA) of code.
fn code(file: &PeFile) -> Vec<u32> {
    (0..0x1_0000).filter(|rva| file.is_code(u64::from(*rva)) == Some(true)).collect()
}

/// `function file:line` of each frame, innermost first, as llvm-symbolizer says: for each address.
fn by_llvm(image: &Path, addresses: &[u32]) -> Vec<Vec<String>> {
    let mut child = Command::new("llvm-symbolizer")
        .args(["--inlines", "--obj"])
        .arg(image)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let questions: String = addresses.iter().map(|a| format!("{:#x}\n", LINKED + u64::from(*a))).collect();
    std::thread::spawn(move || input.write_all(questions.as_bytes()).unwrap());
    let out = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let mut all = Vec::new();
    for answer in out.split("\n\n").filter(|a| !a.trim().is_empty()) {
        let lines: Vec<&str> = answer.lines().filter(|l| !l.is_empty()).collect();
        let frame = |pair: &[&str]| {
            // Its names of functions in public symbols have parameters.
            let name = pair[0].split('(').next().unwrap();
            format!("{name} {}", pair[1].rsplit_once(':').unwrap().0)
        };
        all.push(lines.chunks_exact(2).map(frame).collect());
    }
    assert_eq!(all.len(), addresses.len());
    all
}

#[test]
fn functions_lines_and_inlined_calls_are_those_of_llvm() {
    for machine in ["x86_64", "aarch64"] {
        let folder = build(machine);
        let image = folder.path().join("program.exe");
        let file = PeFile::open(&image).unwrap();
        let pdb = PdbFile::open(&folder.path().join("program.pdb")).unwrap();
        assert_eq!(Some(pdb.id()), file.debug_id());
        let addresses = code(&file);
        let (mut compared, mut deep, mut early, mut lineless) = (0, 0, 0, 0);
        let answers = by_llvm(&image, &addresses);
        let (mut ties, mut before) = (0, Vec::<String>::new());
        for (n, (rva, expected)) in addresses.iter().zip(&answers).enumerate() {
            let found: Vec<String> = pdb
                .resolve(*rva)
                .iter()
                .map(|f| {
                    let (name, file) = (f.function.as_deref().unwrap_or("?"), f.file.as_deref().unwrap_or("?"));
                    format!("{} {file}:{}", name.split('(').next().unwrap(), f.line.unwrap_or(0))
                })
                .collect();
            // Assembly and padding: it names them after whatever comes before.
            if expected.iter().any(|e| e.contains("??")) {
                lineless += 1;
                continue;
            }
            // A function that begins with an inlined call has no line before it: it takes the next one.
            let first = found.last().is_some_and(|f| f.ends_with(" ?:0"));
            early += usize::from(first);
            let kept = |frames: &[String]| frames[..frames.len() - usize::from(first)].to_vec();
            assert_eq!(found.len(), expected.len(), "{machine} at {rva:#x}");
            // Behind the first byte of a line of an inlined function LLVM 14 names the next line: there, files count.
            let changed = |n: usize| before.len() != found.len() || before[n] != found[n];
            let exact = |n: usize| n + 1 == found.len() || changed(n);
            let plain = |frames: &[String]| -> Vec<String> {
                let cut = |(n, f): (usize, &String)| match f.rsplit_once(':') {
                    Some((file, _)) if !exact(n) => file.to_owned(),
                    _ => f.clone(),
                };
                kept(frames).iter().enumerate().map(cut).collect()
            };
            if plain(&found) != plain(expected) {
                // Of two lines that start at one address the first has no code: the next byte is of the second.
                assert_eq!(plain(&found), plain(&answers[n + 1]), "{machine} at {rva:#x}");
                ties += 1;
            }
            before = found;
            compared += 1;
            deep += usize::from(expected.len() > 2);
        }
        let counts = format!("{machine}: {compared} {deep} {early} {ties} {lineless}");
        assert!(compared > 300 && deep >= 10 && early < 30 && ties < 5, "{counts}");
    }
}

fn image(file: &PeFile) -> Image {
    Image {
        slide: BASE,
        store: StoreKey::new(r"c:\build\program.pdb", &file.debug_id().unwrap()),
        native: Some(Native::windows(Arch::X86_64, Some(&file.code_id()), None)),
        ..Image::at(r"C:\Program Files\program.exe", Addr(BASE), 0x1_0000)
    }
}

/// The name of the function `large`, the kind of symbols, and all that was looked at.
fn look(locator: &Locator, file: &PeFile) -> (Option<String>, SymbolKind, Vec<(std::path::PathBuf, Outcome)>, String) {
    let modules = Modules::of_images(vec![image(file)], &[], locator);
    let doubts = Doubts::new();
    let info = DebugInfo::new(&modules, &doubts);
    let module = &modules.list()[0];
    let at = Addr(BASE + file.exports().find("large").unwrap() + 1);
    let frames = info.resolve(0, module.to_svma(at));
    let name = frames.last().and_then(|f| f.function.as_deref().map(str::to_owned));
    let report = module.report();
    (name, report.kind, report.searched, report.problem.unwrap_or_default())
}

fn place(from: &Path, to: &Path) {
    // A folder of the store may have the file's name.
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    std::fs::copy(from, to).unwrap();
}

#[test]
fn stores_and_what_is_not_the_right_file() {
    let made = build("x86_64");
    let (exe, pdb) = (made.path().join("program.exe"), made.path().join("program.pdb"));
    let file = PeFile::open(&exe).unwrap();
    let (id, code_id) = (file.debug_id().unwrap(), file.code_id());
    let store = tempfile::tempdir().unwrap();
    let locator = Locator { symbols: vec![store.path().to_owned()], ..Locator::default() };

    let (name, kind, searched, problem) = look(&locator, &file);
    assert_eq!((name, kind), (None, SymbolKind::None));
    assert!(problem.contains("neither its image nor its program database"), "{problem}");
    let wanted = store.path().join(format!("program.exe/{code_id}/program.exe"));
    assert!(searched.contains(&(wanted.clone(), Outcome::Missing)), "{searched:?}");

    place(&exe, &wanted);
    let (name, kind, _, problem) = look(&locator, &file);
    assert_eq!((name.as_deref(), kind), (Some("large"), SymbolKind::PeExports));
    assert!(problem.contains("its program database was not found (debug id"), "{problem}");
    std::fs::remove_file(&wanted).unwrap();
    for place_of in [format!("program.pdb/{id}/program.exe"), "program.exe".into()] {
        let path = store.path().join(place_of);
        place(&exe, &path);
        assert_eq!(look(&locator, &file).1, SymbolKind::PeExports, "{path:?}");
        std::fs::remove_file(path).unwrap();
    }

    let lower = format!("program.pdb/{}/program.pdb", id.to_ascii_lowercase());
    for place_of in [format!("program.pdb/{id}/program.pdb"), lower, "program.pdb".into()] {
        let path = store.path().join(place_of);
        place(&pdb, &path);
        let (name, kind, searched, _) = look(&locator, &file);
        assert_eq!((name.as_deref(), kind), (Some("large"), SymbolKind::Pdb), "{path:?}");
        assert!(searched.contains(&(path.clone(), Outcome::Used)));
        // Another build, by its GUID; then by its age.
        let bytes = std::fs::read(&pdb).unwrap();
        let guid = bytes.windows(4).rposition(|w| w == &guid_start(&id)[..]).unwrap();
        let mut other = bytes.clone();
        other[guid] ^= 1;
        std::fs::write(&path, &other).unwrap();
        let (name, kind, searched, _) = look(&locator, &file);
        assert_eq!((name, kind), (None, SymbolKind::None), "{path:?}");
        assert!(searched.iter().any(|(p, o)| *p == path && matches!(o, Outcome::Mismatch { .. })), "{searched:?}");
        std::fs::remove_file(path).unwrap();
    }

    let mut other = std::fs::read(&exe).unwrap();
    let header = u32::from_le_bytes(other[0x3c..0x40].try_into().unwrap()) as usize;
    other[header + 8] ^= 1;
    std::fs::create_dir_all(wanted.parent().unwrap()).unwrap();
    std::fs::write(&wanted, other).unwrap();
    let (name, _, searched, _) = look(&locator, &file);
    assert_eq!(name, None);
    assert!(searched.iter().any(|(p, o)| *p == wanted && matches!(o, Outcome::Mismatch { .. })));

    let _ = std::fs::remove_file(store.path().join("program.pdb"));
    let packed = store.path().join(format!("program.pdb/{id}/program.pd_"));
    place(&pdb, &packed);
    let (name, _, searched, _) = look(&locator, &file);
    assert_eq!(name, None);
    let said = searched.iter().find(|(p, _)| *p == packed).map(|(_, o)| o.to_string());
    assert!(said.as_deref().is_some_and(|s| s.contains("cabinet")), "{searched:?}");
}

/// The first four bytes of a GUID as they are in files.
fn guid_start(id: &str) -> [u8; 4] {
    u32::from_str_radix(&id[..8], 16).unwrap().to_le_bytes()
}

/// Answers `times` requests with files by path; gives the paths that were asked for.
fn serve(bodies: BTreeMap<String, Vec<u8>>, times: usize) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for stream in listener.incoming().take(times) {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut part = [0; 1024];
            while !request.ends_with(b"\r\n\r\n") {
                let n = stream.read(&mut part).unwrap();
                request.extend_from_slice(&part[..n]);
            }
            let wanted = String::from_utf8(request).unwrap().split(' ').nth(1).unwrap().to_owned();
            let (status, body) = match bodies.get(&wanted) {
                Some(body) => ("200 OK", &body[..]),
                None => ("404 Not Found", &b"no"[..]),
            };
            let length = body.len();
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n").unwrap();
            stream.write_all(body).unwrap();
            asked.push(wanted);
        }
        asked
    });
    (url, thread)
}

#[test]
fn servers_are_asked_for_both_files() {
    let made = build("x86_64");
    let read = |name: &str| std::fs::read(made.path().join(name)).unwrap();
    let file = PeFile::open(&made.path().join("program.exe")).unwrap();
    let (id, code_id) = (file.debug_id().unwrap(), file.code_id());
    let cache = tempfile::tempdir().unwrap();
    let locator =
        |url: String| Locator { symbol_servers: vec![url], cache: Some(cache.path().to_owned()), ..Locator::default() };
    let exe = format!("/program.exe/{code_id}/program.exe");
    let pdb = format!("/program.pdb/{id}/program.pdb");
    let sym = format!("/program.pdb/{id}/program.sym");

    // A symbol file is asked for first, in both spellings; then the database.
    let bodies = BTreeMap::from([(pdb.clone(), read("program.pdb")), (exe.clone(), read("program.exe"))]);
    let (url, server) = serve(bodies, 4);
    let (name, kind, searched, problem) = look(&locator(url), &file);
    assert_eq!((name.as_deref(), kind, problem.as_str()), (Some("large"), SymbolKind::Pdb, ""), "{searched:?}");
    assert_eq!(server.join().unwrap(), [sym.clone(), sym.to_ascii_lowercase(), pdb, exe]);
    for kept in [format!("symbols/program.pdb/{id}/program.pdb"), format!("symbols/program.exe/{code_id}/program.exe")]
    {
        assert!(cache.path().join(kept).exists());
    }
    // The server is gone; the kept files serve.
    assert_eq!(look(&locator("http://127.0.0.1:9".into()), &file).1, SymbolKind::Pdb);

    // What is not the one that was asked for is not kept.
    std::fs::remove_dir_all(cache.path().join("symbols")).unwrap();
    let (url, server) = serve(BTreeMap::from([(format!("/program.pdb/{id}/program.pdb"), read("program.exe"))]), 7);
    let (name, kind, _, _) = look(&locator(url), &file);
    assert_eq!((name, kind), (None, SymbolKind::None));
    drop(server);
    assert!(!cache.path().join(format!("symbols/program.pdb/{id}/program.pdb")).exists());
}

/// Anything may be wrong in the answer, but there is one, soon, and no panic.
#[test]
fn damaged_databases_and_images() {
    let made = build("x86_64");
    let at = made.path().join("damaged");
    let mut seed = 0x9e37_79b9_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let (mut opened, mut named) = (0, 0);
    for name in ["program.pdb", "program.exe"] {
        let original = std::fs::read(made.path().join(name)).unwrap();
        for n in 0..700 {
            let mut bytes = original.clone();
            for _ in 0..=n % 12 {
                let at = random(bytes.len());
                let width = [1, 2, 4][random(3)];
                let value = [0, 0xff, 0x7f, 1, 0x80][random(5)];
                let end = (at + width).min(bytes.len());
                bytes[at..end].fill(value);
            }
            if n % 5 == 0 {
                bytes.truncate(random(bytes.len()));
            }
            std::fs::write(&at, bytes).unwrap();
            if name == "program.pdb"
                && let Ok(pdb) = PdbFile::open(&at)
            {
                opened += 1;
                named += (0x1000..0x1400).step_by(7).filter(|rva| !pdb.resolve(*rva).is_empty()).count();
            } else if let Ok(pe) = PeFile::open(&at) {
                opened += 1;
                named += pe.exports().len();
                let _ = (pe.debug_id(), pe.code_id(), pe.bytes_at(0x2000), pe.is_code(0x1000));
            }
        }
    }
    assert!(opened > 500 && named > 5_000, "{opened} {named}");
}

/// A database of Microsoft's own tools: the addresses of the crash in `sigsegv.dmp` and of its callers.
#[test]
fn a_database_of_microsofts_linker() {
    let Some(path) = testdata::fixtures::fixture("minidump/llvm/sigsegv.pdb") else { return };
    let pdb = PdbFile::open(&path).unwrap();
    assert_eq!(pdb.id(), "7DD47A9FC2E8499AA78EC14AE2C965A21");
    let frame = |rva: u32| {
        let frames = pdb.resolve(rva);
        assert_eq!(frames.len(), 1, "{frames:?}");
        let text = |s: &Option<std::sync::Arc<str>>| s.as_deref().unwrap_or("?").to_owned();
        (text(&frames[0].function), text(&frames[0].file).to_ascii_lowercase(), frames[0].line)
    };
    // As `llvm-pdbutil dump -l` lists them.
    for (rva, name, line) in [(0x10d9, "crash", 22), (0x1170, "foo", 32), (0x105c, "main", 38)] {
        assert_eq!(frame(rva), (name.to_owned(), r"c:\temp\sigsegv.cpp".to_owned(), Some(line)));
    }
}

/// Tables of the image's rearrangement (OMAP) are not read: the database is named, and nothing wrong is said.
#[test]
fn databases_of_rearranged_images_are_named() {
    let folder = build("x86_64");
    let path = folder.path().join("program.pdb");
    let file = PeFile::open(&folder.path().join("program.exe")).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    // The numbers of optional streams, of which the linker writes that of section headers only; 4 is OMAP's.
    let none = [0xff_u8; 10];
    let place = bytes.windows(22).position(|w| w[..10] == none && w[10..12] != none[..2] && w[12..] == none).unwrap();
    bytes[place + 8..place + 10].copy_from_slice(&[5, 0]);
    std::fs::write(&path, bytes).unwrap();
    let locator = Locator { symbols: vec![folder.path().to_owned()], ..Locator::default() };
    let modules = Modules::of_images(vec![image(&file)], &[], &locator);
    let module = &modules.list()[0];
    assert!(module.pdb().is_none());
    let outcome = |o: &Outcome| matches!(o, Outcome::Unusable(why) if why.contains("OMAP"));
    assert!(module.report().searched.iter().any(|(p, o)| p == &path && outcome(o)), "{:?}", module.report().searched);
    assert!(module.doubts().iter().any(|d| d.why.contains("OMAP")), "{:?}", module.doubts());
    // No place of ELF's debug files is looked at for it.
    assert!(module.report().searched.iter().all(|(p, _)| !p.to_string_lossy().contains(".debug")));
}
