//! What the outline of a kernel read out of its memory, read back out of the snapshot's attributes: `kernel.lock`,
//! `kernel.deadlock`, `kernel.slab`, `kernel.kmem_error`, `kernel.rcu`.

use super::linux::Report;
use super::text::{after, hex_at, number_at};
use crate::verdict::{Security, Verdict};
use snapshot_format::Snapshot;

/// Most registers that point to one object: an oops prints fifteen.
const LIMIT_REGISTERS: usize = 16;

fn rows<'s>(snapshot: &'s Snapshot, key: &'static str) -> impl Iterator<Item = &'s str> {
    snapshot.attributes.iter().filter(move |a| a.key == key).map(|a| a.value.as_str())
}

/// A lock that somebody waits for.
pub(crate) struct Lock<'s> {
    /// The whole row.
    pub(crate) text: &'s str,
    /// Its kind, address and name: `mutex 0xffffffffc0210020 (demo_lock [demo])`.
    pub(crate) what: &'s str,
    /// The thread that holds it.
    pub(crate) holder: Option<u64>,
    /// The threads that wait for it.
    pub(crate) waiters: Vec<u64>,
}

/// All locks that somebody waits for.
pub(crate) fn locks(snapshot: &Snapshot) -> impl Iterator<Item = Lock<'_>> {
    rows(snapshot, "kernel.lock").filter_map(|text| {
        let (what, rest) = text.split_once(": held by ")?;
        let (held, waiters) = rest.split_once("; waited for by ")?;
        // Which of them would write stands behind all of them.
        let waiters =
            waiters.split(';').next().unwrap_or_default().split(", ").filter_map(|n| n.parse().ok()).collect();
        Some(Lock { text, what, holder: held.strip_prefix("thread ").and_then(number_at), waiters })
    })
}

/// The circles of threads that wait for each other: their ids, and the row.
pub(crate) fn circles(snapshot: &Snapshot) -> impl Iterator<Item = (Vec<u64>, &str)> {
    rows(snapshot, "kernel.deadlock").map(|text| {
        let numbers = text.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok());
        (numbers.collect(), text)
    })
}

/// What RCU's grace periods wait for.
pub(crate) fn stalls(snapshot: &Snapshot) -> impl Iterator<Item = &str> {
    rows(snapshot, "kernel.rcu").filter(|text| text.contains(" waits for CPU ") || text.contains(" waits for thread "))
}

/// An object of the slab allocator that a register of an oops points to.
pub(crate) struct Object<'s> {
    /// The whole row.
    pub(crate) text: &'s str,
    /// Where it starts.
    pub(crate) start: u64,
    /// The name of the cache, or zone.
    pub(crate) cache: &'s str,
    /// `Some(true)`: it is free; `None` where the lists could not be read.
    pub(crate) free: Option<bool>,
    /// The registers that point into it, and how far behind its start.
    pub(crate) registers: Vec<(&'s str, u64)>,
    /// The value that was followed and led nowhere, when the object holds it.
    pub(crate) holds: Option<u64>,
    /// Whether it is in two lists of free objects.
    pub(crate) twice: bool,
}

/// The class of a pointer that came out of a freed object.
pub(crate) const AFTER_FREE: &str = "use-after-free";

/// A pointer that led nowhere came out of an object: freed memory was used, when the object is free. `kind`: what the
/// system calls a set of objects; `jumped`: where the program counter was, outside of all code.
pub(crate) fn after_free(
    objects: &[Object<'_>],
    kind: &str,
    jumped: Option<u64>,
    verdict: Verdict,
    make: &impl Fn(&'static str, f64, String) -> Verdict,
) -> Verdict {
    if !matches!(verdict.class(), "wild-jump" | "wild-pointer" | "non-canonical" | "exec-nonexec" | AFTER_FREE) {
        return verdict;
    }
    let Some((object, value)) = objects.iter().find_map(|o| Some((o, o.holds?))) else { return verdict };
    let ground = format!("memory: {}", object.text);
    if object.free != Some(true) || verdict.class() == AFTER_FREE {
        return verdict.because(ground);
    }
    let what = if jumped == Some(value) { "a call or jump to" } else { "a pointer with the value" };
    let text = format!("{what} {value:#x}, which was read from a freed object of {kind} {}", object.cache);
    make(AFTER_FREE, 0.93, text)
        .because(ground)
        .but("the object may have been freed after it was read")
        .security(Security::High, "freed memory was used as a pointer")
}

/// All objects of a kernel whose memory was read for one panic (FreeBSD's, illumos').
pub(crate) fn all_objects(snapshot: &Snapshot) -> Vec<Object<'_>> {
    rows(snapshot, "kernel.slab").filter_map(object).collect()
}

/// What an allocator reported of itself before the panic.
pub(crate) fn kmem_error(snapshot: &Snapshot) -> Option<&str> {
    rows(snapshot, "kernel.kmem_error").next()
}

/// The objects that the registers of a report point to; those that another oops was about are left out.
pub(crate) fn objects<'s>(snapshot: &'s Snapshot, report: &Report) -> Vec<Object<'s>> {
    let is_of = |object: &Object<'_>| {
        let value = |name: &str| report.registers.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
        !object.registers.is_empty()
            && object.registers.iter().all(|(name, inside)| value(name) == object.start.checked_add(*inside))
    };
    rows(snapshot, "kernel.slab").filter_map(object).filter(is_of).collect()
}

