//! Rows that no capture would write: nothing panics, and the same rows give the same answer.

mod common;

use common::{CODE, Crash, HEAP, SP, STACK};
use proptest::prelude::*;
use snapshot_format::Snapshot;
use snapshot_format::schema::*;

fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0_u64..0x2_0000,
        Just(u64::MAX),
        (0_u64..64).prop_map(|n| CODE.wrapping_add(n)),
        (0_u64..64).prop_map(|n| HEAP.wrapping_add(n)),
        (0_u64..64).prop_map(|n| SP.wrapping_sub(n)),
        (0_u64..64).prop_map(|n| STACK.wrapping_sub(n)),
    ]
}

fn text() -> impl Strategy<Value = String> {
    const WORDS: [&str; 36] = [
        "abort",
        "raise",
        "__GI_raise",
        "__stack_chk_fail",
        "malloc_printerr",
        "free",
        "main",
        "_start",
        "rust_panic",
        "std::terminate",
        "__cxa_throw",
        "operator()",
        "operator<<",
        "a<b<c>::d(int)",
        "{closure#0}",
        "{lambda(",
        "x[abi:cxx11]",
        "$_",
        "$_1",
        "::h0123456789abcdef",
        "Assertion `x' failed.",
        "Assertion failed: ",
        "panicked at ",
        "panicked at '",
        "what():",
        "*",
        "[3]",
        "linux",
        "rip",
        "eip",
        "@",
        "(anonymous namespace)::f",
        "é.isra.0",
        "",
        "terminate called after throwing an instance of '",
        "__memmove_avx_unaligned",
    ];
    prop_oneof![proptest::sample::select(&WORDS[..]).prop_map(str::to_owned), ".{0,12}"]
}

fn small() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![Just(None), (0_u32..8).prop_map(Some), any::<u32>().prop_map(Some)]
}

prop_compose! {
    fn frame()(pc in word(), function in proptest::option::of(text()), module in small(), inline in any::<bool>(),
               signal_frame in any::<bool>(), suspect in any::<bool>(), scan in any::<bool>()) -> Frame {
        let trust = if scan { Trust::Scan } else { Trust::Cfi };
        let function = function.map(Into::into);
        Frame { pc, function, module, inline, signal_frame, suspect, trust, ..Frame::default() }
    }
}

prop_compose! {
    fn variable()(thread in proptest::option::of(prop_oneof![Just(common::PID), any::<u64>()]), frame in small(), parent in small(),
                  name in text(), type_name in text(), pointer in word(), as_text in proptest::option::of(text())) -> Variable {
        let value = as_text.map_or(Value::Pointer(pointer), Value::Text);
        let (name, type_name) = (name.into(), type_name.into());
        Variable { thread, frame, parent, name, type_name, value, ..Variable::default() }
    }
}

prop_compose! {
    fn event()(signal in prop_oneof![any::<i64>(), 0_i64..40], code in prop_oneof![any::<i64>(), -7_i64..10, Just(0x80)],
               address in proptest::option::of(word()), sender_pid in proptest::option::of(prop_oneof![Just(common::PID), any::<u64>()]),
               message in proptest::option::of(text()), trap_number in proptest::option::of(0_u64..20), error_code in proptest::option::of(any::<u64>()),
               access in proptest::option::of(text()), thread in proptest::option::of(prop_oneof![Just(common::PID), any::<u64>()])) -> Event {
        Event { thread, signal: Some(signal), code: Some(code), address, sender_pid, message, trap_number, error_code, access, ..Event::default() }
    }
}

prop_compose! {
    fn mapping()(start in word(), end in word(), protection in "[rwxp?-]{0,5}", path in proptest::option::of(text())) -> Mapping {
        Mapping { start, end, protection, path, ..Mapping::default() }
    }
}

