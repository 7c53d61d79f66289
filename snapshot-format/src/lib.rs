//! The columnar snapshot: its rows, and the container they are written in.
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
