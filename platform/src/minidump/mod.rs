//! Minidumps: Windows' format as Windows, Breakpad, Crashpad, minidump-writer and lldb write it, and microdumps.
//!
//! Input: a minidump of Windows, Linux, Android, macOS, iOS, FreeBSD or illumos, of any processor. Output: a
//! [`Minidump`], which answers as an [`evidence::Target`]. Streams that are understood become threads, memory, mappings,
//! images, the event, attributes and open files; all others are kept as notes, as they are. It reads no symbols, and it
//! rejects no file that has a header: what is missing is absent, and a doubt says why.

mod annotations;
mod context;
mod exception;
mod handles;
mod linux;
mod memory;
mod microdump;
mod modules;
mod reader;
mod regions;
mod system;
mod threads;
mod xstate;

pub use memory::DumpMemory;
pub(crate) use microdump::is_one as is_microdump;

use crate::Error;
use crate::input::{Input, Kind, Options};
use evidence::bytes::Endian;
use evidence::{
    Attribute, Doubts, Event, Gaps, Identity, ImageHint, Mapping, Memory, ModuleId, Note, OpenFile, Origin, Os, Target,
    Thread, ThreadId, ToU64, ToUsize,
};
use memory::Store;
use modules::Module;
use reader::Reader;
use std::path::Path;
use std::sync::Arc;

const UNUSED: u32 = 0;
const THREAD_LIST: u32 = 3;
const MODULE_LIST: u32 = 4;
const MEMORY_LIST: u32 = 5;
const EXCEPTION: u32 = 6;
const SYSTEM_INFO: u32 = 7;
const THREAD_EX_LIST: u32 = 8;
const MEMORY_64_LIST: u32 = 9;
const COMMENT_A: u32 = 10;
const COMMENT_W: u32 = 11;
const HANDLE_DATA: u32 = 12;
const UNLOADED_MODULE_LIST: u32 = 14;
const MISC_INFO: u32 = 15;
const MEMORY_INFO_LIST: u32 = 16;
const THREAD_INFO_LIST: u32 = 17;
const SYSTEM_MEMORY_INFO: u32 = 21;
const PROCESS_VM_COUNTERS: u32 = 22;
const THREAD_NAMES: u32 = 24;
const BREAKPAD_INFO: u32 = 0x4767_0001;
const ASSERTION_INFO: u32 = 0x4767_0002;
const LINUX_AUXV: u32 = 0x4767_0008;
const LINUX_MAPS: u32 = 0x4767_0009;
const CRASHPAD_INFO: u32 = 0x4350_0001;
const MOZ_MAC_CRASH_INFO: u32 = 0x4d7a_0001;
const MOZ_MAC_BOOT_ARGUMENTS: u32 = 0x4d7a_0002;
const MOZ_SOFT_ERRORS: u32 = 0x4d7a_0004;

/// Streams whose contents are told in another form, and are not repeated as notes.
const TOLD: [u32; 27] = [
    UNUSED,
    THREAD_LIST,
    MODULE_LIST,
    MEMORY_LIST,
    EXCEPTION,
    SYSTEM_INFO,
    THREAD_EX_LIST,
    MEMORY_64_LIST,
    COMMENT_A,
    COMMENT_W,
    HANDLE_DATA,
    UNLOADED_MODULE_LIST,
    MISC_INFO,
    MEMORY_INFO_LIST,
    THREAD_INFO_LIST,
    THREAD_NAMES,
    BREAKPAD_INFO,
    ASSERTION_INFO,
    0x4767_0003,
    0x4767_0004,
    0x4767_0005,
    0x4767_0006,
    0x4767_0007,
    LINUX_AUXV,
    LINUX_MAPS,
    0x4767_000b,
    CRASHPAD_INFO,
];

/// Bytes of streams kept as notes, all together: as of cores.
const LIMIT_KEPT_NOTES: u64 = 32 << 20;

