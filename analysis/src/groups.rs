//! Threads that stand in the same place, grouped, and what the idle ones wait for.

use crate::machinery::{Part, part};
use crate::names::normalise;
use crate::view::frames_of;
use snapshot_format::Snapshot;
use snapshot_format::schema::{Frame, Thread};
use std::collections::BTreeMap;

/// Frames by which stacks are compared: two stacks that agree this far are shown as one. It also bounds the work for a
/// snapshot whose stacks all claim the same many frames.
pub const LIMIT_GROUP_FRAMES: usize = 256;

/// What a thread waits for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wait {
    /// A word such as `futex_wait`, `epoll_wait`, `nanosleep`, `accept`, `read`.
    pub what: &'static str,
    /// Whether waiting there is what idle threads do (a lock or a queue may also mean a hang).
    pub idle: bool,
}

/// Threads with the same stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackGroup {
    /// Thread ids, ascending.
    pub threads: Vec<u64>,
    /// Index into `stacks` of one of them.
    pub stack: Option<u32>,
    /// What they wait for, when the stack or the kernel says so.
    pub wait: Option<Wait>,
    /// The innermost function that is not the system's: whose thread this is.
    pub function: Option<String>,
}

/// All threads but the faulting one, grouped by equal stacks; the largest group first.
#[must_use]
pub fn stack_groups(snapshot: &Snapshot) -> Vec<StackGroup> {
    let faulting = snapshot.event.as_ref().and_then(|e| e.thread);
    let others = snapshot.threads.iter().filter(|t| !t.faulting && Some(t.id) != faulting);
    let mut keys: BTreeMap<Option<u32>, Vec<String>> = BTreeMap::new();
    let mut groups: BTreeMap<(Vec<String>, Option<Wait>), StackGroup> = BTreeMap::new();
    for thread in others {
        let key = keys.entry(thread.stack).or_insert_with(|| key(snapshot, thread.stack)).clone();
        let wait = wait(snapshot, thread, &key);
        let group = groups.entry((key, wait)).or_insert_with_key(|(names, wait)| StackGroup {
            threads: Vec::new(),
            stack: thread.stack,
            wait: wait.clone(),
            function: owner(names),
        });
        group.threads.push(thread.id);
    }
    let mut groups: Vec<StackGroup> = groups.into_values().collect();
    for group in &mut groups {
        group.threads.sort_unstable();
    }
    groups.sort_by(|a, b| b.threads.len().cmp(&a.threads.len()).then_with(|| a.threads.cmp(&b.threads)));
    groups
}

/// One line: `11 other threads: 9 share one stack in futex_wait (Worker::idle), 2 in epoll_wait`.
///
/// At most `most` groups are named. `None` when there is no other thread.
#[must_use]
pub fn sentence(groups: &[StackGroup], most: usize) -> Option<String> {
    let total = groups.iter().fold(0_usize, |n, g| n.saturating_add(g.threads.len()));
    if total == 0 {
        return None;
    }
    let mut parts: Vec<String> = groups.iter().take(most.max(1)).map(group_phrase).collect();
    let rest = groups.iter().skip(most.max(1)).fold(0_usize, |n, g| n.saturating_add(g.threads.len()));
    if rest > 0 {
        parts.push(format!("{rest} elsewhere"));
    }
    let noun = if total == 1 { "thread" } else { "threads" };
    Some(format!("{total} other {noun}: {}", parts.join(", ")))
}

fn group_phrase(group: &StackGroup) -> String {
    let count = group.threads.len();
    let share = if count > 1 { " share one stack" } else { "" };
    match (&group.wait, &group.function) {
        (Some(wait), Some(function)) => format!("{count}{share} in {} ({function})", wait.what),
        (Some(wait), None) => format!("{count}{share} in {}", wait.what),
        (None, Some(function)) => format!("{count}{share} in {function}"),
        (None, None) => format!("{count}{share} without names"),
    }
}

