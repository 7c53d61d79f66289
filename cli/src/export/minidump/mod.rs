//! A snapshot as a minidump: for lldb, Breakpad's and Crashpad's tools, and whatever else reads that format.
//!
//! Layout: minidumpapiset.h, and Breakpad's minidump_format.h for what is not Windows'. The system is called Linux
//! (0x8201) for FreeBSD and illumos too, because no reader knows numbers for those; the service pack text names the
//! real one, and signals are in Linux's numbering. The snapshot itself is kept as one more stream, so that nothing is
//! lost: [`embedded`] gives it back.

mod buffer;
mod context;
mod system;

use crate::failure::Failure;
use buffer::Buffer;
use platform::input::Input;
use snapshot_format::Snapshot;
use snapshot_format::schema::{MemoryExtent, Note, Thread};
use std::collections::HashMap;
use std::io::{self, Read as _, Write};
use std::path::Path;

/// The stream that holds the snapshot: a number that no other writer is known to use.
pub const SNAPSHOT_STREAM: u32 = 0x5046_0001;
/// Most streams of a minidump that are looked through for the snapshot; writers make some dozens.
const LIMIT_STREAMS: u32 = 4096;

const THREAD_LIST: u32 = 3;
const MODULE_LIST: u32 = 4;
const MEMORY_LIST: u32 = 5;
const EXCEPTION: u32 = 6;
const MEMORY_64_LIST: u32 = 9;
const THREAD_NAMES: u32 = 24;
/// "RSDS" and "BpEL", as little-endian numbers.
const RECORD_PDB: u32 = 0x5344_5352;
const RECORD_BUILD_ID: u32 = 0x4270_454c;

/// What could not be said in a minidump.
pub type Losses = Vec<String>;

/// Writes `snapshot`, whose file's bytes are `original`.
///
/// # Errors
/// When `out` fails, or when the parts that 32-bit offsets must reach are larger than 4 GiB.
pub fn write(snapshot: &Snapshot, original: &[u8], out: &mut dyn Write) -> io::Result<Losses> {
    let mut losses = Losses::new();
    let memory = Memory::of(snapshot);
    let mut dump = Buffer::default();
    system::write(snapshot, &mut dump);
    let contexts = threads(snapshot, &memory, &mut dump, &mut losses);
    exception(snapshot, &contexts, &mut dump);
    modules(snapshot, &mut dump);
    let names: Vec<(u32, &str)> = snapshot
        .threads
        .iter()
        .filter_map(|t| Some((u32::try_from(t.id).ok()?, t.name.as_deref().filter(|n| !n.is_empty())?)))
        .collect();
    let at: Vec<(u32, u32)> = names.iter().map(|(id, name)| (*id, dump.utf16(name))).collect();
    dump.stream(THREAD_NAMES, |d| {
        d.u32(u32::try_from(at.len()).unwrap_or(u32::MAX));
        for (id, rva) in &at {
            d.u32(*id);
            d.u64(u64::from(*rva));
        }
    });
    if u32::try_from(original.len()).is_ok() {
        dump.stream(SNAPSHOT_STREAM, |d| d.bytes(original));
    } else {
        losses.push("the snapshot is larger than 4 GiB and is not kept in the minidump".into());
    }
    memory.lists(&mut dump);
    let bytes = dump.finish(snapshot.identity.taken_at_ns)?;
    out.write_all(&bytes)?;
    for (_, bytes) in &memory.pieces {
        out.write_all(bytes)?;
    }
    Ok(losses)
}

/// The bytes that go behind everything else, by address, without overlaps.
struct Memory<'s> {
    pieces: Vec<(u64, &'s [u8])>,
    /// Where each begins among all of them.
    offsets: Vec<u64>,
}

impl<'s> Memory<'s> {
    fn of(snapshot: &'s Snapshot) -> Self {
        let mut extents: Vec<&MemoryExtent> =
            snapshot.memory.iter().filter(|e| e.space == 0 && !e.bytes.is_empty()).collect();
        extents.sort_by_key(|e| (e.address, std::cmp::Reverse(e.bytes.len())));
        let (mut pieces, mut offsets, mut total, mut end) = (Vec::new(), Vec::new(), 0_u64, 0_u64);
        for extent in extents {
            let known = usize::try_from(end.saturating_sub(extent.address)).unwrap_or(usize::MAX);
            let Some(rest) = extent.bytes.get(known..).filter(|r| !r.is_empty()) else { continue };
            let start = extent.address.saturating_add(known as u64);
            pieces.push((start, rest));
            offsets.push(total);
            total = total.saturating_add(rest.len() as u64);
            end = start.saturating_add(rest.len() as u64);
        }
        Self { pieces, offsets }
    }

