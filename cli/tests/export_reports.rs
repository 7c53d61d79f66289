//! Findings as SARIF, JUnit and HTML.

mod common;

use common::{arg, json, run, stdout};

#[test]
fn reports_say_what_the_snapshot_says() {
    let Some(core) = common::core("null_deref", "gcc-O0") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pfsnap");
    run(&["capture", arg(&core), "-o", arg(&path)], 0);
    let whole = json(&["show", arg(&path), "--json"]);
    let finding = &whole["findings"][0];
    let frame = &whole["threads"][0]["frames"][0];
    assert_eq!(finding["class"], "null-deref");

    let sarif = json(&["export", arg(&path), "--to", "sarif"]);
    assert_eq!(sarif["version"], "2.1.0");
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!(result["ruleId"], finding["class"]);
    assert_eq!(result["message"]["text"], finding["text"]);
    assert_eq!(result["properties"]["evidence"], finding["evidence"]);
    let place = &result["stacks"][0]["frames"][0]["location"]["physicalLocation"];
    assert_eq!(place["region"]["startLine"], frame["line"]);
    assert!(place["artifactLocation"]["uri"].as_str().unwrap().ends_with("null_deref.c"));
    let count = |value: &serde_json::Value| value.as_array().map(Vec::len);
    assert_eq!(count(&result["stacks"][0]["frames"]), count(&whole["threads"][0]["frames"]));

    let junit = stdout(&["export", arg(&path), "--to", "junit"]);
    assert!(junit.contains("<failure type=\"null-deref\"") && junit.contains("null_deref.c"), "{junit}");
    assert_eq!(junit.matches("<testcase ").count(), junit.matches("</testcase>").count());

    let html = stdout(&["export", arg(&path), "--to", "html"]);
    assert!(html.starts_with("<!DOCTYPE html>") && html.trim_end().ends_with("</html>"));
    for text in ["null-deref", "null_deref.c", whole["modules"][0]["build_id"].as_str().unwrap()] {
        assert!(html.contains(text), "{text}");
    }
    for outside in ["<script", "src=", "http:", "https:"] {
        assert!(!html.contains(outside), "a page by itself: {outside}");
    }
}
