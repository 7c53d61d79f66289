//! RCU: whether a grace period is under way, and which CPUs and tasks hold it up.
//!
//! Source: `kernel/rcu/tree.h`, `kernel/rcu/rcu.h` of Linux 4.19 to 6.x: a tree of `struct rcu_node`, whose leaves have
//! a bit for each CPU that has not yet been seen outside of a read-side critical section, and a list of the tasks that
//! were preempted inside of one.

use super::{State, attribute};
use evidence::{Addr, Attribute};

/// Most nodes: a leaf has at least 2 CPUs.
const LIMIT_NODES: u64 = 8192;
/// The bits of a sequence number that say whether a grace period is under way (`RCU_SEQ_STATE_MASK`), and their number.
const UNDER_WAY: u64 = 3;
const SEQUENCE: u32 = 2;

/// An RCU flavour's normal or expedited grace period.
struct Period {
    what: &'static str,
    sequence: &'static str,
    mask: &'static str,
    tasks: &'static str,
}

const PERIODS: [Period; 2] = [
    Period { what: "grace period", sequence: "gp_seq", mask: "qsmask", tasks: "gp_tasks" },
    Period { what: "expedited grace period", sequence: "expedited_sequence", mask: "expmask", tasks: "exp_tasks" },
];

/// One attribute per CPU and task that a grace period waits for, or one that says that none does.
pub(super) fn read(state: &State<'_, '_>) -> Vec<Attribute> {
    let mut found = Vec::new();
    // Until 5.0 there was one state for each flavour; those of bottom halves say the same as the last one.
    for name in ["rcu_state", "rcu_preempt_state", "rcu_sched_state"] {
        if let Some(at) = state.linux.symbol(name) {
            flavour(state, at, &mut found);
        }
    }
    state.cut("rcu", &mut found);
    found
}

fn flavour(state: &State<'_, '_>, at: Addr, found: &mut Vec<Attribute>) -> Option<()> {
    let name = state.pointer(at, "rcu_state", "name").and_then(|p| state.linux.text(p, 32));
    let name = name.unwrap_or_else(|| "rcu".to_owned());
    let mut quiet = true;
    for period in &PERIODS {
        let Some(sequence) = state.value(at, "rcu_state", period.sequence) else { continue };
        if sequence & UNDER_WAY == 0 {
            continue;
        }
        quiet = false;
        let age = if period.sequence == "gp_seq" { age(state, at) } else { None };
        let age = age.map_or_else(String::new, |age| format!(" for {age}"));
        let text = format!("{name}: {} {}{age}", period.what, sequence >> SEQUENCE);
        let before = found.len();
        let blocked = waits(state, at, period, &text, found);
        if found.len() == before && blocked {
            found.push(attribute("rcu", None, format!("{text} waits for no CPU and no task")));
        }
    }
    if quiet {
        found.push(attribute("rcu", None, format!("{name}: no grace period is under way")));
    }
    Some(())
}

/// Adds what the leaves wait for; says whether all of them could be read.
fn waits(state: &State<'_, '_>, at: Addr, period: &Period, text: &str, found: &mut Vec<Attribute>) -> bool {
    let linux = state.linux;
    let first = state.place("rcu_state", "node").map(|inside| at.wrapping_add(inside));
    let (Some(first), Some(size), Some(levels)) = (first, linux.size("rcu_node"), linux.int("rcu_num_lvls")) else {
        return false;
    };
    let count = u64::from(linux.int("rcu_num_nodes").unwrap_or(1)).min(LIMIT_NODES);
    let mut whole = true;
    for node in (0..count).map(|n| first.wrapping_add(n.wrapping_mul(size))) {
        let value = |member: &str| state.value(node, "rcu_node", member);
        let (Some(level), Some(mask), Some(low)) = (value("level"), value(period.mask), value("grplo")) else {
            whole = false;
            continue;
        };
        if level.checked_add(1) != Some(u64::from(levels)) {
            continue;
        }
        for bit in (0..64_u64).filter(|bit| mask >> bit & 1 == 1) {
            let cpu = u32::try_from(low.saturating_add(bit)).ok();
            let current = cpu.and_then(|n| state.task(state.on_cpu(n).0?));
            let who = current.map_or_else(String::new, |t| format!(", which runs {}", state.label(t)));
            let number = low.saturating_add(bit);
            found.push(attribute("rcu", current, format!("{text} waits for CPU {number}{who}")));
        }
        for task in blocked(state, node, period.tasks) {
            let who = state.label(task);
            let text = format!("{text} waits for {who}, which was preempted inside of a read-side critical section");
            found.push(attribute("rcu", Some(task), text));
        }
    }
    whole
}

/// The tasks that hold up a node's grace period: those of its list from a certain one on.
fn blocked<'s>(state: &State<'s, '_>, node: Addr, from: &str) -> Vec<&'s super::Task> {
    let places = (state.place("rcu_node", "blkd_tasks"), state.place("task_struct", "rcu_node_entry"));
    let ((Some(head), Some(link)), Some(from)) = (places, state.pointer(node, "rcu_node", from)) else {
        return Vec::new();
    };
    let ring = state.ring(node.wrapping_add(head), link);
    if let Some(why) = ring.broken {
        state.lacks("rcu", format!("the list of preempted readers of the node at {node} is broken: {why}"));
    }
    let after = ring.elements.into_iter().skip_while(|task| task.wrapping_add(link) != from);
    after.filter_map(|at| state.task(at)).collect()
}

/// For how long the normal grace period has been under way.
fn age(state: &State<'_, '_>, at: Addr) -> Option<String> {
    let now = state.linux.long("jiffies").or_else(|| state.linux.long("jiffies_64"))?;
    let ticks = now.wrapping_sub(state.value(at, "rcu_state", "gp_start")?);
    // An age of weeks is a start that lies ahead, or was never set.
    if ticks > 1 << 32 {
        return None;
    }
    Some(match state.linux.long("tick_nsec").filter(|n| *n > 0 && *n <= 1_000_000_000) {
        Some(tick) => {
            let ms = ticks.checked_mul(tick)?.checked_div(1_000_000)?;
            format!("{}.{:03} s", ms.checked_div(1000)?, ms.checked_rem(1000)?)
        }
        None => format!("{ticks} ticks"),
    })
}
