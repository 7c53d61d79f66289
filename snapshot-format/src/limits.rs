//! The bounds of the format and of its reader, each with its reason.

/// Rows of one row group: large enough that headers cost nothing, small enough that a group of any table fits in a few
/// megabytes of memory on both sides.
pub const LIMIT_GROUP_ROWS: u32 = 65_536;

/// Bytes of values at which the writer closes a row group, so that its memory stays bounded.
pub const GROUP_BYTES: usize = 4 << 20;

/// Bytes of one text or byte string in a column block. With [`GROUP_BYTES`] it keeps blocks under [`LIMIT_BLOCK`].
pub const LIMIT_VALUE: usize = 16 << 20;

/// Bytes of a block's payload, as stored and as decoded. A reader allocates at most this much on a header's word.
pub const LIMIT_BLOCK: u32 = 32 << 20;

/// Byte strings of blob columns (memory, notes, attachments) up to this size lie in the column block, where similar ones
/// compress together; larger ones become chunks.
pub const INLINE_BLOB: usize = 64 << 10;

/// Bytes of one chunk of a blob: the unit in which large memory is streamed.
pub const CHUNK_BYTES: usize = 1 << 20;

/// Blocks in a file. The directory of so many stays under [`LIMIT_BLOCK`]; in chunks they hold a terabyte.
pub const LIMIT_BLOCKS: usize = 1 << 20;

/// Tables that a directory may name, and columns of each. The format has 21 and at most 15; names are searched in order.
pub const LIMIT_NAMES: u64 = 1024;

/// Bytes of damaged payloads that recovery examines a second time for blocks inside. Without it, a file made of headers
/// that each claim a large damaged payload would take quadratic time.
pub const LIMIT_RESCAN: u64 = 256 << 20;

/// Doubts that a read reports; the rest is counted. Damage in every block of a large file would otherwise fill memory.
pub const LIMIT_DOUBTS: usize = 1000;

/// Default of [`ReadOptions::row_budget`](crate::ReadOptions::row_budget): decoded bytes and rows of all tables
/// together. A megabyte of compressed zeros may otherwise ask for terabytes.
pub const DEFAULT_ROW_BUDGET: u64 = 1 << 30;

/// Default of [`ReadOptions::memory_budget`](crate::ReadOptions::memory_budget): bytes of blobs that are loaded. Larger
/// snapshots are read in place by [`Reader::read_memory`](crate::Reader::read_memory).
pub const DEFAULT_MEMORY_BUDGET: u64 = 1 << 30;
