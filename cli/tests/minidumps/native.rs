//! Dumps of Windows and macOS with the files of their programs: a program is carried out up to a function, what a
//! crash reporter would keep of it becomes a minidump, and its frames come out with functions, files and lines.

use crate::machine::{IMAGE, Ram, arm64 as arm64_machine, x64 as x64_machine};
use crate::support::*;
use crate::synth::*;
use debuginfo::elf::ElfFile;
use debuginfo::pe::PeFile;
use debuginfo::{DebugInfo, Locator, Modules};
use evidence::{Doubts, Memory, Registers};
use snapshot_format::Snapshot;
use snapshot_format::schema::Trust;
use std::path::Path;

/// Where the linker places programs of macOS.
const LINKED: u64 = 0x1_0000_0000;
const SIZE: usize = 0x1_0000;

struct Program {
    processor: u16,
    platform: u32,
    path: &'static str,
    identity: (u32, Vec<u8>),
    size: u32,
    /// What was loaded, and where it begins.
    image: Vec<u8>,
    entry: u64,
    /// Calls to go down.
    depth: usize,
}

fn pages(bytes: impl Fn(usize) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut image = vec![0; SIZE];
    for page in (0..SIZE).step_by(0x1000) {
        if let Some(part) = bytes(page) {
            let n = part.len().min(0x1000);
            image[page..page + n].copy_from_slice(&part[..n]);
        }
    }
    image
}

fn windows(folder: &Path, processor: u16) -> Program {
    let machine = if processor == AMD64 { "x86_64" } else { "aarch64" };
    testdata::windows::build(machine, folder).unwrap();
    let path = folder.join("program.exe");
    let (bytes, file) = (std::fs::read(&path).unwrap(), PeFile::open(&path).unwrap());
    let mut image = pages(|page| file.bytes_at(u32::try_from(page).unwrap()).map(<[u8]>::to_vec));
    image[..0x400].copy_from_slice(&bytes[..0x400]);
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let header = number(0x3c) as usize;
    let record = codeview(&file.debug_id().unwrap(), r"C:\build\program.pdb");
    Program {
        processor,
        platform: WINDOWS,
        path: r"C:\bin\program.exe",
        identity: (number(header + 8), record),
        size: number(header + 24 + 56),
        image,
        entry: number(header + 40).into(),
        depth: 5,
    }
}

fn macos(folder: &Path, processor: u16) -> Program {
    testdata::macos::build(if processor == AMD64 { "x86_64" } else { "arm64" }, folder).unwrap();
    let path = folder.join("program");
    let file = ElfFile::open(&path).unwrap();
    let mut image = pages(|page| file.bytes_at(evidence::Svma(LINKED + page as u64)).map(<[u8]>::to_vec));
    // The symbols' segment, which is mapped as well: behind its name are its address, and place and size in the file.
    let bytes = std::fs::read(&path).unwrap();
    let name = bytes.windows(10).position(|w| w == b"__LINKEDIT").unwrap();
    let number = |at: usize| u64::from_le_bytes(bytes[name + at..name + at + 8].try_into().unwrap()) as usize;
    let (place, start, size) = (number(16) - LINKED as usize, number(32), number(40));
    image[place..place + size].copy_from_slice(&bytes[start..start + size]);
    let modules = Modules::of_file(&path, None, None, &Locator::default()).unwrap();
    let doubts = Doubts::new();
    let start = DebugInfo::new(&modules, &doubts).symbols(0).unwrap().by_name("start").unwrap().start.0;
    let id = format!("{}0", file.build_id().unwrap());
    Program {
        processor,
        platform: MACOS,
        path: "/Applications/program",
        identity: (0, codeview(&id, "program")),
        size: SIZE as u32,
        image,
        entry: start - LINKED,
        depth: 6,
    }
}

