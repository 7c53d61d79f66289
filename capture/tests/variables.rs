//! Every variable of every frame of the victims, compared leaf by leaf with gdb's values.
//!
//! The programs are built here, stopped, and dumped by gdb; the cores are read by a reader of this test, so that no
//! backend is involved. A difference fails the test, unless `excused` says why gdb is wrong or says less.

#[path = "support/compare.rs"]
mod compare;
#[path = "support/core.rs"]
mod core;
#[path = "support/inspect.rs"]
mod inspect;

use capture::VariableOptions as Options;
use capture::variables::{Collector, Variable};
use compare::Comparison;
use debuginfo::{DebugInfo, Locator, Modules};
use evidence::{Doubts, Target as _};
use serde_json::Value as Json;
use snapshot_format::schema::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What gdb says about all variables of all frames of all threads.
fn ask_gdb(program: &Path, core: &Path) -> Json {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/gdb.py");
    let output = Command::new("gdb")
        .args(["-nx", "-batch", "-iex", "set debuginfod enabled off", "-iex", "set auto-load off"])
        .arg("-x")
        .arg(script)
        .arg(program)
        .arg(core)
        .output()
        .expect("gdb is installed");
    let text = String::from_utf8_lossy(&output.stdout);
    let json = text.lines().find_map(|l| l.strip_prefix("@@JSON"));
    let json = json.unwrap_or_else(|| panic!("gdb gave no answer: {}", String::from_utf8_lossy(&output.stderr)));
    serde_json::from_str(json).expect("gdb's script prints JSON")
}

fn compare_victim(name: &str, variant: &str) -> Comparison {
    let program = testdata::victims::build(name, variant).unwrap();
    let core: PathBuf = testdata::victims::wait_gcore(name, variant).unwrap();
    let theirs = ask_gdb(&program, &core);
    let options = Options { depth: 12, elements: 256, string_bytes: 4096, pointer_depth: 2, frame_bytes: 1 << 24 };
    let ours = inspect::variables(&core, &options);
    let mut comparison = Comparison::new(&format!("{name} {variant}"));
    for thread in theirs.as_array().unwrap() {
        let id = thread["id"].as_u64().unwrap();
        let Some((_, frames)) = ours.iter().find(|(n, _)| *n == id) else {
            comparison.fail(format!("thread {id} is not in our list"));
            continue;
        };
        for (n, (frame, (pc, function, variables))) in
            thread["frames"].as_array().unwrap().iter().zip(frames).enumerate()
        {
            let label = format!("#{n} {}", function.as_deref().unwrap_or("??"));
            if frame["pc"].as_u64() != Some(*pc) {
                comparison.fail(format!("{label}: pc {pc:#x}, gdb has {:#x}", frame["pc"].as_u64().unwrap_or(0)));
                break;
            }
            comparison.frame(&label, variables, thread["frames"].as_array().unwrap(), n);
        }
    }
    comparison
}

#[test]
fn c_as_gdb_shows_it() {
    compare_victim("variables", "gcc-O0").finish(250);
    compare_victim("variables", "clang-O2").finish(200);
    compare_victim("variables", "gcc-O0-dwarf2").finish(250);
}

#[test]
fn optimised_code_as_gdb_shows_it() {
    compare_victim("optimised", "gcc-O2").finish(50);
    compare_victim("optimised", "clang-O2-dwarf4").finish(50);
    compare_victim("inlines", "gcc-O2").finish(80);
    compare_victim("inlines", "dwz-dwarf4").finish(80);
    compare_victim("optimised", "split-dwp-dwarf4").finish(50);
}

#[test]
fn classes_as_gdb_shows_them() {
    compare_victim("classes", "gcc-O0").finish(100);
    compare_victim("classes", "clang-O2").finish(100);
    compare_victim("classes", "types").finish(100);
}

#[test]
fn globals_and_thread_locals_by_name() {
    let core = testdata::victims::wait_gcore("variables", "gcc-O0").unwrap();
    let target = core::read(&core);
    let doubts = Doubts::new();
    let modules = Modules::outline(&target, target.memory(), &Locator::default(), &doubts);
    let info = DebugInfo::new(&modules, &doubts);
    let collector = Collector::new(&info, target.memory(), Options::default());
    let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let values = |list: &[Variable]| list.iter().map(|v| (v.name.clone(), v.value.clone())).collect::<Vec<_>>();
    let globals = collector.globals(&names(&["global_counter", "static_ratio", "tls_value", "nothing_like_it"]));
    assert_eq!(
        values(&globals),
        [("global_counter".into(), Value::Signed(42)), ("static_ratio".into(), Value::Float(2.5))]
    );
    let node = collector.globals(&names(&["global_node"]));
    assert!(matches!(&node[0].children[0].value, Value::Text(t) if t.ends_with(" \"global\"")), "{node:?}");
    let stack = unwind::unwind(&target.threads[0].registers, target.memory(), &info, &unwind::Limits::default());
    // `main` added its argument count, 2, to the initial 11.
    let locals = collector.thread_locals(&names(&["tls_value", "tls_text", "global_counter"]), &stack.frames);
    assert_eq!(
        values(&locals),
        [("tls_value".into(), Value::Signed(13)), ("tls_text".into(), Value::Text("thread".into()))],
        "{locals:?}"
    );
}

/// For a developer: one victim in one variant, named by the environment.
#[test]
fn chosen_by_environment() {
    if let (Ok(victim), Ok(variant)) = (std::env::var("VICTIM"), std::env::var("VARIANT")) {
        compare_victim(&victim, &variant).finish(0);
    }
}
