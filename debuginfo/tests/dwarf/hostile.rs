//! Damaged debug information: whatever the bytes say, nothing panics and everything ends.

use crate::peers::sample;
use debuginfo::{DebugInfo, Locator, Modules};
use evidence::{Doubts, Svma};
use std::path::Path;
use testdata::victims;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

/// Positions of the bytes of all `.debug_` sections in the file.
fn debug_ranges(file: &Path) -> Vec<std::ops::Range<usize>> {
    let modules = Modules::of_file(file, None, None, &Locator::default()).unwrap();
    let file = modules.list()[0].main().unwrap();
    let start = file.bytes().as_ptr().addr();
    let mut ranges = Vec::new();
    for section in file.sections().iter().filter(|s| s.name().starts_with(".debug_") || s.name() == ".gdb_index") {
        if let Ok(Some(data)) = file.section_data(section.name()) {
            let at = data.as_ptr().addr() - start;
            ranges.push(at..at + data.len());
        }
    }
    assert!(!ranges.is_empty());
    ranges
}

fn resolve_all(program: &Path, pcs: &[u64]) -> usize {
    let alternate = Some(program.with_file_name("common.alt")).filter(|p| p.is_file());
    let Ok(modules) = Modules::of_file(program, None, alternate.as_deref(), &Locator::default()) else { return 0 };
    let doubts = Doubts::new();
    let info = DebugInfo::new(&modules, &doubts);
    let all: Vec<_> = pcs.iter().map(|pc| (0, Svma(*pc))).collect();
    info.resolve_batch(&all).iter().map(Vec::len).sum()
}

/// Flips bytes of `damaged` (a file beside the program, or the program), `rounds` times, a few at once.
fn flip(variant: &str, damaged: impl Fn(&Path) -> Option<std::path::PathBuf>, rounds: usize) {
    let program = match victims::build("inlines", variant) {
        Ok(program) => program,
        Err(victims::VictimError::MissingTool { tool }) => return println!("skipped {variant}: no {tool}"),
        Err(e) => panic!("{e}"),
    };
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(program.parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let copy = folder.path().join(program.file_name().unwrap());
    let target = damaged(folder.path()).unwrap_or_else(|| copy.clone());
    let (whole, ranges) = (std::fs::read(&target).unwrap(), debug_ranges(&target));
    let pcs = sample(&copy, 40);
    let most = resolve_all(&copy, &pcs);
    assert!(most > 0);
    let mut dice = Dice(0x1234_5678_9abc_def1);
    for _ in 0..rounds {
        let mut bytes = whole.clone();
        for _ in 0..=dice.roll(6) {
            let range = &ranges[dice.roll(ranges.len())];
            if !range.is_empty() {
                let at = range.start + dice.roll(range.len());
                bytes[at] = match dice.roll(4) {
                    0 => 0,
                    1 => 0xff,
                    _ => bytes[at] ^ (1 << dice.roll(8)),
                };
            }
        }
        std::fs::write(&target, &bytes).unwrap();
        let _ = resolve_all(&copy, &pcs);
    }
}

fn with_extension(folder: &Path, extension: &str) -> Option<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries.into_iter().find(|p| p.extension().is_some_and(|e| e == extension))
}

#[test]
fn flipped_dwarf5() {
    flip("gcc-O2", |_| None, 150);
}

#[test]
fn flipped_dwarf4_of_clang() {
    flip("clang-O2-dwarf4", |_| None, 100);
}

#[test]
fn flipped_index() {
    flip("clang-gdb-index", |_| None, 80);
}

#[test]
fn flipped_type_units() {
    flip("types-dwarf4", |_| None, 80);
}

#[test]
fn flipped_alternate() {
    flip("dwz", |folder| with_extension(folder, "alt"), 80);
}

#[test]
fn flipped_split_file() {
    flip("split-dwo", |folder| with_extension(folder, "dwo"), 120);
}

#[test]
fn flipped_package() {
    flip("clang-split-dwp", |folder| with_extension(folder, "dwp"), 80);
    flip("split-dwp-dwarf4", |folder| with_extension(folder, "dwp"), 80);
}
