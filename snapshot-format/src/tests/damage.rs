//! Damaged files: what is complete is read, the rest is named, and nothing breaks.

use std::fmt::Debug;
use std::io::Cursor;

use super::round_trip::written;
use super::samples::{mix, noise, process, small};
use crate::format::directory::Entry;
use crate::schema::*;
use crate::{Error, ReadOptions, Reader, Snapshot};

/// Reads a damaged file and checks what must hold of every one: nothing is invented, and nothing is lost in silence.
fn check(original: &Snapshot, bytes: &[u8]) -> Option<(Snapshot, Vec<Doubt>)> {
    check_blocks(original, bytes).map(|(snapshot, doubts, _)| (snapshot, doubts))
}

/// As [`check`], with the blocks that were found.
fn check_blocks(original: &Snapshot, bytes: &[u8]) -> Option<(Snapshot, Vec<Doubt>, Vec<Entry>)> {
    let mut reader = match Reader::open(Cursor::new(bytes)) {
        Ok(reader) => reader,
        Err(Error::NotASnapshot { .. } | Error::TextMode) => return None,
        Err(error) => panic!("{error}"),
    };
    let (snapshot, doubts) = (reader.snapshot(&ReadOptions::default()), reader.doubts());
    if snapshot != *original {
        assert!(!doubts.is_empty(), "something is lost in silence");
    }
    subset(&snapshot.registers, &original.registers);
    subset(&snapshot.attributes, &original.attributes);
    subset(
        &snapshot.findings.iter().map(|row| &row.text).collect::<Vec<_>>(),
        &original.findings.iter().map(|row| &row.text).collect::<Vec<_>>(),
    );
    subset(
        &snapshot.frames.iter().map(|row| row.pc).collect::<Vec<_>>(),
        &original.frames.iter().map(|row| row.pc).collect::<Vec<_>>(),
    );
    subset(
        &snapshot.variables.iter().map(|row| &row.value).collect::<Vec<_>>(),
        &original.variables.iter().map(|row| &row.value).collect::<Vec<_>>(),
    );
    for extent in snapshot.memory.iter().filter(|extent| !extent.bytes.is_empty()) {
        let holds = |whole: &MemoryExtent| {
            let skip = extent.address.checked_sub(whole.address)? as usize;
            (extent.space == whole.space && whole.bytes.get(skip..skip + extent.bytes.len())? == extent.bytes)
                .then_some(())
        };
        assert!(
            original.memory.iter().any(|whole| holds(whole).is_some()),
            "bytes at {:#x} are invented",
            extent.address
        );
    }
    for stack in &snapshot.stacks {
        assert!((stack.first + stack.count) as usize <= snapshot.frames.len());
    }
    for thread in &snapshot.threads {
        assert!(thread.stack.is_none_or(|stack| (stack as usize) < snapshot.stacks.len()));
    }
    for (row, variable) in snapshot.variables.iter().enumerate() {
        assert!(variable.parent.is_none_or(|parent| (parent as usize) < row));
    }
    reader.directory.entries.retain(|entry| entry.offset != u64::MAX);
    Some((snapshot, doubts, reader.directory.entries))
}

/// Every row of `part` is one of `whole`, in the same order.
fn subset<T: PartialEq + Debug>(part: &[T], whole: &[T]) {
    let mut whole = whole.iter();
    for row in part {
        assert!(whole.any(|other| other == row), "{row:?} is invented");
    }
}

fn entries(bytes: &[u8]) -> Vec<Entry> {
    Reader::open(Cursor::new(bytes)).unwrap().directory.entries
}

/// Cuts a file at every `step` bytes; every block before the cut must be found.
fn check_cuts(original: &Snapshot, step: usize) {
    let bytes = written(original);
    let all = entries(&bytes);
    for cut in (8..bytes.len()).step_by(step) {
        let complete: Vec<Entry> = all.iter().filter(|entry| entry.end() <= cut as u64).copied().collect();
        let (_, doubts, found) = check_blocks(original, &bytes[..cut]).unwrap();
        assert_eq!(found, complete, "cut at {cut} of {}", bytes.len());
        assert!(doubts.iter().any(|doubt| doubt.what == "snapshot-cut-off"), "cut at {cut}: {doubts:?}");
    }
}

/// A snapshot of a few hundred kilobytes, most of it chunks of memory.
fn large() -> Snapshot {
    let mut snapshot = process(30, 8);
    snapshot.memory = (1..4u64)
        .map(|i| MemoryExtent { address: i << 32, length: 90_000, bytes: noise(90_000, i), ..MemoryExtent::default() })
        .collect();
    snapshot.memory.push(MemoryExtent {
        address: 9 << 32,
        length: 1_200_000,
        bytes: noise(1_200_000, 9),
        ..MemoryExtent::default()
    });
    snapshot
}

#[test]
fn a_file_that_is_no_snapshot_is_an_error() {
    assert!(Snapshot::read_slice(b"").is_err());
    assert!(Snapshot::read_slice(b"\x7fELF and so on, longer than a header").is_err());
    let bytes = written(&small());
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(matches!(Snapshot::read_slice(text.as_bytes()), Err(Error::TextMode)));
    assert!((0..8).all(|cut| Snapshot::read_slice(&bytes[..cut]).is_err()));
}

#[test]
fn a_small_file_cut_off_anywhere_yields_every_complete_block() {
    check_cuts(&small(), 1);
}

#[test]
fn a_large_file_cut_off_anywhere_yields_every_complete_block() {
    check_cuts(&large(), 4096);
}

