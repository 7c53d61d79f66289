//! References between rows: every one that is kept points at a row that was read.

use super::assemble::Numbers;
use crate::convert::ToUsize;
use crate::doubts::{Doubts, INVALID, LOST};
use crate::schema::{Evidence, Frame, Stack, Thread, Variable};

/// Points a reference at the row that was read, or removes it.
pub(super) fn fix(reference: &mut Option<u32>, to: Option<&Numbers>, what: &str, row: usize, doubts: &mut Doubts) {
    let (Some(number), Some(numbers)) = (*reference, to) else { return };
    *reference = numbers.index(number);
    if reference.is_none() {
        doubts.push(INVALID, format!("{what} of row {row} refers to row {number}, which is not there: left out"));
    }
}

/// Cuts stacks to the frames that were read. True for each stack that lost some.
pub(super) fn fix_stacks(stacks: &mut [Stack], frames: Option<&Numbers>, doubts: &mut Doubts) -> Vec<bool> {
    let Some(frames) = frames else { return vec![false; stacks.len()] };
    let mut cut = Vec::with_capacity(stacks.len());
    for (row, stack) in stacks.iter_mut().enumerate() {
        let start = frames.index(stack.first);
        // The frames that were read keep their order, so a whole stack ends `count` rows after it starts.
        let whole = match (start, stack.count.checked_sub(1)) {
            (Some(start), Some(more)) => {
                let last = stack.first.checked_add(more).and_then(|last| frames.index(last));
                last.is_some() && last == start.checked_add(more)
            }
            (_, None) => true,
            (None, Some(_)) => false,
        };
        cut.push(!whole);
        if whole {
            stack.first = start.unwrap_or(0);
            continue;
        }
        let first = stack.first;
        let here = |offset: u32| {
            let index = first.checked_add(offset).and_then(|number| frames.index(number))?;
            (start?.checked_add(offset)? == index).then_some(index)
        };
        let kept = (0..stack.count).take_while(|offset| here(*offset).is_some()).count();
        let kept = u32::try_from(kept).unwrap_or(0);
        doubts.push(LOST, format!("stack {row} has {kept} frames left of {}: the others are not there", stack.count));
        *stack = Stack { first: start.unwrap_or(0), count: kept };
    }
    cut
}

/// Says at the threads which stacks lost frames.
pub(super) fn mark_threads(threads: &mut [Thread], cut: &[bool]) {
    for thread in threads {
        if thread.truncated.is_none() && thread.stack.is_some_and(|stack| cut.get(stack.to_usize()) == Some(&true)) {
            thread.truncated = Some("frames are lost in the damaged snapshot".to_owned());
        }
    }
}

/// Points frames at the modules that were read.
pub(super) fn fix_frames(frames: &mut [Frame], modules: Option<&Numbers>, doubts: &mut Doubts) {
    for (row, frame) in frames.iter_mut().enumerate() {
        fix(&mut frame.module, modules, "frames.module", row, doubts);
    }
}

/// Points variables at their parents, which must come before them.
pub(super) fn fix_variables(variables: &mut [Variable], numbers: &Numbers, doubts: &mut Doubts) {
    for (row, variable) in variables.iter_mut().enumerate() {
        let Some(number) = variable.parent else { continue };
        variable.parent = numbers.index(number).filter(|parent| parent.to_usize() < row);
        if variable.parent.is_none() {
            let why = format!(
                "variables.parent of row {row} refers to row {number}, which does not come before it: left out"
            );
            doubts.push(INVALID, why);
        }
    }
}

/// Keeps the evidence whose finding was read.
pub(super) fn fix_evidence(evidence: &mut Vec<Evidence>, findings: Option<&Numbers>, doubts: &mut Doubts) {
    let Some(findings) = findings else { return };
    evidence.retain_mut(|row| match findings.index(row.finding) {
        Some(finding) => {
            row.finding = finding;
            true
        }
        None => {
            doubts.push(INVALID, format!("evidence for finding {}, which is not there: left out", row.finding));
            false
        }
    });
}
