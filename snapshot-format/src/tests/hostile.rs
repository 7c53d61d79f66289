//! Files made to do harm: every checksum is right, and what they say is not.

use proptest::prelude::*;

use super::samples::{mix, small};
use crate::format::block::{Header, Id, compression, kind};
use crate::format::column::encode_head;
use crate::format::directory::{Directory, Entry};
use crate::format::{header, ints, strings, varint};
use crate::reader::groups::Budget;
use crate::schema::*;
use crate::{ReadOptions, Reader, Row, Snapshot};

/// A file made block by block, with good checksums.
struct Forge {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

impl Forge {
    fn new() -> Self {
        Self { bytes: header::encode().to_vec(), entries: Vec::new() }
    }

    fn block(&mut self, id: Id, data: u8, encoding: u8, payload: &[u8]) -> &mut Self {
        let decoded = payload.len() as u32;
        self.raw(Header { id, data, encoding, decoded, ..Header::default() }, payload)
    }

    fn raw(&mut self, header: Header, stored: &[u8]) -> &mut Self {
        let header = Header { stored: stored.len() as u32, crc: crc32fast::hash(stored), ..header };
        let offset = self.bytes.len() as u64;
        self.bytes.extend(header.encode());
        self.bytes.extend_from_slice(stored);
        let length = (self.bytes.len() as u64 - offset) as u32;
        self.entries.push(Entry { id: header.id, offset, length });
        self
    }

    fn head(&mut self, table: u32, group: u32, first: u64, rows: u32, columns: &[u32]) -> &mut Self {
        let id = Id { kind: kind::HEAD, table, group, first, rows, ..Id::default() };
        self.block(id, 0, 0, &encode_head(columns))
    }

    fn column(&mut self, table: u32, column: u32, rows: u32, data: u8, encoding: u8, stream: &[u8]) -> &mut Self {
        let id = Id { kind: kind::COLUMN, table, column, rows, ..Id::default() };
        self.block(id, data, encoding, &[&[0], stream].concat())
    }

    fn numbers(&mut self, table: u32, column: u32, values: &[u64]) -> &mut Self {
        let mut stream = Vec::new();
        values.iter().for_each(|value| varint::put(&mut stream, *value));
        self.column(table, column, values.len() as u32, 1, ints::VARINT, &stream)
    }

