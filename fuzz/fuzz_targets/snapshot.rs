//! The snapshot reader on any bytes: whole, column by column, and memory in place.
//!
//! What it reads must be writable, and be read back without a doubt.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use snapshot_format::{ReadOptions, Reader, Snapshot};

/// Small, so that inputs that reach it are found.
const BUDGET: u64 = 16 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut reader) = Reader::open(Cursor::new(bytes)) else { return };
    for info in reader.columns().into_iter().take(64) {
        let column = reader.read_column(&info.table, &info.column).map(|column| column.get(0).is_some());
        assert!(column.is_ok(), "a column that is listed can be asked for");
    }
    let mut buffer = [0; 64];
    reader.read_memory(0, 0x7fff_1000, &mut buffer);
    let options = ReadOptions { row_budget: BUDGET, memory_budget: BUDGET, ..ReadOptions::default() };
    let snapshot = reader.snapshot(&options);
    let mut again = Vec::new();
    if snapshot.write_to(&mut again).is_ok() {
        let (_, doubts) = Snapshot::read_slice(&again).expect("what was written is a snapshot");
        assert!(doubts.is_empty(), "{doubts:?}");
    }
});
