//! Repetitions in a stack, folded: recursion of any depth becomes one round of its cycle.

/// Longest cycle recognised, frames: mutual recursion through more functions than this is left as it is.
const LIMIT_PERIOD: usize = 16;

/// One round of every adjacent repetition of up to [`LIMIT_PERIOD`] items.
pub(crate) fn fold<T: PartialEq>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut out: Vec<T> = Vec::new();
    for item in items {
        out.push(item);
        while let Some(period) = repeated_tail(&out) {
            out.truncate(out.len().saturating_sub(period));
        }
    }
    out
}

/// The shortest period with which the end of `items` repeats what stands directly before it.
fn repeated_tail<T: PartialEq>(items: &[T]) -> Option<usize> {
    (1..=LIMIT_PERIOD).take_while(|p| p.saturating_mul(2) <= items.len()).find(|p| {
        let (head, tail) = items.split_at(items.len().saturating_sub(*p));
        head.get(head.len().saturating_sub(*p)..) == Some(tail)
    })
}

/// A run of rounds near the top of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recursion {
    /// Items before the first round.
    pub(crate) start: usize,
    /// Items of one round.
    pub(crate) period: usize,
    /// Complete rounds.
    pub(crate) rounds: usize,
}

/// The run that covers most of `items`, started within the first [`LIMIT_PERIOD`] of them.
pub(crate) fn recursion<T: PartialEq>(items: &[T]) -> Option<Recursion> {
    let mut best: Option<Recursion> = None;
    for start in 0..LIMIT_PERIOD {
        let Some(rest) = items.get(start..) else { break };
        for period in 1..=LIMIT_PERIOD {
            let equal = rest.iter().zip(rest.iter().skip(period)).take_while(|(a, b)| a == b).count();
            let rounds = equal.checked_div(period).unwrap_or(0).saturating_add(1);
            let covered = rounds.saturating_mul(period);
            let better = best.is_none_or(|b| covered > b.rounds.saturating_mul(b.period).saturating_add(LIMIT_PERIOD));
            if rounds >= 2 && better {
                best = Some(Recursion { start, period, rounds });
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: &str) {
        assert_eq!(fold(input.chars()).into_iter().collect::<String>(), expected, "{input}");
    }

    #[test]
    fn rounds_are_folded() {
        check("", "");
        check("abc", "abc");
        check("aaaaam", "am");
        check("abababm", "abm");
        check("xabcabcabcm", "xabcm");
        check("abab", "ab");
        // The number of rounds does not show.
        assert_eq!(fold("fgfgfgfgm".chars()), fold("fgfgm".chars()));
    }

    #[test]
    fn recursion_is_measured() {
        let items: Vec<char> = "xyz".chars().chain("ab".chars().cycle().take(200)).chain("m".chars()).collect();
        assert_eq!(recursion(&items), Some(Recursion { start: 3, period: 2, rounds: 100 }));
        assert_eq!(recursion(&['a', 'b', 'c']), None);
        assert_eq!(recursion::<char>(&[]), None);
    }
}
