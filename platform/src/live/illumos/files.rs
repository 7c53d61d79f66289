//! The narrow way to a process: files of `/proc/PID` and messages to its control file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of one file: `xmap` of a process with a million mappings has 216 MB.
pub const LIMIT_FILE: usize = 256 << 20;
/// `O_EXCL` of illumos (sys/fcntl.h): no second controlling process.
const O_EXCL: i32 = 0x400;

/// What a collector needs of a process.
pub trait Proc: Send + Sync {
    /// A whole file, in one read: only then are its entries of one moment.
    ///
    /// # Errors
    /// As the system says.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// The target of a link below `path`.
    fn link(&self, name: &str) -> Option<PathBuf>;
    /// Where a file of the process lies, for others to open.
    fn place(&self, name: &str) -> PathBuf;
    /// Reads memory; 0 bytes where nothing is mapped.
    ///
    /// # Errors
    /// As the system says.
    fn memory(&self, at: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Opens the control file, alone; called once, before [`Proc::control`].
    ///
    /// # Errors
    /// `EBUSY` when someone else controls the process.
    fn take(&mut self) -> io::Result<()>;
    /// Writes control messages.
    ///
    /// # Errors
    /// As the system says.
    fn control(&self, message: &[u8]) -> io::Result<()>;
    /// Closes the control file: with run-on-last-close the process runs on.
    fn let_go(&mut self);
}

/// A process below a mounted /proc.
#[derive(Debug)]
pub struct Files {
    root: PathBuf,
    memory: Option<File>,
    control: Option<File>,
}

impl Files {
    /// The process `pid` below `proc_root`.
    #[must_use]
    pub fn new(proc_root: &Path, pid: u64) -> Self {
        let root = proc_root.join(pid.to_string());
        let memory = File::open(root.join("as")).ok();
        Self { root, memory, control: None }
    }
}

/// Reads a file whose size may grow meanwhile, with a buffer that takes all of it at once.
fn whole(path: &Path) -> io::Result<Vec<u8>> {
    let mut size = usize::try_from(path.metadata()?.len()).unwrap_or(LIMIT_FILE).saturating_add(4096);
    loop {
        let mut bytes = vec![0; size.min(LIMIT_FILE)];
        let got = File::open(path)?.read(&mut bytes)?;
        if got < bytes.len() || got >= LIMIT_FILE {
            bytes.truncate(got);
            return Ok(bytes);
        }
        size = size.saturating_mul(2);
    }
}

impl Proc for Files {
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        whole(&self.root.join(name))
    }

    fn link(&self, name: &str) -> Option<PathBuf> {
        std::fs::read_link(self.root.join("path").join(name)).ok()
    }

    fn place(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn memory(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        match &self.memory {
            Some(file) => file.read_at(into, at),
            None => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }

    fn take(&mut self) -> io::Result<()> {
        let flags = if cfg!(target_os = "illumos") { O_EXCL } else { 0 };
        self.control = Some(OpenOptions::new().write(true).custom_flags(flags).open(self.root.join("ctl"))?);
        Ok(())
    }

    fn control(&self, message: &[u8]) -> io::Result<()> {
        let mut file = self.control.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        file.write_all(message)
    }

    fn let_go(&mut self) {
        self.control = None;
    }
}
