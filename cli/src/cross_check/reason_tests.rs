//! Every reason code on the smallest reports that it is for, and on reports that lack its proof.

use super::align::align;
use super::reason::Reason;
use super::tests::{code, frame, ours, reasons, theirs};
use super::trees::{Contents, OurScalar, OurValue, PeerMember, PeerValue};
use super::*;
use std::collections::BTreeSet;

fn f(pc: u64, name: &str, line: u32) -> OurFrame {
    frame(pc, name, line, false)
}

fn gdb(list: &[(u64, &str, u32)]) -> PeerReport {
    theirs(Peer::Gdb, list)
}

fn integer(n: i128, size: u64) -> PeerValue {
    PeerValue { integer: Some(n.to_string()), text: Some(n.to_string()), size, ..PeerValue::default() }
}

/// One variable on each side, in a caller's frame.
fn variable(mine: OurVariable, their: PeerVariable, stale: &[(&str, u128)]) -> (OurReport, PeerReport) {
    let mut own = f(2, "g", 2);
    own.variables = vec![OurVariable { name: "x".into(), ..mine }];
    let mut peer = gdb(&[(1, "f", 1), (2, "g", 2)]);
    peer.threads[0].frames[1].variables = vec![PeerVariable { name: "x".into(), ..their }];
    peer.threads[0].frames[1].stale = stale.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
    (ours(vec![f(1, "f", 1), own]), peer)
}

fn absent(why: &str) -> OurVariable {
    OurVariable {
        absent: Some(why.into()),
        tree: OurValue { absent: Some(why.into()), ..OurValue::default() },
        ..OurVariable::default()
    }
}

fn known(scalar: OurScalar) -> OurVariable {
    let tree = OurValue { scalar, ..OurValue::default() };
    OurVariable { value: Some("shown".into()), tree, ..OurVariable::default() }
}

fn said(tree: PeerValue) -> PeerVariable {
    PeerVariable { value: Some("shown".into()), tree: Some(tree), ..PeerVariable::default() }
}

fn lost() -> PeerVariable {
    PeerVariable { absent: Some("<optimized out>".into()), ..PeerVariable::default() }
}

fn text_of_library(type_name: &str, contents: Option<Contents>) -> PeerValue {
    let member = |name: &str, n| PeerMember { name: name.into(), base: false, value: integer(n, 8) };
    PeerValue {
        type_name: type_name.into(),
        members: Some(vec![member("__data", 0x1000), member("__size", 3)]),
        contents,
        ..PeerValue::default()
    }
}

