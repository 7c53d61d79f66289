//! Snapshots to test with.

use crate::schema::*;

/// Something that looks random and is the same every time.
pub(super) fn mix(seed: u64) -> u64 {
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Bytes that do not compress.
pub(super) fn noise(length: usize, seed: u64) -> Vec<u8> {
    (0..length.div_ceil(8) as u64)
        .flat_map(|i| mix(seed.wrapping_mul(1 << 32) + i + 1).to_le_bytes())
        .take(length)
        .collect()
}

/// A small snapshot with something in every table.
pub(super) fn small() -> Snapshot {
    let mut snapshot = process(2, 3);
    snapshot.event = Some(Event {
        thread: Some(4711),
        signal: Some(11),
        signal_name: Some("SIGSEGV".into()),
        code: Some(-6),
        address: Some(0x28),
        access: Some("write".into()),
        message: Some("assertion `x > 0` failed".into()),
        ..Event::default()
    });
    snapshot.attributes = vec![
        Attribute { key: "limits.stack".into(), thread: None, value: "8388608".into() },
        Attribute { key: "thread.name".into(), thread: Some(4711), value: "Grüße".into() },
    ];
    snapshot.mappings = vec![
        Mapping {
            start: 0x40_0000,
            end: 0x45_0000,
            protection: "r-xp".into(),
            file_offset: 0,
            path: Some("/bin/a".into()),
            deleted: true,
        },
        Mapping {
            start: 0x7fff_0000,
            end: 0x7fff_9000,
            protection: "rw-p".into(),
            file_offset: 0,
            path: Some("[stack]".into()),
            deleted: false,
        },
    ];
    snapshot.memory = vec![
        MemoryExtent { space: 0, address: 0x7fff_1000, length: 600, bytes: noise(600, 1), absent: None },
        MemoryExtent { space: 0, address: 0x5000, length: 4096, bytes: Vec::new(), absent: Some("filtered".into()) },
        MemoryExtent { space: 0x1234, address: u64::MAX - 15, length: 16, bytes: vec![9; 16], absent: None },
    ];
    snapshot.tasks = vec![Task { id: 1, pid: Some(1), name: Some("init".into()), stack: Some(1), ..Task::default() }];
    snapshot.log = vec![LogRecord { time_ns: Some(5), level: Some("err".into()), text: "Oops: 0002".into() }];
    snapshot.notes = vec![Note { owner: "CORE".into(), kind: 6, thread: Some(4711), body: vec![1, 2, 3] }];
    snapshot.files = vec![File { descriptor: 3, target: "socket:[77]".into(), flags: Some(0o2), position: None }];
    snapshot.attachments = vec![Attachment { name: "server.log".into(), body: b"line\n".repeat(9) }];
    snapshot.findings = vec![Finding {
        class: "null-deref".into(),
        confidence: 0.98,
        thread: Some(4711),
        frame: Some(1),
        text: "`req` is null".into(),
        ..Finding::default()
    }];
    snapshot.evidence = vec![
        Evidence { finding: 0, counter: false, text: "rax is 0".into() },
        Evidence { finding: 0, counter: true, text: "no mapped address within one bit".into() },
    ];
    snapshot.fingerprint = Some(Fingerprint { value: "5c1d09e2".into(), frames: vec!["main".into(), String::new()] });
    snapshot.doubts = vec![Doubt { what: "cfi-missing".into(), address: Some(0x40_1000), why: "no row".into() }];
    let value = |name: &str, value| Variable { name: name.into(), value, ..Variable::default() };
    snapshot.variables.extend([
        value("f", Value::Float(-0.0)),
        value("b", Value::Bool(true)),
        value("i", Value::Signed(i64::MIN)),
        value("u", Value::Unsigned(u64::MAX)),
        value("s", Value::Text(String::new())),
        Variable { absent: Some("optimised-out".into()), kind: VariableKind::Tls, ..value("gone", Value::None) },
    ]);
    snapshot
}

/// A process with so many threads, each with its own stack of so many frames, with registers and variables.
pub(super) fn process(threads: u32, frames: u32) -> Snapshot {
    let mut snapshot = Snapshot {
        identity: Identity {
            origin: "core".into(),
            os: "linux".into(),
            arch: "x86_64".into(),
            pid: Some(4711),
            command: Some("server".into()),
            ..Identity::default()
        },
        ..Snapshot::default()
    };
    snapshot.modules = (0..4u64)
        .map(|m| Module {
            path: format!("/usr/lib/x86_64-linux-gnu/libpart{m}.so.{m}"),
            build_id: Some(noise(20, m)),
            base: 0x7f00_0000_0000 + (m << 24),
            size: 0x20_0000,
            slide: 0x7f00_0000_0000 + (m << 24),
            symbols: "dwarf".into(),
            ..Module::default()
        })
        .collect();
    for t in 0..threads {
        let id = 4711 + u64::from(t);
        let first = snapshot.frames.len() as u32;
        snapshot.threads.push(Thread {
            id,
            name: Some(format!("worker-{t}")),
            faulting: t == 0,
            state: Some("sleeping".into()),
            context: "lwp".into(),
            stack: Some(t),
            stack_start: Some(0x7fff_0000_0000 + u64::from(t) * 0x80_0000),
            ..Thread::default()
        });
        snapshot.stacks.push(Stack { first, count: frames });
        for f in 0..frames {
            let pc = 0x7f00_0000_1000 + u64::from(f) * 0x531 + (u64::from(f % 4) << 24);
            snapshot.frames.push(Frame {
                pc,
                function: Some(format!("app::Stage{f}::run(Request const&, int)").into()),
                linkage_name: Some(format!("_ZN3app6Stage{f}3runERK7Requesti").into()),
                offset: Some(0x31 + u64::from(f)),
                module: Some(f % 4),
                module_offset: Some(pc - 0x7f00_0000_0000),
                file: Some(format!("/build/server/src/stage_{}.cc", f % 7).into()),
                line: Some(100 + u64::from(f) * 3),
                column: Some(9),
                trust: if f == 0 { Trust::Context } else { Trust::Cfi },
                ..Frame::default()
            });
            registers(&mut snapshot, id, f, pc, 0x7fff_0000_0000 + u64::from(t) * 0x80_0000 + u64::from(f) * 0x60);
            variables(&mut snapshot, id, f);
        }
    }
    snapshot
}

const NAMES: [&str; 17] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip",
];