    fn finish(&mut self) -> Vec<u8> {
        let directory = Directory { tables: Vec::new(), entries: std::mem::take(&mut self.entries) };
        let offset = self.bytes.len() as u64;
        self.block(Id { kind: kind::DIRECTORY, ..Id::default() }, 0, 0, &directory.encode());
        let length = (self.bytes.len() as u64 - offset) as u32;
        self.bytes.extend(header::encode_trailer(offset, length));
        std::mem::take(&mut self.bytes)
    }
}

/// Reads with and without the directory; what the doubts say.
fn read(bytes: &[u8]) -> (Snapshot, Vec<Doubt>) {
    let options = ReadOptions { row_budget: 64 << 20, memory_budget: 4 << 20, ..ReadOptions::default() };
    let result = Snapshot::read_with(std::io::Cursor::new(bytes), &options).unwrap();
    Snapshot::read_with(std::io::Cursor::new(&bytes[..bytes.len() - 3]), &options).unwrap();
    result
}

fn assert_said(doubts: &[Doubt], what: &str, why: &str) {
    assert!(doubts.iter().any(|doubt| doubt.what == what && doubt.why.contains(why)), "{what}, {why}: {doubts:#?}");
}

#[test]
fn references_to_nothing_are_removed() {
    let mut forge = Forge::new();
    forge.head(Thread::TABLE, 0, 0, 2, &[10]).numbers(Thread::TABLE, 10, &[0, 77]);
    forge.head(Stack::TABLE, 0, 0, 2, &[1, 2]).numbers(Stack::TABLE, 1, &[1, 4_000_000_000]);
    forge.numbers(Stack::TABLE, 2, &[u64::from(u32::MAX), 1_000_000_000]);
    forge.head(Frame::TABLE, 0, 0, 3, &[5]).numbers(Frame::TABLE, 5, &[0, 1, 5]);
    forge.head(Module::TABLE, 0, 0, 1, &[]);
    forge.head(Variable::TABLE, 0, 0, 3, &[3]).numbers(Variable::TABLE, 3, &[0, 2, 1]);
    forge.head(Evidence::TABLE, 0, 0, 1, &[1]).numbers(Evidence::TABLE, 1, &[9]);
    forge.head(Task::TABLE, 0, 0, 1, &[9]).numbers(Task::TABLE, 9, &[2]);
    let (snapshot, doubts) = read(&forge.finish());
    assert_eq!(snapshot.threads.iter().map(|thread| thread.stack).collect::<Vec<_>>(), [Some(0), None]);
    assert!(snapshot.threads[0].truncated.is_some());
    assert_eq!(snapshot.stacks, [Stack { first: 1, count: 2 }, Stack { first: 0, count: 0 }]);
    assert_eq!(snapshot.frames.iter().map(|frame| frame.module).collect::<Vec<_>>(), [Some(0), None, None]);
    assert_eq!(snapshot.variables.iter().map(|variable| variable.parent).collect::<Vec<_>>(), [None, None, Some(1)]);
    assert_eq!((snapshot.evidence.len(), snapshot.tasks[0].stack), (0, None));
    assert_said(&doubts, "snapshot-invalid", "threads.stack of row 1 refers to row 77");
    assert_said(
        &doubts,
        "snapshot-invalid",
        "variables.parent of row 0 refers to row 0, which does not come before it",
    );
    assert_said(&doubts, "snapshot-lost", "stack 0 has 2 frames left of 4294967295");
}

#[test]
fn blocks_that_claim_too_much_are_refused_before_memory_is_allocated() {
    let mut forge = Forge::new();
    forge.head(Frame::TABLE, 0, 0, 1, &[1]);
    let id = Id { kind: kind::COLUMN, table: Frame::TABLE, column: 1, rows: 1, ..Id::default() };
    let bomb =
        Header { id, data: 1, encoding: 1, compression: compression::ZSTD, decoded: u32::MAX, ..Header::default() };
    forge.raw(bomb, &zstd::bulk::compress(&[0; 100], 3).unwrap());
    let (snapshot, doubts) = read(&forge.finish());
    assert_eq!(snapshot.frames, []);
    assert_said(&doubts, "snapshot-damaged", "claims 4294967295 bytes, above the limit");

    let mut forge = Forge::new();
    forge.head(Frame::TABLE, 0, 0, 1, &[1]);
    forge.raw(Header { decoded: 5, ..bomb }, &zstd::bulk::compress(&vec![0; 20 << 20], 3).unwrap());
    let (_, doubts) = read(&forge.finish());
    assert_said(&doubts, "snapshot-damaged", "does not decompress to 5 bytes");
}

#[test]
fn many_rows_of_few_bytes_end_at_the_budget() {
    let mut forge = Forge::new();
    for group in 0..1000u32 {
        forge.head(Frame::TABLE, group, u64::from(group) * 65_536, 65_536, &[]);
    }
    let (snapshot, doubts) = read(&forge.finish());
    assert!(snapshot.frames.len() * size_of::<Frame>() <= 64 << 20);
    assert!(!snapshot.frames.is_empty());
    assert_said(&doubts, "snapshot-limit", "of frames and those after are beyond the budget");
}

#[test]
fn one_long_string_in_many_rows_ends_at_the_budget() {
    let mut stream = Vec::new();
    [1, 1 << 20, 65_536].into_iter().for_each(|number| varint::put(&mut stream, number));
    stream.resize(stream.len() + (1 << 20), b'x');
    let mut forge = Forge::new();
    forge.head(LogRecord::TABLE, 0, 0, 65_536, &[3]);
    forge.column(LogRecord::TABLE, 3, 65_536, 5, strings::RUNS, &stream);
    let (snapshot, doubts) = read(&forge.finish());
    assert!((1..64).contains(&snapshot.log.len()));
    assert_said(&doubts, "snapshot-limit", "log.text of row");
}

#[test]
fn compressed_zeros_end_at_the_budget() {
    let zeros = zstd::bulk::compress(&vec![0; 30 << 20], 3).unwrap();
    let mut forge = Forge::new();
    for column in 1..14 {
        let id = Id { kind: kind::COLUMN, table: Frame::TABLE, column, rows: 1, ..Id::default() };
        let bomb =
            Header { id, data: 1, encoding: 1, compression: compression::ZSTD, decoded: 30 << 20, ..Header::default() };
        forge.raw(bomb, &zeros);
    }
    for row in 0..20u32 {
        let id = Id {
            kind: kind::CHUNK,
            table: 21,
            group: row,
            rows: 30 << 20,
            address: u64::from(row) << 32,
            ..Id::default()
        };
        forge.raw(Header { id, compression: compression::ZSTD, decoded: 30 << 20, ..Header::default() }, &zeros);
    }
    let (snapshot, doubts) = read(&forge.finish());
    assert!(snapshot.memory.is_empty());
    assert_said(&doubts, "snapshot-limit", "beyond the budget");
}

#[test]
fn values_that_do_not_fit_are_left_out() {
    let mut forge = Forge::new();
    forge.head(Frame::TABLE, 0, 0, 2, &[5, 11]);
    forge.numbers(Frame::TABLE, 5, &[1 << 32, 0]).numbers(Frame::TABLE, 11, &[1, 7]);
    forge.head(Attribute::TABLE, 0, 0, 2, &[1]).numbers(Attribute::TABLE, 1, &[1, 2]);
    forge.head(MemoryExtent::TABLE, 0, 0, 1, &[2, 3]);
    forge.numbers(MemoryExtent::TABLE, 2, &[u64::MAX]).numbers(MemoryExtent::TABLE, 3, &[2]);
    let (snapshot, doubts) = read(&forge.finish());
    assert_eq!((snapshot.frames.len(), snapshot.attributes.len(), snapshot.memory.len()), (1, 0, 0));
    assert_said(&doubts, "snapshot-invalid", "frames.module of row 0 holds a value that the column cannot have");
    assert_said(&doubts, "snapshot-invalid", "frames.trust of row 1");
    assert_said(&doubts, "snapshot-damaged", "another data type");
    assert_said(&doubts, "snapshot-invalid", "reaches beyond the last address");
}

#[test]
fn overlapping_and_doubled_blocks_are_not_read_twice() {
    let mut forge = Forge::new();
    forge.head(Stack::TABLE, 0, 0, 2, &[]).head(Stack::TABLE, 0, 0, 3, &[]).head(Stack::TABLE, 1, 1, 2, &[]);
    forge.head(Identity::TABLE, 0, 0, 2, &[]);
    for _ in 0..2 {
        let id = Id { kind: kind::CHUNK, table: 21, group: 5, rows: 4, address: 0x1000, ..Id::default() };
        forge.block(id, 6, 0, b"abcd");
    }
    let (snapshot, doubts) = read(&forge.finish());
    assert_eq!(snapshot.stacks.len(), 2);
    assert_said(&doubts, "snapshot-invalid", "contradict the others of their row group");
    assert_said(&doubts, "snapshot-invalid", "rows 1 to 2 of stacks are there twice");
    assert_said(&doubts, "snapshot-invalid", "identity has 2 rows");
}

#[test]
fn recovery_is_linear_where_every_header_claims_the_rest_of_the_file() {
    let id = Id { kind: kind::COLUMN, table: 10, column: 1, rows: 1, ..Id::default() };
    let mut bytes = header::encode().to_vec();
    let header = Header { id, stored: 3 << 20, decoded: 1, crc: 1, ..Header::default() }.encode();
    while bytes.len() < 4 << 20 {
        bytes.extend_from_slice(&header);
    }
    let (snapshot, doubts) = Snapshot::read_slice(&bytes).unwrap();
    assert_eq!(snapshot, Snapshot::default());
    assert_eq!(doubts.len(), crate::limits::LIMIT_DOUBTS + 1);
    let (_, doubts) =
        Snapshot::read_slice(&[&header::encode()[..], &crate::format::block::SYNC.repeat(1 << 18)].concat()).unwrap();
    assert_said(&doubts, "snapshot-cut-off", "before its first block");
}

/// The blocks of a good file with their payloads.
fn blocks() -> Vec<(Header, Vec<u8>)> {
    let mut bytes = Vec::new();
    small().write_to(&mut bytes).unwrap();
    let mut reader = Reader::open(std::io::Cursor::new(&bytes)).unwrap();
    let entries = reader.directory.entries.clone();
    let unpacked = |entry: &Entry| {
        let (header, payload) = reader.payload(entry, &mut Budget::new(u64::MAX)).unwrap();
        (Header { compression: compression::NONE, mask: 0, decoded: payload.len() as u32, ..header }, payload)
    };
    entries.iter().map(unpacked).collect()
}

#[test]
fn five_thousand_changes_below_the_checksums_do_no_harm() {
    let blocks = blocks();
    for turn in 0..1000u64 {
        let mut forge = Forge::new();
        let mut blocks = blocks.clone();
        for change in 0..5 {
            let random = mix(turn * 100 + change + 1);
            let count = blocks.len();
            let (header, payload) = &mut blocks[(random >> 40) as usize % count];
            let value = mix(random) as u32 >> (random >> 16 & 31);
            match random % 10 {
                0 => header.id.rows = value,
                1 => header.id.first = value.into(),
                2 => header.id.group = value,
                3 => header.id.column = value % 20,
                4 => header.id.table = value % 25,
                5 => header.encoding = value as u8 % 20,
                6 => header.data = value as u8 % 8,
                7 => payload.truncate(value as usize % (payload.len() + 1)),
                _ => {
                    let at = value as usize % payload.len().max(1);
                    payload.get_mut(at).into_iter().for_each(|byte| *byte ^= (random >> 8) as u8);
                }
            }
        }
        for (header, payload) in &blocks {
            forge.raw(Header { decoded: payload.len() as u32, ..*header }, payload);
        }
        let (snapshot, _) = read(&forge.finish());
        for stack in &snapshot.stacks {
            assert!(u64::from(stack.first) + u64::from(stack.count) <= snapshot.frames.len() as u64);
        }
        assert!(
            snapshot
                .variables
                .iter()
                .zip(0u32..)
                .all(|(variable, row)| variable.parent.is_none_or(|parent| parent < row))
        );
        assert!(
            snapshot
                .memory
                .iter()
                .all(|extent| extent.length == 0 || extent.address.checked_add(extent.length - 1).is_some())
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn garbage_behind_a_good_header_is_read_without_harm(garbage in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let bytes = [&header::encode()[..], &garbage].concat();
        let (snapshot, doubts) = Snapshot::read_slice(&bytes).unwrap();
        prop_assert_eq!(snapshot, Snapshot::default());
        prop_assert!(!doubts.is_empty());
    }
}
