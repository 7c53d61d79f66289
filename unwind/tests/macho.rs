//! Stacks of code of macOS: a program is carried out instruction by instruction, and at each one the frames are those of
//! the calls that were made, with the registers that the callers had.

#[allow(dead_code, reason = "there are machines for other tests too")]
mod machine;

use debuginfo::elf::ElfFile;
use debuginfo::images::{Image, Verified};
use debuginfo::{DebugInfo, Locator, Modules};
use evidence::{Addr, Arch, Doubts, Register, Registers};
use machine::{Call, IMAGE, Ram, arm64, x64};
use std::path::Path;
use unwind::{Limits, Trust, unwind};

/// Where the linker places programs.
const LINKED: u64 = 0x1_0000_0000;

struct Run {
    modules: Modules,
    instructions: usize,
    frames: usize,
}

impl Run {
    fn new(program: &Path) -> Self {
        let file = ElfFile::open(program).unwrap();
        let image = Image {
            slide: IMAGE - LINKED,
            file: Some((file, Verified::BuildId)),
            apple: true,
            ..Image::at("/bin/program", Addr(IMAGE), 0x1_0000)
        };
        let modules = Modules::of_images(vec![image], &[], &Locator::default());
        Self { modules, instructions: 0, frames: 0 }
    }

    fn check(&mut self, registers: &Registers, memory: &Ram, calls: &[Call]) {
        let doubts = Doubts::new();
        let info = DebugInfo::new(&self.modules, &doubts);
        let at = registers.pc().unwrap();
        let (index, module) = self.modules.find(at).unwrap();
        let name = info.resolve(index, module.to_svma(at)).pop().and_then(|f| f.function);
        let stack = unwind(registers, memory, &info, &Limits::default());
        let found: Vec<u64> = stack.frames.iter().skip(1).map(|f| f.pc.0).collect();
        let expected: Vec<u64> = calls.iter().rev().map(|c| c.pc).collect();
        assert_eq!(format!("{found:x?}"), format!("{expected:x?}"), "at {at} in {name:?}");
        assert_eq!(stack.truncated, None, "at {at} in {name:?}");
        for (frame, call) in stack.frames.iter().skip(1).zip(calls.iter().rev()) {
            assert_eq!(frame.trust, Trust::Cfi, "at {at} in {name:?}");
            for (register, value) in &call.registers {
                let which = evidence::register_name(registers.arch, *register);
                assert_eq!(
                    frame.registers.get(*register),
                    Some(*value),
                    "{which:?} of {} at {at} in {name:?}",
                    frame.pc
                );
            }
            self.frames += 1;
        }
        assert_eq!(format!("{:?}", doubts.sorted()), "[]");
        self.instructions += 1;
    }
}

/// The image as it is loaded.
fn loaded(program: &Path) -> Vec<u8> {
    let file = ElfFile::open(program).unwrap();
    let mut image = vec![0; 0x1_0000];
    for segment in file.segments() {
        let place = (segment.address.0 - LINKED) as usize;
        if let Some(bytes) = file.bytes_at(segment.address) {
            image[place..place + bytes.len()].copy_from_slice(bytes);
        }
    }
    image
}

fn entry(program: &Path) -> u64 {
    let modules = Modules::of_file(program, None, None, &Locator::default()).unwrap();
    let doubts = Doubts::new();
    let info = DebugInfo::new(&modules, &doubts);
    info.symbols(0).unwrap().by_name("start").unwrap().start.0 - LINKED
}

#[test]
fn every_instruction_of_x86_64() {
    let folder = tempfile::tempdir().unwrap();
    testdata::macos::build("x86_64", folder.path()).unwrap();
    let program = folder.path().join("program");
    let mut run = Run::new(&program);
    let mut machine = x64::Machine::new(loaded(&program), entry(&program), 0, &x64::KEPT[..7]);
    loop {
        run.check(&machine.registers(), &machine.memory, &machine.calls);
        if !machine.step() {
            break;
        }
    }
    assert!(run.instructions > 500 && run.frames > 2000, "{} {}", run.instructions, run.frames);
}

#[test]
fn every_instruction_of_arm64() {
    let folder = tempfile::tempdir().unwrap();
    testdata::macos::build("arm64", folder.path()).unwrap();
    let program = folder.path().join("program");
    let mut run = Run::new(&program);
    let mut machine = arm64::Machine::new(loaded(&program), entry(&program));
    loop {
        run.check(&machine.registers(), &machine.memory, &machine.calls);
        if !machine.step() {
            break;
        }
    }
    assert!(run.instructions > 500 && run.frames > 2000, "{} {}", run.instructions, run.frames);
    assert!(machine.signed > 20, "{}", machine.signed);
}

/// Every bit of the image may be wrong: there is an answer, soon, and no panic.
#[test]
fn damaged_images() {
    for (machine, arch) in [("x86_64", Arch::X86_64), ("arm64", Arch::Aarch64)] {
        let folder = tempfile::tempdir().unwrap();
        testdata::macos::build(machine, folder.path()).unwrap();
        let program = folder.path().join("program");
        let original = std::fs::read(&program).unwrap();
        let at = entry(&program);
        let mut seed = 0x2545_f491_u64;
        let mut random = move |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % below as u64) as usize
        };
        let mut opened = 0;
        for n in 0..300 {
            let mut bytes = original.clone();
            for _ in 0..=n % 16 {
                let at = random(if n % 3 == 0 { 0x800 } else { bytes.len() });
                bytes[at] = [0, 0xff, 1, 0x21, 0x80][random(5)];
            }
            bytes.truncate(if n % 5 == 0 { random(bytes.len()) } else { bytes.len() });
            let copy = folder.path().join("damaged");
            std::fs::write(&copy, &bytes).unwrap();
            let Ok(file) = ElfFile::open(&copy) else { continue };
            let image = Image {
                slide: IMAGE - LINKED,
                file: Some((file, Verified::BuildId)),
                apple: true,
                ..Image::at("/bin/damaged", Addr(IMAGE), 0x1_0000)
            };
            let modules = Modules::of_images(vec![image], &[], &Locator::default());
            let doubts = Doubts::new();
            let info = DebugInfo::new(&modules, &doubts);
            let memory = Ram::new(bytes.clone());
            for _ in 0..20 {
                let mut registers = Registers::new(arch);
                let stack = 0x7ff0_0000 + 8 * random(0x7000) as u64;
                for register in [Registers::sp_register(arch), Registers::fp_register(arch), Register(30)] {
                    registers.set(register, stack);
                }
                registers.set(Registers::pc_register(arch), IMAGE + (at & !0xfff) + 4 * random(0x400) as u64);
                drop(unwind(&registers, &memory, &info, &Limits::default()));
            }
            assert!(info.symbols(0).is_none_or(|s| s.iter().count() < 1000));
            opened += 1;
        }
        assert!(opened > 200, "{opened}");
    }
}
