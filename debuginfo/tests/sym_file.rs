//! Symbol files of others, symbol stores, and symbol servers.

use debuginfo::images::{Image, Outcome, SymbolKind};
use debuginfo::locate::StoreKey;
use debuginfo::sym_file::Effort;
use debuginfo::{BuildId, DebugInfo, Locator, Modules, SymFile};
use evidence::{Addr, Doubts};
use nix::sys::resource::{UsageWho, getrusage};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

const ID: &str = "BBA6FA10B8AAB33D00000000000000000";
const SYM: &str = "MODULE Linux x86_64 BBA6FA10B8AAB33D00000000000000000 a b.so\nFILE 0 a.cc\n\
                   FUNC 1000 10 0 work(int)\n1000 10 7 0\nPUBLIC 2000 0 data_like\n";

fn image() -> Image {
    let build_id = BuildId::new(&[0x10, 0xfa, 0xa6, 0xbb, 0xaa, 0xb8, 0x3d, 0xb3]);
    Image { slide: 0x7fff_0000, build_id, ..Image::at("/usr/lib/a b.so", Addr(0x7fff_0000), 0x10000) }
}

/// What the address 8 bytes into the function is called, and what the symbols are.
fn name_of(locator: &Locator, image: Image) -> (Option<String>, SymbolKind, Vec<(PathBuf, Outcome)>) {
    let modules = Modules::of_images(vec![image], &[], locator);
    let doubts = Doubts::new();
    let info = DebugInfo::new(&modules, &doubts);
    let module = &modules.list()[0];
    let frames = info.resolve(0, module.to_svma(Addr(0x7fff_1008)));
    let report = module.report();
    let frame = frames.last();
    assert_eq!(frame.and_then(|f| f.line), frame.map(|_| 7));
    assert_eq!(frame.and_then(|f| f.function_start), frame.map(|_| module.to_svma(Addr(0x7fff_1000))));
    (frame.and_then(|f| f.function.as_deref().map(str::to_owned)), report.kind, report.searched)
}

#[test]
fn stores_in_directories() {
    let folder = tempfile::tempdir().unwrap();
    let locator = Locator { symbols: vec![folder.path().to_owned()], ..Locator::default() };
    let place = |path: &str, text: &[u8]| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    };
    let none = name_of(&locator, image());
    assert_eq!((none.0, none.1), (None, SymbolKind::None));
    let exact = format!("a b.so/{ID}/a b.so.sym");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(SYM.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let lower = exact.to_ascii_lowercase();
    for (path, text) in [
        (exact.as_str(), SYM.as_bytes()),
        (&format!("{exact}.gz"), &packed),
        (&lower, SYM.as_bytes()),
        ("a b.so.sym", SYM.as_bytes()),
    ] {
        let path = place(path, text);
        let (name, kind, searched) = name_of(&locator, image());
        assert_eq!((name.as_deref(), kind), (Some("work(int)"), SymbolKind::SymFile), "{path:?}");
        assert_eq!(searched.last(), Some(&(path.clone(), Outcome::Used)));
        std::fs::remove_file(path).unwrap();
    }
    place(&exact, SYM.replace("BBA6", "BBA7").as_bytes());
    let (name, kind, searched) = name_of(&locator, image());
    assert_eq!((name, kind), (None, SymbolKind::None));
    assert!(searched.iter().any(|(_, o)| matches!(o, Outcome::Mismatch { .. })));
    // A source that knows the name and the identifier by itself.
    place(&exact, SYM.as_bytes());
    let stated = Image { build_id: None, store: StoreKey::new("a b.so", ID), ..image() };
    assert_eq!(name_of(&locator, stated).0.as_deref(), Some("work(int)"));
}

