//! What is found by the order of a file is what an index of all of it finds, and little of the file is looked at for it.

use super::super::text::LOOKED_AT;
use super::super::{Effort, SymFile};
use proptest::prelude::*;
use proptest::sample::{Index as Which, select};
use std::path::Path;

/// Every line is a sample, and no part is too small to be found by its order.
const EVERY_LINE: Effort = Effort { whole: 0, part: 0, samples: u64::MAX, apart: 1, rounds: u64::MAX };
/// An index of the whole file, whatever its size.
const INDEXED: Effort = Effort { whole: u64::MAX, part: 0, samples: 1, apart: 1, rounds: 1 };

/// One record with the lines that belong to it, and its place in a sorted file.
type Record = (u8, u64, String);

/// `count` functions of 256 bytes each, half of which is a gap; symbols in some gaps, rules for some functions, and the
/// frames of Windows for others. `by_program`: those frames with programs before those without.
fn records(count: u64, lines: u64, by_program: bool) -> Vec<Record> {
    let mut all = Vec::new();
    for n in 0..count {
        let at = n << 8;
        all.push((1, n, format!("FILE {n} src/{n}.cc\n")));
        all.push((2, n, format!("INLINE_ORIGIN {n} inlined_{n}()\n")));
        let mut text = format!("FUNC {at:x} 80 0 function_{n}(int)\nINLINE 0 {} {n} {n} {:x} 10\n", n + 1, at + 0x10);
        (0..lines).for_each(|l| text += &format!("{:x} 8 {} {}\n", at + l * 8, l + 1, (n + l) % count));
        all.push((3, at, text));
        if n % 7 == 2 {
            // Folded: one more name of the same code, and one inside that is longer.
            all.push((3, at, format!("FUNC m {at:x} 80 0 folded_{n}\n")));
            all.push((3, at + 0x40, format!("FUNC {:x} c0 0 longer_{n}\n", at + 0x40)));
        }
        if n % 3 == 1 {
            all.push((4, at + 0xa0, format!("PUBLIC {:x} 0 public_{n}\n", at + 0xa0)));
        }
        if n % 4 != 3 {
            let text = format!("STACK CFI INIT {at:x} 80 .cfa: $rsp {n} + .ra: .cfa -8 + ^\n");
            all.push((7, at, text + &format!("STACK CFI {:x} .cfa: $rsp 16 +\n", at + 1)));
        }
        let section = |program: bool| if by_program && !program { 6 } else { 5 };
        if n % 3 != 0 {
            all.push((section(true), at, format!("STACK WIN 4 {at:x} 80 3 0 4 {n:x} 8 0 1 $eip .raSearchStart ^ =\n")));
        }
        if n % 5 < 2 {
            all.push((section(false), at + 0x60, format!("STACK WIN 0 {:x} 40 3 0 8 {n:x} 8 0 0 1\n", at + 0x60)));
        }
    }
    // Stable, so that of two records of one place the first stays the first.
    all.sort_by_key(|(section, place, _)| (*section, *place));
    all
}

fn text(records: &[Record]) -> Vec<u8> {
    let mut text = String::from("MODULE Linux x86_64 0 a\nINFO CODE_ID 0\n");
    records.iter().for_each(|(_, _, record)| text += record);
    text.into_bytes()
}

fn open(text: Vec<u8>, effort: Effort) -> SymFile {
    SymFile::from_bytes(Path::new("test.sym"), text).unwrap().with_effort(effort)
}

/// Addresses of every kind: in functions, at their ends, in gaps, behind symbols, before and behind everything.
fn addresses(count: u64) -> impl Iterator<Item = u64> {
    let inside = [0, 1, 0x11, 0x45, 0x7f, 0x80, 0x9f, 0xa0, 0xa1, 0xff];
    (0..count).flat_map(move |n| inside.map(|offset| (n << 8) + offset)).chain([(count << 8) + 0x1000, u64::MAX])
}

/// Everything that a file says about an address.
fn everything(file: &SymFile, at: u64) -> String {
    let (function, public) = (file.function_at(at), file.public_at(at));
    let (rules, windows) = (file.cfi_at(at), file.stack_win_at(at));
    format!("{at:#x}: {:?}\n{function:?}\n{public:?}\n{rules:?}\n{windows:?}", file.resolve(at, 0))
}

