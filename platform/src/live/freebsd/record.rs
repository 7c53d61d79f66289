//! What the system says of a stopped process, in the form in which its kernel writes it into a core.
//!
//! The notes of a core hold the very structures that the system calls answer with, so that the reader of cores decodes
//! both (`sys/kern/imgact_elf.c`: `note_procstat_*`, `__elfN(note_prstatus)`). Nothing of memory is in it.

use super::abi::{
    CTL_KERN, KERN_OSRELDATE, KERN_PROC, KERN_PROC_ARGS, KERN_PROC_AUXV, KERN_PROC_FILEDESC, KERN_PROC_GROUPS,
    KERN_PROC_PID, KERN_PROC_PS_STRINGS, KERN_PROC_RLIMIT, KERN_PROC_UMASK, KERN_PROC_VMMAP, KI_COMM, KINFO_PROC,
    LWPINFO, PL_TDNAME,
};
use super::system::{Request, System};
use evidence::bytes::{Endian, slice_at, u32_at, u64_at};
use evidence::{Doubt, ToU64};

/// Note types, as in `elfcore::freebsd`.
const PRSTATUS: u32 = 1;
const FPREGSET: u32 = 2;
const PRPSINFO: u32 = 3;
const THRMISC: u32 = 7;
const PROCSTAT_PROC: u32 = 8;
const PROCSTAT_FILES: u32 = 9;
const PROCSTAT_VMMAP: u32 = 10;
const PROCSTAT_GROUPS: u32 = 11;
const PROCSTAT_UMASK: u32 = 12;
const PROCSTAT_RLIMIT: u32 = 13;
const PROCSTAT_PSSTRINGS: u32 = 15;
const PROCSTAT_AUXV: u32 = 16;
const PTLWPINFO: u32 = 17;
const X86_SEGBASES: u32 = 0x200;
const X86_XSTATE: u32 = 0x202;

/// Most limits that are asked for: systems have 15 to 17.
const LIMIT_LIMITS: i32 = 32;
/// Most mappings that are asked for one by one.
const LIMIT_ENTRIES: usize = 1 << 20;
/// Where the path of `struct kinfo_vmentry` is.
const KVE_PATH: usize = 136;

/// The notes in the making.
struct Notes(Vec<u8>);

