//! Every victim's death gets its class, from its kernel core, in every variant.

mod common;

use common::{arg, core, json};

#[test]
fn every_victim_is_classified() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for victim in testdata::victims::all() {
        if victim.signal.is_none() {
            continue;
        }
        for variant in victim.variants {
            let Some(core) = core(victim.name, variant) else { return };
            let document = json(&["bt", arg(&core), "--json", "--no-variables"]);
            let found: Vec<&str> =
                document["findings"].as_array().unwrap().iter().filter_map(|f| f["class"].as_str()).collect();
            checked += 1;
            if let Some(problem) = said(victim.name, &document) {
                wrong.push(format!("{} {variant}: {problem}", victim.name));
            }
            if found.first() != Some(&victim.class) {
                wrong.push(format!("{} {variant}: expected {}, found {found:?}", victim.name, victim.class));
            }
        }
    }
    assert!(checked > 50, "only {checked} victims were looked at");
    assert!(wrong.is_empty(), "{} of {checked}:\n{}", wrong.len(), wrong.join("\n"));
}

/// What is wrong with the words that a victim is known to end with.
fn said(victim: &str, document: &serde_json::Value) -> Option<String> {
    let message = document["event"]["message"].as_str().unwrap_or_default();
    let attribute = |key: &str| {
        let all = document["attributes"].as_array()?;
        all.iter().find(|a| a["key"] == key)?["value"].as_str()
    };
    match victim {
        "assert" => (!message.ends_with("Assertion `low <= high && \"range is turned\"' failed."))
            .then(|| format!("message {message:?}")),
        "uncaught_exception" => {
            let found = (attribute("cxx.exception.type"), attribute("cxx.exception.what"));
            (found != (Some("ParseError"), Some("unexpected end"))).then(|| format!("exception {found:?}"))
        }
        "rust_panic" => {
            let text = "called `Result::unwrap()` on an `Err` value: ParseIntError { kind: InvalidDigit }";
            let right = message.starts_with("panicked at ")
                && message.ends_with(&format!("/rust_panic.rs:18:39:\n{text}"))
                && attribute("rust.panic.text") == Some(text);
            (!right).then(|| format!("message {message:?}"))
        }
        "rust_index" => (!message.ends_with(":6:27:\nindex out of bounds: the len is 3 but the index is 3"))
            .then(|| format!("message {message:?}")),
        _ => None,
    }
}
