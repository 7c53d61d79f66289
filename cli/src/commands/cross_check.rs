//! `postfault cross-check`: our answer beside those of the installed debuggers.

use crate::args::CrossCheck;
use crate::cross_check::facts::Facts;
use crate::cross_check::trees::{OurScalar, OurValue};
use crate::cross_check::{self, Input, OurFrame, OurReport, OurThread, OurVariable, Peer, Subject, report};
use crate::failure::{Failure, Outcome};
use crate::text::values;
use crate::view::View;
use crate::{output, source};
use snapshot_format::Snapshot;
use snapshot_format::schema::{Trust, Value, Variable, VariableKind};

/// Runs the peers one after the other and compares.
pub fn run(args: &CrossCheck) -> Result<Outcome, Failure> {
    let name = source::Name::from_args(&args.source);
    let subject = match &name {
        source::Name::Pid(pid, _) => {
            Subject::Pid(u32::try_from(*pid).map_err(|_| Failure::Usage(format!("there is no process {pid}")))?)
        }
        source::Name::Path(path) => Subject::Core(path.clone()),
        source::Name::Stdin | source::Name::Log(_) => {
            return Err(Failure::Usage(
                "other tools cannot read standard input or a log; name a file or --pid N".to_owned(),
            ));
        }
    };
    let named = named(&args.with)?;
    let mut plan = source::plan(&args.take(), args.values);
    plan.frames = plan.frames.min(16_384);
    let snapshot = source::snapshot(&name, &args.symbols, &plan)?;
    let kernel = snapshot.identity.origin == "kernel-dump" && snapshot.identity.os == "linux";
    let peers = fitting(named, kernel)?;
    let mut input = Input::new(subject.clone(), args.symbols.exe.clone().or_else(|| executable(&snapshot)));
    input.sysroot.clone_from(&args.symbols.sysroot);
    input.kernel.clone_from(&args.symbols.kernel);
    input.symbols.clone_from(&args.symbols.symbols);
    input.variables = args.values;
    let outcomes = cross_check::run(&peers, &input, &ours(&snapshot, matches!(subject, Subject::Pid(_))));
    if args.output.json {
        let document = report::json(&subject, &outcomes, args.output.strict);
        output::data(|out| writeln!(out, "{document}"))?;
    } else {
        output::text(|out| out.write_all(report::text(&outcomes).as_bytes()))?;
    }
    match report::exit_code(&outcomes, args.output.strict) {
        0 => Ok(Outcome::Complete),
        1 => Ok(Outcome::Different),
        _ => Err(Failure::new("no other tool gave an answer to compare with")),
    }
}

/// The peers of these names.
fn named(names: &[String]) -> Result<Vec<Peer>, Failure> {
    let unknown = |name: &String| {
        Failure::Usage(format!("`{name}` is no tool to compare with; gdb, lldb, eu-stack, drgn and crash are"))
    };
    names.iter().map(|name| Peer::from_name(name).ok_or_else(|| unknown(name))).collect()
}

/// Those that can read the source, or, when none was named, all that can.
fn fitting(named: Vec<Peer>, kernel: bool) -> Result<Vec<Peer>, Failure> {
    let able: &[Peer] = if kernel { &Peer::KERNEL } else { &Peer::ALL };
    if named.is_empty() {
        return Ok(able.to_vec());
    }
    let (peers, others): (Vec<Peer>, Vec<Peer>) = named.into_iter().partition(|peer| able.contains(peer));
    for peer in others {
        let what = if kernel { "programs, not kernel dumps" } else { "dumps of Linux kernels, not programs" };
        eprintln!("postfault: {} is asked about {what}; passed over", peer.program());
    }
    if peers.is_empty() { Err(Failure::Usage("no tool to compare with".to_owned())) } else { Ok(peers) }
}

fn executable(snapshot: &Snapshot) -> Option<std::path::PathBuf> {
    snapshot.identity.executable.as_ref().map(std::path::PathBuf::from).filter(|p| p.is_file())
}