/// Answers requests with the bodies for their paths (compressed where the flag says so), else with 404.
fn serve(bodies: BTreeMap<String, (Vec<u8>, bool)>, times: usize) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/store/", listener.local_addr().unwrap());
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
            let (status, body, packed) = match bodies.get(&wanted) {
                Some((body, packed)) => ("200 OK", &body[..], *packed),
                None => ("404 Not Found", &b"no"[..], false),
            };
            let encoding = if packed { "Content-Encoding: gzip\r\n" } else { "" };
            let length = body.len();
            write!(stream, "HTTP/1.1 {status}\r\n{encoding}Content-Length: {length}\r\nConnection: close\r\n\r\n")
                .unwrap();
            stream.write_all(body).unwrap();
            asked.push(wanted);
        }
        asked
    });
    (url, thread)
}

#[test]
fn servers_are_asked_once_and_what_they_say_is_verified_and_kept() {
    let cache = tempfile::tempdir().unwrap();
    let locator =
        |url: String| Locator { symbol_servers: vec![url], cache: Some(cache.path().to_owned()), ..Locator::default() };
    let exact = format!("/store/a%20b.so/{ID}/a%20b.so.sym");
    let lower = exact.to_ascii_lowercase();
    let pack = |text: &str| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(text.as_bytes()).unwrap();
        packed.finish().unwrap()
    };

    let (url, server) = serve(BTreeMap::new(), 2);
    assert_eq!(name_of(&locator(url), image()).0, None);
    assert_eq!(server.join().unwrap(), [exact.clone(), lower.clone()]);

    let wrong = SYM.replace("BBA6", "BBA7");
    let (url, server) = serve([(exact.clone(), (wrong.into_bytes(), false))].into(), 2);
    let (name, _, searched) = name_of(&locator(url), image());
    assert_eq!(name, None);
    assert!(searched.iter().any(|(_, o)| matches!(o, Outcome::Mismatch { .. })));
    server.join().unwrap();

    // In lower case, and compressed on the way.
    let (url, server) = serve([(lower, (pack(SYM), true))].into(), 2);
    let (name, kind, _) = name_of(&locator(url), image());
    assert_eq!((name.as_deref(), kind), (Some("work(int)"), SymbolKind::SymFile));
    server.join().unwrap();
    let kept = cache.path().join(format!("symbols/a b.so/{ID}/a b.so.sym"));
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), SYM);
    // The server is gone; the kept file serves.
    assert_eq!(name_of(&locator("http://127.0.0.1:9".into()), image()).0.as_deref(), Some("work(int)"));

    // Compressed, and the server does not say so.
    std::fs::remove_file(&kept).unwrap();
    let (url, server) = serve([(exact, (pack(SYM), false))].into(), 1);
    assert_eq!(name_of(&locator(url), image()).0.as_deref(), Some("work(int)"));
    server.join().unwrap();
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            files_below(&entry.path(), found);
        } else if entry.path().extension().is_some_and(|e| e == "sym") {
            found.push(entry.path());
        }
    }
}

/// The same answers by the order of a file, as far as it is sorted, as by an index of all of it.
fn agree_however_they_are_read(path: &Path, indexed: &SymFile) {
    let by_order = Effort { whole: 0, part: 0, samples: 200, apart: 1, rounds: u64::MAX };
    let sorted = SymFile::open(path).unwrap().with_effort(by_order);
    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    let addresses =
        text.lines().step_by(101).flat_map(|l| l.split(' ').filter_map(|w| u64::from_str_radix(w, 16).ok()));
    for at in addresses.flat_map(|at| [at, at.wrapping_add(0x13)]) {
        assert_eq!(sorted.resolve(at, 0), indexed.resolve(at, 0), "{path:?}: {at:#x}");
        assert_eq!(sorted.public_at(at), indexed.public_at(at), "{path:?}: {at:#x}");
        assert_eq!(sorted.cfi_at(at), indexed.cfi_at(at), "{path:?}: {at:#x}");
        assert_eq!(sorted.stack_win_at(at), indexed.stack_win_at(at), "{path:?}: {at:#x}");
    }
}

