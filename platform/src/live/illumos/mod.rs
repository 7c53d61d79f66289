//! Running illumos processes: files of `/proc` and messages to their control files (proc(5)).
//!
//! Nothing here is a system call of its own, so that it is compiled and tested on every host, over a tree of files that
//! looks like /proc. [`attach`] takes control alone, sets run-on-last-close, stops every LWP, and records; memory is read
//! while the stop lasts. Facts of layout: sys/procfs.h as a 64-bit program sees it.

mod attach;
mod files;
mod images;
mod mappings;
mod memory;
mod registers;
mod target;
mod threads;

use crate::elfcore::illumos::threads::live_event;
use crate::{Error, Refusal};
use attach::{Held, refusal};
use evidence::bytes::{Endian, c_str_at, slice_at, u8_at, u32_at, u64_at};
use evidence::{Arch, Attribute, Doubt, Gaps, Identity, Note, OpenFile, Origin, Os};
pub use files::{Files, LIMIT_FILE, Proc};
use memory::LiveMemory;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
pub use target::LiveTarget;

const LE: Endian = Endian::Little;
/// Where processes are.
const PROC: &str = "/proc";
/// `NT_AUXV` of illumos.
const NT_AUXV: u32 = 6;
/// Bytes of `psinfo_t` up to its LWP.
const PSINFO: usize = 288;
/// `PR_MODEL_ILP32`.
const ILP32: u8 = 1;
/// Descriptors that are listed.
const LIMIT_FILES: usize = 65_536;

/// What to record, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long to wait for all LWPs to stop.
    pub stop_wait: Duration,
    /// The process is let go after this time, even if nobody released it.
    pub stop_budget: Option<Duration>,
    /// List open descriptors.
    pub open_files: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { stop_wait: Duration::from_secs(5), stop_budget: None, open_files: true }
    }
}

/// A stopped process; dropping it lets the process go.
pub struct Stop {
    held: Arc<Held>,
    target: Arc<LiveTarget>,
}

/// A process that runs again.
pub struct Released {
    /// From the first request to stop to the release, in microseconds.
    pub stopped_for_us: u64,
    /// The budget ended the stop, before the release did.
    pub out_of_time: bool,
    /// What was recorded.
    pub target: Arc<LiveTarget>,
}

impl Stop {
    /// The stopped process, for many threads.
    #[must_use]
    pub fn shared(&self) -> Arc<LiveTarget> {
        self.target.clone()
    }

    /// Lets the process go.
    #[must_use]
    pub fn release(self) -> Released {
        self.held.release(false);
        let (stopped_for_us, out_of_time) = self.held.cost();
        Released { stopped_for_us, out_of_time, target: self.target.clone() }
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.held.release(false);
    }
}

/// Stops a process of this system and records it.
///
/// # Errors
/// It does not exist, or may not be stopped by this user.
pub fn attach(pid: u64, options: &Options) -> Result<Stop, Error> {
    if pid == u64::from(std::process::id()) {
        return Err(Error::Attach { pid, why: Refusal::Ourselves });
    }
    attach_to(pid, Box::new(Files::new(Path::new(PROC), pid)), options)
}

/// Stops the process behind `proc` and records it.
///
/// # Errors
/// As [`attach`].
pub fn attach_to(pid: u64, proc: Box<dyn Proc>, options: &Options) -> Result<Stop, Error> {
    let about = proc.read("psinfo").map_err(|e| refusal(pid, "read its psinfo", e))?;
    if about.len() < PSINFO {
        return Err(Error::format(
            proc.place("psinfo"),
            0,
            "a psinfo of a 64-bit system",
            format!("{} bytes", about.len()),
        ));
    }
    if u32_at(&about, 4, LE) == Some(0) {
        return Err(Error::Attach { pid, why: Refusal::Zombie });
    }
    // The kernel's own processes have no address space.
    if u64_at(&about, 48, LE) == Some(0) && proc.read("map").is_ok_and(|m| m.is_empty()) {
        return Err(Error::Attach { pid, why: Refusal::KernelThread });
    }
    let (held, stopped) = Held::stop(pid, proc, options.stop_wait)?;
    if let Some(budget) = options.stop_budget {
        held.watch(budget);
    }
    let mut doubts = Vec::new();
    if !stopped {
        let why = "not all LWPs stopped in the time given; those that did not are without registers";
        doubts.push(Doubt::new("stop", why));
    }
    let recorded = held.with(|proc| record(proc, &about, options, &mut doubts));
    let recorded = recorded.unwrap_or_else(|| Err(std::io::ErrorKind::TimedOut.into()));
    match recorded {
        Ok(parts) => {
            let memory = LiveMemory::new(held.clone(), &parts.mappings);
            let target = LiveTarget {
                identity: parts.identity,
                memory,
                threads: parts.threads,
                mappings: parts.mappings,
                event: parts.event,
                notes: parts.notes,
                attributes: parts.attributes,
                open_files: parts.open_files,
                gaps: Gaps { doubts, ..Gaps::default() },
            };
            Ok(Stop { held, target: Arc::new(target) })
        }
        Err(e) => {
            held.release(false);
            Err(refusal(pid, "read it while it was stopped", e))
        }
    }
}

