//! The tables and columns of the format: numbers, names, and which columns a row cannot do without.
//!
//! Numbers are never reused. `must` marks columns without which a row would say something wrong; rows lose `may`
//! columns to damage and stay.

use crate::limits::INLINE_BLOB;
use crate::row::{CHUNKED, Cell, ColumnSpec, Field, Row, column};
use crate::schema::{
    Attachment, Attribute, Doubt, Event, Evidence, File, Finding, Frame, Identity, LogRecord, Mapping, MemoryExtent,
    Module, Note, RegisterValue, Stack, Task, Thread, Trust, Variable,
};

/// Names of the tables, in the order in which [`Snapshot::write_to`](crate::Snapshot::write_to) writes them: what
/// explains the fault first, so that a file that was cut off tells the most.
pub const TABLES: [&str; 21] = [
    Identity::NAME,
    Event::NAME,
    FingerprintValue::NAME,
    FingerprintFrame::NAME,
    Finding::NAME,
    Evidence::NAME,
    Thread::NAME,
    Stack::NAME,
    Module::NAME,
    Frame::NAME,
    Doubt::NAME,
    Attribute::NAME,
    RegisterValue::NAME,
    Variable::NAME,
    Mapping::NAME,
    LogRecord::NAME,
    File::NAME,
    Task::NAME,
    Note::NAME,
    Attachment::NAME,
    MemoryExtent::NAME,
];

/// A table of the format.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableSpec {
    pub(crate) id: u32,
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [ColumnSpec],
}

const fn spec<R: Row>() -> TableSpec {
    TableSpec { id: R::TABLE, name: R::NAME, columns: R::COLUMNS }
}

/// The tables of this version, by number.
pub(crate) const SPECS: [TableSpec; 21] = [
    spec::<Identity>(),
    spec::<Event>(),
    spec::<FingerprintValue>(),
    spec::<FingerprintFrame>(),
    spec::<Finding>(),
    spec::<Evidence>(),
    spec::<Thread>(),
    spec::<Stack>(),
    spec::<Module>(),
    spec::<Frame>(),
    spec::<Doubt>(),
    spec::<Attribute>(),
    spec::<RegisterValue>(),
    spec::<Variable>(),
    spec::<Mapping>(),
    spec::<LogRecord>(),
    spec::<File>(),
    spec::<Task>(),
    spec::<Note>(),
    spec::<Attachment>(),
    spec::<MemoryExtent>(),
];

/// The digest of a [`Fingerprint`](crate::schema::Fingerprint).
#[derive(Clone, Debug, Default)]
pub(crate) struct FingerprintValue {
    pub(crate) value: String,
}

/// A frame of a [`Fingerprint`](crate::schema::Fingerprint).
#[derive(Clone, Debug, Default)]
pub(crate) struct FingerprintFrame {
    pub(crate) text: String,
}

/// `must` or `may` as a truth value.
macro_rules! essential {
    (must) => {
        true
    };
    (may) => {
        false
    };
}

macro_rules! row {
    ($row:ty, $table:literal, $name:literal,
     [$($need:ident $id:literal $field:ident: $type:ty),* $(,)?]
     $(, blob $blob:ident at $place:expr)?) => {
        impl Row for $row {
            const TABLE: u32 = $table;
            const NAME: &'static str = $name;
            const COLUMNS: &'static [ColumnSpec] = &[
                $(column::<$type>($id, stringify!($field), essential!($need)),)*
                $(
                    column::<Option<Vec<u8>>>(14, stringify!($blob), false),
                    column::<u64>(CHUNKED, "chunked", true),
                )?
            ];

            fn get(&self, column: u32) -> Cell<'_> {
                match column {
                    $($id => Field::cell(&self.$field),)*
                    $(
                        14 if self.$blob.is_empty() || self.$blob.len() > INLINE_BLOB => Cell::Null,
                        14 => Cell::Bytes(&self.$blob),
                        CHUNKED if self.$blob.len() > INLINE_BLOB => {
                            Cell::Unsigned(crate::convert::ToU64::to_u64(self.$blob.len()))
                        }
                        CHUNKED => Cell::Unsigned(0),
                    )?
                    _ => Cell::Null,
                }
            }

            fn set(&mut self, column: u32, cell: Cell<'_>) -> bool {
                match column {
                    $($id => Field::put(&mut self.$field, cell),)*
                    $(
                        14 => matches!(cell, Cell::Null) || Field::put(&mut self.$blob, cell),
                    )?
                    _ => true,
                }
            }

            $(
                fn blob(&self) -> &[u8] {
                    &self.$blob
                }

                fn blob_mut(&mut self) -> Option<&mut Vec<u8>> {
                    Some(&mut self.$blob)
                }

                fn place(&self) -> (u64, u64) {
                    let place: fn(&Self) -> (u64, u64) = $place;
                    place(self)
                }
            )?
        }
    };
}