prop_compose! {
    fn snapshot()(arch in proptest::sample::select(&["x86_64", "x86", "aarch64", "arm", ""][..]),
                  os in proptest::sample::select(&["linux", "freebsd", "illumos", "windows", ""][..]),
                  event in proptest::option::of(event()),
                  frames in proptest::collection::vec(frame(), 0..12),
                  stack in (any::<u32>(), any::<u32>(), any::<bool>()),
                  variables in proptest::collection::vec(variable(), 0..10),
                  mappings in proptest::collection::vec(mapping(), 0..6),
                  usual in any::<bool>(),
                  registers in proptest::collection::vec((proptest::sample::select(&["rip", "rsp", "rax", "rcx", "rdi", "eip", "esp", "eax", "pc", "sp", "x0", "x1"][..]), word(), 0_u32..3), 0..12),
                  code in proptest::collection::vec(any::<u8>(), 0..24),
                  at in word(), big_endian in any::<bool>(),
                  log in proptest::collection::vec(text(), 0..4),
                  limits in text()) -> Snapshot {
        let mut s = if usual { Crash::new(11, 1).0 } else { Snapshot::default() };
        s.identity.arch = arch.into();
        s.identity.os = os.into();
        s.identity.big_endian = big_endian;
        s.event = event;
        s.threads = vec![
            Thread { id: common::PID, faulting: true, stack: Some(0), stack_start: Some(at), stack_end: Some(SP), ..Thread::default() },
            Thread { id: 1, stack: Some(1), ..Thread::default() },
            Thread { id: 2, stack: Some(77), ..Thread::default() },
        ];
        let whole = Stack { first: 0, count: frames.len() as u32 };
        s.stacks = vec![if stack.2 { whole } else { Stack { first: stack.0, count: stack.1 } }, Stack { first: 1, count: u32::MAX }];
        s.frames = frames;
        s.variables = variables;
        s.mappings.extend(mappings);
        s.registers.extend(registers.into_iter().map(|(n, value, frame)| RegisterValue { thread: common::PID, frame, name: n.into(), value }));
        for address in [CODE, at, u64::MAX - 3] {
            s.memory.push(MemoryExtent { address, length: code.len() as u64, bytes: code.clone(), ..MemoryExtent::default() });
        }
        s.log = log.into_iter().map(|text| LogRecord { text, ..LogRecord::default() }).collect();
        s.attributes.push(Attribute { key: "proc.limits".into(), value: format!("Max stack size {limits}"), ..Attribute::default() });
        s
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_rows_are_judged(snapshot in snapshot()) {
        let mut once = snapshot.clone();
        analysis::analyse(&mut once);
        let mut twice = once.clone();
        analysis::analyse(&mut twice);
        prop_assert_eq!(&once, &twice);
        for finding in &once.findings {
            prop_assert!((0.0..=1.0).contains(&finding.confidence));
            prop_assert!(!finding.text.is_empty());
        }
        let groups = analysis::stack_groups(&snapshot);
        prop_assert!(groups.iter().map(|g| g.threads.len()).sum::<usize>() <= 3);
        let _ = analysis::sentence(&groups, 2);
    }

    #[test]
    fn any_name_is_normalised(name in text(), more in text(), rest in ".{0,40}") {
        let once = analysis::names::normalise(&format!("{name}{more}{rest}"));
        prop_assert!(once.len() <= name.len() + more.len() + rest.len() + 64);
    }

    #[test]
    fn any_instruction_is_decoded(code in proptest::collection::vec(any::<u8>(), 1..16), arch in 0_usize..3, value in word()) {
        let arch = ["x86_64", "x86", "aarch64"][arch];
        let mut crash = Crash::unmapped(value).bytes(CODE, &code).reg("rax", value).reg("eax", value).reg("x0", value);
        crash.0.identity.arch = arch.into();
        crash = crash.reg("eip", CODE).reg("pc", CODE).reg("sp", SP);
        let _ = analysis::classify(&crash.0);
    }
}

#[test]
fn long_names_and_deep_stacks_take_linear_time() {
    let name = "a<".repeat(200_000);
    assert!(analysis::names::normalise(&name).len() <= 8192);
    let braces = "{".repeat(200_000);
    assert!(analysis::names::normalise(&braces).len() <= 3 * 8192);
    let crash = Crash::unmapped(STACK - 8).code(&[0x55]).reg("rsp", STACK).with(|s| {
        s.frames = (0..100_000)
            .map(|n| Frame { pc: CODE, function: Some(format!("f{}", n % 7).into()), ..Frame::default() })
            .collect();
        s.stacks = vec![Stack { first: 0, count: 100_000 }; 1000];
        s.threads.extend((0..1000).map(|n| Thread { id: 9000 + u64::from(n), stack: Some(n), ..Thread::default() }));
    });
    common::check("deep", crash.clone(), "stack-overflow");
    assert_eq!(analysis::stack_groups(&crash.0).len(), 1);
}

proptest! {
    /// Consoles that were cut, mixed and overwritten.
    #[test]
    fn any_console_is_judged(pieces in proptest::collection::vec((0_usize..24, ".{0,12}", 0_u64..u64::MAX), 0..40)) {
        const LINES: [&str; 24] = [
            "BUG: kernel NULL pointer dereference, address: ", "general protection fault: 0000 [#1]", "Oops: 0002 [#",
            "RIP: 0010:", "RIP: 0010:f+0x1/0x2 [", "CPU: 1 PID: ", "Comm: ", "Call Trace:", " ? f+0x", " f+0x1/0x2 [m]",
            "Kernel panic - not syncing: ", "INFO: task a:", " blocked for more than ", "list_del corruption",
            "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks: {", "rcu: 1-....: (2 ticks this GP)",
            "NMI backtrace for cpu ", "watchdog: BUG: soft lockup - CPU#", "kernel BUG at ", "---[ end trace",
            "Fatal trap 12: ", "fault virtual address = ", "panic[cpu0]/thread=1: BAD TRAP: type=e addr=", "[  1.5] <",
        ];
        let text: String = pieces.iter().map(|(i, more, n)| format!("{}{more}{n:x}\n", LINES[*i])).collect();
        let mut snapshot = analysis::snapshot_of_log(&text);
        analysis::analyse(&mut snapshot);
        let first = (snapshot.findings.clone(), snapshot.fingerprint.clone());
        analysis::analyse(&mut snapshot);
        prop_assert_eq!(first, (snapshot.findings, snapshot.fingerprint));
    }
}