/// A report for each reason that has nothing but that reason.
fn cases() -> Vec<(Reason, OurReport, PeerReport)> {
    let three = || vec![f(1, "a", 1), f(2, "b", 2), f(3, "c", 3)];
    let same = || gdb(&[(1, "a", 1), (2, "b", 2), (3, "c", 3)]);
    let inlined = || vec![frame(1, "in_x", 1, true), f(1, "f", 2), f(2, "g", 3)];
    let mut list = Vec::new();
    let mut frames = |reason, mine: Vec<OurFrame>, peer: PeerReport| list.push((reason, ours(mine), peer));
    let mut both = same();
    both.threads.push(PeerThread { id: 2, ..PeerThread::default() });
    frames(Reason::OursMissingThread, three(), both);
    frames(Reason::OursMissing, vec![f(1, "a", 1), f(3, "c", 3)], same());
    frames(Reason::OursExtra, three(), gdb(&[(1, "a", 1), (3, "c", 3)]));
    frames(Reason::OursMissingInline, vec![f(1, "f", 2)], gdb(&[(1, "in_x", 1), (1, "f", 2)]));
    frames(Reason::OursExtraInline, inlined(), gdb(&[(1, "f", 1), (2, "g", 3)]));
    frames(Reason::OursLostName, vec![OurFrame { function: None, ..f(1, "", 1) }], gdb(&[(1, "a", 1)]));
    frames(Reason::OursLostLine, vec![OurFrame { file: None, line: None, ..f(1, "a", 1) }], gdb(&[(1, "a", 1)]));
    frames(Reason::FunctionDiffers, vec![f(1, "a", 1)], gdb(&[(1, "b", 1)]));
    frames(Reason::FileDiffers, vec![OurFrame { file: Some("/src/b.c".into()), ..f(1, "a", 1) }], gdb(&[(1, "a", 1)]));
    frames(Reason::LineDiffers, vec![f(1, "a", 1)], gdb(&[(1, "a", 2)]));
    let mut stopped = gdb(&[(1, "a", 1), (2, "b", 2)]);
    stopped.threads[0].ended = Some("corrupt stack?".into());
    frames(Reason::PeerStoppedEarly, three(), stopped);
    let mut jumped = gdb(&[(1, "a", 1), (9, "gone", 1), (2, "b", 2), (3, "c", 3)]);
    jumped.threads[0].frames[1].tail_call = true;
    frames(Reason::PeerTailCall, three(), jumped);
    frames(Reason::PeerGuessed, three(), gdb(&[(1, "a", 1), (2, "b", 2), (3, "c", 3), (0, "", 0)]));
    let mut four = three();
    four.insert(1, OurFrame { tail_call: true, ..f(9, "gone", 1) });
    frames(Reason::PeerNoTailCall, four, same());
    frames(Reason::PeerNoInlines, inlined(), theirs(Peer::EuStack, &[(1, "f", 1), (2, "g", 3)]));
    let lost_name = theirs(Peer::Lldb, &[(1, "f", 1), (0, "f", 2), (2, "g", 3)]);
    frames(Reason::PeerLostInlineName, inlined(), lost_name);
    frames(Reason::PeerLostName, vec![f(1, "a", 1)], gdb(&[(1, "", 1)]));
    frames(Reason::PeerLostLine, vec![f(1, "a", 1)], gdb(&[(1, "a", 0)]));
    let start = OurFrame { file: None, line: None, ..f(1, "_start", 0) };
    frames(Reason::PeerLineBeyondEnd, vec![start], theirs(Peer::EuStack, &[(1, "_start", 9)]));
    let mut extra = ours(three());
    extra.threads.push(OurThread { id: 2, ..OurThread::default() });
    list.push((Reason::OursExtraThread, extra, same()));
    let mut cut = ours(vec![f(1, "a", 1), f(2, "b", 2)]);
    cut.threads[0].cut = true;
    list.push((Reason::OursStoppedEarly, cut, same()));
    let mut live = ours(three());
    live.live = true;
    list.push((Reason::PeerLaterLook, live, gdb(&[(2, "b", 2), (3, "c", 3)])));
    variables(&mut list);
    facts_of_a_kernel(&mut list);
    list
}

fn facts_of_a_kernel(list: &mut Vec<(Reason, OurReport, PeerReport)>) {
    let both = |mine: &str, theirs: Option<&str>| {
        let (mut own, mut peer) = (ours(vec![f(1, "a", 1)]), gdb(&[(1, "a", 1)]));
        own.facts.said.insert("panic".into(), mine.into());
        peer.facts.said.extend(theirs.map(|text| ("panic".to_owned(), text.to_owned())));
        (own, peer)
    };
    let (own, peer) = both("x", Some("y"));
    list.push((Reason::FactDiffers, own, peer));
    let (mut own, peer) = both("x", Some("x"));
    own.facts.said.clear();
    list.push((Reason::OursMissingFact, own, peer));
    let (own, mut peer) = both("x", None);
    peer.facts.failed.push("log: no such type".into());
    list.push((Reason::PeerMissingFact, own, peer));
}

