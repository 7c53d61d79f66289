//! Stacks of code of Windows: a program is carried out instruction by instruction, and at each one the frames are those
//! of the calls that were made, with the registers that the callers had.

#[allow(dead_code, reason = "there are machines for other tests too")]
mod machine;

use debuginfo::images::{Image, Native};
use debuginfo::locate::StoreKey;
use debuginfo::pe::PeFile;
use debuginfo::{DebugInfo, Locator, Modules};
use evidence::testing::FakeMemory;
use evidence::{Addr, Arch, Doubts, Memory, Registers};
use machine::IMAGE;
use machine::x64::{KEPT, Machine};
use std::path::Path;
use unwind::{Limits, Trust, unwind};

/// The image as a module: its file below `symbols`, or in the memory only.
fn modules(file: &PeFile, symbols: Option<&Path>, memory: &dyn Memory) -> Modules {
    let copy = PeFile::from_memory("[program.exe in memory]", Addr(IMAGE), memory);
    assert_eq!(copy.is_some(), symbols.is_none());
    let image = Image {
        slide: IMAGE,
        store: StoreKey::new("program.pdb", &file.debug_id().unwrap()),
        native: Some(Native::windows(Arch::X86_64, Some(&file.code_id()), copy)),
        ..Image::at(r"C:\bin\program.exe", Addr(IMAGE), 0x1_0000)
    };
    let symbols = symbols.map(Path::to_owned).into_iter().collect();
    Modules::of_images(vec![image], &[], &Locator { symbols, ..Locator::default() })
}

/// The image as it is loaded.
fn loaded(bytes: &[u8], file: &PeFile) -> Vec<u8> {
    let mut image = vec![0; 0x1_0000];
    image[..0x400].copy_from_slice(&bytes[..0x400]);
    for page in (0..0x1_0000).step_by(0x1000) {
        if let Some(part) = file.bytes_at(page as u32) {
            let n = part.len().min(0x1000);
            image[page..page + n].copy_from_slice(&part[..n]);
        }
    }
    image
}

/// The program's entry.
fn entry(bytes: &[u8]) -> u64 {
    let header = u32::from_le_bytes(bytes[0x3c..0x40].try_into().unwrap()) as usize;
    u32::from_le_bytes(bytes[header + 40..header + 44].try_into().unwrap()).into()
}

fn start(bytes: &[u8], file: &PeFile) -> Machine {
    Machine::new(loaded(bytes, file), entry(bytes), file.exports().find("handler").unwrap(), &KEPT)
}

/// Runs the whole program; gives the number of instructions and frames that were compared.
fn run(folder: &Path, in_memory: bool) -> (usize, usize) {
    let path = folder.join("program.exe");
    let file = PeFile::open(&path).unwrap();
    let mut machine = start(&std::fs::read(&path).unwrap(), &file);
    machine.memory.hide_image = !in_memory;
    let modules = modules(&file, (!in_memory).then_some(folder), &machine.memory);
    let doubts = Doubts::new();
    let info = DebugInfo::new(&modules, &doubts);
    let (mut instructions, mut frames) = (0, 0);
    loop {
        if !machine.at("iretq") {
            let stack = unwind(&machine.registers(), &machine.memory, &info, &Limits::default());
            let at = machine.rip();
            assert_eq!(stack.truncated, None, "at {at:#x}");
            let found: Vec<u64> = stack.frames.iter().skip(1).map(|f| f.pc.0).collect();
            let expected: Vec<u64> = machine.calls.iter().rev().map(|c| c.pc).collect();
            assert_eq!(format!("{found:x?}"), format!("{expected:x?}"), "at {at:#x}");
            for (frame, call) in stack.frames.iter().skip(1).zip(machine.calls.iter().rev()) {
                assert_eq!(
                    (frame.trust, frame.is_return_address),
                    (Trust::Cfi, !call.interrupted),
                    "at {at:#x} {:?}",
                    stack.frames
                );
                for (register, value) in &call.registers {
                    let name = evidence::register_name(Arch::X86_64, *register);
                    assert_eq!(frame.registers.get(*register), Some(*value), "{name:?} of {} at {at:#x}", frame.pc);
                }
                frames += 1;
            }
            instructions += 1;
        }
        if !machine.step() {
            break;
        }
    }
    assert_eq!(format!("{:?}", doubts.sorted()), "[]");
    (instructions, frames)
}