fn assert_same(text: Vec<u8>, count: u64) -> u64 {
    let by_order = open(text.clone(), EVERY_LINE);
    let indexed = open(text, INDEXED);
    for at in addresses(count) {
        assert_eq!(everything(&by_order, at), everything(&indexed, at));
    }
    by_order.records.indexed()
}

#[test]
fn sorted_files_need_no_index() {
    for by_program in [false, true] {
        let indexed = assert_same(text(&records(150, 5, by_program)), 150);
        assert_eq!(indexed, 0, "by program: {by_program}");
    }
    // Whatever the order of the parts.
    let mut other = records(60, 3, true);
    other.sort_by_key(|(section, place, _)| (9 - section, *place));
    assert_eq!(assert_same(text(&other), 60), 0);
    // Nothing of most kinds, or nothing at all.
    let some: Vec<Record> = records(40, 3, true).into_iter().filter(|(section, ..)| *section == 4).collect();
    assert_eq!(assert_same(text(&some), 40), 0);
    assert_eq!(assert_same(text(&[]), 1), 0);
}

#[test]
fn what_is_not_sorted_is_indexed_and_nothing_else() {
    let mut all = records(150, 5, true);
    let rules = all.iter().position(|r| r.0 == 7).unwrap();
    all[rules..].reverse();
    let length: usize = all[rules..].iter().map(|r| r.2.len()).sum();
    assert_eq!(assert_same(text(&all), 150), length as u64);
    // Functions behind the rules: there are no parts any more.
    let function = all.iter().position(|r| r.0 == 3).unwrap();
    let moved = all.remove(function);
    all.push(moved);
    assert!(assert_same(text(&all), 150) > text(&all).len() as u64);
}

/// How a file is made worse.
#[derive(Clone, Debug)]
enum Change {
    Move(Which, Which),
    Swap(Which, Which),
    Twice(Which, Which),
    Remove(Which, Which),
    Reverse(Which, Which),
    /// A byte of the text.
    Byte(Which, u8),
}

