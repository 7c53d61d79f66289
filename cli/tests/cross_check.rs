//! Every victim, live, as a kernel core and as a gcore: frames equal gdb's and eu-stack's.
//!
//! `POSTFAULT_CROSS_CHECK=all` (`cargo xtask cross-check`) looks at every variant in every way; without it each victim is
//! looked at in one variant per way, which takes turns so that all variants are seen. `POSTFAULT_VICTIM` names the only
//! victims to look at, with commas between them, and `POSTFAULT_VARIANT` the only variant.
//! Differences that are the peer's own are told apart by their reason (`peer-...`) in the comparison; those that remain
//! are listed in [`ARGUED`], each with the proof that the peer is wrong. Where the proof calls another peer as a witness,
//! the test checks that it was asked about that very frame and agrees with us.
//!
//! The values of all variables are compared with gdb's as well, part by part.

mod common;

use common::{arg, postfault};
use std::collections::{BTreeMap, BTreeSet};
use testdata::victims::{self, Victim};

/// A difference in which the peer is wrong.
struct Argued {
    /// `*` is every victim.
    victim: &'static str,
    /// `*` is every variant; `m32*` those that begin so.
    variant: &'static str,
    /// Only in a process that runs on between our look and the peer's.
    live: bool,
    /// `*` is every peer.
    peer: &'static str,
    reason: &'static str,
    /// The variables that it is about; empty is all of them, and frames.
    variables: &'static [&'static str],
    /// What the peer says begins with this.
    says: &'static str,
    /// The function that the thread is in.
    innermost: Option<&'static str>,
    /// A peer that has the frame as we do.
    witness: Option<&'static str>,
    /// Why the peer is wrong.
    proof: &'static str,
}

