//! What a snapshot that leaves its machine must not tell.
//!
//! Redaction happens before the analysis, so that no finding can show what the profile hides. What is taken out is
//! absent as `filtered`, names and types of variables stay.

use snapshot_format::Snapshot;
use snapshot_format::schema::{Value, Variable};
use std::collections::BTreeSet;

/// How much is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Profile {
    /// Nothing.
    #[default]
    None,
    /// Where passwords, keys and personal data usually are: environment, arguments, texts and byte buffers among the
    /// variables, vector registers, raw memory except code, notes that repeat any of it.
    Secrets,
    /// Everything but the stacks: functions, files and lines, modules and mappings stay, values and texts go.
    Stacks,
}

/// The word for a thing that was there and was left out.
const FILTERED: &str = "filtered";

/// Facts about the kernel's bookkeeping, which say nothing of a program's data.
const HARMLESS: [&str; 14] = [
    "capture.",
    "core.writer",
    "event.",
    "host.load",
    "host.memory",
    "host.uptime",
    "host.version",
    "kernel.osreldate",
    "proc.autogroup",
    "proc.limits",
    "proc.oom_",
    "proc.personality",
    "proc.resident",
    "vmcoreinfo.",
];

/// Facts that are only hidden together with everything else.
const STRUCTURAL: [&str; 9] = [
    "cxx.exception.type",
    "kernel.",
    "proc.",
    "process.",
    "rust.panic.location",
    "thread.",
    "host.",
    "cpu.",
    "minidump.",
];

/// Facts under those names that repeat arguments, environment or host names.
const TELLING: [&str; 6] = ["environ", "command_line", "argument", "psargs", "cmdline", "annotation"];

/// Notes of Linux cores that hold addresses and numbers only: `NT_AUXV`, `NT_FILE`, `NT_SIGINFO`.
const PLAIN_NOTES: [u64; 3] = [6, 0x4649_4c45, 0x5349_4749];

/// Takes out of `snapshot` what `profile` hides.
pub fn redact(snapshot: &mut Snapshot, profile: Profile) {
    if profile == Profile::None {
        return;
    }
    let stacks_only = profile == Profile::Stacks;
    snapshot.identity.arguments = None;
    let keep = |key: &str| {
        let any = |list: &[&str]| list.iter().any(|k| key.starts_with(k));
        !TELLING.iter().any(|word| key.contains(word)) && (any(&HARMLESS) || (!stacks_only && any(&STRUCTURAL)))
    };
    snapshot.attributes.retain(|a| keep(&a.key));
    snapshot.notes.retain(|n| match &*n.owner {
        "VMCOREINFO" => true,
        "CORE" => PLAIN_NOTES.contains(&n.kind) && !(stacks_only && n.kind != 6),
        _ => false,
    });
    snapshot.registers.retain(|r| if stacks_only { is_place(&r.name) } else { !is_vector(&r.name) });
    variables(&mut snapshot.variables, stacks_only);
    memory(snapshot, stacks_only);
    if stacks_only {
        snapshot.identity.host = None;
        snapshot.files.clear();
        snapshot.log.clear();
        if let Some(event) = &mut snapshot.event {
            event.message = None;
        }
    }
}

/// Program counter, stack and frame pointer.
fn is_place(register: &str) -> bool {
    matches!(register, "rip" | "rsp" | "rbp" | "eip" | "esp" | "ebp" | "pc" | "sp" | "x29" | "fp" | "lr" | "x30")
}

