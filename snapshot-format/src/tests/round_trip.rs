//! What is written is read, and always in the same bytes.

use std::io::{self, Cursor, Read, Write};

use super::samples::{noise, process, small};
use crate::schema::*;
use crate::{Reader, Snapshot, WriteOptions, Writer};

pub(super) fn written(snapshot: &Snapshot) -> Vec<u8> {
    let mut bytes = Vec::new();
    let summary = snapshot.write_to(&mut bytes).unwrap();
    assert_eq!(summary.bytes, bytes.len() as u64);
    bytes
}

pub(super) fn check(snapshot: &Snapshot) {
    let bytes = written(snapshot);
    assert_eq!(bytes, written(snapshot), "the same input gives the same bytes");
    let (back, doubts) = Snapshot::read_slice(&bytes).unwrap();
    assert_eq!(doubts, []);
    if back != *snapshot {
        let (back, snapshot) = (format!("{back:#?}"), format!("{snapshot:#?}"));
        let differs = back.lines().zip(snapshot.lines()).enumerate().find(|(_, (a, b))| a != b);
        panic!("the snapshot has changed at line {differs:?}");
    }
    assert_eq!(written(&back), bytes);
}

#[test]
fn samples_survive() {
    check(&Snapshot::default());
    check(&small());
    check(&process(20, 12));
}

#[test]
fn rows_that_hold_nothing_are_still_counted() {
    check(&Snapshot { threads: vec![Thread::default(); 3], event: Some(Event::default()), ..Snapshot::default() });
    check(&Snapshot { fingerprint: Some(Fingerprint::default()), ..Snapshot::default() });
}

#[test]
fn a_column_of_zeros_is_not_the_default_of_its_field() {
    let variable = Variable { kind: VariableKind::Parameter, ..Variable::default() };
    check(&Snapshot { variables: vec![variable; 3], ..Snapshot::default() });
}

#[test]
fn tables_of_several_row_groups_survive() {
    let text = |i: u32| LogRecord { time_ns: Some(u64::from(i)), level: None, text: format!("line {}", i % 10) };
    check(&Snapshot { log: (0..150_000).map(text).collect(), ..Snapshot::default() });
    let long = |i: u64| Attribute { key: "k".into(), thread: Some(i), value: "x".repeat(1 << 20) };
    check(&Snapshot { attributes: (0..10).map(long).collect(), ..Snapshot::default() });
}

#[test]
fn large_blobs_survive_in_chunks() {
    let extent = |i: u64, length: usize| MemoryExtent {
        space: i % 2,
        address: i << 32,
        length: length as u64,
        bytes: noise(length, i),
        absent: None,
    };
    let mut snapshot = small();
    snapshot.memory.extend([
        extent(1, 5),
        extent(2, 70_000),
        extent(3, 1 << 20),
        extent(4, 3_000_001),
        extent(5, 4096),
    ]);
    snapshot.attachments.push(Attachment { name: "big".into(), body: noise(2_500_000, 9) });
    snapshot.notes.push(Note { owner: "big".into(), body: noise(100_000, 10), ..Note::default() });
    check(&snapshot);
}

#[test]
fn bytes_that_look_like_blocks_survive() {
    let inner = written(&small());
    let length = inner.len() as u64;
    check(&Snapshot {
        memory: vec![MemoryExtent { address: 0x1000, length, bytes: inner, ..MemoryExtent::default() }],
        ..Snapshot::default()
    });
}

/// Fails after some bytes.
struct Failing<'a>(&'a [u8]);

impl Read for Failing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other("gone")),
            count => Ok(count),
        }
    }
}

/// An output that accepts a few bytes at a time, and cannot seek.
struct Pipe(Vec<u8>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(7);
        self.0.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn memory_is_streamed_and_read_in_place() {
    let body = noise(2_500_000, 3);
    let mut writer = Writer::new(Pipe(Vec::new()), WriteOptions { level: 1 }).unwrap();
    writer.rows(&[MemoryExtent { address: 0x10, length: 3, bytes: vec![1, 2, 3], ..MemoryExtent::default() }]).unwrap();
    assert_eq!(writer.memory(7, 0x1000, &body[..]).unwrap(), 2_500_000);
    assert_eq!(writer.memory(0, 0x13, &[4u8, 5][..]).unwrap(), 2);
    assert!(writer.memory(0, 0x9_0000, Failing(&body[..9])).is_err());
    assert_eq!(writer.attachment("log", &b"text"[..]).unwrap(), 4);
    writer.rows(&[Thread { id: 5, ..Thread::default() }]).unwrap();
    let (pipe, summary) = writer.finish().unwrap();
    assert_eq!(summary.bytes, pipe.0.len() as u64);
    assert_eq!(
        summary.tables.iter().map(|table| (table.name, table.rows)).collect::<Vec<_>>(),
        [("threads", 1), ("attachments", 1), ("memory", 4)]
    );

    let (snapshot, doubts) = Snapshot::read_slice(&pipe.0).unwrap();
    assert_eq!(doubts, []);
    let lengths: Vec<_> =
        snapshot.memory.iter().map(|extent| (extent.address, extent.length, extent.bytes.len())).collect();
    assert_eq!(lengths, [(0x10, 3, 3), (0x1000, 2_500_000, 2_500_000), (0x13, 2, 2), (0x9_0000, 9, 9)]);
    assert!(snapshot.memory[1].bytes == body);
    assert_eq!(snapshot.attachments[0].body, b"text");

    let mut reader = Reader::open(Cursor::new(&pipe.0)).unwrap();
    let mut buffer = vec![0; 1_500_000];
    assert_eq!(reader.read_memory(7, 0x1000 + 900_000, &mut buffer), 1_500_000);
    assert!(buffer == body[900_000..2_400_000]);
    assert_eq!(reader.read_memory(7, 0x1000 + 2_400_000, &mut buffer), 100_000);
    assert_eq!(reader.read_memory(0, 0x11, &mut buffer[..10]), 4);
    assert_eq!(buffer[..4], [2, 3, 4, 5]);
    assert_eq!(reader.read_memory(1, 0x11, &mut buffer[..10]), 0);
    assert_eq!(reader.read_memory(0, u64::MAX, &mut buffer[..10]), 0);
}

#[test]
fn too_long_values_and_failing_outputs_are_errors() {
    let long = Attribute { key: "k".into(), thread: None, value: "x".repeat(17 << 20) };
    let error = Snapshot { attributes: vec![long], ..Snapshot::default() }.write_to(io::sink()).unwrap_err();
    assert!(error.to_string().contains("attributes.value of row 0 has 17825792 bytes"), "{error}");
    let mut room = [0u8; 100];
    let error = small().write_to(&mut room[..]).unwrap_err();
    assert!(matches!(error, crate::Error::Io { doing: "writing", .. }), "{error}");
}