    /// From `at` to the end of what is known there: address, size, offset among all bytes.
    fn from(&self, at: u64) -> Option<(u64, u64, u64)> {
        let index = self.pieces.partition_point(|(start, _)| *start <= at).checked_sub(1)?;
        let (start, bytes) = self.pieces.get(index)?;
        let skip = at.checked_sub(*start).filter(|s| *s < bytes.len() as u64)?;
        Some((at, bytes.len() as u64 - skip, self.offsets.get(index)?.saturating_add(skip)))
    }

    /// Both lists over the same bytes. The older one holds what its 32-bit offsets reach.
    fn lists(&self, dump: &mut Buffer) {
        let ranges = || self.pieces.iter().zip(&self.offsets);
        let near = |bytes: &[u8], offset: u64| {
            // The lists come last but for the bytes: what lies before them is far below the rest of 4 GiB.
            offset.saturating_add(bytes.len() as u64) < u64::from(u32::MAX) - (dump_room(dump.len()))
        };
        let old: Vec<(u64, u32, u64)> = ranges()
            .filter(|((_, bytes), offset)| near(bytes, **offset))
            .filter_map(|((start, bytes), offset)| Some((*start, u32::try_from(bytes.len()).ok()?, *offset)))
            .collect();
        dump.stream(MEMORY_LIST, |d| {
            d.u32(u32::try_from(old.len()).unwrap_or(u32::MAX));
            for (start, size, offset) in &old {
                d.u64(*start);
                d.u32(*size);
                d.memory_rva(*offset);
            }
        });
        dump.stream(MEMORY_64_LIST, |d| {
            d.u64(self.pieces.len() as u64);
            d.memory_base();
            for (start, bytes) in &self.pieces {
                d.u64(*start);
                d.u64(bytes.len() as u64);
            }
        });
    }
}

/// What comes before the bytes of memory: what is there already, and both lists.
fn dump_room(so_far: usize) -> u64 {
    (so_far as u64).saturating_add(64 << 20)
}

/// The thread list; gives where each thread's context is.
fn threads(
    snapshot: &Snapshot,
    memory: &Memory<'_>,
    dump: &mut Buffer,
    losses: &mut Losses,
) -> HashMap<u64, (u32, u32)> {
    let first_physical = first_physical_rows(snapshot);
    let mut registers: HashMap<u64, HashMap<&str, u64>> = HashMap::new();
    for r in &snapshot.registers {
        if first_physical.get(&r.thread).copied().unwrap_or(0) == r.frame {
            registers.entry(r.thread).or_default().insert(&r.name, r.value);
        }
    }
    let notes = snapshot.notes.iter().filter(|n| n.owner == Note::FLOATING_POINT);
    let floating: HashMap<u64, &Note> = notes.filter_map(|n| Some((n.thread?, n))).collect();
    let mut contexts = HashMap::new();
    let mut entries = Vec::new();
    for thread in &snapshot.threads {
        let Ok(id) = u32::try_from(thread.id) else {
            losses.push(format!("thread {}: its number has more than 32 bits; it is left out", thread.id));
            continue;
        };
        let known = registers.remove(&thread.id).unwrap_or_default();
        let context = context::write(&snapshot.identity.arch, &known, floating.get(&thread.id).copied());
        let place = context.as_ref().map_or((0, 0), |bytes| dump.blob(bytes));
        if context.is_none() && !known.is_empty() {
            losses.push(format!("thread {id}: no context of {} is written", snapshot.identity.arch));
        }
        contexts.insert(thread.id, place);
        let sp = ["rsp", "esp", "sp"].iter().find_map(|name| known.get(name).copied());
        // What lies below the stack pointer of x86-64 may be in use (the red zone).
        let below = sp.map(|sp| sp.saturating_sub(128));
        entries.push((id, below.and_then(|at| memory.from(at)).or_else(|| memory.from(sp?)), place));
    }
    dump.stream(THREAD_LIST, |d| {
        d.u32(u32::try_from(entries.len()).unwrap_or(u32::MAX));
        for (id, stack, context) in &entries {
            d.u32(*id);
            d.u32(0); // suspend count
            d.u32(0); // priority class
            d.u32(0); // priority
            d.u64(0); // thread environment block
            match stack {
                Some((start, size, offset)) if offset.saturating_add(*size) < u64::from(u32::MAX) / 2 => {
                    d.u64(*start);
                    d.u32(u32::try_from(*size).unwrap_or(0));
                    d.memory_rva(*offset);
                }
                _ => {
                    d.u64(0);
                    d.u64(0);
                }
            }
            d.place(*context);
        }
    });
    contexts
}