fn registers(snapshot: &mut Snapshot, thread: u64, frame: u32, pc: u64, sp: u64) {
    for (number, name) in (0u64..).zip(NAMES) {
        let value = match name {
            "rip" => pc,
            "rsp" => sp,
            "rbp" => sp + 0x30,
            _ => mix(thread * 64 + number) & 0x7fff_ffff_fff8,
        };
        snapshot.registers.push(RegisterValue { thread, frame, name: (*name).into(), value });
    }
}

fn variables(snapshot: &mut Snapshot, thread: u64, frame: u32) {
    let parent = snapshot.variables.len() as u32;
    let base = 0x5555_0000_0000 + thread * 0x1000 + u64::from(frame) * 0x100;
    let variable = |name: &str, type_name: &str, value| Variable {
        thread: Some(thread),
        frame: Some(frame),
        name: name.into(),
        type_name: type_name.into(),
        value,
        line: Some(u64::from(frame)),
        ..Variable::default()
    };
    let member = |name: &str, type_name: &str, value, offset| Variable {
        parent: Some(parent),
        kind: VariableKind::Member,
        address: Some(base + offset),
        ..variable(name, type_name, value)
    };
    snapshot.variables.extend([
        Variable {
            kind: VariableKind::Parameter,
            address: Some(base),
            ..variable("request", "Request const &", Value::None)
        },
        member("id", "unsigned int", Value::Unsigned(u64::from(frame) * 7), 0),
        member("path", "std::__cxx11::basic_string<char>", Value::Text("/a/b".into()), 8),
        member("next", "Request *", Value::Pointer(base + 0x40), 40),
        variable("depth", "int", Value::Signed(-i64::from(frame))),
    ]);
}
