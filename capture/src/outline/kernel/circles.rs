//! Circles of threads that wait for each other.

use evidence::Attribute;
use std::collections::{BTreeMap, HashSet};

/// Circles of threads of which each waits for the next one, each once, beginning with its lowest id.
fn circles(waits: &BTreeMap<u64, u64>) -> Vec<Vec<u64>> {
    let mut found: Vec<Vec<u64>> = Vec::new();
    let mut done = HashSet::new();
    for start in waits.keys() {
        let mut path = Vec::new();
        let mut on_path = HashSet::new();
        let mut at = *start;
        while !done.contains(&at) && on_path.insert(at) {
            path.push(at);
            match waits.get(&at) {
                Some(next) => at = *next,
                None => break,
            }
        }
        if let Some(from) =
            path.iter().position(|t| *t == at).filter(|_| waits.contains_key(&at) && !done.contains(&at))
        {
            let mut circle = path.get(from..).unwrap_or_default().to_vec();
            let lowest = circle.iter().enumerate().min_by_key(|(_, t)| **t).map_or(0, |(n, _)| n);
            circle.rotate_left(lowest);
            found.push(circle);
        }
        done.extend(path);
    }
    found
}

/// One attribute per circle. `waits` leads from each waiting thread to the one that holds what it waits for.
pub(super) fn attributes(waits: &BTreeMap<u64, u64>) -> impl Iterator<Item = Attribute> {
    circles(waits).into_iter().map(|circle| {
        let names: Vec<String> = circle.iter().map(u64::to_string).collect();
        let value = match names.as_slice() {
            [one] => format!("thread {one} waits for itself"),
            _ => format!("threads {} wait for each other", names.join(", ")),
        };
        Attribute { key: "kernel.deadlock".into(), thread: None, value: value.into() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_circle_once() {
        let waits = BTreeMap::from([(1, 2), (2, 3), (3, 2), (4, 5), (6, 6), (7, 1), (8, 9), (9, 10), (10, 8)]);
        assert_eq!(circles(&waits), [vec![2, 3], vec![6], vec![8, 9, 10]]);
        let texts: Vec<String> = attributes(&waits).map(|a| a.value.into()).collect();
        assert_eq!(
            texts,
            ["threads 2, 3 wait for each other", "thread 6 waits for itself", "threads 8, 9, 10 wait for each other"]
        );
    }
}
