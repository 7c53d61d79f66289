//! Lays a peer's report beside ours: threads by id, frames by pc and inline depth, variables by name.
//!
//! Every difference has a reason code. Codes that begin with `peer-` say that the peer knows less than we do; they are
//! counted apart, because they are no disagreement: two tools disagree when both say something and it is not the same,
//! or when we know less.

use super::names::{NameMatch, compare, same_file};
use super::trees::{self, Unequal};
use super::{
    OurFrame, OurReport, OurThread, OurVariable, Peer, PeerFrame, PeerReport, PeerThread, PeerVariable, facts, values,
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;

pub use super::reason::Reason;

/// How many differences are kept; more are counted. Nobody reads ten thousand.
pub const LIMIT_DIFFERENCES: usize = 10_000;
/// How many frames ahead a frame with the same pc is looked for after the stacks went apart.
const LIMIT_RESYNC: usize = 64;
/// No pc of a program lies below this address.
const LOWEST_CODE: u64 = 0x1_0000;
/// Addresses of processes have at most 56 bits on x86-64 (5-level paging) and on AArch64 (52); above them there is no
/// memory of a process.
const HIGHEST_CODE: u64 = 1 << 56;

/// The lowest address of a kernel on x86-64 (5-level paging) and on AArch64.
const KERNEL_CODE: u64 = 0xff00_0000_0000_0000;

/// Whether no process can have code there.
const fn is_no_code(pc: u64) -> bool {
    pc < LOWEST_CODE || pc >= HIGHEST_CODE
}

/// One thing that is not the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The thread's id.
    pub thread: u64,
    /// The frame's number in our list, where we have it.
    pub frame: Option<usize>,
    /// The frame's number in the peer's list, where it has it.
    pub peer_frame: Option<usize>,
    /// The variable's name, for differences of variables.
    pub variable: Option<String>,
    /// Why.
    pub reason: Reason,
    /// What we say.
    pub ours: Option<String>,
    /// What the peer says.
    pub peer: Option<String>,
}

/// What was compared, and how it came out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Threads on both sides.
    pub threads: u64,
    /// Frames on both sides.
    pub frames: u64,
    /// Of these, frames with nothing that differs, the peer's limits aside.
    pub frames_same: u64,
    /// Frames whose function has the same name in another style.
    pub frames_other_style: u64,
    /// Variables on both sides.
    pub variables: u64,
    /// Of these, variables with the same value, or without one on both sides.
    pub variables_same: u64,
    /// Facts that the peer says of a kernel, lines of its log included.
    #[serde(skip_serializing_if = "is_zero")]
    pub facts: u64,
    /// Of these, facts that we say as well.
    #[serde(skip_serializing_if = "is_zero")]
    pub facts_same: u64,
    /// Differences that are disagreements.
    pub differences: u64,
    /// Differences that are limits of the peer.
    pub peer_limits: u64,
    /// How often each reason was given.
    pub reasons: BTreeMap<&'static str, u64>,
}

/// The result of comparing with one peer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Which tool.
    pub peer: Peer,
    /// Its version.
    pub version: String,
    /// Why the peer's report is not whole, if so.
    pub incomplete: Option<String>,
    /// The counts.
    pub totals: Totals,
    /// Every difference, up to [`LIMIT_DIFFERENCES`].
    pub differences: Vec<Difference>,
}

