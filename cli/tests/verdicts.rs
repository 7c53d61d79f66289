//! Every victim's death gets its class, from its kernel core, in every variant; one that only waits gets none.

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

/// What is wrong with the verdict about a victim that waits. The only one that has a fault behind it is `signal_frame`,
/// which waits in the handler of one.
fn while_waiting(victim: &str, document: &serde_json::Value) -> Option<String> {
    let attribute =
        |key: &str| document["attributes"].as_array()?.iter().find(|a| a["key"] == key).map(|a| &a["value"]);
    let found: Vec<&str> =
        document["findings"].as_array().unwrap().iter().filter_map(|f| f["class"].as_str()).collect();
    let origin = attribute("event.origin").and_then(|v| v.as_str());
    if victim == "signal_frame" {
        let right = found.first() == Some(&"null-deref")
            && origin == Some("signal-frame")
            && document["event"]["address"] == "0x20"
            && document["event"]["access"] == "read";
        return (!right).then(|| format!("{origin:?}, {}, {found:?}", document["event"]));
    }
    (!found.is_empty() || origin.is_some()).then(|| format!("{}, {found:?}", document["event"]))
}

#[cfg(target_os = "linux")]
#[test]
fn a_victim_that_waits_has_done_nothing_wrong() {
    let mut wrong = Vec::new();
    for victim in testdata::victims::all() {
        let Some(variant) = victim.variants.first() else { continue };
        let live = match testdata::victims::run_live(victim.name, variant, &[]) {
            Ok(live) => live,
            Err(why) => {
                assert!(!testdata::fixtures::required("POSTFAULT_REQUIRE_CORES"), "{} {variant}: {why}", victim.name);
                eprintln!("skipped: {} {variant}: {why}", victim.name);
                continue;
            }
        };
        let pid = live.pid().to_string();
        for options in [&[][..], &["--no-variables"]] {
            let document = json(&[&["bt", "--pid", &pid, "--json"], options].concat());
            if let Some(problem) = while_waiting(victim.name, &document) {
                wrong.push(format!("{} {variant} {options:?}: {problem}", victim.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn cores_of_waiting_victims_show_no_crash() {
    let mut wrong = Vec::new();
    for (name, variant) in [
        ("threads", "gcc-O2"),
        ("rust_threads", "rust-O0"),
        ("signal_frame", "gcc-O0"),
        ("uncaught_exception", "gcc-O0"),
    ] {
        let core = match testdata::victims::wait_gcore(name, variant) {
            Ok(core) => core,
            Err(why) => {
                assert!(!testdata::fixtures::required("POSTFAULT_REQUIRE_CORES"), "{name} {variant}: {why}");
                eprintln!("skipped: {name} {variant}: {why}");
                continue;
            }
        };
        let document = json(&["bt", arg(&core), "--json", "--no-variables"]);
        wrong.extend(while_waiting(name, &document).map(|problem| format!("{name} {variant}: {problem}")));
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
