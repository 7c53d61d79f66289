//! Finding a record of a large file without reading the file: bisection over its bytes.
//!
//! Symbol files are nearly always sorted: `FILE`, `INLINE_ORIGIN`, `FUNC` with its lines, `PUBLIC`, `STACK`, each by
//! number or address. Nothing says that they must be. So what bisection finds is checked against the record itself, and
//! what it does not find is looked for in the whole file.

use super::index::{Entry, LIMIT_SAME, key};
use super::text::{Kind, kind, line, line_start};
use evidence::{ToU64, ToUsize};

/// How far a probe looks for the next record of its kind. The lines of the largest generated functions take some
/// megabytes.
const LIMIT_PROBE: u64 = 8 << 20;

/// Where a probe stands.
enum Side {
    /// Before all records of the kind.
    Before,
    /// Behind them.
    After,
    /// At this one.
    At(Entry),
    /// The file is not arranged as expected.
    Unclear,
}

/// The last record of `wanted` whose start (or number) is not above `target`, if the file is sorted.
pub(super) fn last_not_above(bytes: &[u8], wanted: Kind, target: u64) -> Option<Entry> {
    let (mut low, mut high) = (0_u64, bytes.len().to_u64());
    let mut best = None;
    while low < high {
        let middle = low.midpoint(high);
        match probe(bytes, wanted, middle, high) {
            Side::Before => low = middle.saturating_add(1),
            Side::After => high = middle,
            Side::At(entry) if entry.start <= target => {
                low = entry.at.saturating_add(1);
                best = Some(entry);
            }
            Side::At(_) => high = middle,
            Side::Unclear => return None,
        }
    }
    best
}

/// The first record of `wanted` at or after `from`, or which side of them `from` is on.
fn probe(bytes: &[u8], wanted: Kind, from: u64, high: u64) -> Side {
    let mut at = line_start(bytes, from);
    let limit = from.saturating_add(LIMIT_PROBE);
    while at.to_u64() < high {
        if at.to_u64() > limit {
            return Side::Unclear;
        }
        let Some((text, next)) = line(bytes, at) else { return Side::After };
        let (found, fields) = kind(text);
        if found == wanted {
            return key(found, fields)
                .map_or(Side::Unclear, |(start, end)| Side::At(Entry { start, end, at: at.to_u64() }));
        }
        let inside = matches!(
            (wanted, found),
            (Kind::Func, Kind::Inline | Kind::Line) | (Kind::CfiInit, Kind::CfiDelta) | (_, Kind::Other)
        );
        if !inside {
            return match (section(found), section(wanted)) {
                (here, there) if here < there => Side::Before,
                (here, there) if here > there => Side::After,
                _ => Side::Unclear,
            };
        }
        at = next;
    }
    Side::After
}

/// The order of the sections of a file.
const fn section(kind: Kind) -> u8 {
    match kind {
        Kind::Module | Kind::Info => 0,
        Kind::File => 1,
        Kind::InlineOrigin => 2,
        Kind::Func | Kind::Inline | Kind::Line => 3,
        Kind::Public => 4,
        Kind::StackWin | Kind::CfiInit | Kind::CfiDelta | Kind::Other => 5,
    }
}

/// The first of the records of one start that follow each other: the one that counts.
pub(super) fn first_of_its_start(bytes: &[u8], wanted: Kind, found: Entry) -> Entry {
    /// How far back the record before is looked for: identical functions follow each other with all their lines.
    const LIMIT_BACK: u64 = 64 << 10;
    let start_of_line: &[u8] = match wanted {
        Kind::Func => b"\nFUNC ",
        Kind::CfiInit => b"\nSTACK CFI INIT ",
        Kind::File => b"\nFILE ",
        _ => b"\nINLINE_ORIGIN ",
    };
    let mut first = found;
    for _ in 0..LIMIT_SAME {
        // With the line feed that ends the line before.
        let window = first.at.saturating_sub(LIMIT_BACK).to_usize()..first.at.to_usize();
        let base = window.start;
        let before = bytes.get(window).and_then(|w| memchr::memmem::rfind(w, start_of_line));
        let Some(at) = before.map(|n| base.saturating_add(n).saturating_add(1)) else { return first };
        let Some((text, _)) = line(bytes, at) else { return first };
        let (here, fields) = kind(text);
        match key(here, fields) {
            Some((start, end)) if here == wanted && start == found.start => {
                first = Entry { start, end, at: at.to_u64() };
            }
            _ => return first,
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_of_a_sorted_file_is_found() {
        let mut text = String::from("MODULE Linux x86_64 0 a\nFILE 0 a.c\n");
        for n in 0..500_u64 {
            text += &format!("FUNC {:x} 8 0 f{n}\n", n * 16);
            for l in 0..n % 7 {
                text += &format!("{:x} 1 {l} 0\n", n * 16 + l);
            }
        }
        text += "PUBLIC 10000 0 p\nSTACK CFI INIT 0 8 .cfa: $rsp 8 +\n";
        for n in 0..500_u64 {
            let found = last_not_above(text.as_bytes(), Kind::Func, n * 16 + 3).expect("it is there");
            assert_eq!(found.start, n * 16);
            assert!(text.get(found.at.to_usize()..).is_some_and(|t| t.starts_with(&format!("FUNC {:x} ", n * 16))));
        }
        assert_eq!(last_not_above(text.as_bytes(), Kind::File, 7).map(|e| e.start), Some(0));
        assert_eq!(last_not_above(text.as_bytes(), Kind::CfiInit, 7).map(|e| e.start), Some(0));
        assert_eq!(last_not_above(text.as_bytes(), Kind::InlineOrigin, 7), None);
    }
}
