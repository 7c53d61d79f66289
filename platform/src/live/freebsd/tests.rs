//! Recorded replies of the system, and what becomes of them.

use super::abi::*;
use super::*;
use evidence::{Absent, Addr, Arch, Os, Register};
use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;

type Log = Arc<Mutex<Vec<String>>>;

/// A process of two LWPs, and what may go wrong with it.
struct Recorded {
    log: Log,
    lwps: Vec<i32>,
    gone: Vec<i32>,
    attach: Option<i32>,
    statuses: Vec<io::Result<Option<i32>>>,
    state: u8,
    flag: u32,
    memory: BTreeMap<u64, Vec<u8>>,
    /// The list of mappings at once; else one by one.
    listed: bool,
    entries: Vec<VmEntry>,
    /// What asking for the LWPs is refused with, and the core that the system writes.
    no_lwps: Option<i32>,
    core: Option<Vec<u8>>,
}

impl Recorded {
    fn new() -> (Self, Log) {
        let log = Log::default();
        let recorded = Self {
            log: log.clone(),
            lwps: vec![100_101, 100_102],
            gone: Vec::new(),
            attach: None,
            statuses: vec![Ok(Some(SIGSTOP << 8 | 0x7f)), Ok(None)],
            state: 3,
            flag: 0,
            memory: BTreeMap::from([(0x20_0000, b"\x7fELF text".to_vec())]),
            listed: true,
            entries: Vec::new(),
            no_lwps: None,
            core: None,
        };
        (recorded, log)
    }
}

fn error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

