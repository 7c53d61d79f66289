//! Real dumps, cut, overwritten and with their numbers changed: no panic, no endless loop, no memory without bound.
//!
//! `POSTFAULT_MUTATIONS` is how many (3000), `POSTFAULT_SEED` which slice of the endless sequence (0).

use crate::support::dumps;
use capture::{Plan, capture};
use debuginfo::Locator;
use platform::input::{Input, Options};
use platform::minidump;
use std::path::Path;
use testdata::memory::peak_kilobytes;

/// xorshift64*: the same sequence everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n.max(1)).unwrap()).unwrap()
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

const VALUES: [u32; 12] =
    [0, 1, 4, 0x7f, 0xff, 0xffff, 0x10000, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, 0xffff_fffe, 0xffff_ffff];

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let kind = random.below(5);
        let put = |bytes: &mut Vec<u8>, at: usize, value: u32| {
            if let Some(field) = bytes.get_mut(at..at + 4) {
                field.copy_from_slice(&value.to_le_bytes());
            }
        };
        match kind {
            0 => bytes.truncate(random.below(bytes.len() + 1)),
            1 => {
                let at = random.below(bytes.len());
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            // A field of the header or the directory.
            2 => {
                let at = random.below(64) * 4;
                put(bytes, at, VALUES[random.below(VALUES.len())]);
            }
            // A field near the start of a stream: counts, sizes, positions.
            3 => {
                let entry = 32 + 12 * random.below(16);
                let rva = bytes.get(entry + 8..entry + 12).map(|b| u32::from_le_bytes(b.try_into().unwrap()));
                let at = rva.unwrap_or(0) as usize + random.below(32) * 4;
                put(bytes, at, VALUES[random.below(VALUES.len())]);
            }
            _ => {
                let at = random.below(bytes.len()) & !3;
                put(bytes, at, VALUES[random.below(VALUES.len())]);
            }
        }
    }
}

/// Kilobytes that this process may ever have in memory.
const LIMIT_PEAK: u64 = 512 << 10;

#[test]
fn damaged_dumps_are_read_as_far_as_they_go() {
    let originals: Vec<(String, Vec<u8>)> = dumps()
        .iter()
        .map(|p| (p.display().to_string(), std::fs::read(p).unwrap()))
        .filter(|(_, b)| b.len() < 400 << 10)
        .collect();
    if originals.is_empty() {
        return;
    }
    let (count, seed) = (number("POSTFAULT_MUTATIONS", 3000), number("POSTFAULT_SEED", 0));
    let (mut opened, mut framed) = (0, 0);
    let mut peak = peak_kilobytes();
    for n in 0..count {
        let mut random = Random(((seed * 1_000_003 + n) * 2 + 0x9e37_79b9_7f4a_7c15) | 1);
        let (name, original) = &originals[random.below(originals.len())];
        let mut bytes = original.clone();
        mutate(&mut bytes, &mut random);
        let options = Options::default();
        let Ok(input) = Input::from_stream_with(&bytes[..], Path::new(name), &options) else { continue };
        let Ok(dump) = minidump::from_input(input, &options) else { continue };
        opened += 1;
        let target: &dyn evidence::Target = &dump;
        let doubts = target.gaps().doubts.len();
        assert!(doubts <= evidence::LIMIT_DOUBTS + 1, "{name}, mutation {n} of seed {seed}");
        let plan = Plan { workers: 1, ..Plan::default() };
        let mut snapshot = capture(target, &Locator::default(), &plan, &mut || {});
        analysis::analyse(&mut snapshot);
        framed += usize::from(!snapshot.frames.is_empty());
        // Other tests of this program run meanwhile; none of them needs as much.
        let before = std::mem::replace(&mut peak, peak_kilobytes());
        assert!(peak < LIMIT_PEAK, "{name}, mutation {n} of seed {seed}: from {before} kB to {peak} kB");
    }
    println!("{count} mutations: {opened} opened, {framed} with frames");
    assert!(opened * 3 > count, "most damage leaves something to read");
}