impl Program {
    /// Registers and memory where so many calls have not returned.
    fn run(&self) -> (Registers, Ram) {
        if self.processor == AMD64 {
            let mut m = x64_machine::Machine::new(self.image.clone(), self.entry, 0, &x64_machine::KEPT[..7]);
            while m.calls.len() < self.depth {
                assert!(m.step(), "it returned");
            }
            // Into the function: its first bytes may have no line.
            (0..3).for_each(|_| assert!(m.step()));
            return (m.registers(), m.memory);
        }
        let mut m = arm64_machine::Machine::new(self.image.clone(), self.entry);
        while m.calls.len() < self.depth {
            assert!(m.step(), "it returned");
        }
        (0..3).for_each(|_| assert!(m.step()));
        (m.registers(), m.memory)
    }

    /// With nothing but the stack in it, or with the image as well.
    fn dump(&self, with_image: bool) -> tempfile::NamedTempFile {
        let (registers, memory) = self.run();
        let value = |n: u16| registers.get(evidence::Register(n)).unwrap();
        let context = if self.processor == AMD64 {
            // rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15, rip.
            let numbers = [0, 2, 1, 3, 7, 6, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16];
            let all: Vec<_> = numbers.iter().enumerate().map(|(n, number)| (0x78 + 8 * n, value(*number))).collect();
            amd64(1232, &all)
        } else {
            arm64(&(0..33).map(|n| (usize::from(n), value(n))).collect::<Vec<_>>())
        };
        let sp = registers.sp().unwrap();
        let mut stack = vec![0; 0x4_0000];
        let (got, _) = memory.read(sp, &mut stack);
        stack.truncate(got);
        let image = if with_image { vec![(IMAGE, self.image.clone())] } else { Vec::new() };
        Synth {
            processor: self.processor,
            platform: self.platform,
            threads: vec![SynthThread { id: 7, context, stack: (sp.0, stack) }],
            memory: image,
            modules: vec![(IMAGE, self.size, self.path)],
            identities: vec![self.identity.clone()],
            ..Synth::default()
        }
        .write()
    }
}

fn capture(dump: &Path, symbols: Option<&Path>) -> Snapshot {
    let symbols = symbols.map(Path::to_owned).into_iter().collect();
    snapshot_with(dump, &Locator { symbols, cache: Some("/nonexistent".into()), ..Locator::default() })
}

/// The functions of all frames, without what compilers put before and behind their names.
fn functions(snapshot: &Snapshot) -> Vec<String> {
    let name = |f: &snapshot_format::schema::Frame| f.function.as_deref().unwrap_or_default().to_owned();
    frames(snapshot).iter().filter(|f| !f.inline).map(name).collect()
}

const WINDOWS_CALLS: [&str; 6] = ["leaf", "many", "large", "dynamic", "tail", "start"];
const MACOS_CALLS: [&str; 7] =
    ["framed_leaf", "framed_many", "framed_large", "framed_dynamic", "framed_tail", "framed_all", "start"];

#[track_caller]
fn check(snapshot: &Snapshot, calls: &[&str], lines: bool) {
    assert_eq!(functions(snapshot), calls, "{:?} {:?}", snapshot.doubts, snapshot.modules);
    for (n, frame) in frames(snapshot).iter().filter(|f| !f.inline).enumerate() {
        assert_eq!(frame.trust, if n == 0 { Trust::Context } else { Trust::Cfi }, "{:?}", frame.function);
        assert_eq!((frame.line.is_some(), frame.file.is_some()), (lines, lines), "{:?}", frame.function);
    }
}