const ARGUED: &[Argued] = &[
    Argued {
        victim: "*",
        variant: "*",
        live: true,
        peer: "gdb",
        reason: "value-differs",
        variables: &["req", "rem"],
        says: "",
        innermost: None,
        witness: None,
        proof: "live: the kernel writes the time that is left into the argument of a nanosleep() that a debugger \
                interrupts; gdb looks later. In cores of the same programs they are equal",
    },
    Argued {
        victim: "*",
        variant: "*",
        live: true,
        peer: "gdb",
        reason: "value-differs",
        variables: &["pd*.rseq_area"],
        says: "",
        innermost: None,
        witness: None,
        proof: "live: the kernel writes on which CPU a thread runs into its restartable sequences area whenever it has \
                moved; gdb looks later",
    },
    Argued {
        victim: "threads",
        variant: "*",
        live: true,
        peer: "gdb",
        reason: "value-differs",
        variables: &["seed"],
        says: "",
        innermost: None,
        witness: None,
        proof: "live: mix() of threads computes the next `seed` without end; gdb looks later. In its cores they are equal",
    },
    Argued {
        victim: "checksum",
        variant: "*",
        live: true,
        peer: "gdb",
        reason: "value-differs",
        variables: &["rest", "w", "in", "out"],
        says: "",
        innermost: None,
        witness: None,
        proof: "live: checksum computes while it is looked at, and these are what it computes with; gdb looks later. In \
                its cores they are equal",
    },
    Argued {
        victim: "jit",
        variant: "*",
        live: false,
        peer: "gdb",
        reason: "ours-lost-value",
        variables: &["argc", "argv"],
        says: "",
        innermost: None,
        witness: None,
        proof: "jit: gdb has no call frame information for the code in the anonymous mapping and guesses two frames there \
                (peer-guessed); the registers that it shows in the frames around them are guesses as well",
    },
    Argued {
        victim: "rust_abort",
        variant: "*",
        live: false,
        peer: "gdb",
        reason: "ours-lost-value",
        variables: &[],
        says: "",
        innermost: Some("clone3"),
        witness: None,
        proof: "rust_abort: glibc ends the call frame information of clone3() before its system call, in which the thread \
                that makes the other one may be when that one aborts. gdb guesses that registers were kept; where no \
                rule says so, what its callers have in registers is not known",
    },
    Argued {
        victim: "inlines",
        variant: "*",
        live: false,
        peer: "gdb",
        reason: "value-differs",
        variables: &["i"],
        says: "2",
        innermost: None,
        witness: None,
        proof: "inlines: `i` of Matrix::at() is 0 in the source; its location is the value on entry to the function that \
                it was inlined into, and gdb 13 takes it from the caller of the wrong frame. gdb itself shows `i` = 0 in \
                the frame of the operator that is inlined around it",
    },
    Argued {
        victim: "optimised",
        variant: "*",
        live: false,
        peer: "gdb",
        reason: "value-differs",
        variables: &["a", "b"],
        says: "",
        innermost: None,
        witness: None,
        proof: "optimised: `a` and `b` of both() were inlined into pieces(); their locations are values on entry to \
                pieces(), and gdb 13 takes them from the caller of the wrong frame. gdb itself shows the same numbers as \
                we do in `pair` of pieces(), which was made of them",
    },
    Argued {
        victim: "no_cfi",
        variant: "*",
        live: false,
        peer: "eu-stack",
        reason: "ours-extra",
        variables: &[],
        says: "",
        innermost: None,
        witness: None,
        proof: "no_cfi: only before() calls without_cfi(), which has neither frame pointer nor call frame information; \
                eu-stack follows the frame pointer of before() and loses it",
    },
    Argued {
        victim: "jump_null",
        variant: "*",
        live: false,
        peer: "eu-stack",
        reason: "ours-missing-inline",
        variables: &[],
        says: "0x0 ?",
        innermost: None,
        witness: None,
        proof: "jump_null: one call of a null pointer is one frame at 0; eu-stack shows it twice and stops. gdb has it \
                once, and the caller behind it",
    },
    Argued {
        victim: "jump_null",
        variant: "*",
        live: false,
        peer: "eu-stack",
        reason: "ours-extra",
        variables: &[],
        says: "",
        innermost: None,
        witness: Some("gdb"),
        proof: "jump_null: the call pushed its return address, which is in run(); eu-stack follows the frame pointer, \
                which run() still owns, and loses run(). gdb has it",
    },
    Argued {
        victim: "exec_nonexec",
        variant: "*",
        live: false,
        peer: "*",
        reason: "ours-lost-name",
        variables: &[],
        says: "code",
        innermost: None,
        witness: None,
        proof: "exec_nonexec: `code` is a variable (STT_OBJECT), into which the program called; no function has that \
                name",
    },
    Argued {
        victim: "exec_nonexec",
        variant: "*",
        live: false,
        peer: "eu-stack",
        reason: "ours-extra",
        variables: &[],
        says: "",
        innermost: None,
        witness: Some("gdb"),
        proof: "exec_nonexec: the call pushed its return address, which is in enter(); eu-stack follows the frame \
                pointer, which enter() still owns, and loses enter(). gdb has it",
    },
    Argued {
        victim: "*",
        variant: "gcc-O2",
        live: false,
        peer: "eu-stack",
        reason: "file-differs",
        variables: &[],
        says: "",
        innermost: None,
        witness: Some("gdb"),
        proof: "eu-stack gives an inlined function of the C++ library the line of the program that it was inlined at; gdb has the line in the library, as we do",
    },
    Argued {
        victim: "*",
        variant: "m32*",
        live: false,
        peer: "eu-stack",
        reason: "ours-extra",
        variables: &[],
        says: "",
        innermost: None,
        witness: Some("gdb"),
        proof: "eu-stack loses the frames above main() of a live 32-bit process, in the C library that has no symbols \
                for them; gdb has them, and so has eu-stack in the core of the same process",
    },
    Argued {
        victim: "*",
        variant: "clang-split-dwp",
        live: false,
        peer: "gdb",
        reason: "unavailable",
        variables: &[],
        says: "gdb failed: signal: 11",
        innermost: None,
        witness: None,
        proof: "gdb 13 dies of a segmentation fault of its own when it reads a DWARF 5 package file of clang's; lldb is \
                asked about these programs instead",
    },
];

impl Argued {
    fn is_about(
        &self,
        (victim, variant, way): (&str, &str, Way),
        peer: &str,
        reason: &str,
        variable: Option<&str>,
        says: &str,
    ) -> bool {
        // Parts of a variable begin with its name; a path names some parts only.
        let own = |v: &str| v.split(['.', '[', '-', ' ', '*']).next().unwrap_or_default().to_owned();
        let is_of = |v: &str, listed: &&&str| own(v) == **listed || (listed.contains('.') && v.starts_with(**listed));
        let variable_fits =
            self.variables.is_empty() || variable.is_some_and(|v| self.variables.iter().any(|l| is_of(v, &l)));
        let variant_fits = match self.variant.strip_suffix('*') {
            Some(start) => variant.starts_with(start),
            None => variant == self.variant,
        };
        (self.victim == "*" || self.victim == victim)
            && variant_fits
            && (!self.live || way == Way::Live)
            && variable_fits
            && (self.peer == "*" || self.peer == peer)
            && self.reason == reason
            && says.starts_with(self.says)
    }
}

