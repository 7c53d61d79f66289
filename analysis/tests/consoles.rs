//! Consoles of a real kernel that was made to fail in two dozen ways: class, function, module, task and panic string.

use testdata::fixtures::workspace;

#[test]
fn verdict_and_truth() {
    let folder = workspace().join("testdata/kernel-logs");
    let truth = std::fs::read_to_string(folder.join("truth.tsv")).unwrap();
    let mut kinds = 0;
    for row in truth.lines().filter(|l| !l.starts_with('#')) {
        let [kind, _, class, function, module, command, panic] = row.split('\t').collect::<Vec<_>>()[..] else {
            panic!("columns of: {row}")
        };
        kinds += 1;
        let log = std::fs::read_to_string(folder.join(format!("{kind}.log"))).unwrap();
        let mut snapshot = analysis::snapshot_of_log(&log);
        analysis::analyse(&mut snapshot);
        let Some(first) = snapshot.findings.first() else {
            assert_eq!((class, snapshot.fingerprint.is_none()), ("-", true), "{kind}: no finding");
            continue;
        };
        assert_eq!(first.class, class, "{kind}: {}", first.text);
        let blamed = format!(" in {function}() [{module}]");
        assert!(
            first.text.ends_with(&blamed) || (function == "-" && !first.text.contains("()")),
            "{kind}: {}",
            first.text
        );
        let task = snapshot.identity.command.as_deref().unwrap_or_default();
        assert!(task == command || (command.ends_with('/') && task.starts_with(command)), "{kind}: {task}");
        let died = snapshot.findings.iter().find(|f| f.class == "kernel-panic");
        let says = died.map(|f| f.text.trim_start_matches("the kernel panicked: ").to_owned());
        assert_eq!(says.as_deref().is_some_and(|s| s.starts_with(panic)), panic != "-", "{kind}: {says:?}");
        let mut classes: Vec<&str> = snapshot.findings.iter().map(|f| f.class.as_str()).collect();
        classes.retain(|c| *c != class && !matches!(*c, "kernel-panic" | "kernel-oops"));
        assert!(classes.is_empty(), "{kind}: also {classes:?}");
        if function != "-" {
            let frames = snapshot.fingerprint.map(|f| f.frames).unwrap_or_default();
            assert_eq!(frames.first().map(String::as_str), Some(function), "{kind}");
        }
    }
    assert_eq!(kinds, 22);
}
