//! Running FreeBSD processes: `ptrace`, `PT_IO`, and what `sysctl` says of them.
//!
//! The system calls are behind [`System`], so that everything else is compiled and tested on every host, with recorded
//! replies; only `calls.rs` is built for FreeBSD alone. What they answer is put into the form of a core's notes, and the
//! reader of cores decodes it.
//!
//! FreeBSD kills what a tracer holds when the tracer dies (`kern.kill_on_debugger_exit`, 1 by default): a doubt of the
//! capture cannot help then. The stop is therefore kept short, and nothing but reading happens in it.

mod abi;
mod attach;
#[cfg(target_os = "freebsd")]
mod calls;
mod memory;
mod record;
mod system;
mod target;

use crate::elfcore;
use crate::input::Input;
use crate::{Error, Refusal};
use abi::{CTL_KERN, ESRCH, KERN_PROC, KERN_PROC_ENV, KERN_PROC_PID, KI_FLAG, KI_STAT, P_KPROC, STOPPED, ZOMBIE};
use attach::{Held, refusal};
use evidence::bytes::{Endian, u8_at, u32_at};
use evidence::{Attribute, Doubt, Gaps, Origin, Target as _};
use memory::LiveMemory;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
pub use system::{Request, System, VmEntry};
pub use target::LiveTarget;

/// What to record, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long to wait for the process to stop.
    pub stop_wait: Duration,
    /// The process is let go after this time, even if nobody released it.
    pub stop_budget: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self { stop_wait: Duration::from_secs(5), stop_budget: None }
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
#[cfg(target_os = "freebsd")]
pub fn attach(pid: u64, options: &Options) -> Result<Stop, Error> {
    attach_to(pid, Box::new(calls::ThisSystem), options)
}

/// Stops a process of `system` and records it.
///
/// # Errors
/// It does not exist, is a zombie, the kernel's own or this program, or may not be stopped by this user.
pub fn attach_to(pid: u64, system: Box<dyn System>, options: &Options) -> Result<Stop, Error> {
    let refuse = |why| Err(Error::Attach { pid, why });
    if pid == u64::from(std::process::id()) {
        return refuse(Refusal::Ourselves);
    }
    let Ok(number) = i32::try_from(pid) else { return refuse(Refusal::NoSuchProcess) };
    let about = system.sysctl(&[CTL_KERN, KERN_PROC, KERN_PROC_PID, number]);
    let about = about.map_err(|e| refusal(pid, "ask the system about it", e))?;
    let state = match u8_at(&about, KI_STAT) {
        None => return refuse(Refusal::NoSuchProcess),
        Some(ZOMBIE) => return refuse(Refusal::Zombie),
        Some(state) => state,
    };
    if u32_at(&about, KI_FLAG, Endian::Little).unwrap_or(0) & P_KPROC != 0 {
        return refuse(Refusal::KernelThread);
    }
    let held = Held::stop(pid, system, state == STOPPED, options.stop_wait)?;
    if let Some(budget) = options.stop_budget {
        held.watch(budget);
    }
    let recorded = record(&held).or_else(|why| match why.raw_os_error() {
        Some(ESRCH) => Err(why),
        _ if why.kind() == std::io::ErrorKind::TimedOut => Err(why),
        _ => through_core(&held, &why).map_err(|_| why),
    });
    match recorded {
        Ok((core, mut attributes, doubts)) => {
            let mut identity = core.identity().clone();
            identity.origin = Origin::LiveProcess;
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok();
            identity.taken_at_ns = now.and_then(|d| u64::try_from(d.as_nanos()).ok());
            attributes.extend(core.attributes().iter().cloned());
            let memory = LiveMemory::new(held.clone(), core.mappings());
            let gaps = Gaps { doubts, ..Gaps::default() };
            Ok(Stop { held, target: Arc::new(LiveTarget { identity, memory, recorded: core, attributes, gaps }) })
        }
        Err(e) => {
            held.release(false);
            Err(refusal(pid, "read it while it was stopped", e))
        }
    }
}

/// Largest core that is written where the usual way fails; the stop lasts as long as its writing.
const LIMIT_CORE: u64 = 1 << 30;

/// The second way: the system itself writes a core (`PT_COREDUMP`, 13.1), which is read as any other.
fn through_core(held: &Held, why: &std::io::Error) -> std::io::Result<Recorded> {
    let file = tempfile::NamedTempFile::new()?;
    held.dump(file.as_file(), LIMIT_CORE)?;
    let wrong = |e: Error| std::io::Error::other(e.to_string());
    let mut core = elfcore::open(file.path(), &elfcore::Options::default()).map_err(wrong)?;
    if core.threads().is_empty() {
        return Err(std::io::Error::other("the core that the system wrote names no thread"));
    }
    let mut doubts =
        vec![Doubt::new("record", format!("recorded through a core of the system's (PT_COREDUMP): {why}"))];
    debug_registers(held, &mut core, &mut doubts);
    doubts.extend(core.gaps().doubts.iter().cloned());
    Ok((core, Vec::new(), doubts))
}

/// Adds the debug registers, which cores do not have.
fn debug_registers(held: &Held, core: &mut elfcore::Core, doubts: &mut Vec<Doubt>) {
    let mut refused = None;
    for thread in core.threads_mut() {
        let Ok(lwp) = i32::try_from(thread.id.0) else { continue };
        match held.with(|system, _| record::debug_registers(system, lwp)) {
            Some(Ok(found)) => thread.debug_registers = found,
            Some(Err(e)) => refused = Some(e),
            None => break,
        }
    }
    if let Some(e) = refused {
        doubts.push(Doubt::new("registers", format!("debug registers cannot be read: {e}")));
    }
}

type Recorded = (elfcore::Core, Vec<Attribute>, Vec<Doubt>);

fn record(held: &Held) -> std::io::Result<Recorded> {
    let mut doubts = Vec::new();
    let over = || std::io::Error::from(std::io::ErrorKind::TimedOut);
    let core = held.with(|system, pid| record::core(system, pid, &mut doubts)).ok_or_else(over)??;
    let environment = held.with(|system, pid| system.sysctl(&[CTL_KERN, KERN_PROC, KERN_PROC_ENV, pid]));
    let text = environment.and_then(Result::ok).map(|e| String::from_utf8_lossy(&e).replace('\0', "\n"));
    let text = text.map(|t| t.trim_end().to_owned()).filter(|t| !t.is_empty());
    let attributes =
        text.map(|t| Attribute { key: "process.environment".into(), thread: None, value: t.into() }).into_iter();
    let wrong = |e: Error| std::io::Error::other(e.to_string());
    let input = Input::from_stream(&*core, Path::new("the process")).map_err(wrong)?;
    let mut core = elfcore::from_input(input, &elfcore::Options::default()).map_err(wrong)?;
    debug_registers(held, &mut core, &mut doubts);
    // What is said of the file does not hold for the process: there are no segments because memory is read as it is.
    doubts.extend(core.gaps().doubts.iter().filter(|d| d.what != "segments").cloned());
    Ok((core, attributes.collect(), doubts))
}

#[cfg(test)]
mod tests;