impl Notes {
    fn add(&mut self, kind: u32, body: &[u8]) {
        let size = u32::try_from(body.len()).unwrap_or(u32::MAX);
        for word in [8, size, kind] {
            self.0.extend(word.to_le_bytes());
        }
        self.0.extend(b"FreeBSD\0");
        self.0.extend(body);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// A note whose body begins with the size of its structures.
    fn add_sized(&mut self, kind: u32, size: u32, body: &[u8]) {
        self.add(kind, &[&size.to_le_bytes(), body].concat());
    }
}

/// A core without memory: an ELF header, one program header, the notes.
pub(super) fn core(system: &dyn System, pid: i32, doubts: &mut Vec<Doubt>) -> std::io::Result<Vec<u8>> {
    let proc = |what| system.sysctl(&[CTL_KERN, KERN_PROC, what, pid]);
    let about = proc(KERN_PROC_PID)?;
    let date = system.sysctl(&[CTL_KERN, KERN_OSRELDATE]).ok();
    let date = date.and_then(|d| u32_at(&d, 0, Endian::Little)).unwrap_or(0);
    let mut notes = Notes(Vec::new());
    // Version, size, name of 17 bytes, arguments of 81, pid.
    let mut info = vec![0_u8; 16];
    info.extend(slice_at(&about, KI_COMM, 17).unwrap_or(&[0; 17]));
    let mut arguments = proc(KERN_PROC_ARGS).unwrap_or_default();
    while arguments.last() == Some(&0) {
        arguments.pop();
    }
    arguments.iter_mut().filter(|b| **b == 0).for_each(|b| *b = b' ');
    arguments.truncate(80);
    arguments.resize(81, 0);
    info.extend(arguments);
    info.resize(116, 0);
    info.extend(pid.to_le_bytes());
    notes.add(PRPSINFO, &info);
    let mut gone = 0_usize;
    for lwp in system.lwps(pid)? {
        if !thread(system, lwp, date, &mut notes, doubts) {
            gone = gone.saturating_add(1);
        }
    }
    if gone > 0 {
        doubts.push(Doubt::new("threads", format!("{gone} LWPs of the list could not be read: they ended meanwhile")));
    }
    let size = u32::try_from(KINFO_PROC).unwrap_or(0);
    if about.len() >= KINFO_PROC {
        notes.add_sized(PROCSTAT_PROC, size, &about);
    }
    for (what, kind, size, name) in [
        (KERN_PROC_FILEDESC, PROCSTAT_FILES, 1392, "open files"),
        (KERN_PROC_GROUPS, PROCSTAT_GROUPS, 4, "groups"),
        (KERN_PROC_UMASK, PROCSTAT_UMASK, 2, "umask"),
        (KERN_PROC_PS_STRINGS, PROCSTAT_PSSTRINGS, 8, "place of the strings"),
        (KERN_PROC_AUXV, PROCSTAT_AUXV, 16, "auxiliary vector"),
    ] {
        match proc(what) {
            Ok(body) => notes.add_sized(kind, size, &body),
            Err(e) => doubts.push(Doubt::new("note", format!("the {name} of the process cannot be read: {e}"))),
        }
    }
    match mappings(system, pid) {
        Ok(body) => notes.add_sized(PROCSTAT_VMMAP, 1160, &body),
        Err(why) => doubts.push(Doubt::new("note", format!("the mappings of the process cannot be read: {why}"))),
    }
    let limit = |which| system.sysctl(&[CTL_KERN, KERN_PROC, KERN_PROC_RLIMIT, pid, which]).ok();
    let limits: Vec<u8> = (0..LIMIT_LIMITS).map_while(|n| limit(n).filter(|pair| pair.len() == 16)).flatten().collect();
    if !limits.is_empty() {
        notes.add_sized(PROCSTAT_RLIMIT, u32::try_from(limits.len()).unwrap_or(0), &limits);
    }
    Ok(file(system.machine(), &notes.0))
}

/// The mappings as the system lists them at once, else one by one through `PT_VM_ENTRY`, in the same form.
fn mappings(system: &dyn System, pid: i32) -> Result<Vec<u8>, String> {
    let refused = match system.sysctl(&[CTL_KERN, KERN_PROC, KERN_PROC_VMMAP, pid]) {
        Ok(body) if !body.is_empty() => return Ok(body),
        Ok(_) => "the list is empty".to_owned(),
        Err(e) => e.to_string(),
    };
    let mut out = Vec::new();
    let mut number = 0;
    for _ in 0..LIMIT_ENTRIES {
        let entry = match system.vm_entry(pid, number) {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(e) if out.is_empty() => return Err(format!("{refused}; one by one: {e}")),
            Err(e) => return Err(format!("{refused}; one by one, behind {} bytes of them: {e}", out.len())),
        };
        let mut one = vec![0_u8; KVE_PATH.saturating_add(entry.path.len()).saturating_add(1).next_multiple_of(8)];
        let size = u32::try_from(one.len()).unwrap_or(0);
        // kve_end is behind the mapping, pve_end in it.
        let numbers = [(8_usize, entry.start), (16, entry.last.saturating_add(1)), (24, entry.offset)];
        let parts = numbers.iter().map(|(at, n)| (*at, n.to_le_bytes().to_vec()));
        let small = [(0, size.to_le_bytes().to_vec()), (56, entry.protection.to_le_bytes().to_vec())];
        for (at, bytes) in parts.chain(small).chain([(KVE_PATH, entry.path.clone())]) {
            if let Some(place) = one.get_mut(at..at.saturating_add(bytes.len())) {
                place.copy_from_slice(&bytes);
            }
        }
        out.extend(one);
        if entry.next == number {
            break;
        }
        number = entry.next;
    }
    if out.is_empty() { Err(refused) } else { Ok(out) }
}

/// DR0 to DR3, DR6 and DR7 of an LWP (`struct dbreg` of amd64: `dr[16]`), where the system has them.
pub(super) fn debug_registers(system: &dyn System, lwp: i32) -> std::io::Result<Option<Vec<u64>>> {
    let raw = match system.request(Request::Debug, lwp) {
        Err(e) if e.kind() == std::io::ErrorKind::Unsupported => return Ok(None),
        other => other?,
    };
    Ok([0_usize, 1, 2, 3, 6, 7].iter().map(|n| u64_at(&raw, n.checked_mul(8)?, Endian::Little)).collect())
}

/// The notes of one LWP; `false` when it is gone.
fn thread(system: &dyn System, lwp: i32, date: u32, notes: &mut Notes, doubts: &mut Vec<Doubt>) -> bool {
    let Ok(registers) = system.request(Request::Registers, lwp) else { return false };
    // Version 1, three sizes, osreldate, no signal, the LWP.
    let mut status = vec![1_u8, 0, 0, 0, 0, 0, 0, 0];
    let length = registers.len().to_u64();
    for size in [length.saturating_add(48), length, 512] {
        status.extend(size.to_le_bytes());
    }
    status.extend(date.to_le_bytes());
    status.extend(0_u32.to_le_bytes());
    status.extend(lwp.to_le_bytes());
    status.resize(48, 0);
    status.extend(&registers);
    notes.add(PRSTATUS, &status);
    let mut more = |what, kind, name: &str| match system.request(what, lwp) {
        Ok(body) => Some((kind, body)),
        Err(e) if e.kind() == std::io::ErrorKind::Unsupported => None,
        Err(e) => {
            doubts.push(Doubt::new("registers", format!("the {name} of LWP {lwp} cannot be read: {e}")));
            None
        }
    };
    let float = more(Request::Float, FPREGSET, "floating point registers");
    let bases = more(Request::Bases, X86_SEGBASES, "segment bases");
    let extended = more(Request::Extended, X86_XSTATE, "XSAVE area");
    let about = more(Request::Info, PTLWPINFO, "state").filter(|(_, b)| b.len() == LWPINFO);
    notes.0.reserve(4096);
    if let Some((kind, body)) = float {
        notes.add(kind, &body);
    }
    if let Some((kind, body)) = about {
        let mut name = slice_at(&body, PL_TDNAME, 20).unwrap_or_default().to_vec();
        name.resize(24, 0);
        notes.add(THRMISC, &name);
        notes.add_sized(kind, u32::try_from(LWPINFO).unwrap_or(0), &body);
    }
    for (kind, body) in bases.into_iter().chain(extended) {
        notes.add(kind, &body);
    }
    true
}

fn file(machine: u16, notes: &[u8]) -> Vec<u8> {
    let mut out = b"\x7fELF\x02\x01\x01\x09\0\0\0\0\0\0\0\0".to_vec();
    out.extend(4_u16.to_le_bytes());
    out.extend(machine.to_le_bytes());
    out.extend(1_u32.to_le_bytes());
    for n in [0_u64, 64, 0] {
        out.extend(n.to_le_bytes());
    }
    out.extend(0_u32.to_le_bytes());
    for n in [64_u16, 56, 1, 0, 0, 0] {
        out.extend(n.to_le_bytes());
    }
    out.extend(4_u32.to_le_bytes());
    out.extend(4_u32.to_le_bytes());
    let length = notes.len().to_u64();
    for n in [120, 0, 0, length, length, 4] {
        out.extend(u64::to_le_bytes(n));
    }
    out.extend(notes);
    out
}