fn object(text: &str) -> Option<Object<'_>> {
    let (head, rest) = text.strip_prefix("object ")?.split_once(": ")?;
    let (start, cache) = head.split_once(" of cache ").or_else(|| head.split_once(" of zone "))?;
    let cache = cache.split(" (").next()?;
    let mut parts = rest.split("; ");
    let free = match parts.next()? {
        "free" => Some(true),
        "allocated" => Some(false),
        _ => None,
    };
    let (mut registers, mut holds, mut twice) = (Vec::new(), None, false);
    for part in parts {
        twice |= part.starts_with("it was freed twice");
        if let Some((name, inside)) = part.split_once(" is +") {
            if registers.len() < LIMIT_REGISTERS {
                registers.push((name, hex_at(inside)?));
            }
        } else if part.contains(") is what it holds at +") {
            holds = holds.or_else(|| after(part, "(").and_then(hex_at));
        }
    }
    Some(Object { text, start: hex_at(start)?, cache, free, registers, holds, twice })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::linux::Kind;
    use snapshot_format::schema::Attribute;

    fn snapshot(rows: &[(&str, &str)]) -> Snapshot {
        let row = |(key, value): &(&str, &str)| Attribute {
            key: (*key).to_owned(),
            thread: None,
            value: (*value).to_owned(),
        };
        Snapshot { attributes: rows.iter().map(row).collect(), ..Snapshot::default() }
    }

    #[test]
    fn rows_are_read_back() {
        let s = snapshot(&[
            ("kernel.lock", "mutex 0xffffffffc0210020 (demo [m]): held by thread 119; waited for by 118, 120"),
            ("kernel.lock", "rwlock 0xffff888000000000: held by 2 readers; waited for by 7, 8; to write: 7"),
            ("kernel.lock", "nonsense"),
            ("kernel.deadlock", "threads 11, 12 wait for each other"),
            ("kernel.rcu", "rcu_preempt: no grace period is under way"),
            ("kernel.rcu", "rcu_preempt: grace period 5 for 5.100 s waits for CPU 1, which runs thread 9 (sh)"),
        ]);
        let locks: Vec<_> = locks(&s).collect();
        let [mutex, rwlock] = locks.as_slice() else { panic!("{} locks", locks.len()) };
        assert_eq!((mutex.what, mutex.holder), ("mutex 0xffffffffc0210020 (demo [m])", Some(119)));
        assert_eq!(mutex.waiters, [118, 120]);
        assert_eq!((rwlock.holder, rwlock.waiters.as_slice()), (None, &[7, 8][..]));
        assert_eq!(circles(&s).map(|(ids, _)| ids).collect::<Vec<_>>(), [[11, 12]]);
        assert_eq!(stalls(&s).count(), 1);
    }

    #[test]
    fn objects_belong_to_the_registers_that_point_to_them() {
        let row = "object 0xffff8880028f03f0 of cache demo (112 bytes, shared by 3 kinds of objects): free; rdi is \
                   +0x0; rax is +0x38; rip (0x4141414141414141) is what it holds at +0x28; all its bytes are 0x41; \
                   the object before it: allocated";
        let s = snapshot(&[("kernel.slab", row), ("kernel.slab", "object of nothing: free")]);
        let mut report = Report::new(Kind::Protection(None), "general protection fault");
        report.registers = vec![("rdi".into(), 0xffff_8880_028f_03f0), ("rax".into(), 0xffff_8880_028f_0428)];
        let found = objects(&s, &report);
        let [object] = found.as_slice() else { panic!("{} objects", found.len()) };
        assert_eq!((object.cache, object.free, object.holds), ("demo", Some(true), Some(0x4141_4141_4141_4141)));
        assert_eq!(object.registers, [("rdi", 0), ("rax", 0x38)]);
        report.registers[0].1 = 5;
        assert!(objects(&s, &report).is_empty());
    }

    #[test]
    fn items_of_zones() {
        let row = "object 0xfffff80003a5c000 of zone malloc-128 (128 bytes): free; rdi is +0x8; all its bytes are \
                   0x41; it was freed twice: the cache of CPU 0 and the slab; the object before it: allocated";
        let s = snapshot(&[("kernel.slab", row)]);
        let found = all_objects(&s);
        let [object] = found.as_slice() else { panic!("{} objects", found.len()) };
        assert_eq!((object.start, object.cache, object.free), (0xffff_f800_03a5_c000, "malloc-128", Some(true)));
        assert_eq!((object.twice, object.registers.as_slice()), (true, &[("rdi", 8)][..]));
    }
}
