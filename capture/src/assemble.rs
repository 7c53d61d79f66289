//! The one place where evidence becomes rows.

use crate::collect::interrupted;
use crate::fetch::mapping_at;
use crate::outline::kernel::Kernel;
use crate::resolve::Resolved;
use crate::stacks::StackTable;
use crate::walk::Walked;
use debuginfo::Modules;
use debuginfo::dwarf::SourceFrame;
use evidence::{Access, Addr, Arch, Context, Identity, Mapping, ModuleId, Os, Registers, Target, register_name};
use foldhash::fast::RandomState;
use snapshot_format::Snapshot;
use snapshot_format::schema::{self, Trust};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use unwind::Frame;

/// Frames of a thread whose registers are kept besides the innermost one's: enough to follow an argument outwards.
const LIMIT_REGISTER_FRAMES: usize = 16;

/// Bytes of floating point and vector registers that are kept: those of two thousand threads. They are exported to
/// other tools, which look at the thread that failed.
const LIMIT_FLOATING_POINT: usize = 1 << 20;

pub(crate) fn assemble(
    target: &dyn Target,
    modules: &Modules,
    walked: &[Walked<'_>],
    resolved: &Resolved,
    variables: Vec<schema::Variable>,
) -> Snapshot {
    let mut table = StackTable::default();
    let mut snapshot = Snapshot {
        identity: identity(target.identity()),
        event: target.event().map(|e| in_its_numbers(event(e), target.identity().os)),
        mappings: target.mappings().iter().map(mapping).collect(),
        modules: modules.list().iter().map(module).collect(),
        variables,
        notes: target.notes().iter().map(note).collect(),
        attributes: target
            .attributes()
            .iter()
            .map(attribute)
            .chain(target.module_ids().iter().map(module_id))
            .collect(),
        files: target.open_files().iter().map(file).collect(),
        ..Snapshot::default()
    };
    // Threads of a pool wait in the same place: their rows are made once.
    let mut same: HashMap<Vec<Named>, Option<u32>, RandomState> = HashMap::default();
    for w in walked {
        let stack = *same.entry(w.stack.frames.iter().map(Named::of).collect()).or_insert_with(|| {
            let rows: Vec<schema::Frame> = w.stack.frames.iter().flat_map(|f| frames(f, resolved, modules)).collect();
            if rows.is_empty() { None } else { table.add(rows) }
        });
        snapshot.threads.push(thread(w, stack, target.mappings()));
        registers(w, resolved, &mut snapshot.registers);
    }
    floating_point(walked, &mut snapshot.notes);
    snapshot.stacks = table.stacks;
    snapshot.frames = table.frames;
    snapshot
}

/// The tasks, each with the stack of its thread, and the log of a kernel.
pub(crate) fn kernel(kernel: &Kernel, snapshot: &mut Snapshot) {
    let stacks: BTreeMap<u64, u32> = snapshot.threads.iter().filter_map(|t| Some((t.id, t.stack?))).collect();
    snapshot.tasks.clone_from(&kernel.tasks);
    for task in &mut snapshot.tasks {
        task.stack = stacks.get(&task.id).copied();
    }
    snapshot.log.clone_from(&kernel.log);
}

pub(crate) fn doubts(doubts: Vec<evidence::Doubt>) -> Vec<schema::Doubt> {
    doubts
        .into_iter()
        .map(|d| schema::Doubt { what: d.what.to_owned(), address: d.at.map(|a| a.0), why: d.why.into() })
        .collect()
}

fn text(value: Option<&str>) -> Option<String> {
    value.map(str::to_owned)
}

fn identity(i: &Identity) -> schema::Identity {
    schema::Identity {
        origin: i.origin.word().to_owned(),
        os: i.os.word().to_owned(),
        arch: i.arch.word().to_owned(),
        big_endian: i.big_endian,
        pid: i.pid,
        parent_pid: i.parent_pid,
        command: text(i.command.as_deref()),
        arguments: text(i.arguments.as_deref()),
        executable: text(i.executable.as_deref()),
        host: text(i.host.as_deref()),
        release: text(i.release.as_deref()),
        taken_at_ns: i.taken_at_ns,
    }
}

pub(crate) fn event(e: &evidence::Event) -> schema::Event {
    let signal = e.signal.as_ref();
    schema::Event {
        thread: e.thread.map(|t| t.0),
        signal: signal.map(|s| i64::from(s.number)),
        code: signal.and_then(|s| s.code).map(i64::from),
        address: signal.and_then(|s| s.address).or(e.address).map(|a| a.0),
        access: e.access.map(|a| {
            match a {
                Access::Read => "read",
                Access::Write => "write",
                Access::Execute => "execute",
            }
            .to_owned()
        }),
        sender_pid: signal.and_then(|s| s.sender_pid),
        sender_uid: signal.and_then(|s| s.sender_uid),
        message: text(e.message.as_deref()),
        trap_number: e.trap_number,
        error_code: e.error_code,
        signal_name: None,
        code_name: None,
    }
}

/// Exception codes of Windows and Mach are unsigned, signals are not.
fn in_its_numbers(mut event: schema::Event, os: Os) -> schema::Event {
    if matches!(os, Os::Windows | Os::MacOs | Os::Ios) {
        event.signal = event.signal.map(|n| n & 0xffff_ffff);
    }
    event
}

fn mapping(m: &Mapping) -> schema::Mapping {
    let protection = m.protection.map_or_else(
        || "????".to_owned(),
        |p| {
            let mut text = String::with_capacity(4);
            text.push(if p.read { 'r' } else { '-' });
            text.push(if p.write { 'w' } else { '-' });
            text.push(if p.execute { 'x' } else { '-' });
            text.push(m.shared.map_or('?', |s| if s { 's' } else { 'p' }));
            text
        },
    );
    schema::Mapping {
        start: m.range.start.0,
        end: m.range.end.0,
        protection,
        file_offset: m.file_offset,
        path: text(m.path.as_deref()),
        deleted: m.deleted,
    }
}

fn module(m: &debuginfo::Module) -> schema::Module {
    let report = m.report();
    schema::Module {
        path: m.path.to_string(),
        build_id: m.build_id.as_ref().map(|b| b.bytes().to_vec()),
        base: m.base.0,
        size: m.size,
        slide: m.slide,
        symbols: report.kind.word().to_owned(),
        symbol_file: report.debug.as_ref().map(|p| p.display().to_string()),
        problem: match (report.problem, report.remedy) {
            (Some(problem), Some(remedy)) => Some(format!("{problem}; {remedy}")),
            (problem, _) => problem,
        },
    }
}

fn note(n: &evidence::Note) -> schema::Note {
    schema::Note {
        owner: n.owner.clone().into(),
        kind: n.kind.into(),
        thread: n.thread.map(|t| t.0),
        body: n.body.to_vec(),
    }
}

fn attribute(a: &evidence::Attribute) -> schema::Attribute {
    schema::Attribute { key: a.key.clone().into(), thread: a.thread.map(|t| t.0), value: a.value.clone().into() }
}

/// What symbol stores know an image by: base, code id, debug id, version and debug file, `-` for what is not known.
fn module_id(id: &ModuleId) -> schema::Attribute {
    let or_dash = |text: Option<&str>| text.unwrap_or("-").to_owned();
    let value = [
        format!("{:#x}", id.base.0),
        or_dash(id.code_id.as_deref()),
        or_dash(id.debug_id.as_deref()),
        or_dash(id.version.as_deref()),
        or_dash(id.debug_file.as_deref()),
    ];
    schema::Attribute { key: "module.identity".to_owned(), thread: None, value: value.join(" ") }
}

fn file(f: &evidence::OpenFile) -> schema::File {
    schema::File { descriptor: f.descriptor, target: f.target.clone().into(), flags: f.flags, position: f.position }
}

fn thread(w: &Walked<'_>, stack: Option<u32>, mappings: &[Mapping]) -> schema::Thread {
    let t = w.thread;
    let range =
        t.stack.clone().or_else(|| t.registers.sp().and_then(|sp| mapping_at(mappings, sp)).map(|m| m.range.clone()));
    schema::Thread {
        id: t.id.0,
        process: t.process,
        name: text(t.name.as_deref()),
        faulting: w.faulting,
        state: t.state.as_ref().map(|s| s.word.clone().into()).filter(|s: &String| !s.is_empty()),
        wait_channel: t.state.as_ref().and_then(|s| text(s.wait_channel.as_deref())),
        system_call: t.state.as_ref().and_then(|s| s.system_call),
        context: match t.context {
            Context::Lwp => "lwp",
            Context::Cpu(_) => "cpu",
            Context::Task => "task",
        }
        .to_owned(),
        cpu: match t.context {
            Context::Cpu(n) => Some(n.into()),
            _ => t.cpu.map(u64::from),
        },
        stack,
        truncated: w.stack.truncated.clone(),
        stack_start: range.as_ref().map(|r| r.start.0),
        stack_end: range.map(|r| r.end.0),
        signal_mask: t.signal_mask,
    }
}

const fn trust(t: unwind::Trust) -> Trust {
    match t {
        unwind::Trust::Context => Trust::Context,
        unwind::Trust::Cfi => Trust::Cfi,
        unwind::Trust::Orc => Trust::Orc,
        unwind::Trust::FramePointer => Trust::FramePointer,
        unwind::Trust::Scan => Trust::Scan,
        unwind::Trust::ShadowStack => Trust::ShadowStack,
    }
}

/// What the rows of a physical frame follow from.
#[derive(PartialEq, Eq, Hash)]
struct Named {
    pc: Addr,
    trust: unwind::Trust,
    is_return_address: bool,
    suspect: bool,
    signal_frame: bool,
}

impl Named {
    const fn of(frame: &Frame) -> Self {
        let Frame { pc, trust, is_return_address, suspect, signal_frame, .. } = *frame;
        Self { pc, trust, is_return_address, suspect, signal_frame }
    }
}

/// The rows of one physical frame: inlined calls first, then the function itself.
fn frames(frame: &Frame, resolved: &Resolved, modules: &Modules) -> Vec<schema::Frame> {
    let at = resolved.at(frame.lookup());
    let index = at.and_then(|at| at.module);
    let module = index.and_then(|i| modules.list().get(i));
    let bare = schema::Frame {
        pc: frame.pc.0,
        module: index.and_then(|i| u32::try_from(i).ok()),
        module_offset: module.map(|m| m.to_svma(frame.pc).0),
        trust: trust(frame.trust),
        suspect: frame.suspect,
        signal_frame: frame.signal_frame,
        ..schema::Frame::default()
    };
    let sources: &[SourceFrame] = at.map(|at| at.frames.as_slice()).unwrap_or_default();
    if sources.is_empty() {
        return vec![bare];
    }
    let start = sources.last().and_then(|s| s.function_start);
    let offset = start.and_then(|s| module?.to_svma(frame.pc).offset_from(s));
    sources
        .iter()
        .map(|s| schema::Frame {
            function: s.function.clone(),
            linkage_name: s.linkage_name.clone(),
            offset: if s.inline { None } else { offset },
            file: s.file.clone(),
            line: s.line.map(u64::from),
            column: s.column.map(u64::from),
            inline: s.inline,
            trust: if s.inline { Trust::Inline } else { bare.trust },
            ..bare.clone()
        })
        .collect()
}

/// All registers of the innermost frame; of the faulting thread's next frames, and of those that signals interrupted
/// however deep they are, what was recovered.
fn registers(w: &Walked<'_>, resolved: &Resolved, rows: &mut Vec<schema::RegisterValue>) {
    let mut kept: BTreeSet<usize> = (0..if w.faulting { LIMIT_REGISTER_FRAMES } else { 1 }).collect();
    if w.faulting {
        kept.extend(interrupted(&w.stack.frames).map(|(index, _)| index));
    }
    let last = kept.last().copied().unwrap_or(0);
    let mut row_index = 0_usize;
    for (index, frame) in w.stack.frames.iter().enumerate().take(last.saturating_add(1)) {
        row_index = row_index.saturating_add(inlined(frame, resolved));
        let number = u32::try_from(row_index).unwrap_or(u32::MAX);
        row_index = row_index.saturating_add(1);
        if !kept.contains(&index) {
            continue;
        }
        for (register, value) in frame.registers.iter() {
            if let Some(name) = register_name(frame.registers.arch, register) {
                rows.push(schema::RegisterValue { thread: w.thread.id.0, frame: number, name: name.to_owned(), value });
            }
        }
    }
}

/// Floating point and vector registers, the faulting thread's first, up to [`LIMIT_FLOATING_POINT`] bytes.
fn floating_point(walked: &[Walked<'_>], notes: &mut Vec<schema::Note>) {
    let mut left = LIMIT_FLOATING_POINT;
    for w in walked.iter().filter(|w| w.thread.context == Context::Lwp) {
        let registers = &w.thread.registers;
        let Some(vectors) = registers.vectors.as_deref() else { continue };
        let (kind, body) = if registers.arch == Arch::Aarch64 {
            let (Some(status), Some(control)) = (registers.get(Registers::FPSR), registers.get(Registers::FPCR)) else {
                continue;
            };
            let mut body = vectors.bytes.to_vec();
            for word in [status, control] {
                body.extend(word.to_le_bytes().iter().take(4));
            }
            (schema::Note::FPSIMD, body)
        } else {
            let Some(x87) = registers.x87.as_deref() else { continue };
            (schema::Note::FXSAVE, x87.to_fxsave(vectors).to_vec())
        };
        let Some(rest) = left.checked_sub(body.len()) else { break };
        left = rest;
        let owner = schema::Note::FLOATING_POINT.to_owned();
        notes.push(schema::Note { owner, kind, thread: Some(w.thread.id.0), body });
    }
}

/// How many rows of inlined calls come before a physical frame's own.
fn inlined(frame: &Frame, resolved: &Resolved) -> usize {
    resolved.at(frame.lookup()).map_or(0, |at| at.frames.len().saturating_sub(1))
}

/// The row of the physical frame at `index` among the rows of its thread's frames.
pub(crate) fn row_of(w: &Walked<'_>, index: usize, resolved: &Resolved) -> usize {
    let before = w.stack.frames.iter().take(index.saturating_add(1)).map(|f| inlined(f, resolved));
    before.fold(index, usize::saturating_add)
}