fn variables(list: &mut Vec<(Reason, OurReport, PeerReport)>) {
    let mut push = |reason, mine, their, stale: &[(&str, u128)]| {
        let (own, peer) = variable(mine, their, stale);
        list.push((reason, own, peer));
    };
    push(Reason::ValueDiffers, known(OurScalar::Integer(1)), said(integer(2, 4)), &[]);
    push(Reason::OursLostValue, absent("optimised-out"), said(integer(2, 4)), &[]);
    push(Reason::PeerLostValue, known(OurScalar::Integer(1)), lost(), &[]);
    push(Reason::PeerStaleRegister, absent("register-not-recovered"), said(integer(-2, 4)), &[("rax", 0xffff_fffe)]);
    let raw = text_of_library("std::__1::basic_string_view<char>", None);
    push(Reason::PeerRawStructure, known(OurScalar::Text("abc".into())), said(raw), &[]);
    let (mut own, peer) = variable(absent("optimised-out"), lost(), &[]);
    own.threads[0].frames[1].variables.clear();
    let mut of_abstract = peer.clone();
    of_abstract.threads[0].frames[1].variables[0].is_abstract = true;
    list.push((Reason::OursUnlisted, own.clone(), peer));
    list.push((Reason::PeerAbstractVariable, own.clone(), of_abstract));
    let (_, peer) = variable(absent("optimised-out"), said(integer(2, 4)), &[]);
    list.push((Reason::OursMissingVariable, own.clone(), peer.clone()));
    own.threads[0].frames[1].variables_cut = true;
    list.push((Reason::OursLimit, own, peer));
    let (own, mut peer) = variable(known(OurScalar::Integer(1)), lost(), &[]);
    peer.threads[0].frames[1].variables.clear();
    list.push((Reason::PeerMissingVariable, own, peer));
    let (own, mut peer) = variable(absent("entry-value-unknown"), said(integer(2, 4)), &[]);
    peer.threads[0].frames.insert(2, PeerFrame { pc: code(3), tail_call: true, ..PeerFrame::default() });
    peer.threads[0].frames.push(PeerFrame { pc: code(4), function: Some("h".into()), ..PeerFrame::default() });
    let mut own = own;
    own.threads[0].frames.push(OurFrame { pc: code(4), function: Some("h".into()), ..OurFrame::default() });
    list.push((Reason::PeerTailCallValue, own, peer));
}

#[test]
fn every_reason_is_given_where_it_belongs() {
    let mut seen = BTreeSet::new();
    for (reason, own, peer) in cases() {
        let comparison = align(&own, &peer);
        let mut found = reasons(&comparison);
        if reason == Reason::PeerTailCallValue {
            found.remove(Reason::PeerTailCall.code());
        }
        let codes: Vec<&str> = found.keys().copied().collect();
        assert_eq!(codes, [reason.code()], "{:?}", comparison.differences);
        assert_eq!(comparison.same(false), reason.is_peer_limit(), "{reason:?}");
        seen.insert(reason);
    }
    let all: BTreeSet<Reason> = Reason::ALL.into_iter().collect();
    assert_eq!(seen, all);
}

fn only(mine: OurVariable, their: PeerVariable, stale: &[(&str, u128)]) -> &'static str {
    let (own, peer) = variable(mine, their, stale);
    let found = reasons(&align(&own, &peer));
    assert!(found.len() <= 1, "{found:?}");
    found.keys().next().copied().unwrap_or("same")
}

/// A register that is not recovered is no excuse by itself: gdb must show what a register of the innermost frame has.
#[test]
fn a_stale_register_is_proven_by_its_value() {
    let mine = || absent("register-not-recovered");
    let registers: &[(&str, u128)] = &[("rax", 0x1_0000_0007), ("rcx", 9)];
    assert_eq!(only(mine(), said(integer(7, 4)), registers), "peer-stale-register");
    assert_eq!(only(mine(), said(integer(7, 8)), registers), "ours-lost-value");
    assert_eq!(only(mine(), said(integer(8, 4)), registers), "ours-lost-value");
    assert_eq!(only(absent("optimised-out"), said(integer(7, 4)), registers), "ours-lost-value");
    let pair = |first, second| PeerValue {
        type_name: "pair".into(),
        members: Some(vec![
            PeerMember { name: "a".into(), base: false, value: integer(first, 4) },
            PeerMember { name: "b".into(), base: false, value: integer(second, 4) },
        ]),
        ..PeerValue::default()
    };
    assert_eq!(only(mine(), said(pair(7, 9)), registers), "peer-stale-register");
    assert_eq!(only(mine(), said(pair(7, 10)), registers), "ours-lost-value");
}