/// Whether that peer was asked and has this frame of this thread as we do.
fn agrees(document: &serde_json::Value, witness: &str, difference: &serde_json::Value) -> bool {
    let asked = document["peers"].as_array().into_iter().flatten().find(|p| p["peer"] == witness);
    asked.is_some_and(|peer| {
        peer["totals"]["frames"].as_u64() > Some(0)
            && !peer["differences"].as_array().into_iter().flatten().any(|d| {
                d["thread"] == difference["thread"] && d["frame"] == difference["frame"] && d["variable"].is_null()
            })
    })
}

/// The function that a thread of a core is in.
fn innermost(source: &[String], thread: &serde_json::Value) -> Option<String> {
    let output = postfault().arg("bt").args(source).args(["--no-variables", "--json"]).output().ok()?;
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let thread = document["threads"].as_array()?.iter().find(|t| t["id"] == *thread)?;
    Some(thread["frames"][0]["function"].as_str()?.to_owned())
}

/// How a victim is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Live,
    KernelCore,
    GdbCore,
}

/// What one look found.
#[derive(Default)]
struct Looked {
    /// What did not agree, one line each.
    lines: Vec<String>,
    /// Totals by peer and name.
    totals: BTreeMap<(String, String), u64>,
    /// Proofs that were needed.
    proofs: BTreeSet<&'static str>,
    /// What they were needed for, and how often.
    argued: BTreeMap<String, u64>,
}

fn look(victim: &Victim, variant: &str, way: Way) -> Result<Looked, String> {
    let mut live = None;
    let source = match way {
        Way::Live => {
            let process = victims::run_live(victim.name, variant, victim.args).map_err(|e| e.to_string())?;
            let pid = process.pid().to_string();
            live = Some(process);
            vec!["--pid".to_owned(), pid]
        }
        Way::KernelCore => match common::core(victim.name, variant) {
            Some(core) => vec![arg(&core).to_owned()],
            None => return Ok(Looked::default()),
        },
        Way::GdbCore => {
            vec![arg(&victims::wait_gcore(victim.name, variant).map_err(|e| e.to_string())?).to_owned()]
        }
    };
    let program = victims::build(victim.name, variant).map_err(|e| e.to_string())?;
    let mut command = postfault();
    command.arg("cross-check").args(&source).arg("--json").arg("--exe").arg(&program);
    // gdb cannot read this form; see ARGUED.
    command.arg(if variant == "clang-split-dwp" { "--with=gdb,eu-stack,lldb" } else { "--with=gdb,eu-stack" });
    command.arg("--values");
    let separate = victims::separate_debug_dir(&program);
    if separate.is_dir() {
        command.arg("--symbols").arg(separate);
    }
    let output = command.output().map_err(|e| e.to_string())?;
    drop(live);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|e| format!("{e}: {}", String::from_utf8_lossy(&output.stderr)))?;
    let mut looked = Looked::default();
    let label = format!("{} {variant} {way:?}", victim.name);
    for peer in document["peers"].as_array().into_iter().flatten() {
        let name = peer["peer"].as_str().unwrap_or_default();
        if let Some(why) = peer.get("unavailable") {
            let says = why.as_str().unwrap_or_default();
            match ARGUED.iter().find(|a| a.is_about((victim.name, variant, way), name, "unavailable", None, says)) {
                Some(argued) => drop(looked.proofs.insert(argued.proof)),
                None => looked.lines.push(format!("{label} {name}: {why}")),
            }
            continue;
        }
        let mut count = |key: &str, n: u64| {
            let total = looked.totals.entry((name.to_owned(), key.to_owned())).or_default();
            *total = total.saturating_add(n);
        };
        count("looks", 1);
        for (key, n) in peer["totals"].as_object().into_iter().flatten() {
            if let Some(n) = n.as_u64() {
                count(key, n);
            }
        }
        for (reason, n) in peer["totals"]["reasons"].as_object().into_iter().flatten() {
            count(&format!("  {reason}"), n.as_u64().unwrap_or_default());
        }
        let counted = peer["totals"]["differences"].as_u64().unwrap_or(u64::MAX);
        let mut listed = 0_u64;
        for d in peer["differences"].as_array().into_iter().flatten() {
            let reason = d["reason"].as_str().unwrap_or_default();
            if reason.starts_with("peer-") {
                continue;
            }
            listed += 1;
            let says = d["peer"].as_str().unwrap_or_default();
            match ARGUED.iter().find(|a| {
                a.is_about((victim.name, variant, way), name, reason, d["variable"].as_str(), says)
                    && a.witness.is_none_or(|witness| agrees(&document, witness, d))
                    && a.innermost.is_none_or(|f| innermost(&source, &d["thread"]).as_deref() == Some(f))
            }) {
                Some(argued) => {
                    looked.proofs.insert(argued.proof);
                    let of = d["variable"].as_str().unwrap_or("frame");
                    let line = format!("{name} {} {reason} {of}: {says}", victim.name);
                    *looked.argued.entry(line).or_default() += 1;
                }
                None => looked.lines.push(format!("{label} {name}: {d}")),
            }
        }
        if listed != counted {
            looked.lines.push(format!("{label} {name}: {counted} differences are counted and {listed} listed"));
        }
    }
    Ok(looked)
}

