//! The peers on real programs, and every reason code on made-up reports.

use super::align::{Comparison, Reason, align};
use super::*;
use std::collections::BTreeMap;
use std::path::Path;
use testdata::fixtures::required;
use testdata::victims::{self, VictimError};

/// What a peer says, as if we had said it.
fn as_ours(report: &PeerReport) -> OurReport {
    let frame = |f: &PeerFrame| OurFrame {
        pc: f.pc,
        function: f.function.clone(),
        file: f.file.clone(),
        line: f.line,
        inline: f.inline == Some(true),
        tail_call: f.tail_call,
        variables: f
            .variables
            .iter()
            .map(|v| OurVariable {
                name: v.name.clone(),
                value: v.value.clone(),
                absent: v.absent.clone(),
                ..OurVariable::default()
            })
            .collect(),
        ..OurFrame::default()
    };
    let thread =
        |t: &PeerThread| OurThread { id: t.id, frames: t.frames.iter().map(frame).collect(), cut: t.ended.is_some() };
    OurReport { threads: report.threads.iter().map(thread).collect(), ..OurReport::default() }
}

/// A report with values as text only, as a gdb without Python gives it.
fn as_text(mut report: PeerReport) -> PeerReport {
    let frames = report.threads.iter_mut().flat_map(|t| &mut t.frames);
    for variable in frames.flat_map(|f| &mut f.variables) {
        (variable.tree, variable.line) = (None, None);
    }
    report
}

/// The core of a victim as input, or `None` after saying why not.
fn core_of(name: &str, variant: &str) -> Option<Input> {
    match victims::crash_core(name, variant) {
        Ok(core) => Some(Input::new(Subject::Core(core), Some(victims::build(name, variant).unwrap()))),
        Err(VictimError::NoCore { why }) if !required("POSTFAULT_REQUIRE_CORES") => {
            eprintln!("skipped: {why}");
            None
        }
        Err(e) => panic!("{name} {variant}: {e}"),
    }
}

/// gdb's answer, which has to have this function with a variable of this value.
fn gdb_with(input: &Input, function: &str, variable: &str, value: &str) -> PeerReport {
    let report = as_text(Peer::Gdb.backtraces(input).unwrap());
    assert_eq!(report.incomplete, None);
    let frames = report.threads.iter().flat_map(|t| &t.frames);
    let values: Vec<&PeerVariable> =
        frames.filter(|f| f.function.as_deref() == Some(function)).flat_map(|f| &f.variables).collect();
    assert!(
        values.iter().any(|v| v.name == variable && v.value.as_deref() == Some(value)),
        "{variable} = {value} is not among {values:?} of {function}"
    );
    report
}

pub(super) fn reasons(comparison: &Comparison) -> BTreeMap<&'static str, u64> {
    comparison.totals.reasons.clone()
}

#[test]
fn gdb_on_a_core_agrees_with_itself() {
    let Some(input) = core_of("null_deref", "gcc-O0") else { return };
    let report = gdb_with(&input, "store_weight", "pod", "0x0");
    let comparison = align(&as_ours(&report), &report);
    assert!(comparison.same(true), "{:?}", comparison.differences);
    assert!(comparison.totals.frames >= 5 && comparison.totals.variables >= 6, "{:?}", comparison.totals);
}

#[test]
fn gdb_without_python_says_the_same() {
    for (name, variant) in [("null_deref", "gcc-O0"), ("inlines", "gcc-O2")] {
        let Some(input) = core_of(name, variant) else { return };
        let scratch = tempfile::tempdir().unwrap();
        let plain = gdb_mi::backtraces(&input, "gdb".into(), scratch.path()).unwrap();
        let python = as_text(Peer::Gdb.backtraces(&input).unwrap());
        let comparison = align(&as_ours(&python), &plain);
        assert!(comparison.same(false), "{variant}: {:?}", comparison.differences);
        assert!(comparison.totals.variables >= 4, "{:?}", comparison.totals);
    }
}

