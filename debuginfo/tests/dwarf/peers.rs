//! What other tools say about addresses of a file, and how their answers compare with ours.

use debuginfo::{DebugInfo, Locator, Modules};
use evidence::{Doubt, Doubts, Svma};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// One function at an address: its name, the last part of the file's path, the line (0: none).
pub type Frame = (String, String, u32);

/// Functions at one address, innermost first.
pub type Frames = Vec<Frame>;

/// Prints for each address the functions of its blocks, each with the place where gdb's `bt` would say it is.
const SCRIPT: &str = r#"
import gdb, os
pcs = [int(line, 16) for line in open(os.environ['PCS'])]
with open(os.environ['OUT'], 'w') as out:
    for pc in pcs:
        sal = gdb.find_pc_line(pc)
        place = (sal.symtab.filename if sal.symtab else '', sal.line if sal.symtab else 0)
        try:
            block = gdb.block_for_pc(pc)
        except RuntimeError:
            block = None
        out.write('%x\n' % pc)
        named = False
        while block is not None and not block.is_global and not block.is_static:
            f = block.function
            if f is not None:
                named = True
                out.write('\t%s\t%s\t%d\n' % (f.name, place[0], place[1]))
                place = (f.symtab.filename, f.line) if f.line and f.symtab else ('', 0)
            block = block.superblock
            # A nested function (or a lambda, as old DWARF has it) lies in its parent's block, but not in its code.
            if named and block is not None and block.function is not None and not block.start <= pc < block.end:
                break
        if not named:
            out.write('\t\t%s\t%d\n' % place)
"#;

/// gdb's answer for each address.
pub fn gdb(program: &Path, pcs: &[u64]) -> Vec<Frames> {
    let folder = tempfile::tempdir().unwrap();
    let (script, list, out) = (folder.path().join("s.py"), folder.path().join("pcs"), folder.path().join("out"));
    std::fs::write(&script, SCRIPT).unwrap();
    let text = pcs.iter().fold(String::new(), |mut text, pc| {
        let _ = writeln!(text, "{pc:x}");
        text
    });
    std::fs::write(&list, text).unwrap();
    let run = Command::new("gdb")
        .args(["-nx", "-batch", "-iex", "set debuginfod enabled off", "-iex"])
        .arg(format!("set debug-file-directory {}", program.with_file_name("symbols").display()))
        .arg("-x")
        .arg(&script)
        .arg(program)
        .env("PCS", &list)
        .env("OUT", &out)
        .current_dir(program.parent().unwrap())
        .output()
        .expect("gdb can be started");
    let text = std::fs::read_to_string(&out)
        .unwrap_or_else(|e| panic!("gdb gave nothing ({e}): {}", String::from_utf8_lossy(&run.stderr)));
    let mut all: Vec<Frames> = Vec::new();
    for line in text.lines() {
        let Some(fields) = line.strip_prefix('\t') else {
            all.push(Vec::new());
            continue;
        };
        let mut fields = fields.split('\t');
        let mut next = || fields.next().unwrap_or_default();
        let (name, file, number) = (next(), next(), next());
        if !(name.is_empty() && file.is_empty()) {
            all.last_mut().unwrap().push((plain_name(name), base(file), number.parse().unwrap()));
        }
    }
    assert_eq!(all.len(), pcs.len(), "gdb answered for each address");
    all
}

/// Our answer for each address.
pub fn ours(program: &Path, pcs: &[u64]) -> Vec<Frames> {
    let (frames, doubts) = ours_and_doubts(program, pcs);
    assert_eq!(doubts, [], "nothing is wrong with {}", program.display());
    frames
}

/// Our answer for each address, and what was found wrong.
pub fn ours_and_doubts(program: &Path, pcs: &[u64]) -> (Vec<Frames>, Vec<Doubt>) {
    answers(&open(program), pcs)
}

/// Our answer for each address, with what `locator` says.
pub fn ours_with(program: &Path, pcs: &[u64], locator: &Locator) -> Vec<Frames> {
    let (frames, doubts) = answers(&open_with(program, locator), pcs);
    assert_eq!(doubts, [], "nothing is wrong with {}", program.display());
    frames
}

/// Our answer for each address, without the sections that say where variables are: these stay as they are packed.
pub fn ours_without_locations(program: &Path, pcs: &[u64]) -> Vec<Frames> {
    let (modules, doubts) = (open(program), Doubts::new());
    let frames = resolved(&DebugInfo::new(&modules, &doubts).without_locations(), pcs);
    assert_eq!(doubts.sorted(), [], "nothing is wrong with {}", program.display());
    frames
}

fn answers(modules: &Modules, pcs: &[u64]) -> (Vec<Frames>, Vec<Doubt>) {
    let doubts = Doubts::new();
    let frames = resolved(&DebugInfo::new(modules, &doubts), pcs);
    (frames, doubts.sorted())
}

fn resolved(info: &DebugInfo<'_>, pcs: &[u64]) -> Vec<Frames> {
    let all: Vec<(usize, Svma)> = pcs.iter().map(|pc| (0, Svma(*pc))).collect();
    let frames = info.resolve_batch(&all);
    frames
        .into_iter()
        .map(|frames| {
            let text = |s: &Option<std::sync::Arc<str>>| s.as_deref().unwrap_or_default().to_owned();
            frames
                .iter()
                // A frame without scope has its name from the symbol table, which is not asked about here.
                .map(|f| (f.scope.and_then(|_| f.function.clone()), base(&text(&f.file)), f.line.unwrap_or(0)))
                .map(|(function, file, line)| (plain_name(&text(&function)), file, line))
                .filter(|(name, file, _)| !(name.is_empty() && file.is_empty()))
                .collect()
        })
        .collect()
}

