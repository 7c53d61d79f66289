//! Every victim in every variant builds, waits as promised, and dies by the signal it promises.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use testdata::fixtures::required;
use testdata::victims::{self, VictimError};

/// Runs `check` on every victim and variant on two threads, and fails with all that went wrong.
fn for_each(check: impl Fn(&victims::Victim, &str) -> Result<(), VictimError> + Sync) {
    let jobs: Vec<_> = victims::all().iter().flat_map(|v| v.variants.iter().map(move |w| (v, *w))).collect();
    assert!(jobs.len() > 100, "only {} victims and variants", jobs.len());
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((victim, variant)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(e) = check(victim, variant) {
                        wrong.lock().unwrap().push(format!("{} {variant}: {e}", victim.name));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), jobs.len(), wrong.join("\n"));
}

#[test]
fn every_victim_builds_waits_and_dies_as_promised() {
    for_each(|victim, variant| {
        let live = victims::run_live(victim.name, variant, &[])?;
        let exe = std::fs::read_link(format!("/proc/{}/exe", live.pid())).unwrap();
        assert_eq!(exe, live.program());
        drop(live);
        if victim.signal.is_some() {
            let folder = tempfile::tempdir().unwrap();
            victims::run_to_death(victim.name, variant, folder.path(), false)?;
        }
        Ok(())
    });
}

#[test]
fn a_core_is_an_elf_core_of_the_victim() {
    let core = match victims::crash_core("null_deref", "gcc-O2") {
        Ok(core) => core,
        Err(VictimError::NoCore { why }) if !required("POSTFAULT_REQUIRE_CORES") => {
            eprintln!("skipped: {why}");
            return;
        }
        Err(e) => panic!("{e}"),
    };
    let head = std::fs::read(&core).unwrap();
    assert_eq!(head.get(..4), Some(&b"\x7fELF"[..]));
    assert_eq!(head.get(16..18), Some(&[4, 0][..]), "e_type of {} is not ET_CORE", core.display());
    assert_eq!(victims::crash_core("null_deref", "gcc-O2").unwrap(), core, "the second call finds the first core");
}

#[test]
fn gcore_leaves_the_victim_running() {
    let live = victims::run_live("abort", "gcc-O0", &[]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let core = victims::gcore(live.pid(), folder.path()).unwrap();
    assert_eq!(std::fs::read(core).unwrap().get(..4), Some(&b"\x7fELF"[..]));
    assert!(live.threads().iter().all(|(_, state)| *state == 'S'), "{:?}", live.threads());
}

#[test]
fn unknown_names_are_errors() {
    assert!(matches!(victims::build("no-such", "gcc-O0"), Err(VictimError::Unknown { .. })));
    assert!(matches!(victims::build("abort", "no-such"), Err(VictimError::Unknown { .. })));
    assert!(matches!(victims::build("abort", "rust-O0"), Err(VictimError::Unknown { .. })));
}

#[test]
fn the_checksum_program_verifies_itself() {
    let live = victims::run_live("checksum", "gcc-O2", &["20"]).unwrap();
    assert_eq!(live.threads().len(), 21);
    let (status, said) = live.terminate().unwrap();
    assert!(status.success(), "{status}: {said}");
    assert!(said.starts_with("OK 20 threads "), "{said}");
}

/// A backtrace of a core by somebody else's debugger.
fn backtrace(form: &str, program: &Path, core: &Path) -> (String, String) {
    let folder = format!("set debug-file-directory {}", victims::separate_debug_dir(program).display());
    // gdb 13.1 dies of SIGSEGV on a DWARF 5 package file (index version 5); lldb 14 and 19 read it.
    let output = if form == "clang-split-dwp" {
        let runs = |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success());
        let lldb = ["lldb-19", "lldb"].into_iter().find(runs).expect("lldb is installed");
        Command::new(lldb).args(["--batch", "--no-lldbinit", "-o", "bt", "-c"]).args([core, program]).output()
    } else {
        Command::new("gdb")
            .args(["-nx", "-batch", "-iex", "set debuginfod enabled off", "-iex", &folder, "-ex", "bt"])
            .args([program, core])
            .output()
    };
    let output = output.unwrap();
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn every_form_of_debug_information_is_understood_by_a_debugger() {
    for form in victims::find("inlines").unwrap().variants {
        let core = match victims::crash_core("inlines", form) {
            Ok(core) => core,
            Err(VictimError::NoCore { why }) if !required("POSTFAULT_REQUIRE_CORES") => {
                eprintln!("skipped: {why}");
                return;
            }
            Err(e) => panic!("{form}: {e}"),
        };
        let (text, errors) = backtrace(form, &victims::build("inlines", form).unwrap(), &core);
        let expected = match *form {
            "stripped" => "outer::v2::Matrix<int, 4>::operator+=",
            "minidebuginfo" => "(anonymous namespace)::Hidden::run",
            _ => "inlines.cc:",
        };
        let found =
            text.lines().any(|l| l.trim_start_matches(['*', ' ']).starts_with(['#', 'f']) && l.contains(expected));
        assert!(found, "{form}: `{expected}` is in no frame of\n{text}\n{errors}");
    }
}
