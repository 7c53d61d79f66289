//! Names against their known forms, and against binutils' `c++filt` (the code that gdb uses).

use super::*;

#[test]
fn both_manglings_and_neither() {
    assert_eq!(demangle("_Z3fooIiEvT_").as_deref(), Some("foo<int>(int)"));
    assert_eq!(demangle("_ZN2ns1KC4Ei").as_deref(), Some("ns::K::K(int)"));
    assert_eq!(demangle("_ZN4core3fmt5write17h0123456789abcdefE").as_deref(), Some("core::fmt::write"));
    assert_eq!(demangle("_RNvC1a4main").as_deref(), Some("a::main"));
    assert_eq!(demangle("main"), None);
}

#[test]
fn short_names_for_long_ones_are_refused() {
    // Each nested template doubles what the substitution before it stands for.
    let mut name = String::from("_Z1fI1aIiiE");
    for n in 0..40 {
        let seq = if n == 0 { "S0_".to_owned() } else { "S1_".to_owned() };
        name.push_str(&format!("1bI{seq}{seq}E"));
    }
    name.push_str("EvT_");
    assert!(demangle(&name).is_none_or(|n| n.len() <= LIMIT_DEMANGLED));
    assert!(demangle(&format!("_Z{}i", "P".repeat(LIMIT_MANGLED))).is_none());
    assert!(demangle(&format!("_Z1f{}i", "P".repeat(10_000))).is_none());
}

/// Runs a tool with `input`; `None` when it is not installed.
fn tool(name: &str, args: &[&str], input: &str) -> Option<String> {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let child =
        Command::new(name).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = child.ok()?;
    let (mut stdin, text) = (child.stdin.take().unwrap(), input.to_owned());
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn every_name_of_a_library_as_binutils_has_it() {
    let Some(path) = tool("g++", &["-print-file-name=libstdc++.so.6"], "") else { return println!("skipped: no g++") };
    let names = tool("nm", &["-D", "--without-symbol-versions", path.trim()], "").unwrap_or_default();
    let extra = std::env::var("POSTFAULT_NAMES").ok().map(|p| std::fs::read_to_string(p).unwrap()).unwrap_or_default();
    let mut names: Vec<&str> = names
        .lines()
        .filter_map(|line| line.rsplit(' ').next())
        .chain(extra.lines())
        .filter(|n| n.starts_with("_Z") && !n.contains('@'))
        .collect();
    names.sort_unstable();
    names.dedup();
    let Some(expected) = tool("c++filt", &["-i"], &(names.join("\n") + "\n")) else {
        return println!("skipped: no c++filt");
    };
    let (mut unknown, mut wrong) = (Vec::new(), Vec::new());
    for (name, expected) in names.iter().zip(expected.lines()) {
        match itanium(name, true) {
            None => unknown.push(name),
            // Whether "> >" has its space after an empty pack is an accident.
            Some(ours) if ours.replace(" >", ">") != expected.replace(" >", ">") => wrong.push((name, ours, expected)),
            Some(_) => {}
        }
    }
    assert!(names.len() > 1000);
    println!("{} names, {} unknown, {} different", names.len(), unknown.len(), wrong.len());
    for name in unknown.iter().take(5) {
        println!("unknown {name}");
    }
    for (name, ours, expected) in wrong.iter().take(5) {
        println!("{name}\n  ours {ours}\n  peer {expected}");
    }
    assert!(wrong.len() * 1000 <= names.len() && unknown.len() * 100 <= names.len());
}