#[test]
fn windows_programs_with_their_images_and_databases() {
    for processor in [AMD64, ARM64] {
        let folder = tempfile::tempdir().unwrap();
        let program = windows(folder.path(), processor);
        check(&capture(program.dump(false).path(), Some(folder.path())), &WINDOWS_CALLS, true);
        // The image in the dump is enough for unwinding, and its exports are all the names there are.
        let alone = capture(program.dump(true).path(), None);
        assert_eq!(frames(&alone).iter().filter(|f| !f.inline).count(), WINDOWS_CALLS.len());
        assert!(functions(&alone).contains(&"large".to_owned()), "{:?}", functions(&alone));
        // Another build's files are named and not used.
        std::fs::remove_file(folder.path().join("program.exe")).unwrap();
        std::fs::remove_file(folder.path().join("program.pdb")).unwrap();
        let dump = program.dump(false);
        windows(folder.path(), if processor == AMD64 { ARM64 } else { AMD64 });
        let other = capture(dump.path(), Some(folder.path()));
        assert!(functions(&other).iter().all(String::is_empty), "{:?}", functions(&other));
        let problem = other.modules[0].problem.as_deref().unwrap();
        assert!(problem.contains("of another build"), "{problem}");
    }
}

/// A universal file of the given images.
fn universal(images: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut file: Vec<u8> = [0xcafe_babe, images.len() as u32].iter().flat_map(|w: &u32| w.to_be_bytes()).collect();
    let mut at = 0x4000;
    for (processor, image) in images {
        let entry = [*processor, 0, at, image.len() as u32, 14];
        file.extend(entry.iter().flat_map(|w| w.to_be_bytes()));
        at += (image.len() as u32).next_multiple_of(0x4000);
    }
    for (_, image) in images {
        file.resize(file.len().next_multiple_of(0x4000), 0);
        file.extend(image);
    }
    file
}

#[test]
fn macos_programs_with_their_images_and_bundles() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let programs = [macos(folders[0].path(), AMD64), macos(folders[1].path(), ARM64)];
    let read = |n: usize, path: &str| std::fs::read(folders[n].path().join(path)).unwrap();
    const INSIDE: &str = "program.dSYM/Contents/Resources/DWARF/program";
    // Both processors' images in one file, and both processors' debug information in one bundle of an application.
    let both = tempfile::tempdir().unwrap();
    let kinds = [0x0100_0007, 0x0100_000c];
    let universal_of = |path: &str| universal(&[(kinds[0], read(0, path)), (kinds[1], read(1, path))]);
    let bundle = both.path().join("Program.app.dSYM/Contents/Resources/DWARF");
    std::fs::create_dir_all(&bundle).unwrap();
    std::fs::write(both.path().join("program"), universal_of("program")).unwrap();
    std::fs::write(bundle.join("program"), universal_of(INSIDE)).unwrap();
    for (n, program) in programs.iter().enumerate() {
        let own = folders[n].path();
        let dump = program.dump(false);
        check(&capture(dump.path(), Some(own)), &MACOS_CALLS, true);
        check(&capture(dump.path(), Some(both.path())), &MACOS_CALLS, true);
        // Without the bundle: names by the image's own symbols.
        let bare = tempfile::tempdir().unwrap();
        std::fs::copy(own.join("program"), bare.path().join("program")).unwrap();
        check(&capture(dump.path(), Some(bare.path())), &MACOS_CALLS, false);
        // Without any file: what the dump holds of the image.
        check(&capture(program.dump(true).path(), None), &MACOS_CALLS, false);
        // Without the image: names and lines of the bundle, and frames by their records.
        std::fs::remove_file(bare.path().join("program")).unwrap();
        let inside = bare.path().join(INSIDE);
        std::fs::create_dir_all(inside.parent().unwrap()).unwrap();
        std::fs::copy(own.join(INSIDE), &inside).unwrap();
        let guessed = capture(dump.path(), Some(bare.path()));
        assert_eq!(functions(&guessed)[0], MACOS_CALLS[0]);
        assert!(frames(&guessed).iter().all(|f| f.line.is_some() && f.function.is_some()), "{:?}", functions(&guessed));
        // The other processor's files have another UUID.
        let other = capture(dump.path(), Some(folders[1 - n].path()));
        assert!(functions(&other).iter().all(String::is_empty), "{:?}", functions(&other));
        let problem = other.modules[0].problem.as_deref().unwrap();
        assert!(problem.contains("UUID"), "{problem}");
    }
}