impl Comparison {
    /// Whether nothing disagrees. The peer's limits do not count, unless `strict`.
    #[must_use]
    pub const fn same(&self, strict: bool) -> bool {
        self.totals.differences == 0 && (!strict || self.totals.peer_limits == 0)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn bump(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}

/// Compares.
#[must_use]
pub fn align(ours: &OurReport, peer: &PeerReport) -> Comparison {
    let mut work = Work {
        peer: peer.peer,
        live: ours.live,
        no_code: &ours.no_code,
        kernel: ours.kernel,
        incomplete: peer.incomplete.is_some(),
        thread: 0,
        totals: Totals::default(),
        differences: Vec::new(),
    };
    let mut found = Vec::new();
    facts::compare(&ours.facts, &peer.facts, &mut work.totals, |difference| found.push(difference));
    found.into_iter().for_each(|difference| work.push(difference));
    if peer.peer == Peer::Crash {
        // It is not asked for stacks.
        return work.done(peer);
    }
    let theirs: BTreeMap<u64, &PeerThread> = peer.threads.iter().map(|t| (t.id, t)).collect();
    let mine: BTreeMap<u64, &OurThread> = ours.threads.iter().map(|t| (t.id, t)).collect();
    for (id, thread) in &mine {
        work.thread = *id;
        match theirs.get(id) {
            Some(other) => {
                bump(&mut work.totals.threads);
                work.thread(thread, other);
            }
            None if work.incomplete => work.note(Reason::PeerStoppedEarly, None, None, None, None),
            None => work.note(Reason::OursExtraThread, None, None, None, None),
        }
    }
    for id in theirs.keys().filter(|id| !mine.contains_key(id)) {
        work.thread = *id;
        work.note(Reason::OursMissingThread, None, None, None, None);
    }
    work.done(peer)
}

/// One physical frame of ours and the functions inlined at its pc: where it starts in the list, and how many there are.
#[derive(Clone, Copy)]
struct Group {
    pc: u64,
    start: usize,
    len: usize,
    tail_call: bool,
}

impl Group {
    fn end(self) -> usize {
        self.start.saturating_add(self.len)
    }
}

fn groups(frames: &[OurFrame]) -> Vec<Group> {
    let mut list = Vec::new();
    let mut start = 0_usize;
    for (index, frame) in frames.iter().enumerate() {
        let end = index.saturating_add(1);
        if !frame.inline || end == frames.len() {
            list.push(Group { pc: frame.pc, start, len: end.saturating_sub(start), tail_call: frame.tail_call });
            start = end;
        }
    }
    list
}

/// Whether some frame further out has the same pc on both sides.
fn common(groups: &[Group], i: usize, frames: &[PeerFrame], j: usize) -> bool {
    let ours = groups.iter().skip(i).take(LIMIT_RESYNC);
    ours.map(|g| g.pc).any(|pc| frames.iter().skip(j).take(LIMIT_RESYNC).any(|f| f.pc == pc))
}

struct Work<'o> {
    peer: Peer,
    live: bool,
    no_code: &'o [Range<u64>],
    kernel: bool,
    incomplete: bool,
    thread: u64,
    totals: Totals,
    differences: Vec<Difference>,
}

impl Work<'_> {
    fn done(self, peer: &PeerReport) -> Comparison {
        Comparison {
            peer: peer.peer,
            version: peer.version.clone(),
            incomplete: peer.incomplete.clone(),
            totals: self.totals,
            differences: self.differences,
        }
    }

    /// Whether no process can have code there, or this one has something there that may not be executed.
    fn is_no_code(&self, pc: u64) -> bool {
        if self.kernel {
            return pc < LOWEST_CODE || (HIGHEST_CODE..KERNEL_CODE).contains(&pc);
        }
        is_no_code(pc) || self.no_code.iter().any(|r| r.contains(&pc))
    }

    fn note(
        &mut self,
        reason: Reason,
        frame: Option<usize>,
        peer_frame: Option<usize>,
        ours: Option<String>,
        peer: Option<String>,
    ) {
        self.push(Difference { thread: self.thread, frame, peer_frame, variable: None, reason, ours, peer });
    }

    fn push(&mut self, difference: Difference) {
        let totals = &mut self.totals;
        bump(if difference.reason.is_peer_limit() { &mut totals.peer_limits } else { &mut totals.differences });
        bump(totals.reasons.entry(difference.reason.code()).or_default());
        if self.differences.len() < LIMIT_DIFFERENCES {
            self.differences.push(difference);
        }
    }

