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
            if found.first() != Some(&victim.class) {
                wrong.push(format!("{} {variant}: expected {}, found {found:?}", victim.name, victim.class));
            }
        }
    }
    assert!(checked > 50, "only {checked} victims were looked at");
    assert!(wrong.is_empty(), "{} of {checked}:\n{}", wrong.len(), wrong.join("\n"));
}
