//! Unwind data of ARM64 images of Windows: every entry of a program, and made packed entries of every form, against
//! LLVM's reader.

use debuginfo::pe::arm64::{self, Op};
use debuginfo::pe::{PeFile, View};
use evidence::Addr;
use evidence::testing::FakeMemory;
use std::path::Path;
use std::process::Command;

/// Where the linker places images of programs.
const LINKED: u64 = 0x1_4000_0000;

/// A function's place and the instructions of its prologue, the last one first.
type Listed = (u32, Vec<String>);

/// What llvm-readobj says of each entry.
fn by_llvm(image: &Path) -> Vec<Listed> {
    let output = Command::new("llvm-readobj").arg("--unwind").arg(image).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut all: Vec<Listed> = Vec::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(at) = line.strip_prefix("Function: ") {
            let digits = at.rsplit("0x").next().unwrap().trim_end_matches(')');
            all.push(((u64::from_str_radix(digits, 16).unwrap() - LINKED) as u32, Vec::new()));
        }
        match line {
            "Prologue [" => inside = true,
            "]" => inside = false,
            _ if inside => {
                let code = line.split(';').next_back().unwrap().trim();
                if code != "end" {
                    all.last_mut().unwrap().1.push(code.to_owned());
                }
            }
            _ => {}
        }
    }
    assert!(output.status.success() && !all.is_empty(), "{text}");
    all
}

/// An instruction as LLVM writes it. `None`: `save next`, which is only told by what follows it.
fn read(line: &str) -> Option<Op> {
    // LLVM 14 does not write the room that is made for vectors or arguments when nothing else is saved.
    if line.starts_with("save next") || line.starts_with("INVALID") {
        return None;
    }
    let words: Vec<&str> = line.split([' ', ',', '[', ']', '!']).filter(|w| !w.is_empty()).collect();
    let number = words.last().and_then(|w| w.strip_prefix('#')).map(|n| n.parse::<i64>().unwrap());
    let register = |name: &str| match name {
        "lr" => Some(30),
        "fp" => Some(29),
        other => other.strip_prefix('x').and_then(|n| n.parse::<u8>().ok()),
    };
    Some(match (words[0], words[1..].to_vec().as_slice()) {
        ("sub", ["sp", ..]) => Op::Alloc(number.unwrap() as u32),
        ("mov", ["x29" | "fp", "sp"]) => Op::SetFrame,
        ("add", ["x29" | "fp", "sp", _]) => Op::AddFrame(number.unwrap() as u32),
        ("pacibsp", []) => Op::Sign,
        ("nop", _) => Op::Nothing,
        ("stp" | "str", registers) => {
            let moves = line.ends_with('!');
            let offset = number.unwrap_or(0).unsigned_abs() as u32;
            let first = register(registers[0]).filter(|n| *n >= 19);
            // Vectors, and stores of arguments.
            let Some(first) = first else { return Some(if moves { Op::Alloc(offset) } else { Op::Nothing }) };
            let second = if words[0] == "stp" { register(registers[1]) } else { None };
            if moves { Op::Push([Some(first), second], offset) } else { Op::Save([Some(first), second], offset) }
        }
        other => panic!("{line}: {other:?}"),
    })
}

/// Compares all entries; gives how many were.
fn compare(image: &Path) -> usize {
    let file = PeFile::open(image).unwrap();
    let memory = FakeMemory::new();
    let view = View { file: &file, memory: &memory, base: Addr(LINKED) };
    let mut compared = 0;
    for (begin, lines) in by_llvm(image) {
        let expected: Vec<Option<Op>> = lines.iter().map(|l| read(l)).collect();
        // In the body, directly behind the prologue.
        let body = begin + 4 * lines.len() as u32;
        let found = arm64::find(&view, body, false).unwrap().unwrap();
        assert_eq!(found.len(), expected.len(), "{begin:#x}: {lines:?} {found:?}");
        for (op, expected) in found.iter().zip(&expected) {
            assert!(expected.as_ref().is_none_or(|e| e == op), "{begin:#x}: {lines:?} {found:?}");
        }
        // In the prologue, what was done so far.
        for done in 0..lines.len() {
            let part = arm64::find(&view, begin + 4 * done as u32, false).unwrap().unwrap();
            assert_eq!(part, found[found.len() - done..], "{begin:#x} after {done}");
        }
        compared += 1;
    }
    compared
}

#[test]
fn entries_of_a_program_are_those_of_llvm() {
    let folder = tempfile::tempdir().unwrap();
    testdata::windows::build("aarch64", folder.path()).unwrap();
    assert!(compare(&folder.path().join("program.exe")) >= 6);
}

#[test]
fn packed_entries_of_every_form_are_those_of_llvm() {
    let folder = tempfile::tempdir().unwrap();
    testdata::windows::build("aarch64", folder.path()).unwrap();
    let original = std::fs::read(folder.path().join("program.exe")).unwrap();
    // The exception directory, and the section in which it lies.
    let number = |at: usize| u32::from_le_bytes(original[at..at + 4].try_into().unwrap());
    let header = number(0x3c) as usize;
    let directory = header + 24 + 112 + 3 * 8;
    let table = header + 24 + usize::from(u16::from_le_bytes([original[header + 20], original[header + 21]]));
    let section = (0..8).map(|n| table + 40 * n).find(|at| number(at + 12) == number(directory)).unwrap();
    let (place, room) = (number(section + 20) as usize, number(section + 16) as usize / 8);
    let mut words = Vec::new();
    for vectors in 0..8_u32 {
        for integers in 0..11_u32 {
            for homed in 0..2_u32 {
                // LLVM 14 does not know 2, which signs the return address.
                for chain in [0, 1, 3_u32] {
                    let saved =
                        (integers + u32::from(chain == 1) + if vectors == 0 { 0 } else { vectors + 1 } + 8 * homed)
                            .div_ceil(2);
                    for local in [0, 1, 32, 33, 255, 256] {
                        // A chained function has room for its record.
                        if chain < 2 || local > 0 {
                            let frame = saved + local;
                            words.push(
                                1 | 100 << 2 | vectors << 13 | integers << 16 | homed << 20 | chain << 21 | frame << 23,
                            );
                        }
                    }
                }
            }
        }
    }
    let image = folder.path().join("made.exe");
    let mut compared = 0;
    for part in words.chunks(room) {
        let mut bytes = original.clone();
        bytes[directory + 4..directory + 8].copy_from_slice(&(part.len() as u32 * 8).to_le_bytes());
        bytes[section + 8..section + 12].copy_from_slice(&(part.len() as u32 * 8).to_le_bytes());
        for (n, word) in part.iter().enumerate() {
            let begin = 0x1000 + n as u32 * 400;
            bytes[place + 8 * n..place + 8 * n + 4].copy_from_slice(&begin.to_le_bytes());
            bytes[place + 8 * n + 4..place + 8 * n + 8].copy_from_slice(&word.to_le_bytes());
        }
        std::fs::write(&image, bytes).unwrap();
        compared += compare(&image);
    }
    assert_eq!(compared, words.len());
    println!("{compared} packed entries");
}
