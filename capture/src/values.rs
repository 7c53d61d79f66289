//! The values of variables of all threads, as rows.

use crate::parallel::for_each_parallel;
use crate::plan::Plan;
use crate::resolve::Resolved;
use crate::saved_arguments;
use crate::variables::{Collector, FrameContext, Variable};
use crate::walk::Walked;
use debuginfo::DebugInfo;
use evidence::{Doubt, Doubts, Memory};
use snapshot_format::schema;
use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

/// Frames of one thread whose variables are evaluated, counted from the innermost: more than recursions that were meant
/// have. Those of a stack that overflowed look alike.
const LIMIT_FRAMES: usize = 16_384;

/// Rows of variables of one thread, some 200 bytes each. Deep recursions with large locals reach it; what lies further out
/// is not evaluated.
const LIMIT_ROWS: usize = 2_000_000;

/// Threads that are evaluated before their rows are put together: enough to keep many processors busy.
const THREADS_AT_ONCE: usize = 64;

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

/// Pointers followed in a row in tasks of a kernel other than the one at fault: nearly all of them hold pointers to
/// `task_struct` and run queues, whose members lead to all other structures, the same ones for each task.
const POINTERS_OF_TASKS: usize = 1;

/// Variable rows of all threads, then globals. `kernel`: they are tasks.
pub(crate) fn collect(
    walked: &[Walked<'_>],
    resolved: &Resolved,
    memory: &dyn Memory,
    info: &DebugInfo<'_>,
    plan: &Plan,
    kernel: bool,
    doubts: &Doubts,
) -> Vec<schema::Variable> {
    // Nothing is known of any variable: a dump without debug information.
    if resolved.has_no_scopes() && plan.globals.is_empty() && walked.iter().all(|w| w.saved.is_empty()) {
        return Vec::new();
    }
    let collector = Collector::new(info, memory, plan.limits.clone());
    let pointer_depth = plan.limits.pointer_depth.min(POINTERS_OF_TASKS);
    let of_tasks = kernel.then(|| Collector::new(info, memory, Options { pointer_depth, ..plan.limits.clone() }));
    let names = Names::default();
    let mut rows: Vec<schema::Variable> = Vec::new();
    // Rows exist once: only those of a few threads wait to be put behind the others.
    for some in walked.chunks(THREADS_AT_ONCE) {
        let threads = for_each_parallel(some, plan.workers, |w| {
            let collector = of_tasks.as_ref().filter(|_| !w.faulting).unwrap_or(&collector);
            let mut rows = Vec::new();
            for variable in collector.thread_locals(&plan.globals, &w.stack.frames) {
                flatten(variable, Some(w.thread.id.0), None, None, &names, &mut rows);
            }
            thread(w, resolved, collector, kernel, doubts, &names, &mut rows);
            rows
        });
        for mut own in threads {
            let Ok(first) = u32::try_from(rows.len()) else { break };
            for row in &mut own {
                row.parent = row.parent.and_then(|parent| parent.checked_add(first));
            }
            rows.append(&mut own);
        }
    }
    for variable in collector.globals(&plan.globals) {
        flatten(variable, None, None, None, &names, &mut rows);
    }
    rows
}

/// Texts that many rows have in common.
#[derive(Default)]
struct Names(RwLock<HashSet<Arc<str>>>);

impl Names {
    fn share(&self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(text) {
            return Arc::clone(known);
        }
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        all.insert(Arc::clone(&new));
        new
    }
}

/// The variables of one thread, by frame index, inlined frames counted.
fn thread(
    w: &Walked<'_>,
    resolved: &Resolved,
    collector: &Collector<'_, '_>,
    kernel: bool,
    doubts: &Doubts,
    names: &Names,
    rows: &mut Vec<schema::Variable>,
) {
    let mut row = 0_u32;
    for (index, frame) in w.stack.frames.iter().enumerate() {
        let at = resolved.at(frame.lookup());
        let sources = at.map(|a| a.frames.as_slice()).unwrap_or_default();
        if index >= LIMIT_FRAMES || rows.len() >= LIMIT_ROWS {
            doubts.push(Doubt::new(
                "variables",
                format!("thread {}: variables were evaluated for the innermost {index} frames only", w.thread.id.0),
            ));
            break;
        }
        if let Some(module) = at.and_then(|a| a.module) {
            for source in 0..sources.len() {
                let context = FrameContext { frames: &w.stack.frames, index, sources, source, module };
                let frame = row.saturating_add(u32::try_from(source).unwrap_or(u32::MAX));
                for variable in collector.frame(&context) {
                    flatten(variable, Some(w.thread.id.0), Some(frame), None, names, rows);
                }
            }
        }
        // Where types are not known by the function, its prologue may have kept its arguments.
        let described = rows.last().is_some_and(|r| r.frame == Some(row) && r.thread == Some(w.thread.id.0));
        if let Some(saved) = w.saved.iter().find(|s| s.frame == index && !described) {
            let typed = collector.arguments(saved.function, &saved.list);
            let known = typed.len();
            for variable in typed {
                flatten(variable, Some(w.thread.id.0), Some(row), None, names, rows);
            }
            // Of programs nobody knows how they were compiled: without optimisation the place of an argument is that of a
            // variable, which may have another value since. With its type it is shown as such.
            if kernel {
                let rest = saved_arguments::rows(&saved.list, w.thread.id.0, row, &|text| names.share(text));
                rows.extend(rest.into_iter().skip(known));
            }
        }
        row = row.saturating_add(u32::try_from(sources.len().max(1)).unwrap_or(u32::MAX));
    }
}

fn flatten(
    variable: Variable,
    thread: Option<u64>,
    frame: Option<u32>,
    parent: Option<u32>,
    names: &Names,
    rows: &mut Vec<schema::Variable>,
) {
    let Ok(index) = u32::try_from(rows.len()) else { return };
    rows.push(schema::Variable {
        thread,
        frame,
        parent,
        name: names.share(&variable.name),
        type_name: names.share(&variable.type_name),
        kind: variable.kind,
        value: variable.value,
        address: variable.address,
        absent: variable.absent.as_deref().map(|why| names.share(why)),
        truncated: variable.truncated,
        line: variable.line,
    });
    for child in variable.children {
        flatten(child, thread, frame, Some(index), names, rows);
    }
}
