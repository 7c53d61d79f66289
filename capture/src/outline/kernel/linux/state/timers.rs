//! Pending timers: those of the timer wheel, and those of high resolution.
//!
//! Source: `kernel/time/timer.c`, `kernel/time/hrtimer.c`, `include/linux/{timer,hrtimer,timerqueue}.h` of Linux 4.19 to
//! 6.x.

use super::{State, attribute, tree};
use debuginfo::layout::Shape;
use evidence::{Addr, Attribute};
use std::collections::HashSet;

/// Most buckets of a wheel: nine levels of 64.
const LIMIT_BUCKETS: u64 = 1024;
/// Most clocks of a CPU: 8.
const LIMIT_CLOCKS: u64 = 16;

/// One attribute per timer: those of each CPU's wheel, then those of high resolution, as they expire.
pub(super) fn read(state: &State<'_, '_>) -> Vec<Attribute> {
    let mut found = Vec::new();
    for cpu in &state.numbers {
        wheel(state, *cpu, &mut found);
        high_resolution(state, *cpu, &mut found);
    }
    state.cut("timers", &mut found);
    found
}

/// How many wheels a CPU has: two since there are idle CPUs without ticks, three since 6.9.
fn wheels(state: &State<'_, '_>) -> u64 {
    let without_ticks = ["tick_nohz_idle_enter", "tick_nohz_irq_exit"].iter().any(|n| state.linux.symbol(n).is_some());
    match (without_ticks, state.linux.size("timer_events").is_some()) {
        (true, true) => 3,
        (true, false) => 2,
        (false, _) => 1,
    }
}

fn called(state: &State<'_, '_>, timer: Addr, of: &str) -> String {
    let at = state.first(timer, of, &["function", "_function"]).map(Addr).filter(|a| a.0 != 0);
    at.map_or_else(|| "a function that is not known".to_owned(), |at| state.name(at).unwrap_or_else(|| at.to_string()))
}

/// How far ahead of `now` something is, in words.
fn ahead(when: u64, now: Option<u64>, unit: &str) -> String {
    match now.map(|now| when.wrapping_sub(now).cast_signed()) {
        Some(n) if n >= 0 => format!("in {n} {unit}"),
        Some(n) => format!("{} {unit} overdue", n.unsigned_abs()),
        None => format!("at {when} {unit}"),
    }
}

fn wheel(state: &State<'_, '_>, cpu: u32, found: &mut Vec<Attribute>) -> Option<()> {
    let linux = state.linux;
    let first = linux.per_cpu("timer_bases", cpu)?;
    let size = linux.size("timer_base")?;
    let vectors = linux.fields.layouts.member("timer_base", "vectors")?;
    let Shape::Array { count, element } = vectors.shape else { return None };
    let (next, entry) = (state.place("hlist_node", "next")?, state.place("timer_list", "entry")?);
    for base in (0..wheels(state)).map(|n| first.wrapping_add(n.wrapping_mul(size))) {
        let Some(now) = state.value(base, "timer_base", "clk") else {
            state.lacks("timers", format!("the timers at {base}, those of CPU {cpu}, cannot be read"));
            continue;
        };
        let running = state.pointer(base, "timer_base", "running_timer");
        let mut pending = Vec::new();
        for bucket in 0..count.min(LIMIT_BUCKETS) {
            let head = base.wrapping_add(vectors.offset).wrapping_add(bucket.wrapping_mul(element));
            pending.extend(chain(state, head, next));
        }
        let mut rows: Vec<(u64, Addr)> = pending
            .into_iter()
            .map(|node| node.wrapping_sub(entry))
            .filter_map(|timer| Some((state.value(timer, "timer_list", "expires")?, timer)))
            .collect();
        rows.sort_unstable();
        let jiffies = linux.long("jiffies").or_else(|| linux.long("jiffies_64")).or(Some(now));
        for (expires, timer) in rows {
            let what = called(state, timer, "timer_list");
            let when = ahead(expires, jiffies, "ticks");
            found.push(attribute("timer", None, format!("CPU {cpu}: {what} {when}, timer {timer}")));
        }
        if let Some(timer) = running {
            let what = called(state, timer, "timer_list");
            found.push(attribute("timer", None, format!("CPU {cpu}: {what} is running, timer {timer}")));
        }
    }
    Some(())
}

/// The nodes of a list with a head of one pointer (`struct hlist_head`).
fn chain(state: &State<'_, '_>, head: Addr, next: u64) -> Vec<Addr> {
    let mut seen = HashSet::new();
    let mut nodes = Vec::new();
    let mut at = head;
    loop {
        match state.linux.fields.pointer_at(at) {
            Ok(node) if node.0 == 0 => return nodes,
            Ok(node) if seen.insert(node) && state.spend() => {
                nodes.push(node);
                at = node.wrapping_add(next);
            }
            Ok(node) => {
                state
                    .linux
                    .doubt("timers", format!("the list of timers at {head} leads to {node} twice, or is too long"));
                return nodes;
            }
            Err(why) => {
                state.lacks("timers", format!("the list of timers at {head} is broken: {why}"));
                return nodes;
            }
        }
    }
}

fn high_resolution(state: &State<'_, '_>, cpu: u32, found: &mut Vec<Attribute>) -> Option<()> {
    let linux = state.linux;
    let base = linux.per_cpu("hrtimer_bases", cpu)?;
    let clocks = linux.fields.layouts.member("hrtimer_cpu_base", "clock_base")?;
    let Shape::Array { count, element } = clocks.shape else { return None };
    let roots = ["active.rb_root.rb_root.rb_node", "active.head.rb_node"];
    let root = state.first_place("hrtimer_clock_base", &roots)?;
    let node = state.place("hrtimer", "node.node")?;
    for clock in 0..count.min(LIMIT_CLOCKS) {
        let clock = base.wrapping_add(clocks.offset).wrapping_add(clock.wrapping_mul(element));
        let (nodes, broken) = tree::nodes(state, clock.wrapping_add(root));
        if let Some(why) = broken {
            state.lacks("timers", format!("the timers of the clock at {clock} are not all known: {why}"));
        }
        for timer in nodes.into_iter().map(|at| at.wrapping_sub(node)) {
            let what = called(state, timer, "hrtimer");
            let expires =
                state.value(timer, "hrtimer", "node.expires").map_or_else(String::new, |n| format!(" at {n} ns"));
            found.push(attribute("timer", None, format!("CPU {cpu}: {what}{expires} of its clock, timer {timer}")));
        }
    }
    Some(())
}
