//! One file per command.

pub mod bt;
pub mod capture;
pub mod convert;
pub mod cross_check;
pub mod diff;
pub mod export;
pub mod manual;
pub mod memory;
pub mod show;
pub mod symbols;

use crate::args::OutputArgs;
use crate::failure::Outcome;
use snapshot_format::Snapshot;

/// Complete, unless `--strict` objects to doubts.
fn outcome(snapshot: &Snapshot, output: &OutputArgs) -> Outcome {
    if output.strict && !snapshot.doubts.is_empty() { Outcome::Different } else { Outcome::Complete }
}