    fn thread(&mut self, ours: &OurThread, peer: &PeerThread) {
        let groups = groups(&ours.frames);
        let (mut i, mut j) = (0_usize, 0_usize);
        let mut guessed = false;
        // Whether a frame was on both stacks; a process goes on between two looks, in its innermost frames.
        let mut met = !self.live;
        while let (Some(group), Some(frame)) = (groups.get(i), peer.frames.get(j)) {
            if group.pc == frame.pc {
                met = true;
                let taken = self.extent(groups.get(i..).unwrap_or_default(), peer.frames.get(j..).unwrap_or_default());
                self.group(&ours.frames, *group, &peer.frames, j, taken);
                (i, j) = (i.saturating_add(1), j.saturating_add(taken));
                continue;
            }
            guessed |= j > 0 && self.is_no_code(frame.pc);
            if frame.tail_call {
                self.note(Reason::PeerTailCall, None, Some(j), None, Some(frame_text(frame)));
                j = j.saturating_add(1);
                continue;
            }
            if group.tail_call {
                self.only_ours(Reason::PeerNoTailCall, &ours.frames, *group);
                i = i.saturating_add(1);
                continue;
            }
            let theirs = peer.frames.iter().skip(j).take(LIMIT_RESYNC).position(|f| f.pc == group.pc);
            let mine = groups.iter().skip(i).take(LIMIT_RESYNC).position(|g| g.pc == frame.pc);
            let (skip_ours, skip_peer) = match (mine, theirs) {
                (Some(mine), Some(theirs)) if mine <= theirs => (mine, 0),
                (Some(mine), None) => (mine, 0),
                (_, Some(theirs)) => (0, theirs),
                (None, None) => (1, 1),
            };
            let moved = !met && (mine.is_some() || theirs.is_some() || common(&groups, i, &peer.frames, j));
            let extra = match (guessed, moved) {
                (true, _) => Reason::PeerGuessed,
                (false, true) => Reason::PeerLaterLook,
                (false, false) => Reason::OursExtra,
            };
            for group in groups.iter().skip(i).take(skip_ours) {
                self.only_ours(extra, &ours.frames, *group);
            }
            for (index, frame) in peer.frames.iter().enumerate().skip(j).take(skip_peer) {
                guessed |= index > 0 && self.is_no_code(frame.pc);
                let reason = match (guessed, frame.tail_call) {
                    (true, _) => Reason::PeerGuessed,
                    (false, true) => Reason::PeerTailCall,
                    (false, false) if moved => Reason::PeerLaterLook,
                    (false, false) => Reason::OursMissing,
                };
                self.note(reason, None, Some(index), None, Some(frame_text(frame)));
            }
            (i, j) = (i.saturating_add(skip_ours), j.saturating_add(skip_peer));
        }
        let stopped = peer.ended.is_some() || self.incomplete;
        let reason = match (guessed, stopped) {
            (true, _) => Reason::PeerGuessed,
            (false, true) => Reason::PeerStoppedEarly,
            (false, false) => Reason::OursExtra,
        };
        for group in groups.iter().skip(i) {
            let reason = if group.tail_call { Reason::PeerNoTailCall } else { reason };
            self.only_ours(reason, &ours.frames, *group);
        }
        let reason = if ours.cut { Reason::OursStoppedEarly } else { Reason::OursMissing };
        for (index, frame) in peer.frames.iter().enumerate().skip(j) {
            guessed |= j > 0 && self.is_no_code(frame.pc);
            let reason = match (guessed, frame.tail_call) {
                (true, _) => Reason::PeerGuessed,
                (false, true) => Reason::PeerTailCall,
                (false, false) => reason,
            };
            self.note(reason, None, Some(index), None, Some(frame_text(frame)));
        }
    }

    fn only_ours(&mut self, reason: Reason, frames: &[OurFrame], group: Group) {
        for (index, frame) in frames.iter().enumerate().skip(group.start).take(group.len) {
            let text = format!("{:#x} {}", frame.pc, frame.function.as_deref().unwrap_or("?"));
            self.note(reason, Some(index), None, Some(text), None);
        }
    }