impl System for Recorded {
    fn machine(&self) -> u16 {
        62
    }
    fn attach(&mut self, pid: i32) -> io::Result<()> {
        self.log.lock().unwrap().push(format!("attach {pid}"));
        self.attach.map_or(Ok(()), |e| Err(error(e)))
    }
    fn wait(&mut self, _: i32) -> io::Result<Option<i32>> {
        self.statuses.pop().unwrap_or(Ok(None))
    }
    fn detach(&mut self, pid: i32, signal: i32) -> io::Result<()> {
        self.log.lock().unwrap().push(format!("detach {pid} {signal}"));
        Ok(())
    }
    fn lwps(&self, _: i32) -> io::Result<Vec<i32>> {
        self.no_lwps.map_or_else(|| Ok(self.lwps.clone()), |e| Err(error(e)))
    }
    fn request(&self, what: Request, lwp: i32) -> io::Result<Vec<u8>> {
        if self.gone.contains(&lwp) {
            return Err(error(ESRCH));
        }
        let mut bytes = vec![0; if what == Request::Info { LWPINFO } else { 512 }];
        match what {
            Request::Info => {
                put(&mut bytes, 0, &lwp.to_le_bytes());
                put(&mut bytes, 12, &0x4000_u64.to_le_bytes());
                put(&mut bytes, PL_TDNAME, format!("worker{}", lwp % 10).as_bytes());
            }
            Request::Registers => {
                bytes.truncate(176);
                put(&mut bytes, 0, &15_u64.to_le_bytes());
                put(&mut bytes, 136, &0x20_0004_u64.to_le_bytes());
                put(&mut bytes, 160, &(0x7fff_0000_u64 + lwp as u64).to_le_bytes());
            }
            Request::Bases => {
                bytes.truncate(16);
                put(&mut bytes, 0, &0x1234_5000_u64.to_le_bytes());
            }
            Request::Float => {}
            Request::Debug => {
                bytes.truncate(128);
                for n in 0..16_u64 {
                    put(&mut bytes, n as usize * 8, &(n * 0x11 + lwp as u64).to_le_bytes());
                }
            }
            Request::Extended => return Err(io::ErrorKind::Unsupported.into()),
        }
        Ok(bytes)
    }
    fn read(&self, _: i32, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let (start, bytes) = self.memory.range(..=at).next_back().ok_or_else(|| error(14))?;
        let tail = bytes.get((at - start) as usize..).filter(|t| !t.is_empty()).ok_or_else(|| error(14))?;
        let n = tail.len().min(into.len());
        into[..n].copy_from_slice(&tail[..n]);
        Ok(n)
    }
    fn vm_entry(&self, _: i32, entry: i32) -> io::Result<Option<VmEntry>> {
        if self.entries.is_empty() {
            return Err(error(EPERM));
        }
        Ok(self.entries.get(entry as usize).cloned())
    }
    fn core_dump(&self, pid: i32, mut into: &std::fs::File, limit: u64) -> io::Result<()> {
        use std::io::Write as _;
        let core = self.core.as_ref().ok_or_else(|| error(22))?;
        self.log.lock().unwrap().push(format!("core {pid} {limit:#x}"));
        into.write_all(core)
    }
    fn sysctl(&self, name: &[i32]) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; KINFO_PROC];
        match *name {
            [CTL_KERN, KERN_OSRELDATE] => return Ok(1_401_000_u32.to_le_bytes().to_vec()),
            [CTL_KERN, KERN_PROC, KERN_PROC_PID, pid] => {
                put(&mut bytes, 0, &1088_u32.to_le_bytes());
                put(&mut bytes, 72, &pid.to_le_bytes());
                put(&mut bytes, 76, &1_u32.to_le_bytes());
                put(&mut bytes, KI_FLAG, &self.flag.to_le_bytes());
                bytes[KI_STAT] = self.state;
                put(&mut bytes, KI_COMM, b"server");
            }
            [_, _, KERN_PROC_ARGS, _] => return Ok(b"./server\0-d\0".to_vec()),
            [_, _, KERN_PROC_ENV, _] => return Ok(b"A=1\0B=2\0".to_vec()),
            [_, _, KERN_PROC_VMMAP, _] if !self.listed => return Err(error(EPERM)),
            [_, _, KERN_PROC_GROUPS, _] => return Ok([1001_u32.to_le_bytes(), 0_u32.to_le_bytes()].concat()),
            [_, _, KERN_PROC_UMASK, _] => return Ok(0o27_u16.to_le_bytes().to_vec()),
            [_, _, KERN_PROC_PS_STRINGS, _] => return Ok(0x7fff_f000_u64.to_le_bytes().to_vec()),
            [_, _, KERN_PROC_RLIMIT, _, which] if which < 15 => {
                return Ok([(which as u64).to_le_bytes(), i64::MAX.to_le_bytes()].concat());
            }
            [_, _, KERN_PROC_RLIMIT, ..] => return Err(error(22)),
            [_, _, KERN_PROC_VMMAP, _] => {
                let path = b"/usr/local/bin/server\0";
                bytes = vec![0; 160];
                put(&mut bytes, 0, &160_u32.to_le_bytes());
                put(&mut bytes, 8, &0x20_0000_u64.to_le_bytes());
                put(&mut bytes, 16, &0x20_1000_u64.to_le_bytes());
                put(&mut bytes, 56, &5_u32.to_le_bytes());
                put(&mut bytes, 136, path);
            }
            [_, _, KERN_PROC_FILEDESC, _] => return Err(error(EPERM)),
            _ => return Ok(Vec::new()),
        }
        Ok(bytes)
    }
}

fn logged(log: &Log) -> Vec<String> {
    log.lock().unwrap().clone()
}

