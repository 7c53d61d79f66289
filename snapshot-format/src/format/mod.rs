//! Format version 1, byte by byte: what writer and reader share.
//!
//! Nothing here reads or writes files; these are the layouts that the crate's documentation specifies. A later version
//! gets a module of its own beside this one, and this one stays.

pub(crate) mod block;
pub(crate) mod column;
pub(crate) mod directory;
pub(crate) mod header;
pub(crate) mod ints;
pub(crate) mod strings;
pub(crate) mod varint;