/// By thread, the row of its first physical frame, which its recorded registers belong to.
fn first_physical_rows(snapshot: &Snapshot) -> HashMap<u64, u32> {
    let row = |thread: &Thread| {
        let stack = snapshot.stacks.get(thread.stack? as usize)?;
        let first = stack.first as usize;
        let frames = snapshot.frames.get(first..first.saturating_add(stack.count as usize))?;
        u32::try_from(frames.iter().position(|f| !f.inline)?).ok()
    };
    snapshot.threads.iter().map(|t| (t.id, row(t).unwrap_or(0))).collect()
}

/// The event, when it is a signal.
fn exception(snapshot: &Snapshot, contexts: &HashMap<u64, (u32, u32)>, dump: &mut Buffer) {
    let Some(event) = &snapshot.event else { return };
    let faulting = || snapshot.threads.iter().find(|t| t.faulting).map(|t| t.id);
    let Some(thread) = event.thread.or_else(faulting) else { return };
    let (Ok(id), Some(signal)) = (u32::try_from(thread), system::signal(snapshot, event)) else { return };
    // Elsewhere the field of the address holds other things, such as who sent it.
    let has_address = matches!(signal, 4 | 5 | 7 | 8 | 11);
    dump.stream(EXCEPTION, |d| {
        d.u32(id);
        d.u32(0);
        d.u32(signal);
        d.u32((event.code.unwrap_or(0) as u64 & 0xffff_ffff) as u32);
        d.u64(0); // the next record
        d.u64(event.address.filter(|_| has_address).unwrap_or(0));
        d.u32(0); // parameters
        d.u32(0);
        for _ in 0..15 {
            d.u64(0);
        }
        d.place(contexts.get(&thread).copied().unwrap_or((0, 0)));
    });
}

fn modules(snapshot: &Snapshot, dump: &mut Buffer) {
    let windows = snapshot.identity.os == "windows";
    let places: Vec<_> = snapshot
        .modules
        .iter()
        .map(|m| {
            let name = dump.utf16(&m.path);
            let record = m.build_id.as_ref().map(|id| {
                let mut record = if windows { RECORD_PDB } else { RECORD_BUILD_ID }.to_le_bytes().to_vec();
                record.extend_from_slice(id);
                if windows {
                    record.resize(24, 0);
                    record.extend_from_slice(m.symbol_file.as_deref().unwrap_or(&m.path).as_bytes());
                    record.push(0);
                }
                dump.blob(&record)
            });
            (m, name, record.unwrap_or((0, 0)))
        })
        .collect();
    dump.stream(MODULE_LIST, |d| {
        d.u32(u32::try_from(places.len()).unwrap_or(u32::MAX));
        for (m, name, record) in &places {
            d.u64(m.base);
            d.u32(u32::try_from(m.size).unwrap_or(u32::MAX));
            d.u32(0); // checksum
            d.u32(0); // time stamp
            d.u32(*name);
            d.bytes(&[0; 52]); // VS_FIXEDFILEINFO
            d.place(*record);
            d.u64(0); // misc record
            d.u64(0);
            d.u64(0);
        }
    });
}

/// The snapshot that the (uncompressed) minidump at `path` was made from, if it is one and holds one.
///
/// # Errors
/// When the stream is there, and no snapshot can be read out of it.
pub fn embedded(path: &Path) -> Result<Option<Snapshot>, Failure> {
    let mut magic = [0; 4];
    let opened = std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut magic));
    if opened.is_err() || magic != *b"MDMP" {
        return Ok(None);
    }
    let input = Input::open(path).map_err(Failure::new)?;
    let word = |at: u64| {
        let mut raw = [0; 4];
        (input.read_at(at, &mut raw).ok()? == 4).then(|| u32::from_le_bytes(raw))
    };
    let (Some(count), Some(directory)) = (word(8), word(12)) else { return Ok(None) };
    for n in 0..count.min(LIMIT_STREAMS) {
        let entry = u64::from(directory).saturating_add(u64::from(n) * 12);
        if word(entry) != Some(SNAPSHOT_STREAM) {
            continue;
        }
        let (Some(size), Some(at)) = (word(entry + 4), word(entry + 8)) else { continue };
        let there = input.size().saturating_sub(u64::from(at)).min(u64::from(size));
        // At most 4 GiB, and no more than the file holds.
        let mut bytes = vec![0; usize::try_from(there).unwrap_or(0)];
        let mut got = 0;
        while got < bytes.len() {
            match input.read_at(u64::from(at) + got as u64, &mut bytes[got..]) {
                Ok(0) | Err(_) => break,
                Ok(n) => got += n,
            }
        }
        bytes.truncate(got);
        let name = input.name().display();
        let (mut snapshot, doubts) = Snapshot::read_slice(&bytes)
            .map_err(|e| Failure::new(format!("{name}: the snapshot in stream {SNAPSHOT_STREAM:#x}: {e}")))?;
        snapshot.doubts.extend(doubts);
        return Ok(Some(snapshot));
    }
    Ok(None)
}