/// The half of the comparison that is ours.
fn ours(snapshot: &Snapshot, live: bool) -> OurReport {
    let view = View::new(snapshot);
    // Said once for each thread whose deepest frames were left out.
    let cut = |thread: u64| {
        let start = format!("thread {thread}: variables were evaluated for the innermost ");
        snapshot.doubts.iter().find_map(|d| d.why.strip_prefix(&start)?.split(' ').next()?.parse::<u32>().ok())
    };
    let threads = snapshot
        .threads
        .iter()
        .map(|t| (t, cut(t.id)))
        .map(|(t, most)| OurThread {
            id: t.id,
            cut: t.truncated.as_deref().is_some_and(|why| why.contains("limit")),
            frames: (0_u32..)
                .zip(view.frames(t))
                .map(|(index, f)| OurFrame {
                    pc: f.pc,
                    function: f.function.as_deref().map(str::to_owned),
                    linkage_name: f.linkage_name.as_deref().map(str::to_owned),
                    aliases: Vec::new(),
                    file: f.file.as_deref().map(str::to_owned),
                    line: f.line.and_then(|l| u32::try_from(l).ok()),
                    inline: f.inline || f.trust == Trust::Inline,
                    tail_call: false,
                    variables: view
                        .variables(Some(t.id), Some(index))
                        .iter()
                        .filter_map(|row| Some(variable(&view, *row, view.variable(*row)?)))
                        .collect(),
                    variables_cut: most.is_some_and(|most| index >= most),
                })
                .collect(),
        })
        .collect();
    let no_code = snapshot.mappings.iter().filter(|m| m.protection.get(2..3) == Some("-"));
    let no_code = no_code.map(|m| m.start..m.end).collect();
    let kernel = snapshot.identity.origin == "kernel-dump";
    let facts = if kernel { facts(snapshot) } else { Facts::default() };
    OurReport { threads, live, no_code, kernel, facts }
}

/// What we say of a Linux kernel besides stacks, in the words that its debuggers use.
fn facts(snapshot: &Snapshot) -> Facts {
    let mut facts = Facts::default();
    let mut say = |name: String, value: Option<String>| {
        if let Some(value) = value {
            facts.said.insert(name, value);
        }
    };
    let letter = |state: &str| match state {
        "running" => "R".to_owned(),
        "sleeping" => "S".to_owned(),
        "disk-sleep" => "D".to_owned(),
        "idle" => "I".to_owned(),
        "stopped" => "T".to_owned(),
        "traced" => "t".to_owned(),
        "zombie" => "Z".to_owned(),
        "dead" => "X".to_owned(),
        "parked" => "P".to_owned(),
        other => other.to_owned(),
    };
    for task in &snapshot.tasks {
        let key = |what: &str| format!("task {} {what}", task.id);
        say(key("name"), task.name.clone());
        say(key("state"), task.state.as_deref().map(letter));
        say(key("cpu"), task.cpu.map(|cpu| cpu.to_string()));
        say(key("process"), task.pid.map(|pid| pid.to_string()));
        say(key("parent"), task.parent_pid.map(|pid| pid.to_string()));
        say(key("address"), task.address.map(|address| format!("{address:#x}")));
    }
    // The first is the kernel itself.
    for module in snapshot.modules.iter().filter(|m| m.path != "vmlinux") {
        say(format!("module {}", module.path), Some(format!("{:#x}", module.base)));
    }
    if let Some(event) = &snapshot.event {
        say("panic".to_owned(), event.message.clone());
    }
    let crashed = snapshot.threads.iter().find(|t| t.faulting).map(|t| t.id);
    if let Some(task) = crashed.and_then(|id| snapshot.tasks.iter().find(|t| t.id == id)) {
        // Idle tasks of all CPUs have the pid 0.
        let pid = if task.id > u64::from(u32::MAX) { 0 } else { task.id };
        say("crashed pid".to_owned(), Some(pid.to_string()));
        say("crashed name".to_owned(), task.name.clone());
        say("crashed cpu".to_owned(), task.cpu.map(|cpu| cpu.to_string()));
    }
    for record in &snapshot.log {
        facts.record(record.time_ns.map(|ns| ns / 1000), &record.text);
    }
    facts
}

