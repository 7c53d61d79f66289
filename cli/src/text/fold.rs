//! Recursion shown once: runs of repeating frames are folded.

use snapshot_format::schema::Frame;

/// Longest cycle of functions recognised as one recursion.
const LONGEST_PERIOD: usize = 8;
/// A cycle must repeat this often before it is worth folding.
const LEAST_REPEATS: usize = 5;

/// A stretch of a stack.
#[derive(Debug, PartialEq, Eq)]
pub enum Stretch {
    /// Frame `.0` is shown.
    Frame(usize),
    /// `count` frames from `first` on repeat the `period` frames shown before them.
    Folded { first: usize, count: usize, period: usize },
}

/// Splits a stack into frames to show and repetitions to fold.
#[must_use]
pub fn fold(frames: &[Frame]) -> Vec<Stretch> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < frames.len() {
        let best = (1..=LONGEST_PERIOD).find_map(|period| {
            let repeats = repeats(&frames[at..], period);
            (repeats >= LEAST_REPEATS).then_some((period, repeats))
        });
        if let Some((period, repeats)) = best {
            out.extend((at..at + period).map(Stretch::Frame));
            // The last round is shown again: its variables tell how the recursion began.
            let folded = (repeats - 2) * period;
            out.push(Stretch::Folded { first: at + period, count: folded, period });
            let last = at + period + folded;
            out.extend((last..last + period).map(Stretch::Frame));
            at = last + period;
        } else {
            out.push(Stretch::Frame(at));
            at += 1;
        }
    }
    out
}

/// How often the first `period` frames follow each other.
fn repeats(frames: &[Frame], period: usize) -> usize {
    let Some(first) = frames.get(..period) else { return 0 };
    frames.chunks_exact(period).take_while(|chunk| same(chunk, first)).count()
}

/// Whether two rounds look the same. The innermost frame stands at another pc than the same function further out.
fn same(a: &[Frame], b: &[Frame]) -> bool {
    a.iter().zip(b).all(|(a, b)| a.pc == b.pc && a.inline == b.inline && a.function == b.function && a.line == b.line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(pcs: &[u64]) -> Vec<Frame> {
        pcs.iter().map(|pc| Frame { pc: *pc, ..Frame::default() }).collect()
    }

    #[test]
    fn recursion_is_folded_and_the_rest_is_not() {
        let frames = stack(&[1, 2, 2, 2, 2, 2, 2, 3]);
        assert_eq!(
            fold(&frames),
            [
                Stretch::Frame(0),
                Stretch::Frame(1),
                Stretch::Folded { first: 2, count: 4, period: 1 },
                Stretch::Frame(6),
                Stretch::Frame(7)
            ]
        );
    }

    #[test]
    fn mutual_recursion_is_one_cycle() {
        let frames = stack(&[1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 9]);
        assert_eq!(
            fold(&frames),
            [
                Stretch::Frame(0),
                Stretch::Frame(1),
                Stretch::Folded { first: 2, count: 6, period: 2 },
                Stretch::Frame(8),
                Stretch::Frame(9),
                Stretch::Frame(10)
            ]
        );
    }

    #[test]
    fn a_short_repetition_stays() {
        assert_eq!(fold(&stack(&[1, 1, 1, 1])).len(), 4);
    }
}