#[test]
fn every_instruction_of_a_program() {
    let folder = tempfile::tempdir().unwrap();
    testdata::windows::build("x86_64", folder.path()).unwrap();
    let by_file = run(folder.path(), false);
    let by_memory = run(folder.path(), true);
    assert_eq!(by_file, by_memory);
    assert!(by_file.0 > 300 && by_file.1 > 1000, "{by_file:?}");
}

/// A pointer to data lies on the stack before the return address, and the dump has nothing of the image: only the
/// sections in the program database tell them apart.
#[test]
fn data_is_no_return_address() {
    let folder = tempfile::tempdir().unwrap();
    testdata::windows::build("x86_64", folder.path()).unwrap();
    let file = PeFile::open(&folder.path().join("program.exe")).unwrap();
    let part = |code| (0x1000..0x1_0000_u64).step_by(0x1000).find(|rva| file.is_code(*rva) == Some(code)).unwrap();
    let (data, code) = (IMAGE + part(false) + 0x20, IMAGE + part(true) + 0x20);
    let empty = tempfile::tempdir().unwrap();
    let only_database = tempfile::tempdir().unwrap();
    std::fs::copy(folder.path().join("program.pdb"), only_database.path().join("program.pdb")).unwrap();

    let mut stack = vec![0; 0x100];
    stack[0x10..0x18].copy_from_slice(&data.to_le_bytes());
    stack[0x20..0x28].copy_from_slice(&code.to_le_bytes());
    let memory = FakeMemory::new().with(Addr(0x7000_0000), stack);
    let mut start = Registers::new(Arch::X86_64);
    start.set(Registers::pc_register(Arch::X86_64), code + 0x10);
    start.set(Registers::sp_register(Arch::X86_64), 0x7000_0000);
    let found = |symbols: &Path| {
        let image = Image {
            slide: IMAGE,
            store: StoreKey::new("program.pdb", &file.debug_id().unwrap()),
            native: Some(Native::windows(Arch::X86_64, Some(&file.code_id()), None)),
            ..Image::at(r"C:\bin\program.exe", Addr(IMAGE), 0x1_0000)
        };
        let locator = Locator { symbols: vec![symbols.to_owned()], ..Locator::default() };
        let modules = Modules::of_images(vec![image], &[], &locator);
        let doubts = Doubts::new();
        let info = DebugInfo::new(&modules, &doubts);
        let stack = unwind(&start, &memory, &info, &Limits::default());
        stack.frames.iter().skip(1).map(|f| (f.pc.0, f.trust)).collect::<Vec<_>>()
    };
    assert_eq!(found(only_database.path()), [(code, Trust::Scan)]);
    // Without it nothing is known of either.
    assert_eq!(found(empty.path()), [(data, Trust::Scan), (code, Trust::Scan)]);
}

/// Anything may be wrong in the answer, but there is one, soon, and no panic.
#[test]
fn damaged_unwind_data() {
    let folder = tempfile::tempdir().unwrap();
    testdata::windows::build("x86_64", folder.path()).unwrap();
    let path = folder.path().join("program.exe");
    let original = std::fs::read(&path).unwrap();
    let file = PeFile::open(&path).unwrap();
    let mut seed = 0x2545_f491_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let (mut walked, mut whole) = (0, 0);
    for n in 0..400 {
        let mut machine = start(&original, &file);
        for _ in 0..random(400) {
            machine.step();
        }
        for _ in 0..=n % 24 {
            // The sections that hold the tables, and the headers.
            let at = [0x2000, 0x4000, 0][n % 3] + random([0x200, 0x100, 0x400][n % 3]);
            machine.memory.damage(at, [0, 0xff, 1, 0x21, 0x80][random(5)]);
        }
        let Some(copy) = PeFile::from_memory("damaged", Addr(IMAGE), &machine.memory) else { continue };
        let image = Image {
            slide: IMAGE,
            native: Some(Native::windows(Arch::X86_64, None, Some(copy))),
            ..Image::at("damaged.exe", Addr(IMAGE), 0x1_0000)
        };
        let modules = Modules::of_images(vec![image], &[], &Locator::default());
        let doubts = Doubts::new();
        let info = DebugInfo::new(&modules, &doubts);
        let stack = unwind(&machine.registers(), &machine.memory, &info, &Limits::default());
        walked += 1;
        whole += usize::from(stack.frames.len() == machine.calls.len() + 1);
    }
    assert!(walked > 250 && whole > 30, "{walked} {whole}");
}
