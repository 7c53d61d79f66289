//! Files of every version of the format, which are read for ever.
//!
//! Version 1: `tests/golden/version-1.snapshot` holds [`snapshot`], in every encoding. The file is never written again; the
//! writer of its day made it by `POSTFAULT_WRITE_GOLDEN=1 cargo test -p postfault-snapshot-format golden`.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::path::Path;

use crate::reader::groups::Budget;
use crate::schema::*;
use crate::{Reader, Snapshot};

/// What the file of version 1 holds. Later fields have their defaults in it.
fn snapshot() -> Snapshot {
    let register = |i: u32| RegisterValue {
        thread: 4711,
        frame: i / 3,
        name: ["rip", "rsp", "rbp"][i as usize % 3].into(),
        value: (0x7f00_0000_0000 + u64::from(i % 3) * 0x1234_5678) + u64::from(i / 3) * 0x20,
    };
    let variable = |i: u32, value| Variable {
        thread: Some(4711),
        frame: Some(0),
        parent: i.checked_sub(1),
        name: format!("v{i}").into(),
        type_name: "T".into(),
        kind: VariableKind::ALL[i as usize % 5],
        value,
        address: (i & 1 == 0).then_some(0x1000),
        absent: None,
        truncated: i == 3,
        line: Some(7),
    };
    let values = [
        Value::None,
        Value::Signed(-1),
        Value::Unsigned(u64::MAX),
        Value::Float(0.5),
        Value::Bool(true),
        Value::Pointer(0xdead),
        Value::Text("é".into()),
    ];
    let frame = |i: u32| Frame {
        pc: 0x40_1000 + u64::from(i.wrapping_mul(0x9e37_79b9) >> 8),
        function: Some(format!("f{i}()").into()),
        module: (i & 1 == 0).then_some(0),
        line: Some(u64::from(i)),
        trust: Trust::ALL[i as usize % 6],
        inline: i == 5,
        ..Frame::default()
    };
    Snapshot {
        identity: Identity {
            origin: "core".into(),
            os: "linux".into(),
            pid: Some(4711),
            taken_at_ns: Some(u64::MAX - 7),
            ..Identity::default()
        },
        event: Some(Event {
            signal: Some(11),
            code: Some(-6),
            signal_name: Some("SIGSEGV".into()),
            ..Event::default()
        }),
        attributes: (0..64)
            .map(|i| Attribute {
                key: format!("k{}", i / 32),
                thread: None,
                value: format!("{:x}", (i * i * i % 13_u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            })
            .collect(),
        threads: vec![Thread { id: 4711, faulting: true, stack: Some(0), context: "lwp".into(), ..Thread::default() }],
        stacks: vec![Stack { first: 0, count: 40 }],
        frames: (0..40).map(frame).collect(),
        registers: (0..60).map(register).collect(),
        variables: values.into_iter().zip(0..).map(|(value, i)| variable(i, value)).collect(),
        modules: vec![Module {
            path: "/bin/a".into(),
            build_id: Some(vec![1, 2, 0xff]),
            base: 0x40_0000,
            size: 9,
            ..Module::default()
        }],
        mappings: (0..70)
            .map(|i| Mapping {
                start: (i * i) << 12,
                end: (i * i + 1) << 12,
                protection: "r--p".into(),
                file_offset: [0, 1 << 40, 77][i as usize * i as usize % 3],
                ..Mapping::default()
            })
            .collect(),
        memory: vec![
            MemoryExtent { space: 0, address: 0x1000, length: 4, bytes: vec![1, 2, 3, 4], absent: None },
            MemoryExtent { space: 3, address: 0x2000, length: 70_000, bytes: vec![7; 70_000], absent: None },
            MemoryExtent { space: 0, address: 0x9000, length: 5, bytes: vec![], absent: Some("unmapped".into()) },
        ],
        tasks: vec![Task { id: 1, name: Some("init".into()), ..Task::default() }],
        log: (0..300).map(|i| LogRecord { time_ns: Some(i / 100), level: None, text: "tick".into() }).collect(),
        notes: vec![Note { owner: "CORE".into(), kind: 6, thread: Some(4711), body: vec![0; 16] }],
        files: vec![File { descriptor: 3, target: "pipe:[1]".into(), flags: Some(1), position: Some(0) }],
        attachments: vec![Attachment { name: "a.log".into(), body: b"a\n".repeat(40_000) }],
        findings: vec![Finding {
            class: "null-deref".into(),
            confidence: 0.75,
            text: "p is null".into(),
            ..Finding::default()
        }],
        evidence: vec![Evidence { finding: 0, counter: true, text: "p was freed".into() }],
        fingerprint: Some(Fingerprint { value: "abcd".into(), frames: vec!["f0".into(), "main".into()] }),
        doubts: vec![Doubt { what: "w".into(), address: Some(1), why: "y".into() }],
    }
}

/// The encodings of a file's columns.
fn encodings(bytes: &[u8]) -> BTreeSet<u8> {
    let mut reader = Reader::open(Cursor::new(bytes)).unwrap();
    let entries = reader.directory.entries.clone();
    let columns = entries.iter().filter(|entry| entry.id.kind == crate::format::block::kind::COLUMN);
    columns.map(|entry| reader.payload(entry, &mut Budget::new(u64::MAX)).unwrap().0.encoding).collect()
}

#[test]
fn version_1_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/version-1.snapshot");
    if std::env::var_os("POSTFAULT_WRITE_GOLDEN").is_some() {
        let file = std::fs::File::create_new(&path).expect("a golden file is never written again");
        snapshot().write_to(file).unwrap();
    }
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes[8], 1);
    let (found, doubts) = Snapshot::read_slice(&bytes).unwrap();
    assert_eq!(doubts, []);
    assert_eq!(found, snapshot());
    assert_eq!(encodings(&bytes), BTreeSet::from([1, 2, 3, 4, 5, 6, 16, 17, 18]), "it has every encoding");
}