#[test]
fn the_peers_agree_on_cores() {
    for (name, variant) in
        [("null_deref", "gcc-O0"), ("null_deref", "gcc-O2"), ("uncaught_exception", "gcc-O0"), ("threads", "gcc-O2")]
    {
        let Some(input) = core_of(name, variant) else { return };
        let gdb = Peer::Gdb.backtraces(&input).unwrap();
        let ours = as_ours(&gdb);
        for peer in [Peer::Lldb, Peer::EuStack] {
            let comparison = align(&ours, &peer.backtraces(&input).unwrap());
            let bad: Vec<_> = comparison
                .differences
                .iter()
                .filter(|d| matches!(d.reason, Reason::OursMissingThread | Reason::OursExtraThread | Reason::OursExtra))
                .collect();
            assert!(bad.is_empty(), "{name} {variant} {peer:?}: {bad:?}");
            let totals = &comparison.totals;
            assert_eq!(totals.threads, u64::try_from(gdb.threads.len()).unwrap());
            let own = |d: &&align::Difference| d.ours.as_deref().is_some_and(|o| o.contains("/victims/"));
            assert_eq!(comparison.differences.iter().filter(own).filter(|d| !d.reason.is_peer_limit()).count(), 0);
            assert!(totals.frames_same.saturating_mul(4) > totals.frames.saturating_mul(3), "{totals:?}");
        }
    }
}

#[test]
fn a_process_runs_on_after_every_peer() {
    let live = victims::run_live("threads", "gcc-O2", &[]).unwrap();
    let mut input = Input::new(Subject::Pid(live.pid()), None);
    input.variables = false;
    let mut reports = Vec::new();
    for peer in Peer::ALL {
        let report = peer.backtraces(&input).unwrap();
        assert_eq!(report.threads.len(), 9, "{peer:?}");
        let frames = report.threads.iter().flat_map(|t| &t.frames);
        let found = frames.filter(|f| f.function.as_deref() == Some("deeper")).count();
        assert_eq!(found, 51, "{peer:?}");
        reports.push(report);
        let states = live.threads();
        assert!(states.len() == 9 && states.iter().all(|(_, s)| matches!(s, 'S' | 'R')), "{peer:?} left {states:?}");
    }
    let outcomes = run(&[Peer::Gdb], &input, &as_ours(&reports[0]));
    let Outcome::Compared(comparison) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(comparison.totals.threads, 9);
}

#[test]
fn a_peer_that_crashes_or_hangs_is_reported() {
    // gdb 13 dies on DWARF 5 package files; a newer one may not.
    let Some(mut input) = core_of("inlines", "clang-split-dwp") else { return };
    match Peer::Gdb.backtraces(&input) {
        Ok(report) => assert!(!report.threads.is_empty()),
        Err(PeerError::Failed { why, .. }) => assert!(!why.is_empty()),
        Err(e) => panic!("{e}"),
    }
    input.time_limit = Duration::ZERO;
    match Peer::Lldb.backtraces(&input) {
        Err(PeerError::TimedOut { .. }) => {}
        other => panic!("{other:?}"),
    }
    let missing = Input::new(Subject::Core("/no/such/core".into()), Some("/no/such/program".into()));
    for peer in Peer::ALL {
        assert!(matches!(peer.backtraces(&missing), Err(PeerError::Failed { .. })), "{peer:?}");
    }
}

#[test]
fn separate_debug_files_are_found() {
    let Some(mut input) = core_of("inlines", "build-id") else { return };
    input.symbols = vec![victims::separate_debug_dir(input.exe.as_deref().unwrap_or(Path::new("/")))];
    for peer in [Peer::Gdb, Peer::Lldb, Peer::EuStack] {
        let report = peer.backtraces(&input).unwrap();
        let frames = report.threads.iter().flat_map(|t| &t.frames);
        let lines = frames.filter(|f| f.file.as_deref().is_some_and(|f| f.ends_with("inlines.cc"))).count();
        // lldb 14 looks for `.build-id` below its own folder only, not below target.debug-file-search-paths.
        assert!(lines >= 8 || peer == Peer::Lldb, "{peer:?}: {lines}");
    }
}

/// Small numbers stand for addresses where code can be; 0 is 0.
pub(super) fn code(pc: u64) -> u64 {
    if pc == 0 { 0 } else { 0x40_0000 + pc }
}

pub(super) fn frame(pc: u64, function: &str, line: u32, inline: bool) -> OurFrame {
    OurFrame {
        pc: code(pc),
        function: Some(function.into()),
        file: Some("/src/a.c".into()),
        line: Some(line),
        inline,
        ..OurFrame::default()
    }
}

pub(super) fn theirs(peer: Peer, frames: &[(u64, &str, u32)]) -> PeerReport {
    let frames = frames
        .iter()
        .map(|(pc, function, line)| PeerFrame {
            pc: code(*pc),
            function: (!function.is_empty()).then(|| (*function).to_string()),
            file: (*line > 0).then(|| "a.c".to_string()),
            line: (*line > 0).then_some(*line),
            inline: (peer == Peer::Gdb).then_some(function.starts_with("in_")),
            ..PeerFrame::default()
        })
        .collect();
    let threads = vec![PeerThread { id: 1, frames, ended: None }];
    PeerReport { peer, version: "test 1.0".into(), threads, facts: facts::Facts::default(), incomplete: None }
}

