//! Findings as SARIF 2.1.0 (OASIS), for code hosts and editors.

use super::findings::{frame, frames, grounds, line};
use crate::view::View;
use serde_json::{Value, json};
use snapshot_format::schema::Frame;
use std::io::{self, Write};

/// Most frames of a result's stack.
const LIMIT_FRAMES: usize = 200;

/// A path as a URI reference (RFC 3986): `file:` for absolute ones.
fn uri(path: &str) -> String {
    let mut text = if path.starts_with('/') { "file://".to_owned() } else { String::new() };
    for b in path.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => text.push(char::from(b)),
            _ => text.push_str(&format!("%{b:02X}")),
        }
    }
    text
}

fn location(view: &View<'_>, index: usize, frame: &Frame) -> Value {
    let mut value = json!({ "message": { "text": line(view, index, frame) } });
    if let (Some(file), Some(line)) = (&frame.file, frame.line) {
        let mut region = json!({ "startLine": line });
        if let Some(column) = frame.column {
            region["startColumn"] = column.into();
        }
        value["physicalLocation"] = json!({ "artifactLocation": { "uri": uri(file) }, "region": region });
    }
    value
}

pub fn write(view: &View<'_>, out: &mut dyn Write) -> io::Result<()> {
    let snapshot = view.snapshot;
    let mut rules: Vec<&str> = snapshot.findings.iter().map(|f| f.class.as_str()).collect();
    rules.sort_unstable();
    rules.dedup();
    let results = snapshot.findings.iter().enumerate().map(|(row, f)| {
        let stack = frames(view, f).iter().enumerate().take(LIMIT_FRAMES);
        let stack: Vec<Value> = stack
            .map(|(n, frame)| {
                let mut value = json!({ "location": location(view, n, frame) });
                if let Some(module) = view.module(frame) {
                    value["module"] = module.path.as_str().into();
                }
                value
            })
            .collect();
        let mut result = json!({
            "ruleId": f.class,
            "level": match f.severity.as_str() { "fatal" | "error" => "error", "warning" => "warning", _ => "note" },
            "message": { "text": f.text },
            "rank": (f.confidence * 100.0).clamp(0.0, 100.0),
            "properties": {
                "security": f.security,
                "confidence": f.confidence,
                "evidence": grounds(view, row, false),
                "counterEvidence": grounds(view, row, true),
            },
        });
        if let Some(place) = frame(view, f) {
            result["locations"] = json!([location(view, f.frame.unwrap_or(0) as usize, place)]);
        }
        if !stack.is_empty() {
            result["stacks"] = json!([{ "frames": stack }]);
        }
        if let Some(fingerprint) = &snapshot.fingerprint {
            result["fingerprints"] = json!({ "postfault/1": fingerprint.value });
        }
        result
    });
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "postfault",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules.iter().map(|id| json!({ "id": id })).collect::<Vec<_>>(),
            } },
            "results": results.collect::<Vec<_>>(),
        }],
    });
    serde_json::to_writer_pretty(&mut *out, &log)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_uris() {
        assert_eq!(uri("/a b/c++.cc"), "file:///a%20b/c%2B%2B.cc");
        assert_eq!(uri("src/main.rs"), "src/main.rs");
    }
}
