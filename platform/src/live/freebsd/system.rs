//! The system calls, and nothing else: the seam that tests put recorded replies behind.

use std::io;

/// What is asked about an LWP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Request {
    /// `PT_LWPINFO`: `struct ptrace_lwpinfo`.
    Info,
    /// `PT_GETREGS`: `struct reg`.
    Registers,
    /// `PT_GETFPREGS`: `struct fpreg`.
    Float,
    /// `PT_GETXSTATE`: the XSAVE area.
    Extended,
    /// `PT_GETFSBASE` and `PT_GETGSBASE`: two words.
    Bases,
    /// `PT_GETDBREGS` of amd64: `struct dbreg`, sixteen words.
    Debug,
}

/// A mapping as `PT_VM_ENTRY` tells it (`struct ptrace_vm_entry`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmEntry {
    /// What to ask for next.
    pub next: i32,
    /// First address.
    pub start: u64,
    /// Last address: it belongs to the mapping.
    pub last: u64,
    /// Where it starts in its file.
    pub offset: u64,
    /// 1 read, 2 write, 4 execute.
    pub protection: u32,
    /// Its file, without a NUL; empty when it has none.
    pub path: Vec<u8>,
}

/// The system calls that recording a process takes.
pub trait System: Send {
    /// `e_machine` of the processes that it can look at: 62 (amd64) or 183 (arm64).
    fn machine(&self) -> u16;

    /// `PT_ATTACH`: asks all of a process to stop.
    ///
    /// # Errors
    /// As the system says.
    fn attach(&mut self, pid: i32) -> io::Result<()>;

    /// `waitpid` without waiting: the status, once there is one.
    ///
    /// # Errors
    /// As the system says.
    fn wait(&mut self, pid: i32) -> io::Result<Option<i32>>;

    /// `PT_DETACH`: lets it go, with a signal or 0.
    ///
    /// # Errors
    /// As the system says.
    fn detach(&mut self, pid: i32, signal: i32) -> io::Result<()>;

    /// `PT_GETLWPLIST`.
    ///
    /// # Errors
    /// As the system says.
    fn lwps(&self, pid: i32) -> io::Result<Vec<i32>>;

    /// What an LWP answers.
    ///
    /// # Errors
    /// As the system says.
    fn request(&self, what: Request, lwp: i32) -> io::Result<Vec<u8>>;

    /// `PT_IO` with `PIOD_READ_D`: how many bytes were read.
    ///
    /// # Errors
    /// As the system says.
    fn read(&self, pid: i32, at: u64, into: &mut [u8]) -> io::Result<usize>;

    /// `sysctl` of a name.
    ///
    /// # Errors
    /// As the system says.
    fn sysctl(&self, name: &[i32]) -> io::Result<Vec<u8>>;

    /// `PT_VM_ENTRY`: a mapping, the first one for 0; `None` behind the last one.
    ///
    /// # Errors
    /// As the system says.
    fn vm_entry(&self, pid: i32, entry: i32) -> io::Result<Option<VmEntry>>;

    /// `PT_COREDUMP`: writes a core of at most `limit` bytes.
    ///
    /// # Errors
    /// As the system says.
    fn core_dump(&self, pid: i32, into: &std::fs::File, limit: u64) -> io::Result<()>;
}
