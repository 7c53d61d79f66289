//! Why each shared dump was written, and at which address: what Breakpad and minidump-stackwalk say, where they agree;
//! where we differ, the reason stands here.

use crate::support::*;
use snapshot_format::Snapshot;
use testdata::fixtures::fixture;

/// Dumps whose address is none of an access, although both tools print one.
const NO_ADDRESS: [(&str, &str); 6] = [
    ("linux_raise_sigabrt", "the sender's process and user, which lie where the address of a fault would"),
    ("linux_overflow", "the sender's process and user, which lie where the address of a fault would"),
    ("stack_exhaustion", "where the program stood: the exception's parameters name no address"),
    ("tiny-exe-fastfail", "where the program stood"),
    ("minidump_crashpad_annotation", "where the program stood"),
    ("linux-x86_64_not_crashed", "where the program stood when it asked for the dump"),
];

/// Our reason in Breakpad's words.
fn reason(s: &Snapshot) -> String {
    let Some(event) = &s.event else { return "No crash".into() };
    let Some(name) = &event.signal_name else {
        return if attribute(s, "exception.requested").is_some() { "DUMP_REQUESTED".into() } else { "No crash".into() };
    };
    let access = match event.access.as_deref() {
        Some("read") => "_READ",
        Some("write") => "_WRITE",
        Some("execute") => "_EXEC",
        _ => "",
    };
    match (name.as_str(), &event.code_name) {
        ("EXCEPTION_ACCESS_VIOLATION", _) => format!("{name}{access}"),
        // Breakpad names the code of the fast fail alone.
        ("EXCEPTION_STACK_BUFFER_OVERRUN", Some(code)) => code.clone(),
        (_, Some(code)) => format!("{name} / {code}"),
        _ => name.clone(),
    }
}

#[test]
fn every_dump_has_the_reason_and_address_of_both_tools() {
    let Some(table) = fixture("minidump/EXPECTED.tsv") else { return };
    let (mut rows, mut reasons, mut addresses, mut wrong) = (0, 0, 0, Vec::new());
    for line in std::fs::read_to_string(table).unwrap().lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let field = |n: usize| fields.get(n).map_or("", |f| f.trim());
        let file = fields[0].rsplit('/').next().unwrap();
        let name = file.trim_end_matches(".dmp");
        let place = if fields[0].starts_with("google+breakpad/") { "breakpad" } else { "llvm" };
        let path = fixture(&format!("minidump/{place}/{file}")).unwrap_or_else(|| panic!("{file}"));
        let snapshot = snapshot(&path);
        rows += 1;
        assert!(!snapshot.threads.is_empty(), "{name}");
        if field(9).is_empty() {
            continue;
        }
        // "SIGSEGV /0x00000000": the writer kept no code.
        let (ours, theirs) = (reason(&snapshot), field(9));
        let theirs = theirs
            .split_once('/')
            .map_or(theirs, |(signal, code)| if code.trim().starts_with("0x") { signal.trim() } else { theirs });
        if ours == theirs {
            reasons += 1;
        } else {
            wrong.push(format!("{name}: {ours}, theirs {theirs}"));
        }
        let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
        let (Some(breakpad), Some(rust)) = (number(field(10)), number(field(13))) else { continue };
        assert_eq!(breakpad, rust, "{name}: the two do not agree");
        let ours = snapshot.event.as_ref().and_then(|e| e.address);
        match NO_ADDRESS.iter().find(|(n, _)| *n == name) {
            Some((_, why)) => {
                let pc = frames(&snapshot)[0].pc;
                let sender = snapshot.event.as_ref().and_then(|e| e.sender_pid);
                assert!(why.starts_with(if breakpad == pc { "where" } else { "the sender" }), "{name}: {why}");
                assert!(breakpad == pc || sender == Some(breakpad & 0xffff_ffff), "{name}");
                assert_eq!(ours, None, "{name}: {why}");
            }
            None if ours == Some(breakpad) => addresses += 1,
            None => wrong.push(format!("{name}: address {ours:x?}, theirs {breakpad:#x}")),
        }
    }
    assert_eq!(wrong, [""; 0], "of {rows} dumps");
    println!("{rows} dumps: {reasons} reasons and {addresses} addresses are equal");
    assert!(rows >= 50 && reasons >= 40 && addresses >= 35);
}