    /// How many of the peer's frames, of which the first has the pc of the first of our groups, belong to that group.
    fn extent(&self, groups: &[Group], peer: &[PeerFrame]) -> usize {
        let Some(group) = groups.first() else { return 1 };
        if self.peer.marks_inlines() {
            let last = peer.iter().take_while(|f| f.pc == group.pc && f.inline == Some(true)).count();
            let physical = peer.get(last).is_some_and(|f| f.pc == group.pc);
            return last.saturating_add(usize::from(physical)).max(1);
        }
        // The others do not say what is inlined: a run of one pc is inlining, recursion, or both.
        let run = peer.iter().take_while(|f| f.pc == group.pc).count();
        let recursion = groups.iter().take_while(|g| g.pc == group.pc).count();
        let all = groups.iter().take(recursion).fold(0_usize, |sum, g| sum.saturating_add(g.len));
        let mut taken = if run == all {
            group.len
        } else if run == recursion {
            1
        } else if recursion == 1 {
            run
        } else {
            group.len.min(run)
        };
        if self.peer == Peer::Lldb && taken < group.len {
            // lldb gives the frames around an inlined one the start of the inlined range as their pc.
            let next = groups.get(1).map(|g| g.pc);
            let around = peer.iter().skip(taken).take_while(|f| Some(f.pc) != next && f.pc < group.pc);
            taken = taken.saturating_add(around.take(group.len.saturating_sub(taken)).count());
        }
        taken.max(1)
    }

    fn group(&mut self, ours: &[OurFrame], group: Group, peer: &[PeerFrame], at: usize, taken: usize) {
        let lost = group.len.saturating_sub(taken);
        if taken == 1 && lost > 0 {
            // One frame for all: its function is the outermost, its line the innermost.
            let (Some(first), Some(last), Some(theirs)) =
                (ours.get(group.start), ours.get(group.end().saturating_sub(1)), peer.get(at))
            else {
                return;
            };
            let knows = self.peer.marks_inlines() && theirs.file.is_some();
            let reason = if knows { Reason::OursExtraInline } else { Reason::PeerNoInlines };
            self.note(reason, Some(group.start), Some(at), first.function.clone(), theirs.function.clone());
            let merged = OurFrame { file: first.file.clone(), line: first.line, ..last.clone() };
            self.frame(&merged, group.end().saturating_sub(1), peer, at, None);
            return;
        }
        // From the outermost inwards, so that the physical frames meet.
        let outer = ours.get(group.end().saturating_sub(1)).and_then(|f| f.function.clone());
        let mut theirs = at.saturating_add(taken);
        let mut mine = group.end();
        while mine > group.start || theirs > at {
            let (frame, other) = (
                (mine > group.start).then(|| ours.get(mine.saturating_sub(1))).flatten(),
                (theirs > at).then(|| peer.get(theirs.saturating_sub(1))).flatten(),
            );
            let left = (mine.saturating_sub(group.start), theirs.saturating_sub(at));
            match (frame, other) {
                // The peer has fewer: it lost the level whose name it does not have and the one inside of it has.
                (Some(frame), Some(other))
                    if left.0 > left.1 && mine < group.end() && !named(frame, other) && !self.peer.marks_inlines() =>
                {
                    let index = mine.saturating_sub(1);
                    self.note(Reason::PeerNoInlines, Some(index), None, frame.function.clone(), None);
                    mine = index;
                }
                (Some(frame), Some(other)) => {
                    mine = mine.saturating_sub(1);
                    theirs = theirs.saturating_sub(1);
                    // Where the peer lost a level, the frame around it has the lost one's line.
                    let inner = (left.0 > left.1 && !self.peer.marks_inlines())
                        .then(|| mine.checked_sub(1).and_then(|at| ours.get(at)))
                        .flatten()
                        .filter(|f| f.line.is_some() && f.line == other.line);
                    let merged = inner.map(|f| OurFrame { file: f.file.clone(), line: f.line, ..frame.clone() });
                    self.frame(merged.as_ref().unwrap_or(frame), mine, peer, theirs, outer.as_deref());
                }
                (Some(frame), None) => {
                    mine = mine.saturating_sub(1);
                    let knows = self.peer.marks_inlines();
                    let reason = if knows { Reason::OursExtraInline } else { Reason::PeerNoInlines };
                    self.note(reason, Some(mine), None, frame.function.clone(), None);
                }
                (None, Some(other)) => {
                    theirs = theirs.saturating_sub(1);
                    self.note(Reason::OursMissingInline, None, Some(theirs), None, Some(frame_text(other)));
                }
                (None, None) => return,
            }
        }
    }

