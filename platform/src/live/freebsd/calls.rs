//! The system calls of this very system. Built for FreeBSD only; what it answers is decoded elsewhere.

use super::abi::LWPINFO;
use super::system::{Request, System, VmEntry};
use evidence::ToUsize;
use std::io;

/// Most LWPs of one process: `kern.threads.max_threads_per_proc` is some thousand.
const LIMIT_LWPS: i32 = 1 << 20;
/// Largest answer of a sysctl: the mappings of a process with a million of them.
const LIMIT_SYSCTL: usize = 1 << 30;
/// `PT_GETXSTATE_INFO`, `PT_GETXSTATE`, `PT_GETFSBASE`, `PT_GETGSBASE` of amd64 (machine/ptrace.h); libc lacks them.
#[cfg(target_arch = "x86_64")]
const XSTATE: [i32; 4] = [68, 69, 71, 73];
/// Largest XSAVE area: one with AMX has 11,008 bytes.
#[cfg(target_arch = "x86_64")]
const LIMIT_XSTATE: u32 = 64 << 10;

/// Longest path of a mapped file: `MAXPATHLEN`.
const LIMIT_PATH: usize = 1024;

/// The running system.
pub struct ThisSystem;

const _: () = assert!(size_of::<libc::ptrace_lwpinfo>() == LWPINFO);
const _: () = assert!(size_of::<libc::ptrace_io_desc>() == 32);
const _: () = assert!(size_of::<libc::ptrace_vm_entry>() == 64);
const _: () = assert!(size_of::<libc::ptrace_coredump>() == 16);
#[cfg(target_arch = "x86_64")]
const _: () = assert!(size_of::<libc::reg>() == 176);

fn check(result: i32) -> io::Result<i32> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A request that fills a buffer of the size that the system writes.
fn fill(request: i32, id: i32, bytes: &mut [u8], data: i32) -> io::Result<()> {
    // SAFETY: for these requests `addr` is a buffer that the kernel writes one structure to; callers pass one of at
    // least its size, which is asserted above or was asked of the kernel before.
    check(unsafe { libc::ptrace(request, id, bytes.as_mut_ptr().cast(), data) }).map(|_| ())
}

impl System for ThisSystem {
    fn machine(&self) -> u16 {
        if cfg!(target_arch = "aarch64") { 183 } else { 62 }
    }

    fn attach(&mut self, pid: i32) -> io::Result<()> {
        // SAFETY: `addr` and `data` are not used by this request.
        check(unsafe { libc::ptrace(libc::PT_ATTACH, pid, std::ptr::null_mut(), 0) }).map(|_| ())
    }