#[test]
fn a_process_is_recorded_and_let_go() {
    let (system, log) = Recorded::new();
    let stop = attach_to(4711, Box::new(system), &Options::default()).unwrap();
    let target = stop.shared();
    let identity = target.identity();
    assert_eq!((identity.origin, identity.os, identity.arch), (Origin::LiveProcess, Os::FreeBsd, Arch::X86_64));
    assert_eq!((identity.pid, identity.parent_pid), (Some(4711), Some(1)));
    assert_eq!((identity.command.as_deref(), identity.arguments.as_deref()), (Some("server"), Some("./server -d")));
    assert_eq!(identity.release.as_deref(), Some("14.1"));
    let threads = target.threads();
    assert_eq!(threads.iter().map(|t| t.id.0).collect::<Vec<_>>(), [100_101, 100_102]);
    assert_eq!(threads[1].name.as_deref(), Some("worker2"));
    assert_eq!(threads[1].signal_mask, Some(0x4000));
    assert_eq!(threads[0].registers.pc(), Some(Addr(0x20_0004)));
    assert_eq!(threads[1].registers.sp(), Some(Addr(0x7fff_0000 + 100_102)));
    assert_eq!(threads[0].registers.get(Register(58)), Some(0x1234_5000));
    assert_eq!(target.mappings()[0].path.as_deref(), Some("/usr/local/bin/server"));
    assert!(target.attributes().iter().any(|a| &*a.key == "process.environment" && &*a.value == "A=1\nB=2"));
    assert!(target.event().is_none());
    let mut bytes = [0; 16];
    assert_eq!(target.memory().read(Addr(0x20_0000), &mut bytes), (9, Some(Absent::Denied)), "a short read");
    assert_eq!(target.memory().read(Addr(0x10), &mut bytes), (0, Some(Absent::Unmapped)));
    let doubts = format!("{:?}", target.gaps().doubts);
    assert!(doubts.contains("open files"), "{doubts}");
    let released = stop.release();
    assert!(!released.out_of_time);
    assert_eq!(target.memory().read(Addr(0x20_0000), &mut bytes), (0, Some(Absent::Released)));
    assert_eq!(logged(&log), ["attach 4711", "detach 4711 0"]);
}

fn fact<'t>(target: &'t LiveTarget, key: &str) -> Option<&'t str> {
    target.attributes().iter().find(|a| &*a.key == key).map(|a| &*a.value)
}

#[test]
fn debug_registers_and_facts_of_the_process() {
    let (system, _) = Recorded::new();
    let stop = attach_to(4711, Box::new(system), &Options::default()).unwrap();
    let target = stop.shared();
    let debug = [0_u64, 0x11, 0x22, 0x33, 0x66, 0x77].map(|n| n + 100_102).to_vec();
    assert_eq!(target.threads()[1].debug_registers, Some(debug));
    assert_eq!((fact(&target, "process.groups"), fact(&target, "process.umask")), (Some("1001 0"), Some("0027")));
    assert_eq!(fact(&target, "process.ps_strings"), Some("0x7ffff000"));
    let limits: Vec<&str> = fact(&target, "process.limits").unwrap().lines().collect();
    assert_eq!((limits.len(), limits[8]), (15, "nofile 8 unlimited"));
}

#[test]
fn mappings_one_by_one_where_the_list_is_refused() {
    let entry = |next, start: u64, path: &[u8]| VmEntry {
        next,
        start,
        last: start + 0xfff,
        offset: 0x3000,
        protection: 5,
        path: path.to_vec(),
    };
    let attach = |entries: Vec<VmEntry>| {
        let (mut system, _) = Recorded::new();
        (system.listed, system.entries) = (false, entries);
        attach_to(4711, Box::new(system), &Options::default()).unwrap().shared()
    };
    let target = attach(vec![entry(1, 0x20_0000, b"/bin/one"), entry(2, 0x30_0000, b"")]);
    let found: Vec<_> = target.mappings().iter().map(|m| (m.range.clone(), m.path.as_deref())).collect();
    let expected = [(Addr(0x20_0000)..Addr(0x20_1000), Some("/bin/one")), (Addr(0x30_0000)..Addr(0x30_1000), None)];
    assert_eq!(found, expected);
    assert!(target.mappings()[0].protection.unwrap().execute);
    // A system that counts in a circle is not followed for ever.
    assert_eq!(attach(vec![entry(0, 0x20_0000, b"/bin/one")]).mappings().len(), 1);
    let target = attach(Vec::new());
    assert!(target.mappings().is_empty());
    assert!(format!("{:?}", target.gaps().doubts).contains("mappings of the process cannot be read"));
}