    fn frame(&mut self, ours: &OurFrame, index: usize, all: &[PeerFrame], at: usize, outer: Option<&str>) {
        let Some(peer) = all.get(at) else { return };
        bump(&mut self.totals.frames);
        let before = self.totals.differences;
        self.function(ours, index, peer, at, outer);
        self.place(ours, index, peer, at);
        self.variables(ours, index, peer, at, all);
        if self.totals.differences == before {
            bump(&mut self.totals.frames_same);
        }
    }

    fn function(&mut self, ours: &OurFrame, index: usize, peer: &PeerFrame, at: usize, outer: Option<&str>) {
        let named = ours.function.as_deref().or(ours.linkage_name.as_deref());
        let (ours_text, peer_text) = (named.map(str::to_string), peer.function.clone());
        let reason = match (named, peer.function.as_deref()) {
            (None, None) | (_, Some("<signal handler called>")) => return,
            (None, Some(_)) => Reason::OursLostName,
            (Some(_), None) => Reason::PeerLostName,
            (Some(_), Some(theirs)) => {
                let spellings: Vec<&str> = ours.function.iter().chain(&ours.linkage_name).map(String::as_str).collect();
                let aliases: Vec<&str> = ours.aliases.iter().map(String::as_str).collect();
                match compare(&spellings, theirs) {
                    NameMatch::Same => return,
                    NameMatch::Style => return bump(&mut self.totals.frames_other_style),
                    NameMatch::Different if compare(&aliases, theirs) != NameMatch::Different => {
                        return bump(&mut self.totals.frames_other_style);
                    }
                    NameMatch::Different
                        if ours.inline && outer.is_some_and(|o| compare(&[o], theirs) != NameMatch::Different) =>
                    {
                        Reason::PeerLostInlineName
                    }
                    NameMatch::Different => Reason::FunctionDiffers,
                }
            }
        };
        self.note(reason, Some(index), Some(at), ours_text, peer_text);
    }

    fn place(&mut self, ours: &OurFrame, index: usize, peer: &PeerFrame, at: usize) {
        let text = |file: &Option<String>, line: Option<u32>| {
            file.as_ref().map(|f| line.map_or(f.clone(), |l| format!("{f}:{l}")))
        };
        let reason = match (&ours.file, &peer.file) {
            (None, None) => return,
            (None, Some(_)) if peer.line.is_none() => return,
            (None, Some(_)) if self.peer == Peer::EuStack && ours.function.as_deref() == Some("_start") => {
                Reason::PeerLineBeyondEnd
            }
            (None, Some(_)) => Reason::OursLostLine,
            (Some(_), None) if ours.line.is_none() => return,
            (Some(_), None) => Reason::PeerLostLine,
            (Some(mine), Some(theirs)) if !same_file(mine, theirs) => Reason::FileDiffers,
            (Some(_), Some(_)) => match (ours.line, peer.line) {
                (Some(mine), Some(theirs)) if mine != theirs => Reason::LineDiffers,
                (Some(_), None) => Reason::PeerLostLine,
                (None, Some(_)) => Reason::OursLostLine,
                _ => return,
            },
        };
        self.note(reason, Some(index), Some(at), text(&ours.file, ours.line), text(&peer.file, peer.line));
    }

