//! Memory of a stopped process: `process_vm_readv`, many ranges per call, and `/proc/PID/mem` for what that refuses
//! (pages without read permission).

use super::ptrace::Tid;
use evidence::{Absent, Addr, Extent, Memory, Read, ToU64, ToUsize};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use std::fs::File;
use std::io::IoSliceMut;
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

/// The address space of a process, for as long as its [`Gate`] is open.
#[derive(Debug)]
pub(super) struct LiveMemory {
    /// A thread that has an address space; a leader that has ended has none.
    tid: Tid,
    file: Option<File>,
    extents: Vec<Extent>,
    gate: Arc<Gate>,
}

impl LiveMemory {
    /// The memory of the process that `tid` belongs to. `extents` are complete: what lies in none is not mapped.
    pub(super) fn new(tid: Tid, file: Option<File>, extents: Vec<Extent>, gate: Arc<Gate>) -> Self {
        Self { tid, file, extents, gate }
    }

    /// Where the readable run that holds `at` ends, or why there is none.
    fn readable_until(&self, at: Addr) -> Result<Addr, Absent> {
        let index = self.extents.partition_point(|e| e.range.end <= at);
        match self.extents.get(index) {
            Some(e) if e.range.contains(&at) => e.absent.map_or(Ok(e.range.end), Err),
            _ => Err(Absent::Unmapped),
        }
    }

    /// How many of `len` bytes at `at` may be asked for, and what is true of the one behind them.
    fn clip(&self, at: Addr, len: usize) -> (usize, Option<Absent>) {
        match self.readable_until(at) {
            Err(why) => (0, Some(why)),
            Ok(end) => {
                let run = end.offset_from(at).unwrap_or(0).to_usize();
                if run >= len { (len, None) } else { (run, self.readable_until(end).err().or(Some(Absent::Unmapped))) }
            }
        }
    }

    /// Reads one range that is mapped as far as anyone knows.
    fn fill(&self, at: Addr, into: &mut [u8]) -> (usize, Option<Absent>) {
        let mut done = 0_usize;
        while let Some(rest) = into.get_mut(done..).filter(|r| !r.is_empty()) {
            let here = at.wrapping_add(done.to_u64());
            let remote = [RemoteIoVec { base: here.0.to_usize(), len: rest.len() }];
            let got = match process_vm_readv(Pid::from_raw(self.tid), &mut [IoSliceMut::new(rest)], &remote) {
                Ok(n) => n,
                Err(nix::errno::Errno::ESRCH) => return (done, Some(Absent::Released)),
                Err(_) => 0,
            };
            let got = if got > 0 {
                got
            } else {
                // A page without read permission, or a kernel without the call: the file reads through both.
                self.file.as_ref().and_then(|f| f.read_at(rest, here.0).ok()).unwrap_or(0)
            };
            if got == 0 {
                return (done, Some(Absent::Denied));
            }
            done = done.saturating_add(got);
        }
        (done, None)
    }

    fn read_open(&self, at: Addr, into: &mut [u8]) -> (usize, Option<Absent>) {
        let (len, behind) = self.clip(at, into.len());
        let (got, stop) = into.get_mut(..len).map_or((0, None), |part| self.fill(at, part));
        (got, stop.or(behind))
    }

    /// Reads as many of the batch as one call takes, and says how many of them are settled.
    fn read_some(&self, batch: &mut [Read<'_>]) -> usize {
        let count = batch.len().min(LIMIT_VECTORS);
        let mut clipped = Vec::with_capacity(count);
        let (mut local, mut remote) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for read in batch.iter_mut().take(count) {
            let (len, behind) = self.clip(read.at, read.into.len());
            clipped.push((len, behind));
            if let Some(part) = read.into.get_mut(..len).filter(|p| !p.is_empty()) {
                remote.push(RemoteIoVec { base: read.at.0.to_usize(), len });
                local.push(IoSliceMut::new(part));
            }
        }
        let mut got = if remote.is_empty() {
            0
        } else {
            process_vm_readv(Pid::from_raw(self.tid), &mut local, &remote).unwrap_or(0)
        };
        drop(local);
        for (index, (read, (len, behind))) in batch.iter_mut().zip(clipped).enumerate() {
            match got.checked_sub(len) {
                Some(left) => {
                    got = left;
                    (read.got, read.stop) = (len, behind);
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
        if *closed {
            let (len, behind) = self.clip(at, into.len());
            return (0, if len > 0 { Some(Absent::Released) } else { behind });
        }
        self.read_open(at, into)
    }

    fn read_batch(&self, batch: &mut [Read<'_>]) {
        let mut rest = batch;
        while !rest.is_empty() {
            let closed = self.gate.pass();
            let settled = if *closed { 0 } else { self.read_some(rest) };
            drop(closed);
            if settled == 0 {
                for read in rest.iter_mut() {
                    (read.got, read.stop) = self.read(read.at, read.into);
                }
                return;
            }
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
    fn own(extents: Vec<Extent>) -> LiveMemory {
        let file = File::open("/proc/self/mem").ok();
        LiveMemory::new(i32::try_from(std::process::id()).unwrap(), file, extents, Arc::default())
    }

    fn extent(bytes: &[u8]) -> Extent {
        let start = Addr(bytes.as_ptr().addr() as u64);
        Extent { range: start..start.wrapping_add(bytes.len() as u64), absent: None }
    }

    #[test]
    fn a_batch_equals_single_reads() {
        let data: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        let start = extent(&data).range.start;
        let memory = own(vec![extent(&data)]);
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
        let memory = own(vec![extent(&data)]);
        let start = extent(&data).range.start;
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
        let claimed = Extent { range: Addr(0x1000)..Addr(0x3000), absent: None };
        let memory = own(vec![claimed]);
        let mut into = [0; 16];
        assert_eq!(memory.read(Addr(0x1000), &mut into), (0, Some(Absent::Denied)));
        assert_eq!(memory.read(Addr(0x3000), &mut into), (0, Some(Absent::Unmapped)));
    }
}