row!(Identity, 1, "identity", [
    may 1 origin: String, may 2 os: String, may 3 arch: String, may 4 big_endian: bool, may 5 pid: Option<u64>,
    may 6 parent_pid: Option<u64>, may 7 command: Option<String>, may 8 arguments: Option<String>,
    may 9 executable: Option<String>, may 10 host: Option<String>, may 11 release: Option<String>,
    may 12 taken_at_ns: Option<u64>,
]);

row!(Event, 2, "event", [
    may 1 thread: Option<u64>, may 2 signal: Option<i64>, may 3 signal_name: Option<String>, may 4 code: Option<i64>,
    may 5 code_name: Option<String>, may 6 address: Option<u64>, may 7 access: Option<String>,
    may 8 sender_pid: Option<u64>, may 9 sender_uid: Option<u64>, may 10 message: Option<String>,
    may 11 trap_number: Option<u64>, may 12 error_code: Option<u64>,
]);

row!(FingerprintValue, 3, "fingerprint", [must 1 value: String]);

row!(FingerprintFrame, 4, "fingerprint_frames", [must 1 text: String]);

row!(Finding, 5, "findings", [
    must 1 class: String, may 2 severity: String, may 3 security: String, must 4 confidence: f64,
    must 5 thread: Option<u64>, must 6 frame: Option<u32>, must 7 text: String,
]);

row!(Evidence, 6, "evidence", [must 1 finding: u32, must 2 counter: bool, must 3 text: String]);

row!(Thread, 7, "threads", [
    must 1 id: u64, may 2 process: Option<u64>, may 3 name: Option<String>, must 4 faulting: bool,
    may 5 state: Option<String>, may 6 wait_channel: Option<String>, may 7 system_call: Option<u64>,
    may 8 context: String, may 9 cpu: Option<u64>, may 10 stack: Option<u32>, may 11 truncated: Option<String>,
    may 12 stack_start: Option<u64>, may 13 stack_end: Option<u64>, may 14 signal_mask: Option<u64>,
]);

row!(Stack, 8, "stacks", [must 1 first: u32, must 2 count: u32]);

row!(Module, 9, "modules", [
    must 1 path: String, may 2 build_id: Option<Vec<u8>>, must 3 base: u64, must 4 size: u64, must 5 slide: u64,
    may 6 symbols: String, may 7 symbol_file: Option<String>, may 8 problem: Option<String>,
]);

row!(Frame, 10, "frames", [
    must 1 pc: u64, may 2 function: Option<String>, may 3 linkage_name: Option<String>, may 4 offset: Option<u64>,
    may 5 module: Option<u32>, may 6 module_offset: Option<u64>, may 7 file: Option<String>, may 8 line: Option<u64>,
    may 9 column: Option<u64>, must 10 inline: bool, must 11 trust: Trust, must 12 suspect: bool,
    must 13 signal_frame: bool,
]);

row!(Doubt, 11, "doubts", [must 1 what: String, may 2 address: Option<u64>, may 3 why: String]);

row!(Attribute, 12, "attributes", [must 1 key: String, must 2 thread: Option<u64>, must 3 value: String]);

row!(RegisterValue, 13, "registers", [
    must 1 thread: u64, must 2 frame: u32, must 3 name: String, must 4 value: u64,
]);

row!(Mapping, 15, "mappings", [
    must 1 start: u64, must 2 end: u64, must 3 protection: String, may 4 file_offset: u64, may 5 path: Option<String>,
    may 6 deleted: bool,
]);

row!(LogRecord, 16, "log", [may 1 time_ns: Option<u64>, may 2 level: Option<String>, must 3 text: String]);

row!(File, 17, "files", [
    must 1 descriptor: u64, must 2 target: String, may 3 flags: Option<u64>, may 4 position: Option<u64>,
]);

row!(Task, 18, "tasks", [
    must 1 id: u64, may 2 pid: Option<u64>, may 3 parent_pid: Option<u64>, may 4 address: Option<u64>,
    may 5 name: Option<String>, may 6 state: Option<String>, may 7 cpu: Option<u64>, may 8 resident: Option<u64>,
    may 9 stack: Option<u32>,
]);

row!(Note, 19, "notes", [must 1 owner: String, must 2 kind: u64, must 3 thread: Option<u64>],
    blob body at |_| (0, 0));

row!(Attachment, 20, "attachments", [must 1 name: String], blob body at |_| (0, 0));

row!(MemoryExtent, 21, "memory", [
    must 1 space: u64, must 2 address: u64, must 3 length: u64, must 4 absent: Option<String>,
], blob bytes at |extent| (extent.space, extent.address));