#[test]
fn tables_before_the_cut_are_whole_and_the_threads_say_what_they_lost() {
    let original = process(3, 5);
    let bytes = written(&original);
    let frames = entries(&bytes).into_iter().find(|entry| entry.id.table == 10).unwrap();
    let (snapshot, doubts) = check(&original, &bytes[..frames.offset as usize]).unwrap();
    assert_eq!((snapshot.modules, snapshot.identity), (original.modules, original.identity));
    assert_eq!(snapshot.threads.len(), 3);
    assert!(snapshot.threads.iter().all(|thread| thread.truncated.is_some()));
    assert!(snapshot.stacks.iter().all(|stack| stack.count == 0));
    assert!(doubts.iter().any(|doubt| doubt.why.contains("without a directory")), "{doubts:?}");
}

#[test]
fn a_damaged_column_is_named_and_the_others_stay() {
    let original = small();
    let bytes = written(&original);
    let damage = |table: u32, column: u32| {
        let mut bytes = bytes.clone();
        let entry =
            entries(&bytes).into_iter().find(|entry| entry.id.table == table && entry.id.column == column).unwrap();
        bytes[entry.end() as usize - 1] ^= 1;
        check(&original, &bytes).unwrap()
    };
    let (snapshot, doubts) = damage(10, 2);
    assert_eq!(snapshot.frames.len(), original.frames.len());
    assert!(snapshot.frames.iter().all(|frame| frame.function.is_none() && frame.file.is_some()));
    assert!(
        doubts[0].why.starts_with("column frames.function of rows 0 to 5 fails its checksum at offset"),
        "{doubts:?}"
    );
    let (snapshot, doubts) = damage(10, 1);
    assert_eq!((snapshot.frames.len(), snapshot.stacks[0].count), (0, 0));
    assert!(doubts.iter().any(|doubt| doubt.why.contains("left out: without their column pc")), "{doubts:?}");
    let (snapshot, _) = damage(21, 14);
    assert_eq!(snapshot.memory[0].absent.as_deref(), Some("corrupt"));
    assert_eq!(snapshot.memory[1].absent.as_deref(), Some("filtered"));
}

#[test]
fn bytes_around_a_damaged_chunk_stay() {
    let original = large();
    let mut bytes = written(&original);
    let chunks: Vec<Entry> = entries(&bytes).into_iter().filter(|entry| entry.id.kind == 3).collect();
    let first_of_large = chunks.iter().find(|entry| entry.id.address == 9 << 32).unwrap();
    bytes[first_of_large.offset as usize + 500] ^= 1;
    let (snapshot, _) = check(&original, &bytes).unwrap();
    let extents: Vec<_> = snapshot.memory[3..]
        .iter()
        .map(|row| (row.address, row.length, row.bytes.len(), row.absent.as_deref()))
        .collect();
    let second = (9 << 32) + (1 << 20);
    assert_eq!(
        extents,
        [(9 << 32, 1 << 20, 0, Some("corrupt")), (second, 1_200_000 - (1 << 20), 1_200_000 - (1 << 20), None)]
    );
    let mut reader = Reader::open(Cursor::new(&bytes)).unwrap();
    let mut buffer = [0; 64];
    assert_eq!(reader.read_memory(0, second - 32, &mut buffer), 0);
    assert_eq!(reader.read_memory(0, second, &mut buffer), 64);
    assert_eq!(buffer, original.memory[3].bytes[1 << 20..][..64]);
}

#[test]
fn bytes_that_are_inserted_removed_or_appended_cost_only_what_they_hit() {
    let original = small();
    let bytes = written(&original);
    let (snapshot, doubts) = check(&original, &[&bytes[..], b"trailing"].concat()).unwrap();
    assert!(snapshot == original);
    assert!(doubts[0].why.contains("8 bytes follow the end"), "{doubts:?}");
    let all = entries(&bytes);
    for at in (20..bytes.len() - 24).step_by(11) {
        let broken = [&bytes[..at], b"+++", &bytes[at..]].concat();
        let found = check_blocks(&original, &broken).unwrap().2;
        assert!(found.len() + 1 >= all.len(), "inserted at {at}: {} of {}", found.len(), all.len());
        let broken = [&bytes[..at], &bytes[at + 3..]].concat();
        let found = check_blocks(&original, &broken).unwrap().2;
        assert!(found.len() + 2 >= all.len(), "removed at {at}: {} of {}", found.len(), all.len());
    }
}

#[test]
fn a_snapshot_within_a_snapshot_is_not_taken_for_it_when_the_outer_is_damaged() {
    let mut original = small();
    let inner = written(&process(2, 2));
    original.memory =
        vec![MemoryExtent { address: 0x1000, length: inner.len() as u64, bytes: inner, ..MemoryExtent::default() }];
    let bytes = written(&original);
    for at in (16..bytes.len()).step_by(5) {
        let mut broken = bytes.clone();
        broken[at] ^= 0xff;
        broken.truncate(bytes.len() - 5);
        check(&original, &broken);
    }
}

#[test]
fn ten_thousand_flips_do_no_harm() {
    let original = small();
    let bytes = written(&original);
    std::thread::scope(|scope| {
        for worker in 0..2u64 {
            let (bytes, original) = (&bytes, &original);
            scope.spawn(move || {
                for turn in 0..5000u64 {
                    let random = mix(turn * 2 + worker + 1);
                    let mut broken = bytes.clone();
                    broken[(random >> 8) as usize % bytes.len()] ^= 1 << (random % 8);
                    check(original, &broken);
                }
            });
        }
    });
}

#[test]
fn many_flips_at_once_do_no_harm() {
    let original = large();
    let bytes = written(&original);
    for turn in 0..20u64 {
        let mut broken = bytes.clone();
        for flip in 0..40 {
            let random = mix(turn * 1000 + flip + 1);
            broken[16 + (random >> 8) as usize % (bytes.len() - 16)] ^= 1 << (random % 8);
        }
        check(&original, &broken).unwrap();
    }
}