/// The owner string of notes that are streams of a minidump; their kind is the stream's number.
pub const NOTE_OWNER: &str = "MDMP";

/// A minidump.
#[derive(Debug)]
pub struct Minidump {
    identity: Identity,
    memory: DumpMemory,
    threads: Vec<Thread>,
    mappings: Vec<Mapping>,
    images: Vec<ImageHint>,
    module_ids: Vec<ModuleId>,
    event: Option<Event>,
    notes: Vec<Note>,
    attributes: Vec<Attribute>,
    open_files: Vec<OpenFile>,
    gaps: Gaps,
}

/// Opens the minidump at `path` (`-` is standard input), also a compressed one.
///
/// # Errors
/// When it cannot be opened, or has no header of a minidump.
pub fn open(path: &Path, options: &Options) -> Result<Minidump, Error> {
    from_input(Input::open_with(path, options)?, options)
}

/// Reads the minidump in an opened input.
///
/// Takes time in proportion to the lists in it, never to the size of the memory.
///
/// # Errors
/// When the input has no header of a minidump.
pub fn from_input(input: Input, _options: &Options) -> Result<Minidump, Error> {
    let source = input.source();
    let doubts = Doubts::new();
    doubts.extend(input.doubts().iter().cloned());
    let mut dump = match input.kind() {
        Kind::Minidump => Minidump::read(&Reader::open(source, &doubts)?),
        Kind::Microdump => microdump::read(source, &doubts)?,
        other => {
            return Err(Error::format(source.path(), 0, "a minidump (4d 44 4d 50) or a microdump", other.describe()));
        }
    };
    dump.gaps.doubts = doubts.into_sorted();
    Ok(dump)
}

impl Minidump {
    fn read(reader: &Reader<'_>) -> Self {
        let mut system = system::read(reader);
        let process = system::misc(reader);
        let contexts = threads::Contexts { processor: system.processor };
        let mut threads = threads::read(reader, &contexts);
        let exception = exception::read(reader);
        if let Some(record) = &exception
            && let Some(context) = contexts.read(reader, record.context)
        {
            threads.replace(record.thread, context);
        }
        if system.processor.is_none()
            && let Some(thread) = threads.list.first()
        {
            system.arch = thread.registers.arch;
        }
        let loaded = modules::loaded(reader, system.os == Os::Windows);
        let mappings = regions::read(reader, &loaded);
        let mut pieces = memory::pieces(reader);
        pieces.extend(&threads.stacks);
        let store = Store::File(reader.source.clone());
        let wide = system.arch.pointer_size() == 8;
        let memory = DumpMemory::new(store, &pieces, &mappings, wide, reader.doubts);
        memory.say_cut(reader);
        threads.find_stacks(&pieces);

        let mut identity = Identity::new(Origin::Minidump, system.os, system.arch);
        identity.big_endian = reader.endian == Endian::Big;
        identity.pid = process.pid;
        identity.release = system.release.map(Into::into);
        identity.taken_at_ns = (reader.time != 0).then(|| u64::from(reader.time).saturating_mul(1_000_000_000));
        identity.executable = loaded.first().and_then(|m| m.name.as_deref()).map(Into::into);
        let mut attributes = Vec::new();
        let mut facts = system.facts;
        facts.extend(process.facts);
        facts.extend(system::counters(reader));
        facts.push(("minidump.flags", format!("{:#x}", reader.flags)));
        linux::read(reader, &mut identity, &mut attributes);
        identity.address_mask = annotations::address_mask(reader);
        annotations::read(reader, &loaded, &mut attributes);
        unloaded(reader, &mut attributes);

        let breakpad = annotations::breakpad(reader);
        if let Some(id) = breakpad.dump_thread {
            // The writer's own thread was created to write; it is no part of the program's story.
            let failed = exception.as_ref().is_some_and(|e| e.thread == id);
            let before = threads.list.len();
            if !failed && before > 1 {
                threads.list.retain(|t| t.id.0 != id);
            }
            if threads.list.len() < before {
                facts.push(("breakpad.dump_thread", id.to_string()));
            }
        }
        let mut event = exception.map(|record| {
            let pc = threads.list.iter().find(|t| t.id.0 == record.thread).and_then(|t| t.registers.pc());
            let by_lldb = threads.by_lldb;
            let given =
                exception::Given { os: system.os, arch: system.arch, pid: identity.pid, pc: pc.map(|p| p.0), by_lldb };
            let (event, told) = record.event(&given);
            facts.extend(told);
            event
        });
        if let (None, Some(id)) = (&event, breakpad.requesting_thread) {
            event = Some(Event { thread: Some(ThreadId(id)), ..Event::default() });
        }
        if let (Some(event), Some(message)) = (&mut event, annotations::assertion_message(&attributes)) {
            event.message = Some(message.into());
        }
        let fact = |(key, value): (&str, String)| Attribute { key: key.into(), thread: None, value: value.into() };
        attributes.extend(facts.into_iter().map(fact));
        attributes.append(&mut threads.attributes);
        let mut notes: Vec<Note> = linux::auxv(reader).into_iter().collect();
        keep_unknown(reader, &mut notes);
        Self {
            gaps: Gaps {
                truncated_at: (reader.cut || memory.cut > 0).then_some(reader.source.len()),
                filtered_bytes: memory.filtered,
                doubts: Vec::new(),
            },
            images: loaded.iter().map(Module::hint).collect(),
            module_ids: loaded.into_iter().map(|m| m.id).collect(),
            open_files: handles::read(reader),
            threads: threads.list,
            identity,
            memory,
            mappings,
            event,
            notes,
            attributes,
        }
    }
}