/// Functions, lines, symbols and rules of files that Breakpad's own writers made, read here a second time line by line:
/// every seventh record.
#[test]
fn files_of_breakpad_say_what_their_lines_say() {
    let Some(folder) = testdata::fixtures::fixture("minidump/breakpad/symbols") else { return };
    let mut files = Vec::new();
    files_below(&folder, &mut files);
    assert!(files.len() >= 10, "{files:?}");
    let (mut functions, mut lines, mut publics, mut rules) = (0, 0, 0, 0);
    for path in files {
        let sym = SymFile::open(&path).unwrap();
        agree_however_they_are_read(&path, &sym);
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        let hex = |s: &str| u64::from_str_radix(s, 16).unwrap();
        let mut names = BTreeMap::new();
        let mut function = None;
        let mut starts = std::collections::BTreeSet::new();
        for (n, line) in text.lines().enumerate() {
            let skip = n % 7 != 0;
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["FILE", number, ..] => {
                    names.insert((*number).to_owned(), words[2..].join(" "));
                }
                ["FUNC", start, size, _, ..] => {
                    let name = words[4..].join(" ");
                    function = starts.insert(hex(start)).then(|| name.clone());
                    if let Some(name) = function.as_ref().filter(|_| hex(size) > 0 && !skip) {
                        let found = sym.function_at(hex(start)).unwrap();
                        assert_eq!((&*found.name, found.range.start), (name.trim(), hex(start)), "{path:?}");
                        functions += 1;
                    }
                }
                ["PUBLIC", start, _, ..] if !skip && !starts.contains(&hex(start)) => {
                    let found = sym.public_at(hex(start)).unwrap();
                    assert_eq!(found.start, hex(start), "{path:?}");
                    publics += 1;
                }
                ["STACK", "CFI", "INIT", start, size, ..] if hex(size) > 0 && !skip => {
                    let found = sym.cfi_at(hex(start)).unwrap();
                    assert_eq!(found.range.start, hex(start), "{path:?}");
                    assert!(found.rule(".ra").is_some(), "{path:?}: {line}");
                    rules += 1;
                }
                ["STACK", "WIN", _, start, size, ..] if hex(size) > 0 && !skip => {
                    let found = sym.stack_win_at(hex(start)).unwrap();
                    assert!(found.range.contains(&hex(start)), "{path:?}");
                    rules += 1;
                }
                [start, size, number, file]
                    if function.is_some() && !skip && start.chars().all(|c| c.is_ascii_hexdigit()) && hex(size) > 0 =>
                {
                    let frames = sym.resolve(hex(start), 0);
                    let inner = frames.first().unwrap();
                    let number = number.parse().ok().filter(|n| *n != 0_u32);
                    assert_eq!(inner.line, number, "{path:?}: {line}");
                    assert_eq!(
                        inner.file.as_deref(),
                        number.and(names.get(*file)).map(String::as_str),
                        "{path:?}: {line}"
                    );
                    lines += 1;
                }
                _ => {}
            }
        }
        assert_eq!(sym.doubts(), [], "{path:?}");
    }
    println!("{functions} functions, {lines} lines, {publics} symbols, {rules} rules");
    assert!(functions > 500 && lines > 10_000 && publics > 300 && rules > 2000);
}

/// A sorted file of about `size` bytes: functions of 20 lines with an inlined call and a gap behind each, symbols in some
/// of the gaps, and rules for all functions but each eighth.
fn synthetic(path: &Path, size: u64) -> u64 {
    let mut out = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    writeln!(out, "MODULE Linux x86_64 {ID} big").unwrap();
    (0..1000).for_each(|n| writeln!(out, "FILE {n} src/{n}.cc").unwrap());
    (0..1000).for_each(|n| writeln!(out, "INLINE_ORIGIN {n} inlined_{n}()").unwrap());
    let functions = size / 550;
    for f in 0..functions {
        let start = f * 0x100;
        writeln!(out, "FUNC {start:x} f0 0 function_number_{f}(int, char const*)").unwrap();
        writeln!(out, "INLINE 0 {} {} {} {:x} 18", f % 900 + 1, f % 1000, f % 1000, start + 0x18).unwrap();
        for l in 0..20 {
            writeln!(out, "{:x} c {} {}", start + l * 12, l + f % 100 + 1, (f + l) % 1000).unwrap();
        }
    }
    for f in (0..functions).step_by(16) {
        writeln!(out, "PUBLIC {:x} 0 symbol_{f}", f * 0x100 + 0xf4).unwrap();
    }
    for f in (0..functions).filter(|f| !f.is_multiple_of(8)) {
        let start = f * 0x100;
        writeln!(out, "STACK CFI INIT {start:x} f0 .cfa: $rsp 8 + .ra: .cfa -8 + ^").unwrap();
        writeln!(out, "STACK CFI {:x} .cfa: $rsp 16 + $rbp: .cfa -16 + ^", start + 1).unwrap();
    }
    functions
}

