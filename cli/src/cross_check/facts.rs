//! What a debugger of kernels says besides stacks: panic message, tasks, modules, log.

use super::align::{Difference, Totals};
use super::reason::Reason;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};

/// What one side says of a machine. A user program has none of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// By name: `panic`, `crashed pid`, `task 117 state`, `module virtio`.
    pub said: BTreeMap<String, String>,
    /// The kernel's log, oldest line first.
    pub log: Vec<LogLine>,
    /// What the tool could not find out, with its reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
}

/// One line of a kernel's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// Microseconds since boot: what all tools show.
    pub time_us: Option<u64>,
    /// The text.
    pub text: String,
}

impl Facts {
    /// Whether nothing was said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.said.is_empty() && self.log.is_empty() && self.failed.is_empty()
    }

    /// Adds a record of the log, which can have several lines.
    pub fn record(&mut self, time_us: Option<u64>, text: &str) {
        self.log.extend(text.split('\n').map(|line| LogLine { time_us, text: line.to_owned() }));
    }
}

/// Compares what was said, and hands each difference to `found`. The peer says less than we do: only what it says, and
/// the modules, of which both have all, can disagree.
pub fn compare(ours: &Facts, peer: &Facts, totals: &mut Totals, mut found: impl FnMut(Difference)) {
    if peer.is_empty() {
        return;
    }
    let mut differ = |name: &str, reason, mine: Option<&str>, theirs: Option<&str>| {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        found(Difference {
            thread: 0,
            frame: None,
            peer_frame: None,
            variable: Some(name.to_owned()),
            reason,
            ours: owned(mine),
            peer: owned(theirs),
        });
    };
    for (name, theirs) in &peer.said {
        totals.facts = totals.facts.saturating_add(1);
        match ours.said.get(name) {
            Some(mine) if mine == theirs => totals.facts_same = totals.facts_same.saturating_add(1),
            Some(mine) => differ(name, Reason::FactDiffers, Some(mine), Some(theirs)),
            None => differ(name, Reason::OursMissingFact, None, Some(theirs)),
        }
    }
    let lists_modules = peer.said.keys().any(|name| name.starts_with("module "));
    for (name, mine) in ours.said.iter().filter(|(name, _)| lists_modules && name.starts_with("module ")) {
        if !peer.said.contains_key(name) {
            differ(name, Reason::FactDiffers, Some(mine), None);
        }
    }
    for why in &peer.failed {
        differ("", Reason::PeerMissingFact, None, Some(why));
    }
    if !peer.log.is_empty() {
        log(&ours.log, &peer.log, totals, &mut differ);
    }
}

/// Lines are equal where time and text are; the rest of both logs is what one side has alone.
fn log(
    ours: &[LogLine],
    peer: &[LogLine],
    totals: &mut Totals,
    differ: &mut impl FnMut(&str, Reason, Option<&str>, Option<&str>),
) {
    let mut places: BTreeMap<(Option<u64>, &str), VecDeque<usize>> = BTreeMap::new();
    for (index, line) in ours.iter().enumerate() {
        places.entry((line.time_us, &line.text)).or_default().push_back(index);
    }
    let mut last = None;
    for line in peer {
        totals.facts = totals.facts.saturating_add(1);
        let place = places.get_mut(&(line.time_us, line.text.as_str())).and_then(VecDeque::pop_front);
        match place {
            None => differ("log", Reason::OursMissingFact, None, Some(&line.text)),
            Some(_) if place < last => differ("log order", Reason::FactDiffers, None, Some(&line.text)),
            Some(_) => {
                last = place;
                totals.facts_same = totals.facts_same.saturating_add(1);
            }
        }
    }
    let mut left: Vec<usize> = places.into_values().flatten().collect();
    left.sort_unstable();
    for line in left.iter().filter_map(|index| ours.get(*index)) {
        differ("log", Reason::FactDiffers, Some(&line.text), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(said: &[(&str, &str)], log: &[(u64, &str)]) -> Facts {
        let said = said.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let mut facts = Facts { said, ..Facts::default() };
        log.iter().for_each(|(time, text)| facts.record(Some(*time), text));
        facts
    }

    fn reasons(ours: &Facts, peer: &Facts) -> (Vec<(String, Reason)>, u64, u64) {
        let (mut totals, mut list) = (Totals::default(), Vec::new());
        compare(ours, peer, &mut totals, |d| list.push((d.variable.unwrap_or_default(), d.reason)));
        (list, totals.facts, totals.facts_same)
    }

    #[test]
    fn equal_facts_and_what_only_we_know() {
        let ours = facts(&[("panic", "x"), ("uptime", "5")], &[(1, "a\nb"), (1, "a")]);
        assert_eq!(reasons(&ours, &facts(&[("panic", "x")], &[(1, "a"), (1, "b"), (1, "a")])), (vec![], 4, 4));
        assert_eq!(reasons(&ours, &Facts::default()), (vec![], 0, 0));
    }

    #[test]
    fn every_kind_of_difference() {
        let ours = facts(&[("panic", "x"), ("module a", "1"), ("module b", "2")], &[(1, "a"), (2, "c"), (3, "d")]);
        let mut peer =
            facts(&[("panic", "y"), ("module a", "1"), ("task 1 cpu", "0")], &[(2, "c"), (1, "a"), (9, "d")]);
        peer.failed.push("no symbol".to_owned());
        let (list, all, same) = reasons(&ours, &peer);
        let expected = [
            ("panic", Reason::FactDiffers),
            ("task 1 cpu", Reason::OursMissingFact),
            ("module b", Reason::FactDiffers),
            ("", Reason::PeerMissingFact),
            ("log order", Reason::FactDiffers),
            ("log", Reason::OursMissingFact),
            ("log", Reason::FactDiffers),
        ];
        assert_eq!(list, expected.map(|(name, reason)| (name.to_owned(), reason)));
        assert_eq!((all, same), (6, 2));
    }
}