    fn wait(&mut self, pid: i32) -> io::Result<Option<i32>> {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let found = check(unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) })?;
        Ok((found != 0).then_some(status))
    }

    fn detach(&mut self, pid: i32, signal: i32) -> io::Result<()> {
        // SAFETY: an address of 1 says "where it stopped"; it is not followed.
        let here = std::ptr::without_provenance_mut(1);
        // SAFETY: as above.
        check(unsafe { libc::ptrace(libc::PT_DETACH, pid, here, signal) }).map(|_| ())
    }

    fn lwps(&self, pid: i32) -> io::Result<Vec<i32>> {
        // SAFETY: `addr` and `data` are not used by this request.
        let count = check(unsafe { libc::ptrace(libc::PT_GETNUMLWPS, pid, std::ptr::null_mut(), 0) })?;
        let count = count.clamp(0, LIMIT_LWPS);
        let mut list = vec![0_i32; usize::try_from(count).unwrap_or(0)];
        // SAFETY: the list has room for `count` numbers, and the kernel is told so.
        let got = check(unsafe { libc::ptrace(libc::PT_GETLWPLIST, pid, list.as_mut_ptr().cast(), count) })?;
        list.truncate(usize::try_from(got).unwrap_or(0));
        Ok(list)
    }

    fn request(&self, what: Request, lwp: i32) -> io::Result<Vec<u8>> {
        let structure = |request, size: usize, data| {
            let mut bytes = vec![0; size];
            fill(request, lwp, &mut bytes, data).map(|()| bytes)
        };
        match what {
            Request::Info => structure(libc::PT_LWPINFO, LWPINFO, i32::try_from(LWPINFO).unwrap_or(0)),
            Request::Registers => structure(libc::PT_GETREGS, size_of::<libc::reg>(), 0),
            Request::Float => structure(libc::PT_GETFPREGS, size_of::<libc::fpreg>(), 0),
            #[cfg(target_arch = "x86_64")]
            Request::Extended => {
                // struct ptrace_xstate_info: mask of 8 bytes, length of 4.
                let [about, get, ..] = XSTATE;
                let info = structure(about, 16, 16)?;
                let size = evidence::bytes::u32_at(&info, 8, evidence::bytes::Endian::Little).unwrap_or(0);
                structure(get, size.clamp(576, LIMIT_XSTATE).to_usize(), 0)
            }
            #[cfg(target_arch = "x86_64")]
            Request::Bases => {
                let [.., fs, gs] = XSTATE;
                Ok([structure(fs, 8, 0)?, structure(gs, 8, 0)?].concat())
            }
            // struct dbreg: sixteen words; libc lacks it.
            #[cfg(target_arch = "x86_64")]
            Request::Debug => structure(libc::PT_GETDBREGS, 128, 0),
            #[cfg(not(target_arch = "x86_64"))]
            Request::Extended | Request::Bases | Request::Debug => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn read(&self, pid: i32, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut order = libc::ptrace_io_desc {
            piod_op: libc::PIOD_READ_D,
            piod_offs: std::ptr::without_provenance_mut(at.to_usize()),
            piod_addr: into.as_mut_ptr().cast(),
            piod_len: into.len(),
        };
        // SAFETY: the order names our buffer with its length, and both outlive the call.
        check(unsafe { libc::ptrace(libc::PT_IO, pid, (&raw mut order).cast(), 0) })?;
        Ok(order.piod_len.min(into.len()))
    }

    fn sysctl(&self, name: &[i32]) -> io::Result<Vec<u8>> {
        let length = u32::try_from(name.len()).unwrap_or(0);
        // What is asked for may grow between the two calls: some room, and another try.
        for _ in 0..8 {
            let mut size = 0_usize;
            // SAFETY: without a buffer only the size is written.
            check(unsafe {
                libc::sysctl(name.as_ptr(), length, std::ptr::null_mut(), &raw mut size, std::ptr::null(), 0)
            })?;
            size = size.saturating_add(size >> 2).saturating_add(4096).min(LIMIT_SYSCTL);
            let mut bytes = vec![0_u8; size];
            // SAFETY: the buffer has `size` bytes, which the kernel is told.
            let result = check(unsafe {
                libc::sysctl(name.as_ptr(), length, bytes.as_mut_ptr().cast(), &raw mut size, std::ptr::null(), 0)
            });
            match result {
                Ok(_) => {
                    bytes.truncate(size);
                    return Ok(bytes);
                }
                Err(e) if e.raw_os_error() == Some(libc::ENOMEM) => {}
                Err(e) => return Err(e),
            }
        }
        Err(io::ErrorKind::OutOfMemory.into())
    }

    fn vm_entry(&self, pid: i32, entry: i32) -> io::Result<Option<VmEntry>> {
        let mut path = vec![0_u8; LIMIT_PATH];
        let mut about = libc::ptrace_vm_entry {
            pve_entry: entry,
            pve_timestamp: 0,
            pve_start: 0,
            pve_end: 0,
            pve_offset: 0,
            pve_prot: 0,
            pve_pathlen: u32::try_from(path.len()).unwrap_or(0),
            pve_fileid: 0,
            pve_fsid: 0,
            pve_path: path.as_mut_ptr().cast(),
        };
        // SAFETY: the structure names the buffer of the path with its length, and both outlive the call.
        match check(unsafe { libc::ptrace(libc::PT_VM_ENTRY, pid, (&raw mut about).cast(), 0) }) {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            other => other?,
        };
        // The length counts the NUL; nothing is written for a mapping without a file.
        path.truncate(path.iter().position(|b| *b == 0).unwrap_or(path.len()));
        Ok(Some(VmEntry {
            next: about.pve_entry,
            start: about.pve_start,
            last: about.pve_end,
            offset: about.pve_offset,
            protection: about.pve_prot,
            path,
        }))
    }

    fn core_dump(&self, pid: i32, into: &std::fs::File, limit: u64) -> io::Result<()> {
        use std::os::fd::AsRawFd as _;
        let mut order = libc::ptrace_coredump {
            pc_fd: into.as_raw_fd(),
            pc_flags: 0,
            pc_limit: i64::try_from(limit).unwrap_or(i64::MAX),
        };
        let size = i32::try_from(size_of::<libc::ptrace_coredump>()).unwrap_or(0);
        // SAFETY: the order and the file that it names outlive the call, and `data` is the order's size.
        check(unsafe { libc::ptrace(libc::PT_COREDUMP, pid, (&raw mut order).cast(), size) }).map(|_| ())
    }
}
