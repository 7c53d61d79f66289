//! Threads: `MINIDUMP_THREAD`, their names, times and start addresses, and the context of the exception.

use super::context::{self, Layout};
use super::memory::Piece;
use super::reader::{Location, Reader};
use super::{THREAD_EX_LIST, THREAD_INFO_LIST, THREAD_LIST, THREAD_NAMES};
use evidence::bytes::{u32_at, u64_at};
use evidence::{Addr, Attribute, Context, Doubt, Registers, Thread, ThreadId};
use std::collections::BTreeMap;

/// Threads that are kept: as of cores.
const LIMIT_THREADS: usize = 131_072;
/// Bytes of one context that are read: x86-64's with the largest XSAVE area of today has 13 KiB.
const LIMIT_CONTEXT: u32 = 64 << 10;

/// What is known of the threads.
#[derive(Debug, Default)]
pub(super) struct Threads {
    pub(super) list: Vec<Thread>,
    /// Where their stacks lie in the file, besides the memory lists.
    pub(super) stacks: Vec<Piece>,
    pub(super) attributes: Vec<Attribute>,
    /// Every context has the size that lldb up to 19 writes.
    pub(super) by_lldb: bool,
}

/// What a context's reading needs.
pub(super) struct Contexts {
    pub(super) processor: Option<u16>,
}

impl Contexts {
    pub(super) fn layout(&self, reader: &Reader<'_>, bytes: &[u8]) -> Layout {
        context::layout(self.processor, bytes, reader.endian)
    }

    /// The context at a location.
    pub(super) fn read(&self, reader: &Reader<'_>, location: Location) -> Option<context::Context> {
        if location.size == 0 {
            return None;
        }
        let bytes = reader.bytes(Location { size: location.size.min(LIMIT_CONTEXT), ..location });
        context::read(self.layout(reader, &bytes), &bytes, reader.endian)
    }
}

/// lldb's size of an x86-64 context, up to version 19.
const LLDB_CONTEXT: u32 = 720;

/// Reads the list of threads; each number counts once.
pub(super) fn read(reader: &Reader<'_>, contexts: &Contexts) -> Threads {
    let mut threads = Threads::default();
    let mut index: BTreeMap<u64, usize> = BTreeMap::new();
    let (mut missing, mut short, mut lldb) = (0_usize, 0_usize, 0_usize);
    for (kind, size) in [(THREAD_LIST, 48_usize), (THREAD_EX_LIST, 64)] {
        for stream in reader.streams.iter().filter(|s| s.kind == kind) {
            let bytes = reader.bytes(stream.location);
            for entry in reader.list("threads", &bytes, stream.location.size, size) {
                let word = |at| u32_at(entry, at, reader.endian);
                let Some(id) = word(0).map(u64::from) else { continue };
                if index.contains_key(&id) {
                    continue;
                }
                if threads.list.len() >= LIMIT_THREADS {
                    reader.doubt(format!("more than {LIMIT_THREADS} threads: the rest is left out"));
                    break;
                }
                let at = Location::at(entry, 40, reader.endian).unwrap_or_default();
                let found = contexts.read(reader, at);
                lldb = lldb.saturating_add(usize::from(at.size == LLDB_CONTEXT));
                missing = missing.saturating_add(usize::from(found.is_none()));
                short = short.saturating_add(usize::from(found.as_ref().is_some_and(|c| c.short)));
                index.insert(id, threads.list.len());
                threads.add(reader, id, entry, found, contexts);
            }
        }
    }
    if missing > 0 {
        let why = format!("{missing} threads have no register context that can be read");
        reader.doubts.push(Doubt::new("registers", why));
    }
    if short > 0 {
        let why = format!("{short} register contexts end before the last general register; the others are shown");
        reader.doubts.push(Doubt::new("registers", why));
    }
    threads.by_lldb = lldb > 0 && lldb == threads.list.len();
    threads.name(reader, &index);
    threads.info(reader);
    threads
}