    fn variables(&mut self, ours: &OurFrame, index: usize, peer: &PeerFrame, at: usize, all: &[PeerFrame]) {
        // A frame for which the peer lists nothing was not asked for variables, or has none; only gdb lists any.
        if peer.variables.is_empty() && (self.peer != Peer::Gdb || ours.variables.is_empty()) {
            return;
        }
        let jumped = was_jumped_to(all, at);
        let mut left: Vec<&OurVariable> = ours.variables.iter().collect();
        for theirs in &peer.variables {
            // The same name again is the variable of another scope, which the two sides may list in another order.
            let same_name = |v: &&OurVariable| v.name == theirs.name;
            let same_line = |v: &&OurVariable| same_name(v) && theirs.line.is_none_or(|l| v.line == Some(l));
            let exact = left.iter().position(|v| same_line(v) && unequal(v, theirs, &peer.stale, jumped).is_none());
            let found = exact.or_else(|| left.iter().position(same_line)).or_else(|| left.iter().position(same_name));
            let found = found.map(|at| left.remove(at));
            let unequal = match found {
                None => {
                    let reason = match (ours.variables_cut, &theirs.value) {
                        (true, _) => Reason::OursLimit,
                        (false, Some(_)) => Reason::OursMissingVariable,
                        (false, None) if theirs.is_abstract => Reason::PeerAbstractVariable,
                        (false, None) => Reason::OursUnlisted,
                    };
                    let peer = theirs.value.clone().or_else(|| theirs.absent.clone());
                    Unequal { at: String::new(), reason, ours: String::new(), peer: peer.unwrap_or_default() }
                }
                Some(mine) => {
                    bump(&mut self.totals.variables);
                    match unequal(mine, theirs, &peer.stale, jumped) {
                        Some(unequal) => unequal,
                        None => {
                            bump(&mut self.totals.variables_same);
                            continue;
                        }
                    }
                }
            };
            self.push(Difference {
                thread: self.thread,
                frame: Some(index),
                peer_frame: Some(at),
                variable: Some(format!("{}{}", theirs.name, unequal.at)),
                reason: unequal.reason,
                ours: found.map(|_| unequal.ours),
                peer: Some(unequal.peer),
            });
        }
        for mine in left {
            self.push(Difference {
                thread: self.thread,
                frame: Some(index),
                peer_frame: Some(at),
                variable: Some(mine.name.clone()),
                reason: Reason::PeerMissingVariable,
                ours: mine.value.clone().or_else(|| mine.absent.clone()),
                peer: None,
            });
        }
    }
}

/// What is not the same in two values: the first part that disagrees, else the first of which one side has less.
fn unequal(ours: &OurVariable, peer: &PeerVariable, stale: &[(String, u128)], jumped: bool) -> Option<Unequal> {
    let text = |value: &Option<String>, absent: &Option<String>| value.clone().or_else(|| absent.clone());
    let whole = |reason| Unequal {
        at: String::new(),
        reason,
        ours: text(&ours.value, &ours.absent).unwrap_or_default(),
        peer: text(&peer.value, &peer.absent).unwrap_or_default(),
    };
    let reason = match (&ours.absent, &peer.value, &peer.tree) {
        (Some(_), None, _) => return None,
        (Some(why), Some(_), _) if why == "entry-value-unknown" && jumped => Reason::PeerTailCallValue,
        (_, _, Some(tree)) => return trees::compare(&ours.tree, tree, stale).worst().cloned(),
        (Some(_), Some(_), None) => Reason::OursLostValue,
        (None, None, _) => Reason::PeerLostValue,
        // A gdb without Python gives text.
        (None, Some(theirs), None) => {
            if ours.value.as_ref().is_some_and(|mine| values::agree(mine, theirs)) {
                return None;
            }
            Reason::ValueDiffers
        }
    };
    Some(whole(reason))
}

/// Whether the peer's frame has the name of ours, in whatever style, or none at all.
fn named(ours: &OurFrame, peer: &PeerFrame) -> bool {
    let Some(theirs) = peer.function.as_deref() else { return true };
    let spellings: Vec<&str> = ours.function.iter().chain(&ours.linkage_name).map(String::as_str).collect();
    compare(&spellings, theirs) != NameMatch::Different
}

/// Whether the peer says that the physical frame, of which this is one or which this is inlined into, was entered by a
/// jump: the frame around it is one that left by a tail call.
fn was_jumped_to(frames: &[PeerFrame], at: usize) -> bool {
    let Some(pc) = frames.get(at).map(|f| f.pc) else { return false };
    frames.iter().skip(at).find(|f| f.pc != pc || f.tail_call).is_some_and(|f| f.tail_call)
}

fn frame_text(frame: &PeerFrame) -> String {
    format!("{:#x} {}", frame.pc, frame.function.as_deref().unwrap_or("?"))
}
