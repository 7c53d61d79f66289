//! Damaged debug information and damaged memory: values may be wrong or absent, but nothing panics, hangs or grows.

#[path = "support/core.rs"]
mod core;

use capture::VariableOptions;
use capture::variables::{Collector, FrameContext, LIMIT_NODES, Variable};
use debuginfo::{DebugInfo, Locator, Modules};
use evidence::{Absent, Addr, Doubts, Extent, Memory, Target as _};
use object::read::elf::{FileHeader, SectionHeader};
use std::ops::Range;

/// A memory in which one byte of about `one_in` is another, always the same.
struct Flipped<'m> {
    inner: &'m dyn Memory,
    seed: u64,
    one_in: u64,
}

const fn mixed(n: u64) -> u64 {
    let n = (n ^ (n >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (n ^ (n >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (n >> 32)
}

impl Memory for Flipped<'_> {
    fn read(&self, at: Addr, into: &mut [u8]) -> (usize, Option<Absent>) {
        let (got, why) = self.inner.read(at, into);
        for (n, byte) in into[..got].iter_mut().enumerate() {
            let dice = mixed(self.seed ^ at.0.wrapping_add(n as u64));
            if dice.is_multiple_of(self.one_in) {
                *byte ^= (dice >> 40) as u8 | 1;
            }
        }
        (got, why)
    }
    fn extents(&self) -> &[Extent] {
        self.inner.extents()
    }
}

fn count(v: &Variable) -> usize {
    1 + v.children.iter().map(count).sum::<usize>()
}

/// Evaluates everything, and checks that the limits held.
fn evaluate(info: &DebugInfo<'_>, memory: &dyn Memory, frames: &[unwind::Frame]) -> usize {
    let collector = Collector::new(info, memory, VariableOptions::default());
    let mut total = 0;
    for (index, frame) in frames.iter().enumerate() {
        let Some((module, image)) = info.modules().find(frame.lookup()) else { continue };
        let sources = info.resolve(module, image.to_svma(frame.lookup()));
        for source in 0..sources.len() {
            let variables = collector.frame(&FrameContext { frames, index, sources: &sources, source, module });
            let nodes = variables.iter().map(count).sum::<usize>();
            assert!(nodes <= 2 * LIMIT_NODES, "{nodes} nodes in one frame");
            total += nodes;
        }
    }
    total
}

/// Where the debug sections of a file lie.
fn debug_sections(file: &[u8]) -> Vec<Range<usize>> {
    let header = object::elf::FileHeader64::<object::Endianness>::parse(file).unwrap();
    let endian = header.endian().unwrap();
    let sections = header.sections(endian, file).unwrap();
    sections
        .iter()
        .filter(|s| sections.section_name(endian, s).is_ok_and(|n| n.starts_with(b".debug_")))
        .map(|s| s.sh_offset(endian) as usize..(s.sh_offset(endian) + s.sh_size(endian)) as usize)
        .collect()
}

#[test]
fn damaged_debug_information() {
    let program = testdata::victims::build("variables", "no-pie").unwrap();
    let core = testdata::victims::wait_gcore("variables", "no-pie").unwrap();
    let target = core::read(&core);
    let doubts = Doubts::new();
    let modules = Modules::of_file(&program, None, None, &Locator::default()).unwrap();
    let info = DebugInfo::new(&modules, &doubts);
    let all = Modules::outline(&target, target.memory(), &Locator::default(), &doubts);
    let whole = DebugInfo::new(&all, &doubts);
    let frames =
        unwind::unwind(&target.threads[0].registers, target.memory(), &whole, &unwind::Limits::default()).frames;
    let sound = evaluate(&info, target.memory(), &frames);
    assert!(sound > 300, "{sound} values before any damage");
    let file = std::fs::read(&program).unwrap();
    let sections = debug_sections(&file);
    let folder = tempfile::tempdir().unwrap();
    for round in 0..150_u64 {
        let mut damaged = file.clone();
        for n in 0..1 + round % 12 {
            let dice = mixed(round * 1000 + n);
            let section = &sections[dice as usize % sections.len()];
            let at = section.start + (dice >> 20) as usize % section.len();
            damaged[at] ^= (dice >> 50) as u8 | 1;
        }
        let path = folder.path().join("damaged");
        std::fs::write(&path, &damaged).unwrap();
        let modules = Modules::of_file(&path, None, None, &Locator::default()).unwrap();
        let doubts = Doubts::new();
        evaluate(&DebugInfo::new(&modules, &doubts), target.memory(), &frames);
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn damaged_memory() {
    for (victim, variant) in [("containers", "gcc-O0"), ("containers", "clang-libcxx"), ("collections", "")] {
        let variant =
            if victim == "collections" { testdata::victims::find(victim).unwrap().variants[0] } else { variant };
        let core = testdata::victims::wait_gcore(victim, variant).unwrap();
        let target = core::read(&core);
        let doubts = Doubts::new();
        let modules = Modules::outline(&target, target.memory(), &Locator::default(), &doubts);
        let info = DebugInfo::new(&modules, &doubts);
        let frames =
            unwind::unwind(&target.threads[0].registers, target.memory(), &info, &unwind::Limits::default()).frames;
        let frames = &frames[..frames.len().min(10)];
        assert!(evaluate(&info, target.memory(), frames) > 100);
        for seed in 0..25 {
            let memory = Flipped { inner: target.memory(), seed, one_in: [4, 16, 64, 256, 1024][seed as usize % 5] };
            evaluate(&info, &memory, frames);
        }
        // Every memory access fails.
        let nothing = evidence::testing::FakeMemory::new();
        evaluate(&info, &nothing, frames);
    }
}
