//! Stacks of ARM64 code of Windows: a program is carried out instruction by instruction, and at each one the frames are
//! those of the calls that were made, with the registers that the callers had.

#[allow(dead_code, reason = "there are machines for other tests too")]
mod machine;

use debuginfo::images::{Image, Native};
use debuginfo::locate::StoreKey;
use debuginfo::pe::PeFile;
use debuginfo::{DebugInfo, Locator, Modules};
use evidence::{Addr, Arch, Doubts};
use machine::IMAGE;
use machine::arm64::Machine;
use std::path::Path;
use unwind::{Limits, Trust, unwind};

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

fn run(folder: &Path, hide_code: bool) -> (usize, usize, usize) {
    let path = folder.join("program.exe");
    let (bytes, file) = (std::fs::read(&path).unwrap(), PeFile::open(&path).unwrap());
    let header = u32::from_le_bytes(bytes[0x3c..0x40].try_into().unwrap()) as usize;
    let entry = u32::from_le_bytes(bytes[header + 40..header + 44].try_into().unwrap());
    let mut machine = Machine::new(loaded(&bytes, &file), entry.into());
    let symbols = vec![folder.to_owned()];
    let image = Image {
        slide: IMAGE,
        store: StoreKey::new("program.pdb", &file.debug_id().unwrap()),
        native: Some(Native::windows(Arch::Aarch64, Some(&file.code_id()), None)),
        ..Image::at(r"C:\bin\program.exe", Addr(IMAGE), 0x1_0000)
    };
    machine.memory.hide_image = hide_code;
    let modules = Modules::of_images(vec![image], &[], &Locator { symbols, ..Locator::default() });
    let doubts = Doubts::new();
    let info = DebugInfo::new(&modules, &doubts);
    let (mut instructions, mut frames) = (0, 0);
    loop {
        let at = machine.pc();
        let stack = unwind(&machine.registers(), &machine.memory, &info, &Limits::default());
        let found: Vec<u64> = stack.frames.iter().skip(1).map(|f| f.pc.0).collect();
        let expected: Vec<u64> = machine.calls.iter().rev().map(|c| c.pc).collect();
        assert_eq!(format!("{found:x?}"), format!("{expected:x?}"), "at {at:#x}");
        assert_eq!(stack.truncated, None, "at {at:#x}");
        for (frame, call) in stack.frames.iter().skip(1).zip(machine.calls.iter().rev()) {
            assert_eq!(frame.trust, Trust::Cfi, "at {at:#x}");
            for (register, value) in &call.registers {
                assert_eq!(frame.registers.get(*register), Some(*value), "{register:?} of {} at {at:#x}", frame.pc);
            }
            frames += 1;
        }
        instructions += 1;
        if !machine.step() {
            break;
        }
    }
    assert_eq!(format!("{:?}", doubts.sorted()), "[]");
    (instructions, frames, machine.signed)
}

#[test]
fn every_instruction_of_a_program() {
    let folder = tempfile::tempdir().unwrap();
    testdata::windows::build("aarch64", folder.path()).unwrap();
    let (instructions, frames, _) = run(folder.path(), false);
    assert!(instructions > 300 && frames > 1000, "{instructions} {frames}");
}

/// Anything may be wrong in the answer, but there is one, soon, and no panic.
#[test]
fn damaged_unwind_data() {
    let folder = tempfile::tempdir().unwrap();
    testdata::windows::build("aarch64", folder.path()).unwrap();
    let path = folder.path().join("program.exe");
    let (bytes, file) = (std::fs::read(&path).unwrap(), PeFile::open(&path).unwrap());
    let header = u32::from_le_bytes(bytes[0x3c..0x40].try_into().unwrap()) as usize;
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let (entry, table) = (number(header + 40), number(header + 24 + 112 + 3 * 8));
    let records = number(file_offset(&bytes, table) + 4) & !3;
    let mut seed = 0x2545_f491_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let (mut walked, mut whole) = (0, 0);
    for n in 0..400 {
        let mut machine = Machine::new(loaded(&bytes, &file), entry as u64);
        for _ in 0..random(400) {
            machine.step();
        }
        for _ in 0..=n % 24 {
            // Entries, records, code, headers.
            let at = [table, records, 0x1000, 0][n % 4] + random([48, 0x80, 0x300, 0x400][n % 4]);
            machine.memory.damage(at, [0, 0xff, 1, 0x21, 0xe6][random(5)]);
        }
        let Some(copy) = PeFile::from_memory("damaged", Addr(IMAGE), &machine.memory) else { continue };
        let image = Image {
            slide: IMAGE,
            native: Some(Native::windows(Arch::Aarch64, None, Some(copy))),
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

/// Where an RVA lies in the file, by the sections.
fn file_offset(bytes: &[u8], rva: usize) -> usize {
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let header = number(0x3c);
    let sections = header + 24 + (number(header + 20) & 0xffff);
    let place = |n: usize| (number(sections + 40 * n + 12), number(sections + 40 * n + 20));
    let (start, offset) = (0..8).map(place).filter(|(start, _)| *start <= rva && *start > 0).max().unwrap();
    offset + rva - start
}
