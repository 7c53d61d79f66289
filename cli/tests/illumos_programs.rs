//! A program's core with the notes of Linux, and the same memory and registers with those of illumos: told apart, and
//! the same frames, variables and findings. What gdb makes of both is looked at as well.

mod common;

use capture::{Plan, capture};
use common::{arg, json};
use debuginfo::Locator;
use platform::elfcore;
use serde_json::Value;
use snapshot_format::Snapshot;
use std::path::Path;
use testdata::ctf::CtfWriter;
use testdata::elfcore::illumos::{ObjectSections, with_sections};
use testdata::elfcore::{Contents, CoreBuilder};

/// What differs between programs of both widths, in the files of both systems.
struct Width {
    wide: bool,
    /// Where the registers begin in Linux's `elf_prstatus`, and bytes of one.
    registers: usize,
    size: usize,
    /// The places of Linux's registers in illumos's `gregset_t` (sys/regset.h); trapno and err are not among them.
    places: &'static [Option<usize>],
    /// Bytes of `lwpstatus_t`, where its registers begin, and the places of trapno and err.
    status: usize,
    at: usize,
    trap: [usize; 2],
    /// Where the address stands in `siginfo_t`, on Linux and on illumos.
    address: [usize; 2],
    /// Bytes of `pstatus_t` before the LWP's, of `psinfo_t` with the name's place, of `lwpsinfo_t` with the state's.
    process: usize,
    facts: (usize, usize),
    state: (usize, usize),
}

const WIDE: Width = Width {
    wide: true,
    registers: 112,
    size: 8,
    places: &[
        Some(0),
        Some(1),
        Some(2),
        Some(3),
        Some(10),
        Some(11),
        Some(4),
        Some(5),
        Some(6),
        Some(7),
        Some(14),
        Some(13),
        Some(12),
        Some(9),
        Some(8),
        None,
        Some(17),
        Some(18),
        Some(19),
        Some(20),
        Some(21),
        Some(26),
        Some(27),
        Some(25),
        Some(24),
        Some(22),
        Some(23),
    ],
    status: 1296,
    at: 544,
    trap: [15, 16],
    address: [16, 16],
    process: 384,
    facts: (416, 136),
    state: (128, 26),
};

/// ebx ecx edx esi edi ebp eax ds es fs gs orig_eax eip cs eflags esp ss there; gs fs es ds edi esi ebp esp ebx edx ecx
/// eax trapno err eip cs efl uesp ss here.
const NARROW: Width = Width {
    wide: false,
    registers: 72,
    size: 4,
    places: &[
        Some(8),
        Some(10),
        Some(9),
        Some(5),
        Some(4),
        Some(6),
        Some(11),
        Some(3),
        Some(2),
        Some(1),
        Some(0),
        None,
        Some(14),
        Some(15),
        Some(16),
        Some(17),
        Some(18),
    ],
    status: 800,
    at: 344,
    trap: [12, 13],
    address: [12, 12],
    process: 336,
    facts: (336, 88),
    state: (104, 18),
};