/// Looks at all, prints what was compared, and fails with what differs.
fn look_at(jobs: &[(&Victim, &str, Way)]) {
    // Two at a time: debuggers wait for the disk and for the process as much as they compute.
    let results = capture::for_each_parallel(jobs, 2, |(victim, variant, way)| {
        look(victim, variant, *way).unwrap_or_else(|e| Looked {
            lines: vec![format!("{} {variant} {way:?}: {e}", victim.name)],
            ..Looked::default()
        })
    });
    let mut all = Looked::default();
    for one in results {
        all.lines.extend(one.lines);
        all.proofs.extend(one.proofs);
        for (line, n) in one.argued {
            *all.argued.entry(line).or_default() += n;
        }
        for (key, n) in one.totals {
            *all.totals.entry(key).or_default() += n;
        }
    }
    println!("{} looks", jobs.len());
    for ((peer, name), n) in &all.totals {
        println!("{peer:10} {n:10} {name}");
    }
    for (line, n) in &all.argued {
        println!("argued {n} x {line}");
    }
    for proof in &all.proofs {
        println!("argued: {proof}");
    }
    let mut by_victim: BTreeMap<&str, usize> = BTreeMap::new();
    for line in &all.lines {
        *by_victim.entry(line.split(' ').next().unwrap_or_default()).or_default() += 1;
    }
    assert!(
        all.lines.is_empty(),
        "{} looks; differences by victim {by_victim:?}\n{}",
        jobs.len(),
        all.lines.join("\n")
    );
    let compared = |name: &str| all.totals.iter().filter(|(k, _)| k.1 == name).map(|(_, n)| *n).sum::<u64>();
    assert!(jobs.is_empty() || compared("frames") > 0, "nothing was compared");
}

/// Every victim in these ways, in one variant each (in all when `POSTFAULT_CROSS_CHECK` says so).
fn jobs(ways: &[Way]) -> Vec<(&'static Victim, &'static str, Way)> {
    let all = std::env::var("POSTFAULT_CROSS_CHECK").is_ok_and(|v| v == "all");
    let only = std::env::var("POSTFAULT_VICTIM").ok();
    let form = std::env::var("POSTFAULT_VARIANT").ok();
    let mut jobs = Vec::new();
    for (turn, victim) in victims::all().iter().enumerate() {
        if only.as_deref().is_some_and(|o| !o.split(',').any(|name| name == victim.name)) {
            continue;
        }
        for (n, way) in ways.iter().enumerate() {
            if victim.signal.is_none() && *way == Way::KernelCore {
                continue;
            }
            let count = victim.variants.len();
            let chosen: Vec<&str> = match &form {
                Some(form) => victim.variants.iter().copied().filter(|v| v == form).collect(),
                None if all => victim.variants.to_vec(),
                None => vec![victim.variants[(turn + n) % count]],
            };
            jobs.extend(chosen.into_iter().map(|variant| (victim, variant, *way)));
        }
    }
    jobs
}

#[test]
fn frames_and_values_are_what_the_peers_see() {
    look_at(&jobs(&[Way::Live, Way::KernelCore, Way::GdbCore]));
}
