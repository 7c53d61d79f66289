//! Memory of a stopped process: `process_vm_readv`, many ranges per call, and `/proc/PID/mem` for what that refuses
//! (pages without read permission).

use super::mappings;
use super::ptrace::Tid;
use evidence::{Absent, Addr, Extent, Mapping, Memory, Read, ToU64, ToUsize};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use std::fs::File;
use std::io::IoSliceMut;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// Ranges per system call: the kernel's `UIO_MAXIOV`.
const LIMIT_VECTORS: usize = 1024;

/// Whether the process is still held. Every read passes it; closing it waits for the reads that are under way.
#[derive(Debug, Default)]
pub(super) struct Gate {
    closed: RwLock<bool>,
}

impl Gate {
    /// From now on everything reads as released: the process is about to run, and its bytes would no longer belong to
    /// the registers that were recorded.
    pub(super) fn close(&self) {
        *self.closed.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    fn pass(&self) -> RwLockReadGuard<'_, bool> {
        self.closed.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a run of addresses is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Many at a time.
    Bulk,
    /// Without read permission, as guard pages are: `process_vm_readv` refuses them, `/proc/PID/mem` does not.
    File,
    /// Not at all.
    Never,
}

/// The address space of a process, for as long as its [`Gate`] is open.
#[derive(Debug)]
pub(super) struct LiveMemory {
    /// A thread that has an address space; a leader that has ended has none.
    tid: Tid,
    file: Option<File>,
    extents: Vec<Extent>,
    runs: Vec<(Range<Addr>, How)>,
    gate: Arc<Gate>,
}

impl LiveMemory {
    /// The memory of the process that `tid` belongs to. `mappings` are complete: what lies in none is not mapped.
    pub(super) fn new(tid: Tid, file: Option<File>, mappings: &[Mapping], gate: Arc<Gate>) -> Self {
        let how = |m: &Mapping| {
            if mappings::unreadable(m) {
                How::Never
            } else if m.protection.is_none_or(|p| p.read) {
                How::Bulk
            } else {
                How::File
            }
        };
        let runs = mappings::joined(mappings.iter().map(|m| (m.range.clone(), how(m))));
        Self { tid, file, extents: mappings::extents(mappings), runs, gate }
    }

    /// The memory of a copy of a process, without what `lacks` says that the copy does not have.
    pub(super) fn of_copy(
        tid: Tid,
        file: Option<File>,
        mappings: &[Mapping],
        gate: Arc<Gate>,
        lacks: impl Fn(&Mapping) -> bool,
    ) -> Self {
        let mut memory = Self::new(tid, file, mappings, gate);
        let how = |m: &Mapping| match m.protection {
            _ if lacks(m) || mappings::unreadable(m) => How::Never,
            Some(p) if !p.read => How::File,
            _ => How::Bulk,
        };
        memory.runs = mappings::joined(mappings.iter().map(|m| (m.range.clone(), how(m))));
        let absent = |how: How| (how == How::Never).then_some(Absent::Denied);
        memory.extents = mappings::joined(mappings.iter().map(|m| (m.range.clone(), absent(how(m)))))
            .into_iter()
            .map(|(range, absent)| Extent { range, absent })
            .collect();
        memory
    }

    /// How the bytes at `at` are read, and how many of them in the same way.
    fn run_at(&self, at: Addr) -> Option<(u64, How)> {
        let index = self.runs.partition_point(|(range, _)| range.end <= at);
        let (range, how) = self.runs.get(index).filter(|(range, _)| range.contains(&at))?;
        Some((range.end.offset_from(at)?, *how))
    }

    /// Reads one range, run by run.
    fn read_open(&self, at: Addr, into: &mut [u8]) -> (usize, Option<Absent>) {
        let mut done = 0_usize;
        while let Some(rest) = into.get_mut(done..).filter(|r| !r.is_empty()) {
            let Some(here) = at.checked_add(done.to_u64()) else { return (done, Some(Absent::Unmapped)) };
            let Some((run, how)) = self.run_at(here) else { return (done, Some(Absent::Unmapped)) };
            let len = rest.len().min(run.to_usize());
            let got = match how {
                How::Never => Err(Absent::Denied),
                How::File => self.through_file(here, rest.get_mut(..len).unwrap_or_default()),
                How::Bulk => self.through_process(here, rest.get_mut(..len).unwrap_or_default()),
            };
            match got {
                Ok(got) => done = done.saturating_add(got),
                Err(why) => return (done, Some(why)),
            }
        }
        (done, None)
    }

    fn through_process(&self, at: Addr, into: &mut [u8]) -> Result<usize, Absent> {
        let remote = [RemoteIoVec { base: at.0.to_usize(), len: into.len() }];
        match process_vm_readv(Pid::from_raw(self.tid), &mut [IoSliceMut::new(into)], &remote) {
            Ok(0) => Err(Absent::Denied),
            Ok(got) => Ok(got),
            Err(nix::errno::Errno::ESRCH) => Err(Absent::Released),
            // A kernel without the call, a filter that forbids it, or a page that only a tracer may read.
            Err(_) => self.through_file(at, into),
        }
    }

    fn through_file(&self, at: Addr, into: &mut [u8]) -> Result<usize, Absent> {
        match self.file.as_ref().map(|file| file.read_at(into, at.0)) {
            Some(Ok(got)) if got > 0 => Ok(got),
            // The file gives nothing once the process has ended.
            Some(Ok(_)) => Err(Absent::Released),
            Some(Err(_)) | None => Err(Absent::Denied),
        }
    }

