//! The table of `docs/minidump-security.md`: Breakpad's exploitability rating beside our findings, for every dump that it
//! rates. `POSTFAULT_BLESS=1` writes the table again.

use crate::support::*;
use std::fmt::Write;

/// Why the two differ, by dump; the same word for the same reason. Where nothing stands here, they agree: HIGH is high,
/// MEDIUM medium, LOW and INTERESTING low or medium, NONE none or low.
const DIFFERENCES: [(&str, &str); 28] = [
    ("linux_executable_heap", "the null pointer is low; the executable heap is a finding of its own (medium)"),
    ("linux_executable_stack", "the null pointer is low; the executable stack is a finding of its own (medium)"),
    ("linux_inline", "`__builtin_trap()`: a check that stopped the program"),
    ("linux_jmp_to_0", "a call of a null function pointer: nobody can map address 0"),
    ("linux_overflow", "glibc's own check (`__fortify_fail`) stopped the overrun before it was written"),
    (
        "linux_stack_pointer_in_module",
        "a null pointer; the stack's mapping was renamed to `[not stack]` in this file, a name that no kernel writes",
    ),
    (
        "linux_write_to_nonwritable_module",
        "a write to read-only code, which the protection stopped; the address is not chosen",
    ),
    ("thread_name_list", "agrees: a read from a wild pointer"),
    ("read_av_clobber_write", "agrees: a read from a wild pointer"),
    ("read_av_conditional", "agrees: a read from a wild pointer"),
    ("read_av_non_null", "agrees: a read from a wild pointer"),
    (
        "tiny-exe-fastfail",
        "FAST_FAIL_FATAL_APP_EXIT is abort(): not the stack cookie that Breakpad takes every 0xc0000409 for",
    ),
    (
        "write_av_non_canonical",
        "Breakpad counts the reported address (-1); the pointer 0xfefefefefefefefe was never set",
    ),
    ("write_av_non_null", "a write through a wild pointer is the strongest of primitives"),
    ("linux_inside_module_exe_region1", "agrees: a null pointer"),
    ("linux_inside_module_exe_region2", "agrees: a null pointer"),
    (
        "linux_null_dereference",
        "agrees: a null pointer; Windows' null pointers are NONE for Breakpad, with us all are alike",
    ),
    ("linux_null_read_av", "agrees: a null pointer"),
    ("linux_stack_pointer_in_stack", "agrees: a null pointer"),
    ("linux_stack_pointer_in_stack_alt_name", "agrees: a null pointer"),
    ("linux_write_to_under_4k", "agrees: an offset from null"),
    ("linux_divide_by_zero", "NONE and low are next to each other: a program that can be stopped from outside"),
    ("minidump2", "a null pointer: NONE for Breakpad on Windows, INTERESTING on Linux, low with us on both"),
    ("minidump_32bit_crash_addr", "a null pointer, as in minidump2"),
    ("null_read_av", "a null pointer, as in minidump2"),
    ("null_write_av", "a null pointer, as in minidump2"),
    (
        "stack_exhaustion",
        "NONE and low are next to each other: the guard page stopped it, the program can be stopped from outside",
    ),
    ("minidump_crashpad_annotation", "Breakpad has no engine for macOS and iOS"),
];

fn agrees(rating: &str, security: &str) -> bool {
    match rating {
        "HIGH" => security == "high",
        "MEDIUM" => security == "medium",
        "LOW" | "INTERESTING" => matches!(security, "low" | "medium"),
        "NONE" => matches!(security, "none" | "low"),
        _ => false,
    }
}

fn table() -> Option<String> {
    let ratings = std::fs::read_to_string(testdata::fixtures::fixture("minidump/EXPECTED.tsv")?).unwrap();
    let mut text = String::from(
        "| dump | Breakpad | postfault | security | beside it | why they differ |\n|---|---|---|---|---|---|\n",
    );
    let mut rated = 0;
    for line in ratings.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let rating = fields.get(11).copied().unwrap_or_default();
        let name = fields[0].rsplit('/').next().unwrap().trim_end_matches(".dmp");
        if rating.is_empty() || rating == "ERR_PROCESSING" {
            continue;
        }
        let snapshot = snapshot(&dump(name)?);
        let (class, security) = finding(&snapshot);
        assert!(!class.is_empty(), "{name}: no finding");
        let beside: Vec<String> =
            snapshot.findings.iter().skip(1).map(|f| format!("{} ({})", f.class, f.security)).collect();
        let why = DIFFERENCES.iter().find(|(n, _)| *n == name).map_or("", |(_, why)| why);
        assert!(agrees(rating, security) || !why.is_empty(), "{name}: {rating} and {class} {security}: say why");
        let beside = beside.join(", ");
        writeln!(text, "| {name} | {rating} | {class} | {security} | {beside} | {why} |").unwrap();
        rated += 1;
    }
    println!("{rated} rated dumps");
    Some(text)
}

#[test]
fn the_table_of_the_documentation_is_what_we_say() {
    let Some(table) = table() else { return };
    let path = testdata::fixtures::workspace().join("docs/minidump-security.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (head, _) = page.split_once("| dump |").unwrap();
    let expected = format!("{head}{table}");
    if testdata::fixtures::required("POSTFAULT_BLESS") {
        std::fs::write(&path, &expected).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap();
    assert_eq!(page, expected, "docs/minidump-security.md: run this test with POSTFAULT_BLESS=1");
}
