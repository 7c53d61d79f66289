//! The classifiers, one family per file, and the order in which they are asked.
//!
//! The first family that recognises the case decides it; the order therefore goes from what explains most to what
//! explains least. Families at the end add their doubts to a verdict that stands.

mod abort;
mod alignment;
mod arithmetic;
mod assertion;
mod bit_flip;
mod bus;
mod exception;
mod freed;
mod hardening;
mod heap;
mod illegal;
mod inconsistent;
mod jump;
mod limits;
mod non_canonical;
mod null;
mod overflow;
mod panic;
mod readonly;
mod requested;
mod smash;
mod stated;
mod wild;

use crate::case::Case;
use crate::verdict::Verdict;

/// A classifier that decides.
type Decide = fn(&Case<'_>) -> Option<Verdict>;

/// A classifier that adds to what was decided.
type Add = fn(&Case<'_>, Option<&Verdict>) -> Option<Verdict>;

const DECIDE: [Decide; 21] = [
    requested::check,
    stated::check,
    // A fault while an overrun was being reported is the overrun.
    smash::while_reporting,
    // Memory accesses, also those that a signal handler caught before it gave up.
    freed::check,
    jump::check,
    overflow::check,
    alignment::check,
    bus::check,
    non_canonical::check,
    null::check,
    readonly::check,
    wild::check,
    // The program, or a library in it, gave up.
    smash::check,
    heap::check,
    assertion::check,
    panic::check,
    exception::check,
    abort::check,
    // Other exceptions of the processor.
    arithmetic::check,
    illegal::check,
    limits::check,
];

const ADD: [Add; 5] = [heap::add, bit_flip::add, inconsistent::add, hardening::pivot, hardening::executable];

/// All verdicts, strongest first.
pub(crate) fn judge(case: &Case<'_>) -> Vec<Verdict> {
    let decided = DECIDE.iter().find_map(|check| check(case));
    let added: Vec<Verdict> = ADD.iter().filter_map(|add| add(case, decided.as_ref())).collect();
    let mut verdicts: Vec<Verdict> = decided.into_iter().chain(added).collect();
    // Stable: of two equally sure verdicts the earlier family's comes first.
    verdicts.sort_by(|a, b| b.confidence().total_cmp(&a.confidence()));
    verdicts
}