    /// Reads as many of these as one call takes; each lies in one run. Says how many of them are settled.
    fn read_some(&self, batch: &mut [&mut Read<'_>]) -> usize {
        let mut remote = Vec::with_capacity(batch.len());
        let mut local = Vec::with_capacity(batch.len());
        for read in batch.iter_mut() {
            remote.push(RemoteIoVec { base: read.at.0.to_usize(), len: read.into.len() });
            local.push(IoSliceMut::new(read.into));
        }
        let mut got = process_vm_readv(Pid::from_raw(self.tid), &mut local, &remote).unwrap_or(0);
        drop(local);
        let count = batch.len();
        for (index, read) in batch.iter_mut().enumerate() {
            let len = read.into.len();
            match got.checked_sub(len) {
                Some(left) => {
                    got = left;
                    (read.got, read.stop) = (len, None);
                }
                None => {
                    // The call ended in here: what is left of this one is read by itself, the others in a new call.
                    (read.got, read.stop) = self.read_open(read.at, read.into);
                    return index.saturating_add(1);
                }
            }
        }
        count
    }
}

impl Memory for LiveMemory {
    fn read(&self, at: Addr, into: &mut [u8]) -> (usize, Option<Absent>) {
        let closed = self.gate.pass();
        if *closed && !into.is_empty() {
            let absent = match self.run_at(at) {
                None => Absent::Unmapped,
                Some((_, How::Never)) => Absent::Denied,
                Some(_) => Absent::Released,
            };
            return (0, Some(absent));
        }
        self.read_open(at, into)
    }

    fn read_batch(&self, batch: &mut [Read<'_>]) {
        let mut bulk: Vec<&mut Read<'_>> = Vec::with_capacity(batch.len());
        for read in batch {
            match self.run_at(read.at) {
                Some((run, How::Bulk)) if run >= read.into.len().to_u64() && !read.into.is_empty() => bulk.push(read),
                _ => (read.got, read.stop) = self.read(read.at, read.into),
            }
        }
        // A page that cannot be read ends the call that comes to it. Where there is one there may be many, so calls
        // get small and grow again: the work stays in proportion to the batch.
        let (mut rest, mut size) = (bulk.as_mut_slice(), LIMIT_VECTORS);
        while !rest.is_empty() {
            let closed = self.gate.pass();
            if *closed {
                for read in rest.iter_mut() {
                    (read.got, read.stop) = (0, Some(Absent::Released));
                }
                return;
            }
            let count = rest.len().min(size);
            let settled = self.read_some(rest.get_mut(..count).unwrap_or_default());
            size = if settled < count { 8 } else { size.saturating_mul(2).min(LIMIT_VECTORS) };
            rest = rest.get_mut(settled..).unwrap_or_default();
        }
    }

    fn extents(&self) -> &[Extent] {
        &self.extents
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Our own memory is as readable as a stopped process's.
    fn own(ranges: &[Range<Addr>]) -> LiveMemory {
        let lines: Vec<String> =
            ranges.iter().map(|r| format!("{:x}-{:x} r--p 00000000 00:00 0", r.start.0, r.end.0)).collect();
        let (mappings, problems) = mappings::parse(lines.join("\n").as_bytes());
        assert_eq!(problems, [""; 0]);
        let file = File::open("/proc/self/mem").ok();
        LiveMemory::new(i32::try_from(std::process::id()).unwrap(), file, &mappings, Arc::default())
    }

    fn range(bytes: &[u8]) -> Range<Addr> {
        let start = Addr(bytes.as_ptr().addr() as u64);
        start..start.wrapping_add(bytes.len() as u64)
    }

    #[test]
    fn a_batch_equals_single_reads() {
        let data: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        let start = range(&data).start;
        let memory = own(&[range(&data)]);
        let places: Vec<(u64, usize)> = (0..3000).map(|n| ((n * 37) % 110_000, (n % 97) as usize)).collect();
        let mut store: Vec<Vec<u8>> = places.iter().map(|(_, len)| vec![0; *len]).collect();
        let mut batch: Vec<Read<'_>> =
            store.iter_mut().zip(&places).map(|(s, (at, _))| Read::new(start.wrapping_add(*at), s)).collect();
        memory.read_batch(&mut batch);
        for (read, (at, len)) in batch.iter().zip(&places) {
            let mut single = vec![0; *len];
            assert_eq!(memory.read(start.wrapping_add(*at), &mut single), (read.got, read.stop), "{at} {len}");
            assert_eq!(read.into[..read.got], single[..read.got]);
            let at = usize::try_from(*at).unwrap();
            assert_eq!(read.got, data.len().saturating_sub(at).min(*len));
            assert_eq!(read.into[..read.got], data[at.min(data.len())..][..read.got]);
        }
    }

    #[test]
    fn nothing_is_read_once_closed() {
        let data = vec![1_u8; 64];
        let memory = own(&[range(&data)]);
        let start = range(&data).start;
        memory.gate.close();
        let mut into = [0; 16];
        assert_eq!(memory.read(start, &mut into), (0, Some(Absent::Released)));
        assert_eq!(memory.read(Addr(1), &mut into), (0, Some(Absent::Unmapped)));
        let mut batch = [Read::new(start, &mut into)];
        memory.read_batch(&mut batch);
        assert_eq!(batch[0].stop, Some(Absent::Released));
        assert_eq!(into, [0; 16]);
    }

    #[test]
    fn what_is_mapped_and_cannot_be_read_is_denied() {
        let memory = own(&[Addr(0x1000)..Addr(0x3000)]);
        let mut into = [0; 16];
        assert_eq!(memory.read(Addr(0x1000), &mut into), (0, Some(Absent::Denied)));
        assert_eq!(memory.read(Addr(0x3000), &mut into), (0, Some(Absent::Unmapped)));
    }
}