/// Members in place of contents are no excuse for a program's own types, nor where gdb's pretty-printer works.
#[test]
fn a_raw_structure_is_one_that_gdb_cannot_print() {
    let mine = |text: &str| known(OurScalar::Text(text.into()));
    let view = "std::__1::basic_string_view<char>";
    let printed = |hex: &str| Some(Contents { string: Some(hex.into()), ..Contents::default() });
    assert_eq!(only(mine("abc"), said(text_of_library("my::text", None)), &[]), "value-differs");
    assert_eq!(only(mine("abc"), said(text_of_library(view, printed("616263"))), &[]), "same");
    assert_eq!(only(mine("abc"), said(text_of_library(view, printed("616264"))), &[]), "value-differs");
    let failed = Contents { failed: Some("There is no member named _M_p.".into()), ..Contents::default() };
    assert_eq!(only(mine("abc"), said(text_of_library(view, Some(failed))), &[]), "peer-raw-structure");
}

/// Elements, keys and counts of containers, each on its own.
#[test]
fn containers_are_compared_by_what_they_hold() {
    let list = |hint: bool, text: &str, children: Vec<PeerValue>| {
        let child = |value| PeerMember { name: String::new(), base: false, value };
        let children = Some(children.into_iter().map(child).collect());
        let contents = Contents { text: Some(text.into()), map: hint, children, ..Contents::default() };
        said(text_of_library("std::vector<int>", Some(contents)))
    };
    let mine = |text: &str, parts: &[(&str, i128)]| {
        let mut variable = known(OurScalar::Text(text.into()));
        let part = |n| OurValue { scalar: OurScalar::Integer(n), ..OurValue::default() };
        variable.tree.parts = parts.iter().map(|(name, n)| ((*name).to_owned(), part(*n))).collect();
        variable
    };
    let two = || mine("std::vector of length 2, capacity 4", &[("[0]", 5), ("[1]", 6)]);
    let vector = |numbers: &[i128]| {
        let text = format!("std::vector of length {}, capacity 4", numbers.len());
        list(false, &text, numbers.iter().map(|n| integer(*n, 4)).collect())
    };
    assert_eq!(only(two(), vector(&[5, 6]), &[]), "same");
    assert_eq!(only(two(), vector(&[5, 7]), &[]), "value-differs");
    assert_eq!(only(two(), vector(&[5, 6, 7]), &[]), "value-differs");
    let map = |key, value| list(true, "std::map with 1 element", vec![integer(key, 4), integer(value, 4)]);
    let one = || mine("std::map with 1 elements", &[("[3]", 30)]);
    assert_eq!(only(one(), map(3, 30), &[]), "same");
    assert_eq!(only(one(), map(4, 30), &[]), "value-differs");
    assert_eq!(only(one(), map(3, 31), &[]), "value-differs");
}

/// The value that a kernel jumped to, given again as its caller's, is a guess; an address of its own code is none.
#[test]
fn addresses_of_kernels() {
    const JUMPED: u64 = 0x4141_4141_4141_4141;
    let report = |kernel, second: u64| {
        let mut own = ours(vec![f(1, "a", 1), f(2, "b", 2)]);
        own.kernel = kernel;
        let mut peer = theirs(Peer::Drgn, &[(1, "a", 1), (9, "", 0)]);
        peer.threads[0].frames[1].pc = second;
        reasons(&align(&own, &peer)).into_keys().collect::<Vec<_>>()
    };
    assert_eq!(report(true, JUMPED), ["peer-guessed"]);
    assert_eq!(report(true, 0xffff_ffff_8100_0000), ["ours-extra", "ours-missing"]);
    assert_eq!(report(false, 0xffff_ffff_8100_0000), ["peer-guessed"]);
}

/// crash is not asked for stacks: that it has none is no difference.
#[test]
fn crash_is_compared_by_facts() {
    let mut own = ours(vec![f(1, "a", 1)]);
    own.facts.said.insert("panic".into(), "x".into());
    let mut peer = PeerReport { threads: Vec::new(), ..theirs(Peer::Crash, &[]) };
    peer.facts.said.insert("panic".into(), "x".into());
    let comparison = align(&own, &peer);
    assert!(comparison.same(true), "{:?}", comparison.differences);
    assert_eq!((comparison.totals.facts, comparison.totals.facts_same), (1, 1));
}
