//! The still picture: a copy of the process that the kernel makes (`clone`), read while the process itself runs on.
//!
//! One of the stopped threads is made to fork, as `frames.rs` describes. The copy never runs an instruction: it is
//! traced from its birth, stays in that stop, and is killed when it has been read. What the process could notice of it:
//!
//! - A child. The thread forks a child that forks the copy and ends; the thread waits for that child. So the copy is an
//!   orphan, and its end is noticed by whoever adopts orphans (init), not by the process. `CLONE_PARENT` instead would
//!   give the copy to the process's parent, whose `wait` would find a stranger. The child's exit signal is 0: no SIGCHLD.
//! - Descriptors. Both share the process's table (`CLONE_FILES`): nothing is kept open that the process closes.
//! - Registers. The tracer restores them, and the mask of signals, in a stop in which the kernel then takes up an
//!   interrupted system call exactly as it would have. When the tracer dies in between, the thread does it by itself:
//!   what it needs lies on its stack, which is put there before a register is changed. A wait whose time limit only the
//!   kernel remembers then begins anew with the whole time; threads in other calls are preferred.
//!
//! The stack is written below what the thread uses, never code; and only a stack that a guard page or the kernel's
//! own mark shows to be one.

#[cfg(target_arch = "x86_64")]
mod frames;
#[cfg(target_arch = "x86_64")]
mod inject;

use crate::Refusal;
use evidence::{Addr, Doubt, Mapping};
use std::ops::Range;

#[cfg(target_arch = "x86_64")]
pub(super) use inject::{Job, Prepared};

/// Parts of the process that the copy lacks, and why.
#[derive(Debug, Default)]
pub(super) struct Lacking {
    /// In ascending order.
    pub ranges: Vec<Range<Addr>>,
    pub doubts: Vec<Doubt>,
}

impl Lacking {
    /// Compares the process's mappings with those of its copy (`smaps`, whose flags say what a fork wipes).
    pub(super) fn of(mappings: &[Mapping], smaps: &str) -> Self {
        let mut copied: Vec<(u64, u64)> = Vec::new();
        for line in smaps.lines() {
            if let Some(flags) = line.strip_prefix("VmFlags:") {
                if flags.split_ascii_whitespace().any(|f| f == "wf") {
                    copied.pop();
                }
            } else if let Some((start, end)) = line.split(' ').next().and_then(|w| w.split_once('-'))
                && let (Ok(start), Ok(end)) = (u64::from_str_radix(start, 16), u64::from_str_radix(end, 16))
            {
                copied.push((start, end));
            }
        }
        let mut out = Self::default();
        let (mut shared, mut kept_back) = (0_u64, 0_u64);
        for m in mappings {
            let there = copied.binary_search(&(m.range.start.0, m.range.end.0)).is_ok();
            let changes = m.shared == Some(true) && m.protection.is_none_or(|p| p.write);
            if there && !changes {
                continue;
            }
            let size = m.range.end.offset_from(m.range.start).unwrap_or(0);
            let sum = if there { &mut shared } else { &mut kept_back };
            *sum = sum.saturating_add(size);
            out.ranges.push(m.range.clone());
        }
        if shared > 0 {
            out.doubts.push(Doubt::new(
                "fork",
                format!(
                    "{shared} bytes of memory that the process shares with others are absent: a fork does not copy them, \
                     and they change; capture without --fork to have them"
                ),
            ));
        }
        if kept_back > 0 {
            out.doubts.push(Doubt::new(
                "fork",
                format!(
                    "{kept_back} bytes of memory are absent because the program keeps them from being copied \
                     (MADV_DONTFORK, MADV_WIPEONFORK); capture without --fork to have them"
                ),
            ));
        }
        out
    }

    /// Whether a mapping is one of them.
    pub(super) fn has(&self, mapping: &Mapping) -> bool {
        self.ranges.binary_search_by_key(&mapping.range.start, |r| r.start).is_ok()
    }
}

/// A refusal to fork.
fn refuse<T>(reason: impl Into<Box<str>>) -> Result<T, Refusal> {
    Err(Refusal::NoFork { reason: reason.into() })
}

/// Other processors: the chain of frames is written for one.
#[cfg(not(target_arch = "x86_64"))]
mod other {
    use super::super::ptrace::Tid;
    use super::{Mapping, Refusal};

    #[derive(Debug)]
    pub(in super::super) enum Prepared {}
    #[derive(Debug)]
    pub(in super::super) enum Job {}
    #[derive(Debug)]
    pub(in super::super) enum Copy {}

    impl Prepared {
        pub(in super::super) fn find(_: Tid, _: Tid, _: &[Mapping]) -> Result<Self, Refusal> {
            super::refuse("--fork is for x86-64; capture without it")
        }
        pub(in super::super) fn job(
            self,
            _: &[(Tid, super::super::attach::Outcome)],
            _: &[Mapping],
        ) -> Result<Job, Refusal> {
            match self {}
        }
    }
    impl Job {
        pub(in super::super) fn run(&self) -> Result<Copy, Refusal> {
            match *self {}
        }
        pub(in super::super) fn tried(&self) -> impl Iterator<Item = Tid> {
            std::iter::empty()
        }
    }
    impl Copy {
        pub(in super::super) fn tid(&self) -> Tid {
            match *self {}
        }
    }
}
#[cfg(not(target_arch = "x86_64"))]
pub(super) use other::{Job, Prepared};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_copy_lacks() {
        let (mappings, _) = super::super::mappings::parse(
            b"1000-2000 rw-p 0 0:0 0\n2000-3000 rw-s 0 0:0 0\n3000-4000 rw-p 0 0:0 0\n4000-5000 rw-p 0 0:0 0\n\
              5000-6000 r--s 0 0:0 0\n",
        );
        let smaps = "1000-2000 rw-p 0 0:0 0\nVmFlags: rd wr\n2000-3000 rw-s 0 0:0 0\nVmFlags: rd wr sh\n\
                     4000-5000 rw-p 0 0:0 0\nVmFlags: rd wr wf\n5000-6000 r--s 0 0:0 0\nVmFlags: rd sh\n";
        let lacking = Lacking::of(&mappings, smaps);
        let starts: Vec<u64> = lacking.ranges.iter().map(|r| r.start.0).collect();
        assert_eq!(starts, [0x2000, 0x3000, 0x4000]);
        assert_eq!(lacking.doubts.len(), 2);
        assert!(lacking.has(&mappings[1]) && !lacking.has(&mappings[0]));
    }
}
