//! What is known of a kernel beyond its tasks: facts, locks, suspicious objects, run queues, RCU, work, timers.

use super::{HEADING, printable};
use crate::view::View;
use std::io::{self, Write};

/// Facts of which there are many, by key, with what they are called.
const GROUPS: [(&str, &str); 8] = [
    ("kernel.deadlock", "deadlocks"),
    ("kernel.lock", "locks that are waited for"),
    ("kernel.wait", "condition variables that are waited for"),
    ("kernel.slab", "objects that the panic points to"),
    ("kernel.run_queue", "run queues"),
    ("kernel.rcu", "RCU"),
    ("kernel.work", "work"),
    ("kernel.timer", "timers"),
];

/// Writes the facts, then the groups that are not empty.
pub fn write(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    let facts = || view.snapshot.attributes.iter().filter(|a| a.key.starts_with("kernel."));
    for fact in facts().filter(|a| GROUPS.iter().all(|(key, _)| a.key != *key)) {
        let key = fact.key.strip_prefix("kernel.").unwrap_or(&fact.key);
        writeln!(out, "{HEADING}{}{HEADING:#} = {}", printable(key), printable(&fact.value))?;
    }
    for (key, title) in GROUPS {
        for (row, fact) in facts().filter(|a| a.key == key).enumerate() {
            if row == 0 {
                writeln!(out, "{HEADING}{title}{HEADING:#}")?;
            }
            writeln!(out, "  {}", printable(&fact.value))?;
        }
    }
    Ok(())
}