fn half(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// Types and bodies of all notes, and address, size in memory, flags and bytes of all segments.
type Parts = (Vec<(usize, Vec<u8>)>, Vec<(u64, u64, u32, Vec<u8>)>);

fn parts(core: &[u8], wide: bool) -> Parts {
    let word = |at: usize| {
        if wide { u64::from_le_bytes(core[at..at + 8].try_into().unwrap()) } else { half(core, at) as u64 }
    };
    let (mut notes, mut loads) = (Vec::new(), Vec::new());
    let (place, size) = if wide { (56, 56) } else { (44, 32) };
    let (table, count) =
        (word(if wide { 32 } else { 28 }) as usize, u16::from_le_bytes(core[place..place + 2].try_into().unwrap()));
    for header in (0..usize::from(count)).map(|n| table + n * size) {
        // Offset, address, size in the file and in memory, flags.
        let fields = if wide { [8, 16, 32, 40, 4] } else { [4, 8, 16, 20, 24] };
        let [offset, address, file, memory] = [0, 1, 2, 3].map(|n| word(header + fields[n]));
        let flags = half(core, header + fields[4]) as u32;
        let bytes = core.get(offset as usize..(offset + file) as usize).unwrap().to_vec();
        match half(core, header) {
            1 => loads.push((address, memory, flags, bytes)),
            4 => {
                let mut at = 0;
                while at + 12 <= bytes.len() {
                    let (name, body) = (half(&bytes, at), half(&bytes, at + 4));
                    let start = at + 12 + name.next_multiple_of(4);
                    notes.push((half(&bytes, at + 8), bytes[start..start + body].to_vec()));
                    at = start + body.next_multiple_of(4);
                }
            }
            _ => {}
        }
    }
    (notes, loads)
}

/// The core with the notes that illumos would have written, the old ones first. The path of the program gets another
/// second letter, so that it leads nowhere here.
fn of_illumos(linux: &[u8], width: &Width) -> Vec<u8> {
    let (wide, size) = (width.wide, width.size);
    let (notes, mut loads) = parts(linux, wide);
    let body = |kind: usize| notes.iter().find(|(k, _)| *k == kind).map(|(_, b)| b.clone()).unwrap();
    let (status, info) = (body(1), body(0x5349_4749));
    let mut lwp = vec![0; width.status];
    lwp[4] = 1;
    lwp[12..14].copy_from_slice(&info[..2]);
    // signo, errno, code there; signo, code, errno here.
    for (from, to) in [(0, 16), (8, 20), (4, 24)] {
        lwp[to..to + 4].copy_from_slice(&info[from..from + 4]);
    }
    let [from, to] = width.address;
    lwp[16 + to..16 + to + size].copy_from_slice(&info[from..from + size]);
    for (n, place) in width.places.iter().enumerate().filter_map(|(n, p)| Some((n, (*p)?))) {
        let (from, to) = (width.registers + n * size, width.at + place * size);
        lwp[to..to + size].copy_from_slice(&status[from..from + size]);
    }
    // A read of a page that is not there.
    lwp[width.at + width.trap[0] * size] = 14;
    lwp[width.at + width.trap[1] * size] = 4;
    let mut process = vec![0; width.process];
    process[8] = 77;
    process.extend(&lwp);
    let mut facts = vec![0; width.facts.0];
    facts[8] = 77;
    facts[width.facts.1..width.facts.1 + 4].copy_from_slice(b"prog");
    let mut state = vec![0; width.state.0];
    (state[4], state[width.state.1]) = (1, b'O');
    // AT_EXECFN becomes AT_SUN_EXECNAME.
    let mut auxv = body(6);
    for entry in auxv.chunks_exact_mut(2 * size).filter(|e| half(e, 0) == 31) {
        entry[..2].copy_from_slice(&2014_u16.to_le_bytes());
        let at = if wide { u64::from_le_bytes(entry[8..16].try_into().unwrap()) } else { half(entry, 4) as u64 };
        for (start, _, _, bytes) in &mut loads {
            if let Some(byte) = at.checked_sub(*start).and_then(|n| bytes.get_mut(n as usize + 1)) {
                *byte = b'@';
            }
        }
    }
    let mut core = CoreBuilder::new(wide, false, if wide { 62 } else { 3 })
        .note("CORE", 3, &body(3))
        .note("CORE", 1, &[0; 336])
        .next_note_segment()
        .note("CORE", 13, &facts)
        .note("CORE", 10, &process)
        .note("CORE", 6, &auxv)
        .note("CORE", 17, &state)
        .note("CORE", 16, &lwp);
    for (at, size, flags, bytes) in loads {
        core = core.load(at, size, flags, Contents::Bytes(bytes));
    }
    core.build()
}

/// What gdb says is in the program counter.
fn of_gdb(program: &Path, core: &Path) -> Option<String> {
    let out = std::process::Command::new("gdb")
        .args(["-nx", "-batch", "-ex", "printf \"pc=%#lx\\n\", (unsigned long)$pc", arg(program), arg(core)])
        .env_remove("DEBUGINFOD_URLS")
        .output()
        .map_err(|e| eprintln!("skipped: gdb: {e}"))
        .ok()?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    text.lines().find_map(|l| l.strip_prefix("pc=")).map(str::to_owned)
}

/// Function, line and variables of the program's own frames.
fn frames(found: &Value) -> Vec<(String, String, String)> {
    let text = |v: &Value| v.to_string();
    let all = found["threads"][0]["frames"].as_array().unwrap();
    let main = all.iter().position(|f| f["function"] == "main").unwrap_or_else(|| panic!("no main: {found}"));
    all[..=main].iter().map(|f| (text(&f["function"]), text(&f["line"]), text(&f["variables"]))).collect()
}

#[test]
fn cores_that_differ_in_their_notes_only() {
    [("gcc-O0", &WIDE), ("static", &WIDE), ("m32", &NARROW)].into_iter().for_each(|(v, w)| told_apart(v, w));
}

fn told_apart(variant: &str, width: &Width) {
    let Some(linux) = common::core("null_deref", variant) else { return };
    let program = testdata::victims::build("null_deref", variant).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let illumos = folder.path().join("core");
    std::fs::write(&illumos, of_illumos(&std::fs::read(&linux).unwrap(), width)).unwrap();
    let look = |core: &Path| json(&["show", arg(core), "--exe", arg(&program), "--json"]);
    let (theirs, ours) = (look(&linux), look(&illumos));
    assert_eq!((&theirs["identity"]["os"], &ours["identity"]["os"]), (&"linux".into(), &"illumos".into()));
    assert_eq!(theirs["identity"]["arch"], ours["identity"]["arch"], "{variant}");
    let pc = |found: &Value| found["threads"][0]["frames"][0]["pc"].as_str().unwrap().to_owned();
    assert_eq!(pc(&theirs), pc(&ours), "{variant}");
    assert_eq!(theirs["event"]["address"], ours["event"]["address"], "{variant}");
    assert_eq!(frames(&theirs), frames(&ours), "{variant}");
    assert!(frames(&ours).iter().any(|(_, _, variables)| variables.contains("\"value\"")), "{variant}: {ours}");
    let classes = |found: &Value| {
        let list = found["findings"].as_array().unwrap();
        list.iter().map(|f| f["class"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((classes(&theirs)[0].as_str(), classes(&ours)[0].as_str()), ("null-deref", "null-deref"), "{variant}");
    below_a_folder(&illumos, &program, &ours, folder.path());
    by_its_own_symbols(&illumos, &program, &ours, width);
    // gdb agrees on the core of Linux. The other it takes for one of Linux as well, and is wrong about the registers.
    if let (Some(right), wrong) = (of_gdb(&program, &linux), of_gdb(&program, &illumos)) {
        assert_eq!(right, pc(&theirs), "{variant}");
        println!("gdb: {right} in the core of Linux, {wrong:?} in that of illumos, where it is {}", pc(&ours));
    }
}

/// The program of another machine is found by its path below a folder; without, it is not.
fn below_a_folder(core: &Path, program: &Path, named: &Value, folder: &Path) {
    let path = named["identity"]["executable"].as_str().unwrap();
    assert!(path.starts_with("/@") && !Path::new(path).exists(), "{path}");
    let root = folder.join("root");
    let place = root.join(path.trim_start_matches('/'));
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::copy(program, &place).unwrap();
    let found = json(&["show", arg(core), "--sysroot", arg(&root), "--json"]);
    assert_eq!(frames(&found), frames(named));
    let without = json(&["show", arg(core), "--json"]);
    assert!(!without["threads"][0]["frames"].to_string().contains(r#""function":"main""#), "{without}");
}

/// Section headers of an ELF file: type, address, offset, size, link.
fn sections(file: &[u8], wide: bool) -> Vec<[usize; 5]> {
    let word = |at: usize| {
        if wide { u64::from_le_bytes(file[at..at + 8].try_into().unwrap()) as usize } else { half(file, at) }
    };
    let (table, size, count) = if wide { (word(40), 64, half(file, 60)) } else { (word(32), 40, half(file, 48)) };
    let fields = if wide { [16, 24, 32, 40] } else { [12, 16, 20, 24] };
    let one = |at: usize| {
        let [address, offset, size, link] = fields.map(|f| at + f);
        [half(file, at + 4), word(address), word(offset), word(size), half(file, link)]
    };
    (0..count & 0xffff).map(|n| one(table + n * size)).collect()
}

/// The symbol table of a program, and its names.
fn symbol_table(program: &[u8], wide: bool) -> (&[u8], &[u8]) {
    let all = sections(program, wide);
    let table = all.iter().find(|s| s[0] == 2).unwrap();
    let contents = |s: &[usize; 5]| s[2]..s[2] + s[3];
    (&program[contents(table)], &program[contents(&all[table[4]])])
}

/// Where the program begins in memory.
fn base(named: &Value) -> u64 {
    let path = &named["identity"]["executable"];
    let module = named["modules"].as_array().unwrap().iter().find(|m| m["path"] == *path).unwrap();
    u64::from_str_radix(module["base"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

/// A core that carries the symbol table of its program names the program's functions without any other file.
fn by_its_own_symbols(core: &Path, program: &Path, named: &Value, width: &Width) {
    let (program, bytes) = (std::fs::read(program).unwrap(), std::fs::read(core).unwrap());
    let (symbols, strings) = symbol_table(&program, width.wide);
    let object = ObjectSections { base: base(named), symbols, strings, ..ObjectSections::default() };
    let bytes = with_sections(bytes, width.wide, &[object]);
    let own = core.with_extension("own");
    std::fs::write(&own, bytes).unwrap();
    let functions = |found: &Value| -> Vec<String> {
        let frames = found["threads"][0]["frames"].as_array().unwrap();
        let names = frames.iter().filter_map(|f| f["function"].as_str().map(str::to_owned));
        names.take_while(|n| n != "main").collect()
    };
    let (found, without) = (json(&["show", arg(&own), "--json"]), json(&["show", arg(core), "--json"]));
    let wanted = functions(named);
    assert!(!wanted.is_empty() && functions(&found) == wanted, "{wanted:?}: {found}");
    assert!(functions(&without) != wanted, "{without}");
}

/// The types of `variables` and `null_deref`, as the tools of illumos would have written them, with a row for each function
/// and each object of the symbol table.
fn types_of(symbols: &[u8], strings: &[u8], wide: bool) -> Vec<u8> {
    let mut w = CtfWriter::new(2);
    let pointer = if wide { 8 } else { 4 };
    let char = w.character("char", true);
    let byte = w.character("unsigned char", false);
    let (int, short) = (w.integer("int", true, 32, 4), w.integer("short", true, 16, 2));
    let long = w.integer("long", true, pointer * 8, u64::from(pointer));
    let (float, double) = (w.float("float", 1, 4), w.float("double", 2, 8));
    let text = {
        let c = w.constant(char);
        w.pointer(c)
    };
    let bytes = w.array(byte, long, 4);
    let number = w.union("number", 4, &[("i", int, 0), ("f", float, 0), ("bytes", bytes, 0)]);
    let point = w.structure("point", 8, &[("x", int, 0), ("y", int, 32)]);
    let point = w.typedef("point_t", point);
    let corners = w.array(point, long, 2);
    let pair = w.structure("", 4, &[("a", short, 0), ("b", short, 16)]);
    let node = w.forward("node");
    let node = w.pointer(node);
    let bits = u64::from(pointer) * 8;
    let rest = [("name", text, 0), ("next", node, bits), ("number", number, 2 * bits)];
    let last = [("", pair, 2 * bits + 32), ("corners", corners, 2 * bits + 64)];
    let node = w.structure("node", u64::from(2 * pointer + 24), &[&rest[..], &last].concat());
    let fixed = {
        let c = w.constant(int);
        w.array(c, long, 4)
    };
    let name = w.array(char, long, 0x28);
    let pod = w.structure("pod", 0x28 + u64::from(pointer), &[("name", name, 0), ("weight", long, 0x28 * 8)]);
    let pod = w.pointer(pod);
    let request = w.structure("request", u64::from(2 * pointer), &[("id", int, 0), ("pod", pod, bits)]);
    let request = w.pointer(request);
    let (entry, value) = if wide { (24, 8) } else { (16, 4) };
    for symbol in symbols.chunks_exact(entry) {
        let (info, section) = if wide { (symbol[4], 6) } else { (symbol[12], 14) };
        let name = strings[half(symbol, 0)..].split(|b| *b == 0).next().unwrap();
        let absolute = symbol[section..section + 2] == [0xf1, 0xff] && symbol[value..value + 4] == [0; 4];
        if name.is_empty() || symbol[section..section + 2] == [0; 2] {
            continue;
        }
        match (info & 0xf, name) {
            (1, _) if absolute => {}
            (1, b"global_counter") => w.object_row(int),
            (1, b"static_ratio") => w.object_row(double),
            (1, b"global_node") => w.object_row(node),
            (1, b"table_const") => w.object_row(fixed),
            (1, _) => w.object_row(0),
            (2, b"store_weight") => w.function_row(Some((0, &[pod, long]))),
            (2, b"handle") => w.function_row(Some((int, &[request, int]))),
            (2, _) => w.function_row(None),
            _ => {}
        }
    }
    w.finish()
}

/// The core of a victim as illumos would have written it with all sections, the victim, and the victim without DWARF.
fn with_types(name: &str, variant: &str, width: &Width, folder: &Path) -> Option<[std::path::PathBuf; 3]> {
    let linux = common::core(name, variant)?;
    let program = testdata::victims::build(name, variant).unwrap();
    let bare = folder.join("bare");
    let status = std::process::Command::new("strip").args(["-g", "-o", arg(&bare), arg(&program)]).status().unwrap();
    assert!(status.success());
    let plain = of_illumos(&std::fs::read(&linux).unwrap(), width);
    let core = folder.join("core");
    std::fs::write(&core, &plain).unwrap();
    let base = base(&json(&["show", arg(&core), "--exe", arg(&program), "--json"]));
    let file = std::fs::read(&program).unwrap();
    let (symbols, strings) = symbol_table(&file, width.wide);
    let types = types_of(symbols, strings, width.wide);
    let object = ObjectSections { base, types: &types, symbols, strings, dynamic: false };
    std::fs::write(&core, with_sections(plain, width.wide, &[object])).unwrap();
    Some([core, program, bare])
}

/// A program with a section `.SUNW_ctf` that names the symbol table, as illumos's have.
fn with_ctf(program: &Path, types: &[u8], folder: &Path) -> std::path::PathBuf {
    let (section, out) = (folder.join("types"), folder.join("with_ctf"));
    std::fs::write(&section, types).unwrap();
    let added = format!(".SUNW_ctf={}", arg(&section));
    let status =
        std::process::Command::new("objcopy").args(["--add-section", &added, arg(program), arg(&out)]).status();
    assert!(status.unwrap().success());
    let mut file = std::fs::read(&out).unwrap();
    let all = sections(&file, true);
    let table = all.iter().position(|s| s[0] == 2).unwrap() as u32;
    let own = all.iter().position(|s| file[s[2]..].starts_with(&[0xf1, 0xcf, 2])).unwrap();
    let header = u64::from_le_bytes(file[40..48].try_into().unwrap()) as usize + own * 64;
    file[header + 40..header + 44].copy_from_slice(&table.to_le_bytes());
    std::fs::write(&out, file).unwrap();
    out
}

/// A variable without its line, which only DWARF knows, in a form that can be compared.
fn value_of(variable: &Value) -> Value {
    let mut one = variable.clone();
    if let Some(fields) = one.as_object_mut() {
        fields.remove("line");
        if let Some(children) = fields.get_mut("children").and_then(Value::as_array_mut) {
            children.iter_mut().for_each(|c| *c = value_of(c));
        }
    }
    one
}

/// Types that a core carries say of variables what DWARF says of them.
#[test]
fn variables_by_the_types_in_the_core() {
    for (variant, width) in [("gcc-O0", &WIDE), ("m32", &NARROW)] {
        let folder = tempfile::tempdir().unwrap();
        let Some([core, program, bare]) = with_types("variables", variant, width, folder.path()) else { continue };
        let mut asked = vec!["show", arg(&core), "--json"];
        for name in ["global_counter", "static_ratio", "global_node", "table_const"] {
            asked.extend(["--global", name]);
        }
        let look = |exe: &Path| json(&[&asked[..], &["--exe", arg(exe)]].concat());
        let (by_dwarf, by_types) = (look(&program), look(&bare));
        let globals = |found: &Value| found["globals"].as_array().unwrap().iter().map(value_of).collect::<Vec<_>>();
        assert!(globals(&by_dwarf).len() >= 3, "{variant}: {by_dwarf}");
        assert_eq!(globals(&by_dwarf), globals(&by_types), "{variant}");
        println!("{variant}: {:#}", by_types["globals"]);
    }
}

/// The same by the types in the program's file, where the core carries none.
#[test]
fn variables_by_the_types_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let Some([core, program, bare]) = with_types("variables", "gcc-O0", &WIDE, folder.path()) else { return };
    // Without its section headers the core has nothing but memory.
    let mut plain = std::fs::read(&core).unwrap();
    plain[40..48].fill(0);
    std::fs::write(&core, plain).unwrap();
    let file = std::fs::read(&bare).unwrap();
    let (symbols, strings) = symbol_table(&file, true);
    let described = with_ctf(&bare, &types_of(symbols, strings, true), folder.path());
    let globals = |exe: &Path| {
        let found = json(&["show", arg(&core), "--json", "--global", "global_node", "--exe", arg(exe)]);
        found["globals"].as_array().into_iter().flatten().map(value_of).collect::<Vec<_>>()
    };
    assert_eq!(globals(&described), globals(&program));
    assert_eq!((globals(&program).len(), globals(&bare).len()), (1, 0));
}

/// Arguments that a function saved on its stack have the types of its prototype; here a compiler without optimisation
/// saved them, where illumos's does always.
#[test]
fn arguments_by_the_types_in_the_core() {
    let folder = tempfile::tempdir().unwrap();
    let Some([core, program, bare]) = with_types("null_deref", "gcc-O0", &WIDE, folder.path()) else { return };
    let frames = |exe: &Path| json(&["show", arg(&core), "--exe", arg(exe), "--json"])["threads"][0]["frames"].clone();
    let (by_dwarf, by_types) = (frames(&program), frames(&bare));
    let of = |frames: &Value, function: &str| {
        let frame = frames.as_array().unwrap().iter().find(|f| f["function"] == function).unwrap().clone();
        frame["variables"].as_array().unwrap().iter().map(value_of).collect::<Vec<_>>()
    };
    for (function, count) in [("store_weight", 2), ("handle", 1)] {
        let (mut wanted, found) = (of(&by_dwarf, function), of(&by_types, function));
        wanted.truncate(count);
        for (n, variable) in wanted.iter_mut().enumerate() {
            variable["name"] = format!("arg{}", n + 1).into();
        }
        println!("{function}: {found:?}");
        assert_eq!(wanted, found, "{function}");
    }
    // Without types nobody knows whether the places have still the values that were passed.
    let mut plain = std::fs::read(&core).unwrap();
    plain[40..48].fill(0);
    std::fs::write(&core, plain).unwrap();
    assert!(!frames(&bare).to_string().contains("\"arg1\""));
}

/// Flips of the sections that hold types and symbols: nothing panics or hangs, and what is shown stays bounded.
/// `POSTFAULT_MUTATIONS` is how many (100).
#[test]
fn damaged_types_in_the_core() {
    let count: usize = std::env::var("POSTFAULT_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    let folder = tempfile::tempdir().unwrap();
    let Some([core, _, bare]) = with_types("variables", "gcc-O0", &WIDE, folder.path()) else { return };
    let whole = std::fs::read(&core).unwrap();
    let start = parts(&whole, true).1.iter().map(|(.., bytes)| bytes.len()).sum::<usize>();
    let plan = Plan { globals: vec!["global_node".into(), "global_counter".into()], ..Plan::default() };
    let locator = Locator { system: Some("/nonexistent".into()), executable: Some(bare), ..Locator::default() };
    let take = |bytes: &[u8]| {
        let core = elfcore::open_stream(bytes, "core", &elfcore::Options::default()).ok()?;
        Some(capture(&core, &locator, &plan, &mut || ()))
    };
    let shown = |snapshot: &Snapshot| snapshot.variables.iter().filter(|v| v.frame.is_none()).count();
    let right = shown(&take(&whole).unwrap());
    assert!(right > 10, "{right}");
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize
    };
    // Types are first behind the memory, then symbols; headers are last.
    let types = types_at(&whole);
    let (mut same, mut opened) = (0, 0);
    for n in 0..count {
        let at = match n % 4 {
            0 => start + next() % (whole.len() - start),
            1 => whole.len() - 1 - next() % 320,
            _ => types.start + next() % types.len(),
        };
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (next() % 8);
        let Some(snapshot) = take(&bytes) else { continue };
        opened += 1;
        assert!(snapshot.variables.len() < 20_000, "flip {n} at {at:#x}");
        same += usize::from(shown(&snapshot) == right);
    }
    println!("{count} flips, {opened} opened, {same} with all variables");
    assert!(opened * 2 > count && same > 0);
}

/// Where the types lie in a core.
fn types_at(core: &[u8]) -> std::ops::Range<usize> {
    let all = sections(core, true);
    let [_, _, offset, size, _] = *all.iter().find(|s| s[0] == 1).unwrap();
    offset..offset + size
}
