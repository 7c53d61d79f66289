//! The snapshot of a stopped program: the specification of its file format, and the writer and reader of it.
//!
//! Input and output: a [`Snapshot`], the rows of [`schema`], and bytes. This crate does not know what the rows mean to
//! an analysis, and it opens no file but the one path it is given. The rest of this page specifies the format, version 1,
//! such that a reader can be written from it alone.
//!
//! ```
//! use snapshot_format::{Snapshot, schema::Thread};
//!
//! let mut snapshot = Snapshot::default();
//! snapshot.threads.push(Thread { id: 4711, ..Thread::default() });
//! let mut bytes = Vec::new();
//! snapshot.write_to(&mut bytes)?;
//! let (same, doubts) = Snapshot::read_slice(&bytes)?;
//! assert_eq!((same, doubts), (snapshot, vec![]));
//! # Ok::<(), snapshot_format::Error>(())
//! ```
//!
//! # Shape
//!
//! ```text
//! file    = header block* directory-block trailer
//! block   = block-header payload
//! ```
//! A file holds *tables* of *columns*. The rows of a table are cut into *row groups*; one column of one row group is one
//! block. Blocks say themselves what they hold, so that they can be found and read without the directory. Everything is
//! written in one pass. Fixed-width numbers are little-endian. `varint` is unsigned LEB128 of at most 64 bits. `zigzag`
//! maps a signed 64-bit number n to the unsigned `(n << 1) ^ (n >> 63)`. All checksums are CRC-32 (IEEE 802.3, as in
//! zlib).
//!
//! # Header, 16 bytes
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 8 | [`MAGIC`]: `8f 50 46 53 0d 0a 1a 0a` |
//! | 8 | 2 | version, 1. A reader refuses versions it does not know |
//! | 10 | 2 | 0 |
//! | 12 | 4 | CRC-32 of bytes 0 to 11. If it fails, readers go on as for version 1: blocks name their version too |
//!
//! # Blocks
//!
//! A block header is
//!
//! | bytes | |
//! |---|---|
//! | 4 | sync: `f7 50 42 31` |
//! | 1 | L, the number of bytes of the fields |
//! | L | fields, see below. What a later version adds behind them is skipped |
//! | 4 | CRC-32 of L and the fields |
//!
//! and its fields are, in this order:
//!
//! | field | as | |
//! |---|---|---|
//! | kind | 1 byte | 1 head, 2 column, 3 chunk, 4 directory. Blocks of other kinds are skipped |
//! | table | varint | number of the table |
//! | column | varint | number of the column; 0 in heads |
//! | group | varint | number of the row group in its table, from 0; in chunks, the row |
//! | first | varint | first row of the group; in chunks, the offset in the blob |
//! | rows | varint | rows of the group, at most 65,536; in chunks, the number of bytes |
//! | data | 1 byte | data type: 1 unsigned, 2 signed, 3 bool, 4 float, 5 text, 6 bytes; 0 in heads and the directory |
//! | encoding | 1 byte | encoding of the values of a column; 0 elsewhere |
//! | compression | 1 byte | 0 none, 1 one zstd frame (RFC 8878) |
//! | mask | 1 byte | every byte of the stored payload has been XORed with this |
//! | stored | varint | bytes of the payload in the file, at most 32 MiB |
//! | decoded | varint | bytes of the payload after decompression, at most 32 MiB |
//! | crc | 4 bytes | CRC-32 of the payload as it is in the file |
//! | space | varint | chunks only: address space of the first byte, for table `memory` |
//! | address | varint | chunks only: address of the first byte, for table `memory` |
//!
//! The payload follows at once: it is unmasked, then decompressed. The writer chooses the first mask, from 0 up, with which
//! the stored payload does not contain the sync bytes. So whoever finds sync bytes in a file and a good checksum behind
//! them has found a block of this file, and not bytes of a program that had a snapshot in its memory.
//!
//! **Head** blocks announce a row group. Payload: the number of column blocks of the group (varint), then their column
//! numbers in ascending order, each as the difference to the one before (varint, the first to 0). A column that is not
//! listed was left out because it says nothing: all its cells are absent if it is optional, and zero, false or empty if
//! it is not.
//!
//! **Column** blocks hold one column of one row group. Payload: one byte, 0 if every cell is present, 1 if a bitmap
//! follows of one bit a row (bit r % 8 of byte r / 8; 1 is present; ⌈rows / 8⌉ bytes); then the n values of the cells
//! that are present, in the encoding of the header, up to the end of the payload.
//!
//! **Chunk** blocks hold pieces of blobs, which are byte strings too large for a column. Payload: the bytes. Tables with
//! blobs (`notes`, `attachments`, `memory`) have a column 14 with the blobs of up to 64 KiB (optional), and a column 15,
//! `chunked`, with the number of bytes in chunks (0 for the others). Chunks have table and column 15 of their blob. They
//! may come before the row group of their row; each is at most 1 MiB, and a row's chunks follow each other by offset.
//!
//! # Encodings
//!
//! Numbers (data types 1 to 4: unsigned as they are, signed in zigzag, bool as 0 and 1, float as the bits of binary64):
//!
//! | number | encoding | n values as |
//! |---|---|---|
//! | 1 | plain | n varints |
//! | 2 | plain, fixed width | w, 1 to 8 (1 byte); n numbers of w bytes |
//! | 3 | plain, byte planes | w, 1 to 8 (1 byte); the n lowest bytes, then the n second bytes, up to the w-th |
//! | 4 | dictionary | d ≤ n (varint); d ascending values, each a varint added to the one before (the first to 0); then, as encoding 2, n indices of values |
//! | 5 | delta | stride s ≥ 1 (varint); n varints: the zigzag of value\[i\] − value\[i − s\] modulo 2^64, where values before the first are 0 |
//! | 6 | run length | k ≤ n (varint); k values (varints); k numbers of repetitions (varints) whose sum is n |
//!
//! Strings (data types 5, UTF-8, and 6):
//!
//! | number | encoding | n values as |
//! |---|---|---|
//! | 16 | plain | n lengths (varints); the bytes |
//! | 17 | dictionary | d ≤ n (varint); d lengths (varints); n references (varints); the bytes of the d entries. Reference 0 is the entry behind the one that the last reference 0 meant, the first entry at first; reference k > 0 is entry k − 1 |
//! | 18 | run length | k ≤ n (varint); k lengths (varints); k numbers of repetitions (varints) whose sum is n; the bytes of the k strings |
//!
//! The writer compresses every candidate and keeps the smallest. The same calls give the same bytes, as long as the zstd
//! library is the same.
//!
//! # Directory and trailer
//!
//! The directory is the last block, of kind 4, with all numbers 0. Payload, where `text` is a length in bytes (varint) and
//! UTF-8:
//!
//! ```text
//! tables  = count (varint), then for each: number (varint), name (text), rows (varint), columns
//! columns = count (varint), then for each: number (varint), data type (1 byte), name (text)
//! blocks  = count (varint), then for each, in the order of the file: kind (1 byte), table, column, group, first, rows,
//!           length of header and payload (varints); chunks also: space, address (varints)
//! ```
//! Blocks follow each other without gaps from offset 16 on, so that the lengths say the offsets. The trailer is the last
//! 24 bytes: offset of the directory block (8 bytes), its length with its header (4), CRC-32 of these twelve (4),
//! `8f 50 46 45 0d 0a 1a 0a`. To read one column, read header, trailer, directory, and the blocks of that column.
//!
//! # Recovery
//!
//! A file without a good trailer and directory is scanned from offset 8 for block headers: sync bytes, good header
//! checksum. If the payload's checksum is good, the block is taken and the scan goes on behind it; if not, or if the
//! payload reaches beyond the end of the file, the block is noted as lost and the scan goes on behind its header. A directory
//! block that is found this way says what else was written; without it, heads say which columns their row groups had.
//! Chunks of `memory` whose row is lost say themselves where their bytes belong.
//!
//! A row group without one of its *must* columns (below) is left out as a whole, because its rows would say something
//! wrong; without another one, the cells are absent. References to rows that are lost or never existed are removed; stacks are
//! cut before the first frame that is lost. All of it is reported as [`schema::Doubt`]s: `snapshot-cut-off`,
//! `snapshot-damaged`, `snapshot-lost`, `snapshot-invalid`, `snapshot-limit`.
//!
//! # Limits
//!
//! [`limits`] names every bound with its reason. Readers check sizes before they allocate, and take decoded bytes and rows
//! from a budget ([`ReadOptions`]) before they decode.
//!
//! # Tables
//!
//! Numbers are never reused. In brackets: the number of the column; `!` marks must columns, `?` optional ones. Cells that
//! refer to rows hold row numbers, from 0: `threads.stack` and `tasks.stack` of `stacks`, `stacks.first` of `frames`,
//! `frames.module` of `modules`, `variables.parent` of `variables` (of an earlier row), `evidence.finding` of `findings`.
//!
//! | number | table | columns |
//! |---|---|---|
//! | 1 | `identity` | `origin` (1, text), `os` (2, text), `arch` (3, text), `big_endian` (4, bool), `pid` (5?, unsigned), `parent_pid` (6?, unsigned), `command` (7?, text), `arguments` (8?, text), `executable` (9?, text), `host` (10?, text), `release` (11?, text), `taken_at_ns` (12?, unsigned) |
//! | 2 | `event` | `thread` (1?, unsigned), `signal` (2?, signed), `signal_name` (3?, text), `code` (4?, signed), `code_name` (5?, text), `address` (6?, unsigned), `access` (7?, text), `sender_pid` (8?, unsigned), `sender_uid` (9?, unsigned), `message` (10?, text), `trap_number` (11?, unsigned), `error_code` (12?, unsigned) |
//! | 3 | `fingerprint` | `value` (1!, text) |
//! | 4 | `fingerprint_frames` | `text` (1!, text) |
//! | 5 | `findings` | `class` (1!, text), `severity` (2, text), `security` (3, text), `confidence` (4!, float), `thread` (5!?, unsigned), `frame` (6!?, unsigned), `text` (7!, text) |
//! | 6 | `evidence` | `finding` (1!, unsigned), `counter` (2!, bool), `text` (3!, text) |
//! | 7 | `threads` | `id` (1!, unsigned), `process` (2?, unsigned), `name` (3?, text), `faulting` (4!, bool), `state` (5?, text), `wait_channel` (6?, text), `system_call` (7?, unsigned), `context` (8, text), `cpu` (9?, unsigned), `stack` (10?, unsigned), `truncated` (11?, text), `stack_start` (12?, unsigned), `stack_end` (13?, unsigned), `signal_mask` (14?, unsigned) |
//! | 8 | `stacks` | `first` (1!, unsigned), `count` (2!, unsigned) |
//! | 9 | `modules` | `path` (1!, text), `build_id` (2?, bytes), `base` (3!, unsigned), `size` (4!, unsigned), `slide` (5!, unsigned), `symbols` (6, text), `symbol_file` (7?, text), `problem` (8?, text) |
//! | 10 | `frames` | `pc` (1!, unsigned), `function` (2?, text), `linkage_name` (3?, text), `offset` (4?, unsigned), `module` (5?, unsigned), `module_offset` (6?, unsigned), `file` (7?, text), `line` (8?, unsigned), `column` (9?, unsigned), `inline` (10!, bool), `trust` (11!, unsigned), `suspect` (12!, bool), `signal_frame` (13!, bool) |
//! | 11 | `doubts` | `what` (1!, text), `address` (2?, unsigned), `why` (3, text) |
//! | 12 | `attributes` | `key` (1!, text), `thread` (2!?, unsigned), `value` (3!, text) |
//! | 13 | `registers` | `thread` (1!, unsigned), `frame` (2!, unsigned), `name` (3!, text), `value` (4!, unsigned) |
//! | 14 | `variables` | `thread` (1!?, unsigned), `frame` (2!?, unsigned), `parent` (3!?, unsigned), `name` (4!, text), `type_name` (5, text), `kind` (6!, unsigned), `address` (7?, unsigned), `absent` (8!?, text), `truncated` (9!, bool), `line` (10?, unsigned), `value_kind` (12!, unsigned), `value_number` (13!?, unsigned), `value_float` (14!?, float), `value_pointer` (15!?, unsigned), `value_text` (16!?, text) |
//! | 15 | `mappings` | `start` (1!, unsigned), `end` (2!, unsigned), `protection` (3!, text), `file_offset` (4, unsigned), `path` (5?, text), `deleted` (6, bool) |
//! | 16 | `log` | `time_ns` (1?, unsigned), `level` (2?, text), `text` (3!, text) |
//! | 17 | `files` | `descriptor` (1!, unsigned), `target` (2!, text), `flags` (3?, unsigned), `position` (4?, unsigned) |
//! | 18 | `tasks` | `id` (1!, unsigned), `pid` (2?, unsigned), `parent_pid` (3?, unsigned), `address` (4?, unsigned), `name` (5?, text), `state` (6?, text), `cpu` (7?, unsigned), `resident` (8?, unsigned), `stack` (9?, unsigned) |
//! | 19 | `notes` | `owner` (1!, text), `kind` (2!, unsigned), `thread` (3!?, unsigned), `body` (14?, bytes), `chunked` (15!, unsigned) |
//! | 20 | `attachments` | `name` (1!, text), `body` (14?, bytes), `chunked` (15!, unsigned) |
//! | 21 | `memory` | `space` (1!, unsigned), `address` (2!, unsigned), `length` (3!, unsigned), `absent` (4!?, text), `bytes` (14?, bytes), `chunked` (15!, unsigned) |
//!
//! `identity`, `event` and `fingerprint` have at most one row. `frames.trust`: 0 context, 1 cfi, 2 orc, 3
//! frame-pointer, 4 scan, 5 inline, 6 shadow-stack. Notes of the owner `postfault.floating-point` hold a thread's
//! floating point and vector registers: kind 1 an FXSAVE area (512 bytes), kind 2 v0 to v31, FPSR, FPCR of AArch64
//! (520 bytes). `variables.kind`: 0 parameter, 1 local, 2 global, 3 tls, 4 member. `variables.value_kind` says which
//! column has the value: 0 none; 1 signed and 2 unsigned: `value_number` (signed in zigzag); 3 float: `value_float`; 4
//! truth value: `value_number`; 5 address: `value_pointer`; 6 text: `value_text`. The meaning of the other columns is
//! that of the fields of the same name in [`schema`].
//!
//! # Versions
//!
//! A reader skips kinds of blocks, tables, columns, and fields behind those it knows. So additions do not change the
//! version; the version changes when an old reader would misread a file. Files of every version stay readable: the layouts of
//! a version are a module of their own, and a file of it is kept under `tests/golden`.
//!
//! | version | |
//! |---|---|
//! | 1 | the first |
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

mod convert;
mod doubts;
mod error;
mod format;
pub mod limits;
mod reader;
mod row;
pub mod schema;
mod snapshot;
mod tables;
#[cfg(test)]
mod tests;
mod variables;
mod writer;

pub use error::Error;
pub use format::header::{MAGIC, VERSION};
pub use reader::{Column, ColumnInfo, ReadOptions, Reader};
pub use row::{Cell, ColumnSpec, DataType, Row};
pub use schema::Snapshot;
pub use tables::TABLES;
pub use writer::{Summary, TableSummary, WriteOptions, Writer};