struct Parts {
    identity: Identity,
    threads: Vec<evidence::Thread>,
    mappings: Vec<evidence::Mapping>,
    event: Option<evidence::Event>,
    notes: Vec<Note>,
    attributes: Vec<Attribute>,
    open_files: Vec<OpenFile>,
}

fn record(proc: &dyn Proc, about: &[u8], options: &Options, doubts: &mut Vec<Doubt>) -> std::io::Result<Parts> {
    let arch = if u8_at(about, 256) == Some(ILP32) { Arch::X86 } else { Arch::X86_64 };
    let status = proc.read("status")?;
    let agent = u32_at(&status, 28, LE).map_or(0, u64::from);
    let threads = threads::read(proc, arch, agent, doubts)?;
    let mappings = mappings::read(proc)?;
    let mut notes = Vec::new();
    match proc.read("auxv") {
        Ok(auxv) => notes.push(Note { owner: "CORE".into(), kind: NT_AUXV, thread: None, body: auxv.into() }),
        Err(e) => doubts.push(Doubt::new("auxv", format!("the auxiliary vector cannot be read: {e}"))),
    }
    let mut attributes = Vec::new();
    let mut fact = |key: &str, at| {
        let value = u32_at(about, at, LE).map(|n| n.to_string());
        attributes.extend(value.map(|v| Attribute { key: key.into(), thread: None, value: v.into() }));
    };
    fact("process.uid", 24);
    fact("process.euid", 28);
    fact("process.zoneid", 276);
    Ok(Parts {
        identity: identity(proc, about, arch),
        threads,
        mappings,
        event: live_event(&status, Arch::X86_64),
        notes,
        attributes,
        open_files: if options.open_files { open_files(proc) } else { Vec::new() },
    })
}

fn identity(proc: &dyn Proc, about: &[u8], arch: Arch) -> Identity {
    let mut identity = Identity::new(Origin::LiveProcess, Os::Illumos, arch);
    let text = |at, length| slice_at(about, at, length).and_then(|b| c_str_at(b, 0)).filter(|t| !t.is_empty());
    identity.pid = u32_at(about, 8, LE).map(u64::from);
    identity.parent_pid = u32_at(about, 12, LE).map(u64::from);
    identity.command = text(136, 16).map(Into::into);
    identity.arguments = text(152, 80).map(|a| a.trim_end().into());
    let path = images::executable(proc).or_else(|| Some(images::object(proc).display().to_string()));
    identity.executable = path.map(Into::into);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok();
    identity.taken_at_ns = now.and_then(|d| u64::try_from(d.as_nanos()).ok());
    identity
}

/// Open descriptors, by the links that `path` has for them.
fn open_files(proc: &dyn Proc) -> Vec<OpenFile> {
    let Ok(folder) = std::fs::read_dir(proc.place("fd")) else { return Vec::new() };
    let numbers = folder.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u64>().ok()).take(LIMIT_FILES);
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    let file = |descriptor: u64| OpenFile {
        descriptor,
        target: proc.link(&descriptor.to_string()).map(|p| p.display().to_string()).unwrap_or_default().into(),
        flags: None,
        position: None,
    };
    numbers.into_iter().map(file).collect()
}
