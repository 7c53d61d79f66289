//! The values of variables.

use crate::parallel::for_each_parallel;
use crate::plan::Plan;
use crate::resolve::Resolved;
use crate::variables::{Collector, FrameContext, Variable};
use crate::walk::Walked;
use debuginfo::DebugInfo;
use evidence::{Doubt, Doubts, Memory, Target};
use snapshot_format::schema;

/// Innermost physical frames of a thread whose variables are evaluated. Deeper ones are repetitions of a recursion,
/// as a rule; the outermost ones are evaluated as well.
pub const LIMIT_INNER_FRAMES: usize = 128;

/// Outermost physical frames of a thread whose variables are evaluated.
pub const LIMIT_OUTER_FRAMES: usize = 32;

/// Most rows of one thread. A row takes some 100 bytes before compression.
pub const LIMIT_ROWS: usize = 200_000;

/// Bounds of variable evaluation.
#[derive(Clone, Debug)]
pub struct Options {
    /// Deepest nesting of members shown.
    pub depth: usize,
    /// Most elements of one array or container.
    pub elements: usize,
    /// Longest string, bytes.
    pub string_bytes: usize,
    /// Most pointers followed in a row.
    pub pointer_depth: usize,
    /// Most bytes read for all variables of one frame.
    pub frame_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { depth: 8, elements: 64, string_bytes: 1024, pointer_depth: 2, frame_bytes: 1 << 20 }
    }
}

/// Variable rows of all threads.
#[derive(Default)]
pub(crate) struct Collected {
    /// Rows in the order of [`schema::Snapshot::variables`].
    pub(crate) rows: Vec<schema::Variable>,
}

/// Evaluates the variables of all frames.
pub(crate) fn collect(
    target: &dyn Target,
    walked: &[Walked<'_>],
    resolved: &Resolved,
    memory: &dyn Memory,
    info: &DebugInfo<'_>,
    plan: &Plan,
    doubts: &Doubts,
) -> Collected {
    let _ = target;
    let collector = Collector::new(info, memory, plan.limits.clone());
    let mut collected = Collected::default();
    for rows in for_each_parallel(walked, plan.workers, |w| thread(w, resolved, &collector, doubts)) {
        append(&mut collected.rows, rows);
    }
    let mut rows = Vec::new();
    for variable in collector.globals(&plan.globals) {
        flatten(&mut rows, variable, None, None, None);
    }
    append(&mut collected.rows, rows);
    collected
}

/// The rows of one thread, parents numbered from 0.
fn thread(
    w: &Walked<'_>,
    resolved: &Resolved,
    collector: &Collector<'_, '_>,
    doubts: &Doubts,
) -> Vec<schema::Variable> {
    let mut rows = Vec::new();
    let frames = &w.stack.frames;
    let outer = frames.len().saturating_sub(LIMIT_OUTER_FRAMES);
    let mut number = 0_u32;
    for (index, frame) in frames.iter().enumerate() {
        let at = resolved.at(frame.lookup());
        let sources = at.map(|at| at.frames.as_slice()).unwrap_or_default();
        let wanted = index < LIMIT_INNER_FRAMES || index >= outer;
        if let (Some(module), true) = (at.and_then(|at| at.module), wanted) {
            for source in 0..sources.len() {
                let context = FrameContext { frames, index, sources, source, module };
                let frame = number.saturating_add(u32::try_from(source).unwrap_or(u32::MAX));
                for variable in collector.frame(&context) {
                    if rows.len() >= LIMIT_ROWS {
                        let why =
                            format!("thread {}: {LIMIT_ROWS} rows of variables kept, the rest left out", w.thread.id.0);
                        doubts.push(Doubt::new("variables", why));
                        return rows;
                    }
                    flatten(&mut rows, variable, Some(w.thread.id.0), Some(frame), None);
                }
            }
        }
        number = number.saturating_add(u32::try_from(sources.len().max(1)).unwrap_or(u32::MAX));
    }
    if frames.len() > LIMIT_INNER_FRAMES.saturating_add(LIMIT_OUTER_FRAMES) {
        let why = format!(
            "thread {}: of {} frames the variables of the innermost {LIMIT_INNER_FRAMES} and the outermost \
             {LIMIT_OUTER_FRAMES} were evaluated",
            w.thread.id.0,
            frames.len()
        );
        doubts.push(Doubt::new("variables", why));
    }
    rows
}

/// A tree as rows, parents before their children.
fn flatten(
    rows: &mut Vec<schema::Variable>,
    variable: Variable,
    thread: Option<u64>,
    frame: Option<u32>,
    parent: Option<u32>,
) {
    let own = u32::try_from(rows.len()).ok();
    rows.push(schema::Variable {
        thread,
        frame,
        parent,
        name: variable.name,
        type_name: variable.type_name,
        kind: variable.kind,
        value: variable.value,
        address: variable.address,
        absent: variable.absent,
        truncated: variable.truncated,
        line: variable.line,
    });
    for child in variable.children {
        flatten(rows, child, thread, frame, own);
    }
}

/// Adds rows whose parents are numbered from 0.
fn append(all: &mut Vec<schema::Variable>, rows: Vec<schema::Variable>) {
    let base = u32::try_from(all.len()).unwrap_or(u32::MAX);
    all.extend(rows.into_iter().map(|mut row| {
        row.parent = row.parent.map(|p| p.saturating_add(base));
        row
    }));
}