/// The program with the separate debug file or dwz alternate beside it, if there is one.
pub fn open(program: &Path) -> Modules {
    open_with(program, &Locator::default())
}

fn open_with(program: &Path, locator: &Locator) -> Modules {
    let folder = program.parent().unwrap();
    let mut debug = Some(program.with_extension("debug")).filter(|p| p.is_file());
    for entry in std::fs::read_dir(folder.join("symbols/.build-id")).into_iter().flatten().flatten() {
        debug = std::fs::read_dir(entry.path()).unwrap().next().map(|e| e.unwrap().path());
    }
    let alternate = Some(folder.join("common.alt")).filter(|p| p.is_file());
    Modules::of_file(program, debug.as_deref(), alternate.as_deref(), locator).expect("the program is an ELF file")
}

fn base(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// A name without parameters and spaces: gdb prints `bt` without the parameter types as well.
pub fn plain_name(name: &str) -> String {
    let name: String = name.split_whitespace().collect();
    let mut head = name.as_str();
    while let Some(rest) = ["const", "volatile", "&"].iter().find_map(|s| head.strip_suffix(s)) {
        head = rest;
    }
    if !head.ends_with(')') {
        return name;
    }
    let mut depth = 0;
    for (at, c) in head.char_indices().rev() {
        match c {
            ')' => depth += 1,
            '(' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let rest = &head[..at];
            return if rest.is_empty() || rest.ends_with("::") || rest.ends_with("operator") {
                name
            } else {
                rest.to_owned()
            };
        }
    }
    name
}

/// A name without template arguments: how types are spelled in them is a matter of taste.
pub fn without_templates(name: &str) -> String {
    let (mut out, mut depth, mut rest) = (String::new(), 0_usize, name);
    while let Some(c) = rest.chars().next() {
        if depth > 0 && rest.starts_with("->") {
            rest = &rest[2..];
            continue;
        }
        let sign = ["operator<=>", "operator<<", "operator>>", "operator->", "operator<", "operator>"];
        if let Some(sign) = sign.iter().find(|s| rest.starts_with(**s)).filter(|_| depth == 0) {
            out.push_str(sign);
            rest = &rest[sign.len()..];
            continue;
        }
        match c {
            '<' => depth += 1,
            '>' if !rest.starts_with(">=") || depth > 0 => depth = depth.saturating_sub(1),
            _ if depth == 0 => out.push(c),
            _ => {}
        }
        rest = &rest[c.len_utf8()..];
    }
    out
}

/// The last component of a Rust path: what stands before it depends on how impl blocks are written.
pub fn last_component(name: &str) -> String {
    let name = without_templates(name).replace("{{closure}}", "{closure}");
    let last = name.trim_end_matches("::").rsplit("::").next().unwrap_or_default();
    match last {
        // Symbols that rustc gives another name than the function has.
        shim if shim.starts_with("{shim:vtable") => "call_once".to_owned(),
        "rust_begin_unwind" => "panic_handler".to_owned(),
        _ => last.split_once('#').map_or_else(|| last.to_owned(), |(head, _)| format!("{head}}}")),
    }
}

/// The frames with each name changed.
pub fn renamed(frames: Vec<Frames>, change: impl Fn(&str) -> String) -> Vec<Frames> {
    let frame = |(name, file, line): Frame| (change(&name), file, line);
    frames.into_iter().map(|f| f.into_iter().map(frame).collect()).collect()
}

/// The bytes of the code.
pub fn code(program: &Path) -> Vec<u8> {
    let modules = Modules::of_file(program, None, None, &Locator::default()).unwrap();
    let file = modules.list()[0].main().unwrap();
    file.section_data(".text").unwrap().expect("a program has code").to_vec()
}

/// `count` addresses spread over the code of a program, the same each time.
pub fn sample(program: &Path, count: usize) -> Vec<u64> {
    let modules = Modules::of_file(program, None, None, &Locator::default()).unwrap();
    let file = modules.list()[0].main().unwrap();
    let text = file.section(".text").expect("a program has code");
    let (start, size) = (text.address().0, text.size());
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut pcs: Vec<u64> = (0..count)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            start + (state >> 33) % size
        })
        .collect();
    pcs.sort_unstable();
    pcs.dedup();
    pcs
}

/// Panics with the first differences, if there are any.
pub fn assert_same(what: &str, pcs: &[u64], peer: &[Frames], ours: &[Frames]) {
    let mut text = String::new();
    let mut count = 0;
    for ((pc, peer), ours) in pcs.iter().zip(peer).zip(ours) {
        if peer != ours {
            count += 1;
            if count <= 4 {
                let at = peer.iter().zip(ours).take_while(|(a, b)| a == b).count();
                let (len, own) = (peer.len(), ours.len());
                let _ = writeln!(
                    text,
                    "{pc:#x} frame {at}\n  peer {:?} of {len}\n  ours {:?} of {own}",
                    peer.get(at),
                    ours.get(at)
                );
            }
        }
    }
    assert!(count == 0, "{what}: {count} of {} addresses differ:\n{text}", pcs.len());
}