/// The names that make two stacks equal; frames without a name go by their place in the module, or by pc.
fn key(snapshot: &Snapshot, stack: Option<u32>) -> Vec<String> {
    frames_of(snapshot, stack).iter().take(LIMIT_GROUP_FRAMES).map(frame_key).collect()
}

fn frame_key(frame: &Frame) -> String {
    match (&frame.function, frame.module, frame.module_offset) {
        (Some(function), ..) => normalise(function),
        (None, Some(module), Some(offset)) => format!("?{module}+{offset:#x}"),
        _ => format!("?{:#x}", frame.pc),
    }
}

/// Functions, normalised and without leading underscores, by what they wait for.
const WAITS: [(&str, &str, bool); 60] = [
    ("futex_abstimed_wait_common64", "futex_wait", true),
    ("futex_abstimed_wait_common", "futex_wait", true),
    ("futex_abstimed_wait_cancelable64", "futex_wait", true),
    ("futex_wait", "futex_wait", true),
    ("futex_wait_cancelable", "futex_wait", true),
    ("pthread_cond_wait", "futex_wait", true),
    ("pthread_cond_timedwait", "futex_wait", true),
    ("pthread_cond_clockwait", "futex_wait", true),
    ("std::sys::pal::unix::futex::futex_wait", "futex_wait", true),
    ("std::sys::futex::futex_wait", "futex_wait", true),
    ("lll_lock_wait", "lock", false),
    ("lll_lock_wait_private", "lock", false),
    ("pthread_mutex_lock", "lock", false),
    ("pthread_rwlock_rdlock", "lock", false),
    ("pthread_rwlock_wrlock", "lock", false),
    ("new_sem_wait_slow64", "sem_wait", true),
    ("new_sem_wait_slow", "sem_wait", true),
    ("sem_wait", "sem_wait", true),
    ("sem_timedwait", "sem_wait", true),
    ("pthread_clockjoin_ex", "pthread_join", true),
    ("pthread_timedjoin_ex", "pthread_join", true),
    ("pthread_join", "pthread_join", true),
    ("epoll_wait", "epoll_wait", true),
    ("epoll_pwait", "epoll_wait", true),
    ("kevent", "kevent", true),
    ("port_get", "port_get", true),
    ("port_getn", "port_get", true),
    ("poll", "poll", true),
    ("ppoll", "poll", true),
    ("pollsys", "poll", true),
    ("select", "select", true),
    ("pselect", "select", true),
    ("nanosleep", "nanosleep", true),
    ("clock_nanosleep", "nanosleep", true),
    ("sleep", "nanosleep", true),
    ("usleep", "nanosleep", true),
    ("pause", "pause", true),
    ("sigsuspend", "sigsuspend", true),
    ("sigwait", "sigwait", true),
    ("sigwaitinfo", "sigwait", true),
    ("sigtimedwait", "sigwait", true),
    ("accept", "accept", true),
    ("accept4", "accept", true),
    ("recv", "recv", true),
    ("recvfrom", "recv", true),
    ("recvmsg", "recv", true),
    ("recvmmsg", "recv", true),
    ("read", "read", true),
    ("readv", "read", true),
    ("pread64", "read", true),
    ("write", "write", false),
    ("send", "send", false),
    ("sendto", "send", false),
    ("sendmsg", "send", false),
    ("fsync", "fsync", false),
    ("fdatasync", "fsync", false),
    ("wait4", "wait", true),
    ("waitpid", "wait", true),
    ("waitid", "wait", true),
    ("io_getevents", "io_getevents", true),
];

/// Kernel functions a thread sleeps in (Linux `wchan`, FreeBSD wmesg), by what that is to the program.
const CHANNELS: [(&str, &str, bool); 18] = [
    ("futex_wait_queue", "futex_wait", true),
    ("futex_wait_queue_me", "futex_wait", true),
    ("futex_wait", "futex_wait", true),
    ("ep_poll", "epoll_wait", true),
    ("do_epoll_wait", "epoll_wait", true),
    ("poll_schedule_timeout", "poll", true),
    ("hrtimer_nanosleep", "nanosleep", true),
    ("do_nanosleep", "nanosleep", true),
    ("inet_csk_accept", "accept", true),
    ("pipe_read", "read", true),
    ("pipe_wait_readable", "read", true),
    ("wait_woken", "read", true),
    ("do_wait", "wait", true),
    ("do_sigtimedwait", "sigwait", true),
    ("uwait", "futex_wait", true),
    ("kqread", "kevent", true),
    ("nanslp", "nanosleep", true),
    ("select", "poll", true),
];

