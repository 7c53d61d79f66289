//! Damaged files: what is complete is read, the rest is named, and nothing breaks.

use super::round_trip::written;
use super::samples::small;
use crate::Snapshot;

#[test]
fn a_file_that_is_no_snapshot_is_an_error() {
    assert!(Snapshot::read_slice(b"").is_err());
    assert!(Snapshot::read_slice(b"\x7fELF and so on, longer than a header").is_err());
    let bytes = written(&small());
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(matches!(Snapshot::read_slice(text.as_bytes()), Err(crate::Error::TextMode)));
}