fn is_vector(register: &str) -> bool {
    const VECTORS: [&str; 6] = ["xmm", "ymm", "zmm", "st", "mm", "v"];
    let numbered = |prefix: &&str| {
        register.strip_prefix(*prefix).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    VECTORS.iter().any(numbered)
}

fn variables(rows: &mut [Variable], all: bool) {
    // Rows come before their parts: what is inside of a hidden row is hidden with it.
    let mut hidden: BTreeSet<u32> = BTreeSet::new();
    for (row, variable) in (0_u32..).zip(rows.iter_mut()) {
        let inside = variable.parent.is_some_and(|p| hidden.contains(&p));
        if !(all || inside || holds_text(variable)) {
            continue;
        }
        hidden.insert(row);
        if variable.value != Value::None {
            variable.value = Value::None;
            variable.absent = Some(FILTERED.into());
        }
        if all {
            variable.address = None;
        }
    }
}

/// Texts, and arrays and buffers of bytes. An enumerator's name is text as well; its type is no type of characters.
fn holds_text(variable: &Variable) -> bool {
    const WORDS: [&str; 17] = [
        "char",
        "wchar_t",
        "char8_t",
        "char16_t",
        "char32_t",
        "signed char",
        "unsigned char",
        "u8",
        "i8",
        "uint8_t",
        "int8_t",
        "str",
        "String",
        "string",
        "string_view",
        "OsString",
        "CString",
    ];
    let mut words = variable.type_name.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    words.any(|w| WORDS.contains(&w) || w.starts_with("basic_string") || w == "byte" || w == "PathBuf" || w == "Path")
}

fn memory(snapshot: &mut Snapshot, all: bool) {
    let code: Vec<(u64, u64)> = snapshot
        .mappings
        .iter()
        .filter(|m| m.protection.contains('x') && !m.protection.contains('w') && m.path.is_some())
        .map(|m| (m.start, m.end))
        .collect();
    let is_code = |start: u64, length: u64| {
        let end = start.saturating_add(length);
        code.iter().any(|(from, to)| *from <= start && end <= *to)
    };
    for extent in &mut snapshot.memory {
        if extent.bytes.is_empty() || (!all && is_code(extent.address, extent.length)) {
            continue;
        }
        extent.bytes = Vec::new();
        extent.absent = Some(FILTERED.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use snapshot_format::schema::{Attribute, Mapping, MemoryExtent, RegisterValue};

    fn sample() -> Snapshot {
        let variable = |name: &str, type_name: &str, parent, value| Variable {
            name: name.into(),
            type_name: type_name.into(),
            parent,
            value,
            ..Variable::default()
        };
        let extent = |address| MemoryExtent { address, length: 4, bytes: vec![1, 2, 3, 4], ..MemoryExtent::default() };
        let mut s = Snapshot {
            variables: vec![
                variable("n", "int", None, Value::Signed(7)),
                variable("state", "enum state", None, Value::Text("RUNNING".into())),
                variable("password", "const char *", None, Value::Pointer(0x1000)),
                variable("*", "const char", Some(2), Value::Text("hunter2".into())),
                variable("user", "User", None, Value::None),
                variable("key", "unsigned char [2]", Some(4), Value::None),
                variable("[0]", "unsigned char", Some(5), Value::Unsigned(0xaa)),
                variable("s", "std::basic_string<T>", None, Value::Text("secret".into())),
            ],
            memory: vec![extent(0x1000), extent(0x5000)],
            mappings: vec![Mapping {
                start: 0x5000,
                end: 0x6000,
                protection: "r-xp".into(),
                path: Some("/bin/x".into()),
                ..Mapping::default()
            }],
            ..Snapshot::default()
        };
        for key in ["proc.environment", "proc.command_line", "proc.limits", "process.uid", "rust.panic.text", "x.y"] {
            s.attributes.push(Attribute { key: key.into(), thread: None, value: "hunter2".into() });
        }
        for name in ["rip", "rax", "xmm0", "ymm15", "st", "vip"] {
            let name = name.to_owned();
            s.registers.push(RegisterValue { thread: 1, frame: 0, name, value: 5 });
        }
        s.identity.arguments = Some("x --password hunter2".into());
        s
    }

    #[test]
    fn secrets_go_and_numbers_stay() {
        let mut s = sample();
        redact(&mut s, Profile::Secrets);
        let values: Vec<_> = s.variables.iter().map(|v| (&*v.name, &v.value, v.absent.as_deref())).collect();
        assert_eq!(values[0], ("n", &Value::Signed(7), None));
        assert_eq!(values[1], ("state", &Value::Text("RUNNING".into()), None));
        assert!(values[2..].iter().all(|(_, v, _)| **v == Value::None));
        assert_eq!(values[3].2, Some("filtered"));
        assert_eq!(values[6].2, Some("filtered"));
        let keys: Vec<_> = s.attributes.iter().map(|a| a.key.as_str()).collect();
        assert_eq!(keys, ["proc.limits", "process.uid"]);
        let registers: Vec<_> = s.registers.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(registers, ["rip", "rax", "st", "vip"]);
        assert_eq!((s.memory[0].bytes.len(), s.memory[1].bytes.len()), (0, 4));
        assert_eq!(s.memory[0].absent.as_deref(), Some("filtered"));
        assert_eq!(s.identity.arguments, None);
    }

    #[test]
    fn stacks_keep_no_value() {
        let mut s = sample();
        redact(&mut s, Profile::Stacks);
        assert!(s.variables.iter().all(|v| v.value == Value::None));
        assert!(s.memory.iter().all(|m| m.bytes.is_empty()));
        assert_eq!(s.registers.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["rip"]);
        assert_eq!(s.attributes.iter().map(|a| a.key.as_str()).collect::<Vec<_>>(), ["proc.limits"]);
    }

    #[test]
    fn without_a_profile_nothing_changes() {
        let mut s = sample();
        redact(&mut s, Profile::None);
        assert_eq!(s.attributes.len(), 6);
        assert!(s.variables.iter().any(|v| v.value == Value::Text("hunter2".into())));
    }
}