/// What this process was given of the processors so far.
fn processor_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let micros = [usage.user_time(), usage.system_time()].map(|t| t.tv_sec() * 1_000_000 + t.tv_usec());
    Duration::from_micros(micros.iter().sum::<i64>().try_into().unwrap())
}

/// The 60 frames of a stack cost a small part of reading the file whole, also where their addresses are in no function,
/// or have no rules. `POSTFAULT_SYM_MEGABYTES=1024` tries the size of browsers' files.
#[test]
fn a_large_file_is_not_read_whole_for_one_stack() {
    let megabytes = std::env::var("POSTFAULT_SYM_MEGABYTES").ok().and_then(|n| n.parse().ok()).unwrap_or(32_u64);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big.sym");
    let functions = synthetic(&path, megabytes << 20);

    // The best of some: on a busy machine others take their share of any one.
    let once = |frames: std::ops::Range<u64>| {
        let begun = processor_time();
        let sym = SymFile::open(&path).unwrap();
        for n in frames {
            let f = n * 7919 % functions;
            let start = f * 0x100;
            let (inside, symbol, gap) = (start + 0x1a, start + 0xf8, start + 0xf2);
            let frames = sym.resolve(inside, 0);
            let [inlined, function] = frames.as_slice() else { panic!("{frames:?}") };
            assert_eq!(inlined.function.as_deref(), Some(format!("inlined_{}()", f % 1000).as_str()));
            assert_eq!(inlined.file.as_deref(), Some(format!("src/{}.cc", (f + 2) % 1000).as_str()));
            assert_eq!(function.function.as_deref(), Some(format!("function_number_{f}(int, char const*)").as_str()));
            assert_eq!(function.line, Some((f % 900 + 1) as u32));
            assert_eq!(sym.cfi_at(inside).is_some(), !f.is_multiple_of(8));
            assert_eq!(sym.resolve(gap, 0), []);
            assert_eq!(
                sym.public_at(symbol).map(|p| p.name.into_owned()),
                f.is_multiple_of(16).then(|| format!("symbol_{f}"))
            );
            assert_eq!((sym.function_at(symbol), sym.cfi_at(gap), sym.stack_win_at(inside)), (None, None, None));
        }
        processor_time() - begun
    };
    let one_stack = (0..7).map(|_| once(0..60)).min().unwrap();

    // Rules in the order of `.eh_frame`, as Breakpad's writer leaves them: they are indexed, and nothing else.
    let mut end = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    writeln!(end, "STACK CFI INIT f4 2 .cfa: $rsp 8 + .ra: .cfa -8 + ^").unwrap();
    let rules = once(0..60);
    // One more function at its end, where none belongs: every question needs an index of everything.
    writeln!(end, "FUNC {:x} 8 0 late", functions * 0x100 + 0x1000).unwrap();
    let whole = once(0..1);
    println!(
        "{megabytes} MB: {one_stack:?} for one stack, {rules:?} with unsorted rules, {whole:?} for the whole file"
    );
    // What a question costs does not grow with the file.
    let times = if megabytes >= 512 { 20 } else { 2 };
    assert!(one_stack * times < whole, "{one_stack:?} where the whole takes {whole:?}");
    assert!(rules < whole, "{rules:?} where the whole takes {whole:?}");
}