fn variable(view: &View<'_>, row: u32, v: &Variable) -> OurVariable {
    OurVariable {
        name: v.name.to_string(),
        value: if v.absent.is_some() { None } else { Some(plain(view, row, v, 32)) },
        absent: v.absent.as_deref().map(str::to_owned),
        line: v.line,
        argument: v.kind == VariableKind::Parameter,
        tree: tree(view, row, v, 32),
    }
}

/// A value with its parts.
fn tree(view: &View<'_>, row: u32, v: &Variable, depth: usize) -> OurValue {
    let scalar = match &v.value {
        Value::None => OurScalar::None,
        Value::Signed(n) => OurScalar::Integer(i128::from(*n)),
        Value::Unsigned(n) => OurScalar::Integer(i128::from(*n)),
        Value::Bool(b) => OurScalar::Integer(i128::from(*b)),
        Value::Float(f) => OurScalar::Real(*f),
        Value::Pointer(p) => OurScalar::Pointer(*p),
        Value::Text(text) => OurScalar::Text(text.clone()),
    };
    let children = if depth == 0 { &[][..] } else { view.children(row) };
    let part = |child: &u32| {
        let v = view.variable(*child)?;
        Some((v.name.to_string(), tree(view, *child, v, depth - 1)))
    };
    OurValue {
        type_name: v.type_name.to_string(),
        scalar,
        absent: v.absent.as_deref().map(str::to_owned),
        truncated: v.truncated || (depth == 0 && !view.children(row).is_empty()),
        parts: children.iter().filter_map(part).collect(),
    }
}

/// A value as gdb prints it: whole, references followed and pointers not.
fn plain(view: &View<'_>, row: u32, v: &Variable, depth: usize) -> String {
    if let Some(why) = &v.absent {
        return format!("<{why}>");
    }
    let own = match &v.value {
        Value::Text(text) if is_characters(&v.type_name) => quoted(text, v.truncated),
        _ => values::scalar(v),
    };
    let is_pointer = matches!(v.value, Value::Pointer(_) | Value::Text(_));
    let (pointees, children): (Vec<u32>, Vec<u32>) =
        view.children(row).iter().partition(|c| view.variable(**c).is_some_and(|c| &*c.name == "*"));
    if let ([pointee], Some(target), true) =
        (pointees.as_slice(), pointees.first().and_then(|p| view.variable(*p)), v.type_name.ends_with('&'))
        && depth > 0
        && target.absent.is_none()
    {
        return format!("@{own}: {}", plain(view, *pointee, target, depth - 1));
    }
    if depth == 0 || children.is_empty() || (is_pointer && !pointees.is_empty()) {
        return own;
    }
    let parts: Vec<String> =
        children.iter().filter_map(|c| Some(plain(view, *c, view.variable(*c)?, depth - 1))).collect();
    let cut = if v.truncated { ", ..." } else { "" };
    format!("{own} {{{}{cut}}}", parts.join(", "))
}

/// `char [12]`, `const unsigned char [4][12]`'s element, `i8 [3]`: what gdb prints as a text in quotes.
fn is_characters(type_name: &str) -> bool {
    type_name.split_once('[').is_some_and(|(element, _)| {
        let element = element.trim_end().trim_start_matches("const ").trim_start_matches("volatile ");
        matches!(
            element.trim_end_matches(" const"),
            "char"
                | "signed char"
                | "unsigned char"
                | "uint8_t"
                | "int8_t"
                | "u8"
                | "i8"
                | "char16_t"
                | "char32_t"
                | "wchar_t"
        )
    }) || matches!(type_name, "char []" | "const char []")
}

/// In quotes, as C writes it. Backslashes of the text are escaped already, and bytes that are no text are `\\xNN`.
fn quoted(text: &str, cut: bool) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            c if c.is_ascii_control() => out.push_str(&format!("\\{:03o}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push_str(if cut { "\"..." } else { "\"" });
    out
}
