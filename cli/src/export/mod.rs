//! Other formats that a snapshot can be written in. All of them are made from rows alone, so they live beside the other
//! renderings of rows, and no crate below knows of them.

mod findings;
pub mod html;
pub mod junit;
pub mod minidump;
pub mod sarif;