fn change() -> impl Strategy<Value = Change> {
    let two = || (any::<Which>(), any::<Which>());
    prop_oneof![
        two().prop_map(|(a, b)| Change::Move(a, b)),
        two().prop_map(|(a, b)| Change::Swap(a, b)),
        two().prop_map(|(a, b)| Change::Twice(a, b)),
        two().prop_map(|(a, b)| Change::Remove(a, b)),
        two().prop_map(|(a, b)| Change::Reverse(a, b)),
        (any::<Which>(), select(b" \n0fFm-INP\xff".to_vec())).prop_map(|(at, byte)| Change::Byte(at, byte)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn files_in_any_order_say_what_their_index_says(
        count in 1_u64..40,
        by_program: bool,
        near: bool,
        changes in prop::collection::vec(change(), 0..4),
        mixed in prop::option::weighted(0.2, any::<u64>()),
    ) {
        let mut all = records(count, 3, by_program);
        if let Some(seed) = mixed {
            all.sort_by_key(|(_, place, text)| (place ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ text.len() as u64);
        }
        let mut bytes = Vec::new();
        for change in changes {
            let length = all.len();
            let range = |a: &Which, b: &Which| {
                let a = a.index(length);
                // Close to each other: the parts stay whole, and one of them is no more sorted.
                let b = if near { (a + b.index(4)).min(length - 1) } else { b.index(length) };
                a.min(b)..a.max(b) + 1
            };
            match &change {
                Change::Move(a, b) => all[range(a, b)].rotate_left(1),
                Change::Swap(a, b) => { let r = range(a, b); all.swap(r.start, r.end - 1); }
                Change::Twice(a, b) => { let r = range(a, b); all.insert(r.start, all[r.end - 1].clone()); }
                Change::Remove(a, b) => { all.drain(range(a, b).start..range(a, b).end.min(range(a, b).start + 5)); }
                Change::Reverse(a, b) => all[range(a, b)].reverse(),
                Change::Byte(..) => {}
            }
            if all.is_empty() { break; }
            bytes.push(change);
        }
        let mut text = text(&all);
        for change in bytes {
            if let Change::Byte(at, byte) = change {
                let head = b"MODULE Linux x86_64 0 a\n".len();
                let at = head + at.index(text.len() - head);
                text[at] = byte;
            }
        }
        assert_same(text, count);
    }
}

/// Bytes looked at: by the first question, and by 15 more of each kind of address.
fn cost(functions: u64) -> (u64, u64, u64) {
    let all = text(&records(functions, 20, false));
    let length = all.len() as u64;
    let file = open(all, Effort { part: 0, rounds: u64::MAX, ..Effort::default() });
    LOOKED_AT.set(0);
    assert_eq!(file.stack_win_at(u64::MAX), None);
    let first = LOOKED_AT.replace(0);
    for n in 0..15 {
        let base = (n * 7919 % functions) << 8;
        for at in [base + 0x11, base + 0x90, base + 0xa8, base + 0xff] {
            let _ = everything(&file, at);
        }
    }
    assert_eq!(file.records.indexed(), 0);
    assert_eq!(file.doubts(), []);
    (length, first, LOOKED_AT.get())
}

/// What is looked at does not grow with the file: not for functions, nor for symbols, gaps, and code without rules.
#[test]
fn questions_about_large_files_look_at_little() {
    let (small, large) = (cost(10_000), cost(32_000));
    println!("bytes, for the first question, for 60 more: {small:?}, {large:?}");
    assert!(large.0 > 3 * small.0 && large.0 > 16 << 20);
    assert!(large.1 < large.0 / 30, "samples");
    assert!(large.2 < small.2 + small.2 / 4);
}

#[test]
fn many_questions_make_an_index() {
    let functions = 3000;
    let all = text(&records(functions, 20, false));
    let length = all.len() as u64;
    let file = open(all, Effort { whole: 0, part: 0, ..Effort::default() });
    LOOKED_AT.set(0);
    for n in 0..functions {
        assert_eq!(file.function_at((n << 8) + 0xff).is_some(), n % 7 == 2);
    }
    assert!(file.records.indexed() > length / 2);
    assert!(LOOKED_AT.get() < 3 * length, "{} of {length}", LOOKED_AT.get());
}

/// A part that is read in several pieces: no record is lost between them.
#[test]
fn large_parts_that_are_not_sorted_are_indexed_whole() {
    let functions = 26_000;
    let mut all = records(functions, 20, false);
    let (first, behind) = (all.partition_point(|r| r.0 < 3), all.partition_point(|r| r.0 <= 3));
    all[first..behind].reverse();
    let all = text(&all);
    let by_order = open(all.clone(), Effort::default());
    let indexed = open(all, INDEXED);
    for at in (0..functions).map(|n| (n << 8) + 0x11 + n % 0xe0) {
        assert_eq!(by_order.function_at(at), indexed.function_at(at));
    }
    assert!((9 << 20..16 << 20).contains(&by_order.records.indexed()), "{}", by_order.records.indexed());
}

/// Symbols between functions, in the order of their addresses, and one sample only: that there are some is found out where
/// they matter.
#[test]
fn symbols_between_functions_are_found() {
    let mut all = records(60, 5, true);
    all.retain(|(section, place, _)| *section != 4 || place % 0x900 == 0x1a0);
    all.iter_mut().filter(|r| r.0 == 4).for_each(|r| r.0 = 3);
    all.sort_by_key(|(section, place, _)| (*section, *place));
    let between = text(&all);
    let effort = Effort { whole: 0, part: 0, samples: 1, apart: u64::MAX, rounds: u64::MAX };
    let indexed = open(between.clone(), INDEXED);
    let mut symbols = 0;
    for at in addresses(60) {
        // Each question to a new file: whatever came first.
        let by_order = open(between.clone(), effort);
        assert_eq!(by_order.public_at(at), indexed.public_at(at), "{at:#x}");
        symbols += usize::from(by_order.public_at(at).is_some());
        assert_eq!(everything(&by_order, at), everything(&indexed, at));
    }
    assert!(symbols > 5, "{symbols}");
}
