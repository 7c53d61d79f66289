//! The source variable that held a bad pointer.
//!
//! Only what is a fact is said: that a pointer variable of a frame has the very value that the instruction's register
//! has. Which of several such variables was meant is left open.

use crate::case::Case;
use crate::words::hex;
use snapshot_format::schema::{Value, Variable, VariableKind};

/// Frames outwards of the faulting one that are searched: further out, equal values are chance.
const LIMIT_FRAMES: usize = 4;

/// Components of a path through structures; deeper ones are not named.
const LIMIT_DEPTH: usize = 16;

/// Names listed before the rest is counted.
const LIMIT_LISTED: usize = 4;

/// A pointer variable with the value searched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// `req->pod`.
    pub(crate) path: String,
    /// The outermost variable: ``parameter `req` `` of a path, or the word alone.
    pub(crate) root: String,
    /// `parameter`, `local` and so on, of the root.
    pub(crate) kind: VariableKind,
    /// Frame index.
    pub(crate) frame: usize,
}

impl Named {
    /// ``parameter `req` of handle(), frame 1``.
    pub(crate) fn place(&self, case: &Case<'_>) -> String {
        let word = match self.kind {
            VariableKind::Local | VariableKind::Member => "local variable",
            VariableKind::Parameter => "parameter",
            VariableKind::Global => "global variable",
            VariableKind::Tls => "thread-local variable",
        };
        format!("{word} `{}` of {}", self.root, case.place_of(self.frame))
    }
}

/// The pointers with this value in the nearest frame that has any; empty when none has.
pub(crate) fn holding(case: &Case<'_>, value: u64) -> Vec<Named> {
    let (Some(thread), first) = (case.view.thread, case.view.first_inline()) else { return Vec::new() };
    let last = case.view.context.saturating_add(LIMIT_FRAMES);
    let rows = &case.view.snapshot.variables;
    let mut nearest: Option<usize> = None;
    let mut found: Vec<Named> = Vec::new();
    for row in rows {
        let Some(frame) = row.frame.and_then(|f| usize::try_from(f).ok()) else { continue };
        let here = row.thread == Some(thread.id) && (first..=last).contains(&frame);
        if !here || row.value != Value::Pointer(value) || nearest.is_some_and(|n| frame > n) {
            continue;
        }
        let Some(named) = name(rows, row, frame) else { continue };
        if nearest.is_none_or(|n| frame < n) {
            nearest = Some(frame);
            found.clear();
        }
        found.push(named);
    }
    found
}

/// The path from the outermost variable down to `row`.
fn name(rows: &[Variable], row: &Variable, frame: usize) -> Option<Named> {
    let mut chain: Vec<&Variable> = vec![row];
    let mut current = row;
    let mut index = usize::MAX;
    while let Some(parent) = current.parent.and_then(|p| usize::try_from(p).ok()) {
        // Parents stand before their children; anything else is a forged loop.
        if parent >= index || chain.len() >= LIMIT_DEPTH {
            return None;
        }
        index = parent;
        current = rows.get(parent)?;
        chain.push(current);
    }
    let root = chain.last()?;
    if root.name.is_empty() {
        return None;
    }
    let mut path = root.name.to_string();
    let mut arrow = is_pointer(root);
    for part in chain.iter().rev().skip(1) {
        match &*part.name {
            "" => return None,
            "*" => {
                arrow = true;
                if std::ptr::eq(*part, row) {
                    path = format!("*{path}");
                }
                continue;
            }
            element if element.starts_with('[') => path.push_str(element),
            member => {
                path.push_str(if arrow { "->" } else { "." });
                path.push_str(member);
            }
        }
        arrow = is_pointer(part);
    }
    Some(Named { path, root: root.name.to_string(), kind: root.kind, frame })
}

/// Whether members are reached through it with an arrow; references are written with a dot.
fn is_pointer(variable: &Variable) -> bool {
    matches!(variable.value, Value::Pointer(_)) && !variable.type_name.trim_end().ends_with('&')
}

/// The value as a word of a sentence.
pub(crate) fn value_word(value: u64) -> String {
    if value == 0 { "null".to_owned() } else { hex(value) }
}

/// What the variables say about a bad pointer: the head of a sentence when it is one variable, evidence in any case.
pub(crate) fn explain(case: &Case<'_>, value: Option<u64>) -> (Option<String>, Option<String>) {
    let Some(value) = value else { return (None, None) };
    let found = holding(case, value);
    let word = value_word(value);
    match found.as_slice() {
        [] => (None, None),
        [one] => {
            let place = one.place(case);
            (
                Some(format!("`{}` is {word}: {place}", one.path)),
                Some(format!("{place}: `{}` has the value {word}", one.path)),
            )
        }
        [first, ..] => {
            let listed: Vec<String> = found.iter().take(LIMIT_LISTED).map(|n| format!("`{}`", n.path)).collect();
            let rest = found.len().saturating_sub(listed.len());
            let more = if rest == 0 { String::new() } else { format!(" and {rest} more") };
            let place = case.place_of(first.frame);
            (None, Some(format!("several pointers in {place} have the value {word}: {}{more}", listed.join(", "))))
        }
    }
}
