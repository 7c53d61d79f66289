//! The JSON of `bt`, `capture --json`, `show --json` and `export --to json`: schema `postfault/1`, see `docs/json.md`.
//!
//! Written straight from the snapshot's rows, thread by thread, so that memory does not grow with the number of threads.

mod document;
mod threads;
mod variables;

use crate::view::View;
use std::io::{self, BufWriter, Write};

/// Writes the whole document and a newline.
pub fn write(view: &View<'_>, out: impl Write) -> io::Result<()> {
    // The writer makes a call for each comma: into a buffer of a known type that is a copy, whatever `out` is.
    let mut out = BufWriter::with_capacity(1 << 17, out);
    serde_json::to_writer(&mut out, &document::Document::new(view))?;
    out.write_all(b"\n")?;
    out.flush()
}

/// An address as the contract spells it.
pub(crate) struct Hex(pub u64);

impl serde::Serialize for Hex {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:#x}", self.0))
    }
}

/// Bytes as lower-case hexadecimal.
pub(crate) struct HexBytes<'b>(pub &'b [u8]);

impl serde::Serialize for HexBytes<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&crate::view::hex(self.0))
    }
}