/// Modules that were loaded once: an address may belong to any of those that lay over it.
fn unloaded(reader: &Reader<'_>, attributes: &mut Vec<Attribute>) {
    for module in modules::unloaded(reader) {
        let end = module.base.saturating_add(module.size);
        let name = module.name.unwrap_or_default();
        let value = format!("{:#x}-{end:#x} {} {name}", module.base, module.code_id);
        attributes.push(Attribute { key: "module.unloaded".into(), thread: None, value: value.trim_end().into() });
    }
}

/// Streams that are not told in another form, as they are.
fn keep_unknown(reader: &Reader<'_>, notes: &mut Vec<Note>) {
    let mut left = LIMIT_KEPT_NOTES;
    let mut dropped = 0_usize;
    for stream in reader.streams.iter().filter(|s| !TOLD.contains(&s.kind) && s.location.size > 0) {
        let size = u64::from(stream.location.size);
        if size > left {
            dropped = dropped.saturating_add(1);
            continue;
        }
        let bytes = reader.source.bytes(stream.location.rva.into(), size.to_usize());
        left = left.saturating_sub(bytes.len().to_u64());
        notes.push(Note { owner: NOTE_OWNER.into(), kind: stream.kind, thread: None, body: Arc::from(bytes) });
    }
    if dropped > 0 {
        reader
            .doubt(format!("{dropped} streams do not fit into the {LIMIT_KEPT_NOTES} bytes that are kept of streams"));
    }
}

impl Target for Minidump {
    fn identity(&self) -> &Identity {
        &self.identity
    }
    fn memory(&self) -> &dyn Memory {
        &self.memory
    }
    fn threads(&self) -> &[Thread] {
        &self.threads
    }
    fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }
    fn images(&self) -> &[ImageHint] {
        &self.images
    }
    fn module_ids(&self) -> &[ModuleId] {
        &self.module_ids
    }
    fn event(&self) -> Option<&Event> {
        self.event.as_ref()
    }
    fn notes(&self) -> &[Note] {
        &self.notes
    }
    fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }
    fn open_files(&self) -> &[OpenFile] {
        &self.open_files
    }
    fn gaps(&self) -> &Gaps {
        &self.gaps
    }
}

#[cfg(test)]
mod made_tests;
#[cfg(test)]
mod tests;