#[test]
fn a_core_of_the_systems_where_nothing_else_answers() {
    use testdata::elfcore::freebsd::{Machine, core};
    let (mut system, log) = Recorded::new();
    system.no_lwps = Some(22);
    system.core = Some(core(Machine::Amd64, 3).0.build());
    let stop = attach_to(4711, Box::new(system), &Options::default()).unwrap();
    let target = stop.shared();
    let threads: Vec<_> = target.threads().iter().map(|t| (t.id.0, t.name.as_deref())).collect();
    assert_eq!(threads, [(100_100, Some("worker0")), (100_101, Some("worker1")), (100_102, Some("worker2"))]);
    assert_eq!(target.identity().origin, Origin::LiveProcess);
    assert!(target.threads()[0].debug_registers.is_some());
    assert!(target.event().is_none(), "a core on demand is no crash");
    let doubts = format!("{:?}", target.gaps().doubts);
    assert!(doubts.contains("PT_COREDUMP"), "{doubts}");
    let mut bytes = [0; 4];
    assert_eq!(target.memory().read(Addr(0x20_0000), &mut bytes), (4, None));
    assert_eq!(bytes, *b"\x7fELF", "memory is the process's own");
    drop(stop);
    assert_eq!(logged(&log), ["attach 4711", "core 4711 0x40000000", "detach 4711 0"]);
    // Without either way it is let go, and the first reason is told.
    let (mut system, log) = Recorded::new();
    system.no_lwps = Some(EPERM);
    let refused = attach_to(4711, Box::new(system), &Options::default()).err().unwrap().to_string();
    assert!(refused.contains("permission denied"), "{refused}");
    assert_eq!(logged(&log), ["attach 4711", "detach 4711 0"]);
}

#[test]
fn lwps_that_end_meanwhile() {
    let (mut system, log) = Recorded::new();
    system.gone = vec![100_101];
    let stop = attach_to(4711, Box::new(system), &Options::default()).unwrap();
    assert_eq!(stop.shared().threads().len(), 1);
    assert!(format!("{:?}", stop.shared().gaps().doubts).contains("1 LWPs"));
    drop(stop);
    assert_eq!(logged(&log).len(), 2);
}

#[test]
fn what_was_stopped_stays_stopped_and_signals_are_passed_on() {
    for (state, status, signal) in [(STOPPED, SIGSTOP, SIGSTOP), (3, 15, 15), (3, SIGSTOP, 0)] {
        let (mut system, log) = Recorded::new();
        system.state = state;
        system.statuses = vec![Ok(Some(status << 8 | 0x7f))];
        drop(attach_to(4711, Box::new(system), &Options::default()).unwrap());
        assert_eq!(logged(&log)[1], format!("detach 4711 {signal}"));
    }
}

#[test]
fn refusals_say_what_helps() {
    let try_it = |change: &dyn Fn(&mut Recorded)| {
        let (mut system, _) = Recorded::new();
        change(&mut system);
        let options = Options { stop_wait: Duration::from_millis(5), ..Options::default() };
        attach_to(4711, Box::new(system), &options).err().map(|e| e.to_string()).unwrap_or_default()
    };
    assert!(try_it(&|s| s.attach = Some(EBUSY)).contains("another program traces it"));
    assert!(try_it(&|s| s.attach = Some(EPERM)).contains("unprivileged_proc_debug"));
    assert!(try_it(&|s| s.attach = Some(ESRCH)).contains("no such process"));
    assert!(try_it(&|s| s.state = ZOMBIE).contains("zombie"));
    assert!(try_it(&|s| s.flag = P_KPROC).contains("kernel"));
    assert!(try_it(&|s| s.statuses = vec![Ok(Some(0))]).contains("no such process"), "it ended");
    assert!(try_it(&|s| s.statuses = Vec::new()).contains("wait for it to stop"));
    let (system, _) = Recorded::new();
    assert!(attach_to(u64::from(std::process::id()), Box::new(system), &Options::default()).is_err());
}

#[test]
fn the_budget_lets_it_go() {
    let (system, log) = Recorded::new();
    let options = Options { stop_budget: Some(Duration::from_millis(1)), ..Options::default() };
    // It may be over before anything was recorded.
    let stop = attach_to(4711, Box::new(system), &options);
    while logged(&log).len() < 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    if let Ok(stop) = stop {
        assert!(stop.release().out_of_time);
    }
    assert_eq!(logged(&log), ["attach 4711", "detach 4711 0"]);
}
