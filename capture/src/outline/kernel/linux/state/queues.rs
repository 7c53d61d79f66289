//! Run queues: which task each CPU runs, and which ones wait for it.
//!
//! A task says itself whether it is on its CPU's queue (`on_rq`), so that no queue need be walked; the queue's own count
//! tells whether all were found.

use super::{State, attribute};
use evidence::Attribute;
use std::collections::BTreeMap;

/// `TASK_ON_RQ_QUEUED` (`kernel/sched/sched.h`).
const QUEUED: u64 = 1;
/// `MAX_RT_PRIO` (`include/linux/sched/prio.h`): smaller ones are of real-time tasks, negative ones of deadline tasks.
const REAL_TIME: i64 = 100;
/// Most tasks that are listed of one queue.
const LIMIT_LISTED: usize = 256;

/// One attribute per CPU, about the task that it runs.
pub(super) fn read(state: &State<'_, '_>) -> Vec<Attribute> {
    if state.place("task_struct", "on_rq").is_none() {
        return Vec::new();
    }
    let queued = |task: &super::Task| {
        let delayed = state.value(task.address, "task_struct", "se.sched_delayed").is_some_and(|n| n != 0);
        state.value(task.address, "task_struct", "on_rq") == Some(QUEUED) && !delayed
    };
    let mut queues: BTreeMap<u32, Vec<&super::Task>> = BTreeMap::new();
    for task in state.tasks.iter().filter(|t| queued(t)) {
        if let Some(cpu) = task.cpu {
            queues.entry(cpu).or_default().push(task);
        }
    }
    let mut found = Vec::new();
    for number in &state.numbers {
        let Some(queue) = state.linux.per_cpu("runqueues", *number) else { continue };
        let (at, idle) = state.on_cpu(*number);
        let current = at.and_then(|at| state.task(at));
        let queue_of = queues.get(number).map(Vec::as_slice).unwrap_or_default();
        let all: Vec<&super::Task> = queue_of.iter().copied().filter(|t| Some(t.address) != idle).collect();
        let waiting = all.iter().filter(|t| Some(t.address) != at);
        let names = waiting.take(LIMIT_LISTED).map(|t| format!("{}{}", state.label(t), class(state, t)));
        let names: Vec<String> = names.collect();
        let running = match (current, at) {
            (Some(task), _) => state.label(task),
            (None, Some(at)) if Some(at) == idle => "its idle task".to_owned(),
            _ => "nothing known".to_owned(),
        };
        let mut text = format!("CPU {number} runs {running}");
        if names.is_empty() {
            text.push_str("; none waits");
        } else {
            text.push_str(&format!("; waiting: {}", names.join(", ")));
        }
        let counted = state.value(queue, "rq", "nr_running");
        if let Some(counted) = counted.filter(|n| usize::try_from(*n) != Ok(all.len())) {
            text.push_str(&format!("; the queue counts {counted} tasks, of which {} are known", all.len()));
        }
        found.push(attribute("run_queue", current, text));
    }
    found
}

fn class(state: &State<'_, '_>, task: &super::Task) -> &'static str {
    match state.value(task.address, "task_struct", "prio").map(u64::cast_signed) {
        Some(n) if n < 0 => " deadline",
        Some(n) if n < REAL_TIME => " real-time",
        _ => "",
    }
}
