//! What `--redact` promises, over the whole snapshot and not only over what is printed.

mod common;

use common::{arg, run};
use snapshot_format::Snapshot;
use snapshot_format::schema::Value;

fn holds(bytes: &[u8], what: &str) -> bool {
    bytes.windows(what.len()).any(|w| w == what.as_bytes())
}

/// All texts and bytes of a snapshot.
fn everything(s: &Snapshot) -> Vec<u8> {
    let mut bytes = format!("{s:?}").into_bytes();
    for raw in s.memory.iter().map(|m| &m.bytes).chain(s.notes.iter().map(|n| &n.body)) {
        bytes.extend_from_slice(raw);
    }
    bytes
}

#[test]
fn what_is_hidden_is_nowhere() {
    let Some(core) = common::core("variables", "gcc-O0") else { return };
    let folder = tempfile::tempdir().unwrap();
    let capture = |profile: &str| {
        let out = folder.path().join(profile);
        run(&["capture", arg(&core), "--memory", "full", "--redact", profile, "--force", "-o", arg(&out)], 0);
        Snapshot::read_path(&out).unwrap().0
    };
    let plain = capture("none");
    // The environment lies at the end of the stack, and the victim has texts among its variables.
    let path = std::env::var("PATH").unwrap();
    let text = plain.variables.iter().find_map(|v| match &v.value {
        Value::Text(text) if v.type_name.contains("char") && text.len() > 4 => Some(text.clone()),
        _ => None,
    });
    let text = text.expect("the victim has a text");
    assert!(holds(&everything(&plain), &path) && holds(&everything(&plain), &text));
    let stack = |s: &Snapshot| s.frames.iter().map(|f| (f.function.clone(), f.line)).collect::<Vec<_>>();
    for profile in ["secrets", "stacks"] {
        let redacted = capture(profile);
        let all = everything(&redacted);
        assert!(!holds(&all, &path) && !holds(&all, &text), "{profile}");
        assert_eq!(stack(&redacted), stack(&plain), "{profile}");
        assert_eq!(redacted.variables.len(), plain.variables.len(), "{profile}");
        assert_eq!(redacted.fingerprint, plain.fingerprint, "{profile}");
    }
    let redacted = capture("secrets");
    let numbers = |s: &Snapshot| s.variables.iter().filter(|v| matches!(v.value, Value::Signed(_))).count();
    assert!(numbers(&redacted) > 0 && numbers(&redacted) <= numbers(&plain));
    // A snapshot that was whole is cut down the same way.
    let again = folder.path().join("again");
    run(&["capture", arg(&folder.path().join("none")), "--redact", "secrets", "-o", arg(&again)], 0);
    assert_eq!(Snapshot::read_path(&again).unwrap().0.variables, redacted.variables);
}