pub(super) fn ours(frames: Vec<OurFrame>) -> OurReport {
    OurReport { threads: vec![OurThread { id: 1, frames, cut: false }], ..OurReport::default() }
}

fn check(frames: Vec<OurFrame>, peer: &PeerReport, expected: &[(&'static str, u64)]) {
    let comparison = align(&ours(frames), peer);
    assert_eq!(reasons(&comparison), expected.iter().copied().collect(), "{:?}", comparison.differences);
}

#[test]
fn frames_align_by_pc() {
    let f = |pc, name: &str, line| frame(pc, name, line, false);
    let three = || vec![f(1, "a", 1), f(2, "b", 2), f(3, "c", 3)];
    let gdb = |list: &[(u64, &str, u32)]| theirs(Peer::Gdb, list);
    check(three(), &gdb(&[(1, "a", 1), (2, "b", 2), (3, "c", 3)]), &[]);
    check(three(), &gdb(&[(1, "a", 1), (3, "c", 3)]), &[("ours-extra", 1)]);
    check(three(), &gdb(&[(1, "a", 1), (2, "b", 2), (9, "x", 1), (3, "c", 3)]), &[("ours-missing", 1)]);
    check(three(), &gdb(&[(1, "a", 1), (9, "x", 2), (3, "c", 3)]), &[("ours-extra", 1), ("ours-missing", 1)]);
    check(
        three(),
        &gdb(&[(1, "a", 7), (2, "x", 2), (3, "", 0)]),
        &[("line-differs", 1), ("function-differs", 1), ("peer-lost-name", 1), ("peer-lost-line", 1)],
    );
    let mut stopped = gdb(&[(1, "a", 1)]);
    stopped.threads[0].ended = Some("corrupt stack?".into());
    check(three(), &stopped, &[("peer-stopped-early", 2)]);
    let mut other = gdb(&[(1, "a", 1), (2, "b", 2), (3, "c", 3)]);
    other.threads[0].id = 2;
    check(three(), &other, &[("ours-extra-thread", 1), ("ours-missing-thread", 1)]);
    check(three(), &gdb(&[(1, "a", 1), (2, "b", 2), (0, "", 0), (99, "x", 0)]), &[("peer-guessed", 3)]);
    // A saved stack pointer taken for a return address.
    let guess = gdb(&[(1, "a", 1), (2, "b", 2), (0x5000, "", 0)]);
    let mut report = ours(three());
    assert_eq!(reasons(&align(&report, &guess)), BTreeMap::from([("ours-extra", 1), ("ours-missing", 1)]));
    report.no_code.push(code(0x4000)..code(0x6000));
    assert_eq!(reasons(&align(&report, &guess)), BTreeMap::from([("peer-guessed", 2)]));
    let mut jumped = gdb(&[(1, "a", 1), (9, "gone", 1), (2, "b", 2), (3, "c", 3)]);
    jumped.threads[0].frames[1].tail_call = true;
    check(three(), &jumped, &[("peer-tail-call", 1)]);
    let four = vec![f(1, "a", 1), OurFrame { tail_call: true, ..f(9, "gone", 1) }, f(2, "b", 2), f(3, "c", 3)];
    check(four.clone(), &jumped, &[]);
    check(four, &gdb(&[(1, "a", 1), (2, "b", 2), (3, "c", 3)]), &[("peer-no-tail-call", 1)]);
    let bare = vec![OurFrame { pc: code(1), ..OurFrame::default() }];
    check(bare, &gdb(&[(1, "a", 1)]), &[("ours-lost-name", 1), ("ours-lost-line", 1)]);
}

#[test]
fn inlined_frames_align_within_their_pc() {
    let stack = || vec![frame(1, "in_x", 1, true), frame(1, "f", 2, false), frame(2, "g", 3, false)];
    check(stack(), &theirs(Peer::Gdb, &[(1, "in_x", 1), (1, "f", 2), (2, "g", 3)]), &[]);
    check(stack(), &theirs(Peer::Gdb, &[(1, "f", 1), (2, "g", 3)]), &[("ours-extra-inline", 1)]);
    check(stack(), &theirs(Peer::EuStack, &[(1, "in_x", 1), (1, "f", 2), (2, "g", 3)]), &[]);
    check(stack(), &theirs(Peer::EuStack, &[(1, "f", 1), (2, "g", 3)]), &[("peer-no-inlines", 1)]);
    check(stack(), &theirs(Peer::Lldb, &[(1, "f", 1), (0, "f", 2), (2, "g", 3)]), &[("peer-lost-inline-name", 1)]);
    check(
        vec![frame(1, "f", 2, false), frame(2, "g", 3, false)],
        &theirs(Peer::Gdb, &[(1, "in_x", 1), (1, "f", 2), (2, "g", 3)]),
        &[("ours-missing-inline", 1)],
    );
    // lldb loses a level in the middle and gives its line to the one around it.
    let four = vec![
        frame(1, "in_x", 1, true),
        frame(1, "in_y", 2, true),
        frame(1, "in_z", 3, true),
        frame(1, "f", 4, false),
        frame(2, "g", 5, false),
    ];
    let lost = theirs(Peer::Lldb, &[(1, "in_x", 1), (0, "in_y", 2), (0, "f", 3), (2, "g", 5)]);
    check(four, &lost, &[("peer-no-inlines", 1)]);
    // Recursion of a function with something inlined at the place of the call.
    let deep: Vec<OurFrame> = (0..3).flat_map(|_| [frame(5, "in_x", 1, true), frame(5, "f", 2, false)]).collect();
    let flat: Vec<(u64, &str, u32)> = (0..3).flat_map(|_| [(5, "in_x", 1), (5, "f", 2)]).collect();
    for peer in Peer::ALL {
        check(deep.clone(), &theirs(peer, &flat), &[]);
    }
    check(deep, &theirs(Peer::EuStack, &[(5, "f", 1), (5, "f", 1), (5, "f", 1)]), &[("peer-no-inlines", 3)]);
}

#[test]
fn variables_align_by_name() {
    let variable = |name: &str, value: Option<&str>| OurVariable {
        name: name.into(),
        value: value.map(str::to_string),
        absent: value.is_none().then(|| "optimized out".to_string()),
        ..OurVariable::default()
    };
    let other = |name: &str, value: Option<&str>| PeerVariable {
        name: name.into(),
        value: value.map(str::to_string),
        absent: value.is_none().then(|| "<optimized out>".to_string()),
        ..PeerVariable::default()
    };
    let mut mine = frame(1, "f", 1, false);
    mine.variables = vec![
        variable("x", Some("2")),
        variable("x", Some("1")),
        variable("lost", None),
        variable("known", Some("5")),
        variable("both", None),
        variable("wrong", Some("0x10")),
        variable("only", Some("1")),
    ];
    let mut peer = theirs(Peer::Gdb, &[(1, "f", 1)]);
    peer.threads[0].frames[0].variables = vec![
        other("x", Some("2")),
        other("x", Some("1")),
        other("lost", Some("7")),
        other("known", None),
        other("both", None),
        other("wrong", Some("0x11")),
        other("theirs", Some("1")),
    ];
    let outcome = Outcome::Compared(align(&ours(vec![mine]), &peer));
    let failed = Outcome::Unavailable { peer: Peer::Lldb, why: PeerError::NotInstalled(Peer::Lldb).to_string() };
    let outcomes = [outcome, failed];
    assert_eq!(report::exit_code(&outcomes, false), 1);
    insta::assert_snapshot!(report::text(&outcomes));
    insta::assert_json_snapshot!(report::json(&Subject::Pid(7), &outcomes, false));
}

#[test]
fn exit_codes() {
    let same = Outcome::Compared(align(&ours(vec![frame(1, "f", 1, false)]), &theirs(Peer::Gdb, &[(1, "f", 1)])));
    let limited = Outcome::Compared(align(&ours(vec![frame(1, "f", 1, false)]), &theirs(Peer::Gdb, &[(1, "f", 0)])));
    let none = Outcome::Unavailable { peer: Peer::Gdb, why: String::new() };
    assert_eq!(report::exit_code(&[same.clone(), none.clone()], true), 0);
    assert_eq!(report::exit_code(std::slice::from_ref(&limited), false), 0);
    assert_eq!(report::exit_code(&[same, limited], true), 1);
    assert_eq!(report::exit_code(&[none], false), 3);
    assert_eq!(Peer::from_name("eu-stack"), Some(Peer::EuStack));
    assert_eq!(Peer::from_name("windbg"), None);
}