/// System calls by number, x86-64 and AArch64 Linux (`asm/unistd_64.h`, `asm-generic/unistd.h`).
const CALLS: [(&str, u64, &str, bool); 22] = [
    ("x86_64", 202, "futex_wait", true),
    ("x86_64", 232, "epoll_wait", true),
    ("x86_64", 281, "epoll_wait", true),
    ("x86_64", 7, "poll", true),
    ("x86_64", 271, "poll", true),
    ("x86_64", 23, "select", true),
    ("x86_64", 270, "select", true),
    ("x86_64", 35, "nanosleep", true),
    ("x86_64", 230, "nanosleep", true),
    ("x86_64", 34, "pause", true),
    ("x86_64", 43, "accept", true),
    ("x86_64", 288, "accept", true),
    ("x86_64", 0, "read", true),
    ("x86_64", 61, "wait", true),
    ("aarch64", 98, "futex_wait", true),
    ("aarch64", 22, "epoll_wait", true),
    ("aarch64", 73, "poll", true),
    ("aarch64", 101, "nanosleep", true),
    ("aarch64", 115, "nanosleep", true),
    ("aarch64", 202, "accept", true),
    ("aarch64", 63, "read", true),
    ("aarch64", 260, "wait", true),
];

/// Frames from the top in which a wrapper of a system call is looked for.
const WRAPPERS: usize = 6;

fn wait(snapshot: &Snapshot, thread: &Thread, names: &[String]) -> Option<Wait> {
    // The outermost wrapper names it best: pthread_mutex_lock rather than the futex it sleeps in.
    let mut found = None;
    for name in names.iter().take(WRAPPERS) {
        match by_function(name) {
            Some(wait) => found = Some(wait),
            None if found.is_some() => break,
            None => {}
        }
    }
    found.or_else(|| by_channel(thread)).or_else(|| by_call(snapshot, thread))
}

fn by_function(name: &str) -> Option<Wait> {
    let bare = name.trim_start_matches('_');
    let bare = ["GI_", "libc_", "sys_"].iter().fold(bare, |n, prefix| n.strip_prefix(prefix).unwrap_or(n));
    let bare = bare.trim_start_matches('_');
    WAITS.iter().find(|(f, ..)| *f == bare).map(|(_, what, idle)| Wait { what, idle: *idle })
}

fn by_channel(thread: &Thread) -> Option<Wait> {
    let channel = thread.wait_channel.as_deref()?;
    CHANNELS.iter().find(|(c, ..)| *c == channel).map(|(_, what, idle)| Wait { what, idle: *idle })
}

fn by_call(snapshot: &Snapshot, thread: &Thread) -> Option<Wait> {
    if !matches!(snapshot.identity.os.as_str(), "linux" | "android") {
        return None;
    }
    let number = thread.system_call?;
    let row = CALLS.iter().find(|(arch, n, ..)| *arch == snapshot.identity.arch && *n == number)?;
    Some(Wait { what: row.2, idle: row.3 })
}

/// The innermost name that is no wait, no machinery and no standard library.
fn owner(names: &[String]) -> Option<String> {
    names
        .iter()
        .filter(|n| !n.starts_with('?') && !n.starts_with("__") && by_function(n).is_none())
        .filter(|n| !is_library(n))
        .find(|n| part(n) != Some(Part::Start))
        .cloned()
}

fn is_library(name: &str) -> bool {
    ["std::", "core::", "alloc::", "boost::asio::", "syscall", "pthread_", "clock_", "<std::", "<core::", "<alloc::"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}