impl Threads {
    fn add(
        &mut self,
        reader: &Reader<'_>,
        id: u64,
        entry: &[u8],
        found: Option<context::Context>,
        contexts: &Contexts,
    ) {
        let word = |at| u32_at(entry, at, reader.endian);
        let arch = contexts.processor.map_or(evidence::Arch::Other, context::arch);
        let (registers, debug) = found.map_or((Registers::new(arch), None), |c| (c.registers, c.debug));
        let mut thread = Thread::new(ThreadId(id), Context::Lwp, registers);
        thread.debug_registers = debug;
        let start = u64_at(entry, 24, reader.endian).unwrap_or(0);
        let stack = Location::at(entry, 32, reader.endian).unwrap_or_default();
        if stack.size > 0 && stack.rva > 0 {
            let end = start.saturating_add(stack.size.into());
            thread.stack = Some(Addr(start)..Addr(end));
            self.stacks.push(Piece { start, size: stack.size.into(), offset: stack.rva.into() });
        }
        let mut add = |key: &str, value: String| {
            self.attributes.push(Attribute { key: key.into(), thread: Some(ThreadId(id)), value: value.into() });
        };
        // Suspend count, priority class, priority, thread environment block: Windows only.
        if let Some(suspended) = word(4).filter(|n| *n > 0) {
            add("thread.suspend_count", suspended.to_string());
        }
        if let Some(teb) = u64_at(entry, 16, reader.endian).filter(|t| *t != 0) {
            add("thread.environment_block", format!("{teb:#x}"));
        }
        self.list.push(thread);
    }

    /// `MINIDUMP_THREAD_NAME_LIST`: 12-byte entries of a thread number and a 64-bit RVA.
    fn name(&mut self, reader: &Reader<'_>, index: &BTreeMap<u64, usize>) {
        let named: Vec<_> = reader.streams.iter().filter(|s| s.kind == THREAD_NAMES).collect();
        for stream in named {
            let bytes = reader.bytes(stream.location);
            for entry in reader.list("thread names", &bytes, stream.location.size, 12) {
                let id = u32_at(entry, 0, reader.endian).map(u64::from);
                let name = u64_at(entry, 4, reader.endian).and_then(|rva| reader.utf16(rva));
                let thread = id.and_then(|id| self.list.get_mut(*index.get(&id)?));
                if let (Some(thread), Some(name)) = (thread, name.filter(|n| !n.is_empty())) {
                    thread.name.get_or_insert(name.into());
                }
            }
        }
    }

    /// `MINIDUMP_THREAD_INFO`: what each thread did since it was started.
    fn info(&mut self, reader: &Reader<'_>) {
        let Some(stream) = reader.first(THREAD_INFO_LIST, 12) else { return };
        for entry in reader.sized_list("thread information", &stream, false, 64) {
            let Some(id) = u32_at(entry, 0, reader.endian) else { continue };
            let wide = |at| u64_at(entry, at, reader.endian).filter(|n| *n != 0);
            let mut add = |key: &str, value: Option<String>| {
                let thread = Some(ThreadId(id.into()));
                self.attributes.extend(value.map(|v| Attribute { key: key.into(), thread, value: v.into() }));
            };
            // Times in units of 100 nanoseconds; creation since 1601.
            add("thread.created", wide(16).map(|n| n.to_string()));
            add("thread.kernel_time", wide(32).map(|n| n.to_string()));
            add("thread.user_time", wide(40).map(|n| n.to_string()));
            add("thread.start_address", wide(48).map(|n| format!("{n:#x}")));
        }
    }

    /// Puts the exception's context into its thread: the thread's own was taken later, in the writer's handler.
    pub(super) fn replace(&mut self, thread: u64, found: context::Context) {
        match self.list.iter_mut().find(|t| t.id.0 == thread) {
            Some(t) => {
                t.registers = found.registers;
                t.debug_registers = found.debug.or(t.debug_registers.take());
            }
            None => {
                let mut t = Thread::new(ThreadId(thread), Context::Lwp, found.registers);
                t.debug_registers = found.debug;
                self.list.push(t);
            }
        }
    }

    /// Where the stack pointer lies outside of the stack that the entry names (or it names none), the piece of memory
    /// around it is the stack.
    pub(super) fn find_stacks(&mut self, pieces: &[Piece]) {
        let mut sorted: Vec<&Piece> = pieces.iter().collect();
        sorted.sort_by_key(|p| p.start);
        for thread in &mut self.list {
            let Some(sp) = thread.registers.sp() else { continue };
            if thread.stack.as_ref().is_some_and(|s| s.contains(&sp)) {
                continue;
            }
            let before = sorted.partition_point(|p| p.start <= sp.0);
            let around = sorted.get(..before).and_then(|p| p.last());
            let around = around.filter(|p| sp.0.wrapping_sub(p.start) < p.size);
            if let Some(piece) = around {
                thread.stack = Some(Addr(piece.start)..Addr(piece.start.saturating_add(piece.size)));
            }
        }
    }
}
