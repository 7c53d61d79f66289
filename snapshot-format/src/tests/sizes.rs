//! What things cost: as ratios, so that the tests hold for whatever compression does next.

use super::round_trip::written;
use super::samples::{noise, process};
use crate::Snapshot;
use crate::schema::*;

fn size(snapshot: &Snapshot) -> usize {
    written(snapshot).len()
}

/// Asserts that `large` takes at most `percent` of what `small` takes.
fn at_most(large: usize, percent: usize, small: usize) {
    assert!(large * 100 <= small * percent, "{large} bytes, and {small} * {percent} % were expected at most");
}

#[test]
fn an_empty_snapshot_is_nearly_nothing() {
    at_most(size(&Snapshot::default()), 100, 256);
}

#[test]
fn a_thousand_threads_on_one_stack_cost_little_more_than_one() {
    let one = process(1, 10);
    let mut many = one.clone();
    many.threads = (0..1000).map(|t| Thread { id: 4711 + t, ..one.threads[0].clone() }).collect();
    at_most(size(&many), 110, size(&one));
}

#[test]
fn a_thousand_identical_stacks_cost_little_more_than_one() {
    let one = process(1, 10);
    let mut many = one.clone();
    for stack in 1..1000 {
        many.stacks.push(Stack { first: stack * 10, count: 10 });
        many.frames.extend_from_slice(&one.frames);
    }
    at_most(size(&many), 120, size(&one));
}

#[test]
fn names_of_registers_and_types_and_repeated_paths_cost_next_to_nothing() {
    let snapshot = process(200, 12);
    let mut bytes = Vec::new();
    snapshot.write_to(&mut bytes).unwrap();
    let reader = crate::Reader::open(std::io::Cursor::new(&bytes)).unwrap();
    for (table, column) in [
        ("registers", "name"),
        ("registers", "thread"),
        ("registers", "frame"),
        ("variables", "name"),
        ("variables", "type_name"),
        ("variables", "parent"),
        ("variables", "kind"),
        ("frames", "file"),
        ("frames", "function"),
        ("frames", "trust"),
    ] {
        let found =
            reader.columns().into_iter().find(|info| (info.table.as_str(), info.column.as_str()) == (table, column));
        let bytes = found.unwrap().bytes;
        assert!(bytes < 300, "{table}.{column} takes {bytes} bytes");
    }
}

#[test]
fn a_process_of_200_threads_is_a_small_part_of_what_its_rows_hold() {
    let snapshot = process(200, 12);
    // Of 17 registers, 14 hold six bytes that look random, the same in all frames of a thread.
    let incompressible = 200 * 14 * 6;
    at_most(size(&snapshot), 150, incompressible);
}

#[test]
fn incompressible_memory_costs_its_own_size() {
    let body = noise(3_000_000, 5);
    let memory = MemoryExtent { length: 3_000_000, bytes: body, ..MemoryExtent::default() };
    at_most(size(&Snapshot { memory: vec![memory], ..Snapshot::default() }), 101, 3_000_000);
}

#[test]
fn small_extents_that_resemble_each_other_compress_together() {
    let extent =
        |t: u64| MemoryExtent { address: t << 20, length: 8192, bytes: noise(8192, 1), space: 0, absent: None };
    let one = size(&Snapshot { memory: vec![extent(0)], ..Snapshot::default() });
    let many = size(&Snapshot { memory: (0..100).map(extent).collect(), ..Snapshot::default() });
    at_most(many, 120, one);
}
