//! Single columns: what they cost to read, and those that this version does not know.

use std::cell::Cell as Counter;
use std::io::{self, Cursor, Read, Seek, SeekFrom};

use super::round_trip::written;
use super::samples::{process, small};
use crate::row::{ColumnSpec, column};
use crate::schema::*;
use crate::{Cell, DataType, Error, ReadOptions, Reader, Row, Snapshot, TABLES, WriteOptions, Writer};

/// Counts the bytes that are read.
struct Counting<'a> {
    inner: Cursor<&'a [u8]>,
    read: &'a Counter<u64>,
}

impl Read for Counting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read.set(self.read.get() + count as u64);
        Ok(count)
    }
}

impl Seek for Counting<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

#[test]
fn a_column_costs_its_own_blocks_and_the_directory() {
    let original = process(300, 12);
    let bytes = written(&original);
    let read = Counter::new(0);
    let mut reader = Reader::open(Counting { inner: Cursor::new(&bytes), read: &read }).unwrap();
    let (offset, directory) = crate::format::header::parse_trailer(&bytes[bytes.len() - 24..]).unwrap();
    assert_eq!(offset + u64::from(directory) + 24, bytes.len() as u64);
    assert_eq!(read.get(), 16 + 24 + u64::from(directory), "opening reads header, trailer and directory");
    for info in reader.columns() {
        let before = read.get();
        let column = reader.read_column(&info.table, &info.column).unwrap();
        assert_eq!(column.len(), info.rows);
        assert_eq!(read.get() - before, info.bytes, "{}.{}", info.table, info.column);
    }
    let column = reader.read_column("frames", "pc").unwrap();
    assert!(column.iter().eq(original.frames.iter().map(|frame| Some(Cell::Unsigned(frame.pc)))));
    let column = reader.read_column("registers", "name").unwrap();
    assert!(column.iter().eq(original.registers.iter().map(|row| Some(Cell::Text(&row.name)))));
    assert_eq!(reader.read_column("frames", "suspect").unwrap().get(3), Some(Cell::Bool(false)), "not written: zeros");
    assert_eq!(reader.read_column("threads", "cpu").unwrap().get(3), Some(Cell::Null), "not written: absent");
    assert_eq!(reader.read_column("threads", "cpu").unwrap().get(300), None);
    assert!(matches!(reader.read_column("frames", "colour"), Err(Error::NoSuchColumn { .. })));
    assert_eq!(reader.doubts(), []);
}

#[test]
fn tables_and_memory_are_read_only_when_asked_for() {
    let original = small();
    let bytes = written(&original);
    let (part, doubts) = Snapshot::read_with(Cursor::new(&bytes), &ReadOptions::only(["threads", "frames"])).unwrap();
    assert_eq!(doubts, []);
    assert_eq!((part.threads, part.frames), (original.threads.clone(), original.frames.clone()));
    assert_eq!((part.identity, part.stacks.len(), part.findings.len()), (Identity::default(), 0, 0));
    let (light, doubts) = Snapshot::read_with(Cursor::new(&bytes), &ReadOptions::without_memory()).unwrap();
    assert_eq!(doubts, []);
    let empty = |row: &MemoryExtent| MemoryExtent { bytes: Vec::new(), ..row.clone() };
    assert_eq!(light, Snapshot { memory: original.memory.iter().map(empty).collect(), ..original });
}

/// A row that a later version might have.
#[derive(Clone, Debug, Default)]
struct Later {
    weight: u64,
    label: Option<String>,
}

impl Row for Later {
    const TABLE: u32 = 900;
    const NAME: &'static str = "later";
    const COLUMNS: &'static [ColumnSpec] =
        &[column::<u64>(1, "weight", true), column::<Option<String>>(2, "label", false)];

    fn get(&self, column: u32) -> Cell<'_> {
        match column {
            1 => Cell::Unsigned(self.weight),
            _ => self.label.as_deref().map_or(Cell::Null, Cell::Text),
        }
    }

    fn set(&mut self, _: u32, _: Cell<'_>) -> bool {
        false
    }
}

/// Threads as a later version might have them: with a column that this one does not know.
#[derive(Clone, Debug, Default)]
struct LaterThread {
    id: u64,
}

impl Row for LaterThread {
    const TABLE: u32 = Thread::TABLE;
    const NAME: &'static str = Thread::NAME;
    const COLUMNS: &'static [ColumnSpec] = &[column::<u64>(1, "id", true), column::<u64>(77, "mood", true)];

    fn get(&self, column: u32) -> Cell<'_> {
        Cell::Unsigned(if column == 1 { self.id } else { self.id * 2 })
    }

    fn set(&mut self, _: u32, _: Cell<'_>) -> bool {
        false
    }
}

fn later() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), WriteOptions::default()).unwrap();
    writer.rows(&[Later { weight: 4, label: None }, Later { weight: 5, label: Some("b".into()) }]).unwrap();
    writer.rows(&[LaterThread { id: 8 }, LaterThread { id: 9 }]).unwrap();
    writer.rows(&[Attribute { key: "k".into(), thread: None, value: "v".into() }]).unwrap();
    writer.finish().unwrap().0
}

#[test]
fn unknown_tables_and_columns_are_skipped_and_can_still_be_read_by_name() {
    let bytes = later();
    let (snapshot, doubts) = Snapshot::read_slice(&bytes).unwrap();
    assert_eq!(doubts, []);
    assert_eq!(snapshot.threads.iter().map(|thread| thread.id).collect::<Vec<_>>(), [8, 9]);
    assert_eq!(snapshot.attributes[0].key, "k");
    let mut reader = Reader::open(Cursor::new(&bytes)).unwrap();
    let label = reader.read_column("later", "label").unwrap();
    assert_eq!(label.iter().collect::<Vec<_>>(), [Some(Cell::Null), Some(Cell::Text("b"))]);
    assert_eq!(reader.read_column("threads", "mood").unwrap().get(1), Some(Cell::Unsigned(18)));
    let info = reader.columns().into_iter().find(|info| info.column == "mood").unwrap();
    assert_eq!((info.rows, info.data), (2, Some(DataType::Unsigned)));
}

#[test]
fn unknown_tables_of_a_file_that_was_cut_off_have_numbers_for_names() {
    let bytes = later();
    let mut reader = Reader::open(Cursor::new(&bytes[..bytes.len() - 1])).unwrap();
    assert!(reader.has_directory(), "the directory is found by scanning");
    let offset = crate::format::header::parse_trailer(&bytes[bytes.len() - 24..]).unwrap().0 as usize;
    reader = Reader::open(Cursor::new(&bytes[..offset + 9])).unwrap();
    assert!(!reader.has_directory());
    assert_eq!(reader.read_column("table 900", "2").unwrap().get(1), Some(Cell::Text("b")));
    assert_eq!(reader.read_column("threads", "77").unwrap().get(0), Some(Cell::Unsigned(16)));
    let (snapshot, _) = Snapshot::read_slice(&bytes[..offset + 9]).unwrap();
    assert_eq!(snapshot.threads.len(), 2);
}

#[test]
fn the_names_of_tables_are_in_the_order_of_their_numbers_and_all_different() {
    let specs = crate::tables::SPECS;
    assert_eq!(specs.map(|spec| spec.name), TABLES);
    assert!(specs.is_sorted_by_key(|spec| spec.id));
    for spec in specs {
        assert!(spec.columns.iter().map(|column| column.id).is_sorted_by(|a, b| a < b), "{}", spec.name);
        assert!(
            spec.columns
                .iter()
                .all(|column| !spec.columns.iter().any(|other| other.name == column.name && other.id != column.id))
        );
    }
}
