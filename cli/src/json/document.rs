//! The top level of the document.

use super::threads::Threads;
use super::variables::{VariableJson, root_variables};
use super::{Hex, HexBytes};
use crate::view::View;
use serde::{Serialize, Serializer};
use snapshot_format::schema;

#[derive(Serialize)]
pub(super) struct Document<'v> {
    schema: &'static str,
    identity: Identity<'v>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Event<'v>>,
    threads: Threads<'v>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    globals: Vec<VariableJson<'v>>,
    modules: Modules<'v>,
    findings: Vec<Finding<'v>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<Fingerprint<'v>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tasks: Vec<Task<'v>>,
    log: Vec<Log<'v>>,
    doubts: Vec<Doubt<'v>>,
    attributes: Vec<Attribute<'v>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_time_us: Option<u64>,
}

impl<'v> Document<'v> {
    pub(super) fn new(view: &'v View<'v>) -> Self {
        let s = view.snapshot;
        Self {
            schema: "postfault/1",
            identity: Identity::new(&s.identity),
            event: s.event.as_ref().map(Event::new),
            threads: Threads(view),
            globals: root_variables(view, None, None),
            modules: Modules(&s.modules),
            findings: s.findings.iter().enumerate().map(|(row, f)| Finding::new(s, row, f)).collect(),
            fingerprint: s.fingerprint.as_ref().map(|f| Fingerprint { value: &f.value, frames: &f.frames }),
            tasks: s.tasks.iter().map(Task::new).collect(),
            log: s.log.iter().map(|l| Log { time: l.time_ns, level: l.level.as_deref(), text: &l.text }).collect(),
            doubts: s
                .doubts
                .iter()
                .map(|d| Doubt { what: &d.what, address: d.address.map(Hex), why: &d.why })
                .collect(),
            attributes: s
                .attributes
                .iter()
                .map(|a| Attribute { key: &a.key, thread: a.thread, value: &a.value })
                .collect(),
            stop_time_us: view.attribute("capture.stop_time_us").and_then(|v| v.parse().ok()),
        }
    }
}

#[derive(Serialize)]
struct Identity<'v> {
    origin: &'v str,
    os: &'v str,
    arch: &'v str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_pid: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'v str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<&'v str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    executable: Option<&'v str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<&'v str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'v str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    taken_at_ns: Option<u64>,
}

impl<'v> Identity<'v> {
    fn new(i: &'v schema::Identity) -> Self {
        Self {
            origin: &i.origin,
            os: &i.os,
            arch: &i.arch,
            pid: i.pid,
            parent_pid: i.parent_pid,
            command: i.command.as_deref(),
            arguments: i.arguments.as_deref(),
            executable: i.executable.as_deref(),
            release: i.release.as_deref(),
            host: i.host.as_deref(),
            taken_at_ns: i.taken_at_ns,
        }
    }
}

#[derive(Serialize)]
struct Event<'v> {
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal_name: Option<&'v str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code_name: Option<&'v str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<Hex>,
    access: &'v str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender_pid: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'v str>,
}

impl<'v> Event<'v> {
    fn new(e: &'v schema::Event) -> Self {
        Self {
            thread: e.thread,
            signal: e.signal,
            signal_name: e.signal_name.as_deref(),
            code: e.code,
            code_name: e.code_name.as_deref(),
            address: e.address.map(Hex),
            access: e.access.as_deref().unwrap_or("unknown"),
            sender_pid: e.sender_pid,
            message: e.message.as_deref(),
        }
    }
}

/// A kernel's task.
#[derive(Serialize)]
struct Task<'v> {
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_pid: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'v str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'v str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resident: Option<u64>,
}

impl<'v> Task<'v> {
    fn new(t: &'v schema::Task) -> Self {
        Self {
            id: t.id,
            pid: t.pid,
            parent_pid: t.parent_pid,
            address: t.address.map(Hex),
            name: t.name.as_deref(),
            state: t.state.as_deref(),
            cpu: t.cpu,
            resident: t.resident,
        }
    }
}

struct Modules<'v>(&'v [schema::Module]);

impl Serialize for Modules<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|m| Module {
            path: &m.path,
            build_id: m.build_id.as_deref().map(HexBytes),
            base: Hex(m.base),
            size: m.size,
            slide: Hex(m.slide),
            symbols: &m.symbols,
            symbol_file: m.symbol_file.as_deref(),
            problem: m.problem.as_deref(),
        }))
    }
}

#[derive(Serialize)]
struct Module<'v> {
    path: &'v str,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_id: Option<HexBytes<'v>>,
    base: Hex,
    size: u64,
    slide: Hex,
    symbols: &'v str,
    #[serde(skip_serializing_if = "Option::is_none")]
    symbol_file: Option<&'v str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'v str>,
}

#[derive(Serialize)]
struct Finding<'v> {
    class: &'v str,
    severity: &'v str,
    security: &'v str,
    confidence: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame: Option<u32>,
    text: &'v str,
    evidence: Vec<&'v str>,
    counter_evidence: Vec<&'v str>,
}

impl<'v> Finding<'v> {
    fn new(s: &'v snapshot_format::Snapshot, row: usize, f: &'v schema::Finding) -> Self {
        let grounds = |counter| {
            let of_this = move |e: &&schema::Evidence| usize::try_from(e.finding) == Ok(row) && e.counter == counter;
            s.evidence.iter().filter(of_this).map(|e| e.text.as_str()).collect()
        };
        Self {
            class: &f.class,
            severity: &f.severity,
            security: &f.security,
            confidence: f.confidence,
            thread: f.thread,
            frame: f.frame,
            text: &f.text,
            evidence: grounds(false),
            counter_evidence: grounds(true),
        }
    }
}

#[derive(Serialize)]
struct Fingerprint<'v> {
    value: &'v str,
    frames: &'v [String],
}

#[derive(Serialize)]
struct Log<'v> {
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<&'v str>,
    text: &'v str,
}

#[derive(Serialize)]
struct Doubt<'v> {
    what: &'v str,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<Hex>,
    why: &'v str,
}

#[derive(Serialize)]
struct Attribute<'v> {
    key: &'v str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<u64>,
    value: &'v str,
}
