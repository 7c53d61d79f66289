//! A FreeBSD/amd64 kernel that died: its file, its memory, and what a reader must say of it.
//!
//! Two layouts of its structures share no offset, so that nothing that is built into a reader passes by luck.

use super::Memory;
use crate::ctf::CtfWriter;

/// Where the members of the structures lie.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are the members' names")]
pub struct Layout {
    pub p_list: u64,
    pub p_pid: u64,
    pub p_comm: u64,
    pub p_threads: u64,
    pub p_pptr: u64,
    pub p_hash: u64,
    pub td_plist: u64,
    pub td_tid: u64,
    pub td_name: u64,
    pub td_oncpu: u64,
    pub td_pcb: u64,
    pub td_state: u64,
    pub td_inhibitors: u64,
    pub td_wmesg: u64,
    pub td_kstack: u64,
    pub td_kstack_pages: u64,
    pub pcb_size: u64,
    pub kld_address: u64,
    pub kld_filename: u64,
    pub kld_pathname: u64,
    pub kld_next: u64,
    pub kld_size: u64,
    /// The first value of `enum td_states`.
    pub first_state: i32,
}

/// As a kernel of 13 has them, about.
#[must_use]
pub fn first_layout() -> Layout {
    Layout {
        p_list: 0,
        p_threads: 16,
        p_pid: 196,
        p_hash: 200,
        p_pptr: 216,
        p_comm: 984,
        td_plist: 16,
        td_tid: 160,
        td_name: 700,
        td_oncpu: 1724,
        td_pcb: 1080,
        td_state: 880,
        td_inhibitors: 884,
        td_wmesg: 1016,
        td_kstack: 1088,
        td_kstack_pages: 1096,
        pcb_size: 320,
        kld_next: 24,
        kld_filename: 40,
        kld_pathname: 48,
        kld_address: 64,
        kld_size: 72,
        first_state: 0,
    }
}

/// Quite another one.
#[must_use]
pub fn second_layout() -> Layout {
    Layout {
        p_list: 8,
        p_threads: 40,
        p_pid: 100,
        p_hash: 120,
        p_pptr: 300,
        p_comm: 500,
        td_plist: 72,
        td_tid: 300,
        td_name: 320,
        td_oncpu: 400,
        td_pcb: 408,
        td_state: 416,
        td_inhibitors: 424,
        td_wmesg: 432,
        td_kstack: 448,
        td_kstack_pages: 456,
        pcb_size: 512,
        kld_next: 48,
        kld_filename: 8,
        kld_pathname: 16,
        kld_address: 80,
        kld_size: 96,
        first_state: 5,
    }
}

/// The kernel's first byte.
pub const TEXT: u64 = 0xffff_ffff_8020_0000;
const RODATA: u64 = 0xffff_ffff_8080_0000;
const DATA: u64 = 0xffff_ffff_8100_0000;
const HEAP: u64 = 0xffff_fe00_0010_0000;
/// Where the stacks of the threads lie, 16 KiB each.
pub const STACKS: u64 = 0xffff_fe00_0020_0000;
const STACK: u64 = 0x4000;
/// Where the module `zfs.ko` was loaded.
pub const MODULE: u64 = 0xffff_ffff_8220_0000;
/// The name of the kernel in its own words.
pub const VERSION: &str = "FreeBSD 14.1-RELEASE releng/14.1-n267679-10e31f0946d8 GENERIC\n";

/// Functions, each 256 bytes long, from 4 KiB behind the start on.
const FUNCTIONS: [&str; 14] = [
    "doadump",
    "vpanic",
    "panic",
    "trap_fatal",
    "trap",
    "calltrap",
    "sys_ioctl",
    "amd64_syscall",
    "fast_syscall_common",
    "sched_switch",
    "sleepq_wait",
    "fork_exit",
    "cpustop_handler",
    "nmi_calltrap",
];

/// The address of a function, and some way into it.
#[must_use]
pub fn function(name: &str) -> u64 {
    let index = FUNCTIONS.iter().position(|f| *f == name).expect("a function of the kernel");
    TEXT + 0x1000 + index as u64 * 0x100 + 0x20
}

/// A kernel's file and memory.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The file, with symbols and constants, and types when asked for.
    pub file: Vec<u8>,
    /// The memory.
    pub memory: Memory,
    /// What the message buffer holds, oldest first.
    pub log: &'static str,
}

/// What the log of the kernel says.
pub const LOG: &str = "<118>Starting devd.\n\nFatal trap 12: page fault while in kernel mode\ncpuid = 1; apic id = 02\n\
    fault virtual address\t= 0x28\nfault code\t\t= supervisor write data, page not present\n\
    panic: page fault\ncpuid = 1\n";

/// Pid, name, and its threads with their names.
type Process = (u32, &'static str, &'static [(u32, &'static str)]);
/// Name, type, flags, address, contents, link, bytes of an entry.
type Section<'s> = (&'static str, u32, u64, u64, &'s [u8], u32, u64);

struct Builder {
    memory: Memory,
    symbols: Vec<(String, u64, u64, bool)>,
    rodata: Vec<u8>,
    next_data: u64,
    next_heap: u64,
}

impl Builder {
    fn constant(&mut self, name: &str, value: u64) {
        self.symbols.push((name.to_owned(), RODATA + self.rodata.len() as u64, 4, false));
        self.rodata.extend((value as u32).to_le_bytes());
    }

    fn global(&mut self, name: &str, size: u64, bytes: &[u8]) -> u64 {
        let at = self.next_data;
        self.next_data += size.next_multiple_of(64);
        self.symbols.push((name.to_owned(), at, size, false));
        self.memory.write(at, bytes);
        at
    }

    fn heap(&mut self, size: u64) -> u64 {
        let at = self.next_heap;
        self.next_heap += size.next_multiple_of(64);
        self.memory.write(at, &vec![0; size as usize]);
        at
    }

    fn word(&mut self, at: u64, value: u64) {
        self.memory.write(at, &value.to_le_bytes());
    }

    fn half(&mut self, at: u64, value: u32) {
        self.memory.write(at, &value.to_le_bytes());
    }

    fn string(&mut self, text: &str) -> u64 {
        let at = self.heap(text.len() as u64 + 1);
        self.memory.write(at, text.as_bytes());
        at
    }

    /// A pcb: r15 r14 r13 r12 rbp rsp rbx rip.
    fn pcb(&mut self, at: u64, rbp: u64, rsp: u64, rip: u64) {
        for (n, value) in [15, 14, 13, 12, rbp, rsp, 0xbb, rip].iter().enumerate() {
            self.word(at + n as u64 * 8, *value);
        }
    }

    /// Frame records from `at` upwards, 64 bytes apart, each returning into a function; the last frame pointer.
    fn chain(&mut self, at: u64, back: &[&str], last: u64) {
        for (n, name) in back.iter().enumerate() {
            let here = at + n as u64 * 64;
            let saved = if n + 1 == back.len() { last } else { here + 64 };
            self.word(here, saved);
            self.word(here + 8, function(name));
        }
    }
}

/// Builds the kernel. `ctf`: the version of the types in its file, if it is to have any.
#[must_use]
pub fn build(layout: &Layout, ctf: Option<u8>) -> Kernel {
    let mut b = Builder {
        memory: Memory::new(0x300),
        symbols: Vec::new(),
        rodata: Vec::new(),
        next_data: DATA,
        next_heap: HEAP,
    };
    let l = layout;
    for (name, value) in [
        ("proc_off_p_pid", l.p_pid),
        ("proc_off_p_comm", l.p_comm),
        ("proc_off_p_list", l.p_list),
        ("proc_off_p_hash", l.p_hash),
        ("proc_off_p_threads", l.p_threads),
        ("thread_off_td_tid", l.td_tid),
        ("thread_off_td_name", l.td_name),
        ("thread_off_td_oncpu", l.td_oncpu),
        ("thread_off_td_pcb", l.td_pcb),
        ("thread_off_td_plist", l.td_plist),
        ("pcb_size", l.pcb_size),
        ("kld_off_address", l.kld_address),
        ("kld_off_filename", l.kld_filename),
        ("kld_off_pathname", l.kld_pathname),
        ("kld_off_next", l.kld_next),
    ] {
        b.constant(name, value);
    }
    let rodata = b.rodata.clone();
    b.memory.write(RODATA, &rodata);
    b.memory.write(TEXT, b"\x7fELF");
    b.memory.write(TEXT + 0x1000, &[0x90; 0x1000]);
    for name in FUNCTIONS {
        b.symbols.push((name.to_owned(), function(name) - 0x20, 0x100, true));
    }
    facts(&mut b);
    processes(&mut b, l);
    modules(&mut b, l);
    let types = ctf.map(|version| types(l, version));
    let file = file(&b, types.as_deref());
    Kernel { file, memory: b.memory, log: LOG }
}

fn facts(b: &mut Builder) {
    b.global("version", 256, VERSION.as_bytes());
    b.global("osrelease", 32, b"14.1-RELEASE");
    b.global("ostype", 32, b"FreeBSD");
    b.global("osreldate", 4, &1_401_000_u32.to_le_bytes());
    b.global("hz", 4, &1000_u32.to_le_bytes());
    b.global("mp_ncpus", 4, &2_u32.to_le_bytes());
    let panic = b.string("page fault");
    b.global("panicstr", 8, &panic.to_le_bytes());
    // A ring of 512 bytes that came round once: what was written last overwrote the beginning.
    let size = 512_usize;
    let mut text = vec![b'#'; size];
    let filler = size - LOG.len();
    text[filler - 1] = b'\n';
    text[filler..].copy_from_slice(LOG.as_bytes());
    let written = 100_usize;
    text.rotate_right(written);
    let buffer = b.heap(size as u64);
    b.memory.write(buffer, &text);
    let header = b.heap(72);
    b.word(header, buffer);
    for (n, value) in [0x06_3062, size as u32, (size * 3 + written) as u32, 0].iter().enumerate() {
        b.half(header + 8 + n as u64 * 4, *value);
    }
    b.global("msgbufp", 8, &header.to_le_bytes());
}

/// Three processes: the kernel's with two threads, the one that died, and one that sleeps.
fn processes(b: &mut Builder, l: &Layout) {
    let spec: [Process; 3] = [
        (4321, "ioctl-test", &[(100_077, "")]),
        (77, "sshd", &[(100_055, "sshd")]),
        (11, "idle", &[(100_003, "idle: cpu0")]),
    ];
    let dumppcb = b.global("dumppcb", l.pcb_size, &[0]);
    let stoppcbs = b.global("stoppcbs", l.pcb_size * 2, &[0]);
    b.global("dumptid", 4, &100_077_u32.to_le_bytes());
    let procs: Vec<u64> = spec.iter().map(|_| b.heap(1300)).collect();
    for (n, (pid, comm, threads)) in spec.iter().enumerate() {
        let proc = procs[n];
        b.half(proc + l.p_pid, *pid);
        b.memory.write(proc + l.p_comm, comm.as_bytes());
        b.word(proc + l.p_list, procs.get(n + 1).copied().unwrap_or(0));
        b.word(proc + l.p_pptr, if n == 0 { procs[1] } else { 0 });
        let mut link = proc + l.p_threads;
        for (tid, name) in *threads {
            let td = b.heap(1800);
            b.word(link, td);
            link = td + l.td_plist;
            b.half(td + l.td_tid, *tid);
            b.memory.write(td + l.td_name, name.as_bytes());
            let stack = STACKS + n as u64 * STACK;
            b.word(td + l.td_kstack, stack);
            b.memory.write(td + l.td_kstack_pages, &4_u16.to_le_bytes());
            thread(b, l, n, td, stack, (dumppcb, stoppcbs));
        }
    }
    b.global("allproc", 8, &procs[0].to_le_bytes());
}

fn thread(b: &mut Builder, l: &Layout, n: usize, td: u64, stack: u64, saved: (u64, u64)) {
    let frames = stack + 0x2000;
    match n {
        // It died of a page fault in sys_ioctl, on CPU 1.
        0 => {
            b.half(td + l.td_oncpu, 1);
            b.half(td + l.td_state, (l.first_state + 4) as u32);
            b.pcb(saved.0, frames, frames - 16, function("doadump"));
            b.chain(frames, &["vpanic", "panic", "trap_fatal", "trap", "calltrap"], frames + 0x400);
            // The trap frame lies where calltrap's stack pointer was.
            let trap = frames + 4 * 64 + 16;
            b.word(trap + 64, frames + 0x400);
            b.word(trap + 152, function("sys_ioctl"));
            b.word(trap + 160, 0x20);
            b.word(trap + 176, frames + 0x3c0);
            b.chain(frames + 0x400, &["amd64_syscall", "fast_syscall_common"], 0x7fff_ffff_e000);
            let user = frames + 0x400 + 64 + 16;
            b.word(user + 152, 0x20_1234);
            b.word(user + 160, 0x43);
        }
        // It sleeps.
        1 => {
            b.half(td + l.td_oncpu, u32::MAX);
            b.half(td + l.td_state, (l.first_state + 1) as u32);
            b.half(td + l.td_inhibitors, 2);
            let wait = b.string("select");
            b.word(td + l.td_wmesg, wait);
            let pcb = b.heap(l.pcb_size);
            b.word(td + l.td_pcb, pcb);
            b.pcb(pcb, frames, frames - 8, function("sched_switch"));
            b.chain(frames, &["sleepq_wait", "fork_exit"], 0);
            b.word(frames + 64, 0);
        }
        // CPU 0 was stopped.
        _ => {
            b.half(td + l.td_oncpu, 0);
            b.half(td + l.td_state, (l.first_state + 4) as u32);
            b.pcb(saved.1, frames, frames - 8, function("cpustop_handler"));
            b.chain(frames, &["fork_exit"], frames + 64);
            b.word(frames + 64, 0);
        }
    }
}

fn modules(b: &mut Builder, l: &Layout) {
    let kernel = b.heap(256);
    let zfs = b.heap(256);
    for (at, name, path, address, size, next) in [
        (kernel, "kernel", "/boot/kernel/kernel", TEXT, 0x200_0000, zfs),
        (zfs, "zfs.ko", "/boot/kernel/zfs.ko", MODULE, 0x50_0000, 0),
    ] {
        let (name, path) = (b.string(name), b.string(path));
        b.word(at + l.kld_filename, name);
        b.word(at + l.kld_pathname, path);
        b.word(at + l.kld_address, address);
        b.word(at + l.kld_size, size);
        b.word(at + l.kld_next, next);
    }
    b.global("linker_files", 16, &kernel.to_le_bytes());
}

fn types(l: &Layout, version: u8) -> Vec<u8> {
    let mut w = CtfWriter::new(version).compressed();
    let int = w.integer("int", true, 32, 4);
    let short = w.integer("unsigned short", false, 16, 2);
    let long = w.integer("unsigned long", false, 64, 8);
    let character = w.integer("char", true, 8, 1);
    let name = w.array(character, int, 20);
    let text = w.pointer(character);
    let names = ["TDS_INACTIVE", "TDS_INHIBITED", "TDS_CAN_RUN", "TDS_RUNQ", "TDS_RUNNING"];
    let values: Vec<(&str, i32)> = names.iter().zip(l.first_state..).map(|(n, v)| (*n, v)).collect();
    let state = w.enumeration("td_states", &values);
    let proc = w.forward("proc");
    let to_proc = w.pointer(proc);
    let bits = |n: u64| n * 8;
    w.structure(
        "proc",
        1300,
        &[("p_pid", int, bits(l.p_pid)), ("p_pptr", to_proc, bits(l.p_pptr)), ("p_comm", name, bits(l.p_comm))],
    );
    w.structure(
        "thread",
        1800,
        &[
            ("td_tid", int, bits(l.td_tid)),
            ("td_name", name, bits(l.td_name)),
            ("td_oncpu", int, bits(l.td_oncpu)),
            ("td_state", state, bits(l.td_state)),
            ("td_inhibitors", int, bits(l.td_inhibitors)),
            ("td_wmesg", text, bits(l.td_wmesg)),
            ("td_kstack", long, bits(l.td_kstack)),
            ("td_kstack_pages", short, bits(l.td_kstack_pages)),
        ],
    );
    w.structure("linker_file", 256, &[("address", text, bits(l.kld_address)), ("size", long, bits(l.kld_size))]);
    w.finish()
}

/// An executable of amd64 with the sections that a kernel has.
fn file(b: &Builder, types: Option<&[u8]>) -> Vec<u8> {
    let (mut symbols, mut strings) = (vec![0_u8; 24], vec![0_u8]);
    for (name, at, size, code) in &b.symbols {
        symbols.extend((strings.len() as u32).to_le_bytes());
        let section: u16 = match *at {
            RODATA..DATA if !code => 2,
            _ => {
                if *code {
                    1
                } else {
                    3
                }
            }
        };
        symbols.extend([if *code { 0x12 } else { 0x11 }, 0]);
        symbols.extend(section.to_le_bytes());
        symbols.extend(at.to_le_bytes());
        symbols.extend(size.to_le_bytes());
        strings.extend(name.as_bytes());
        strings.push(0);
    }
    let mut data = vec![0_u8; 256];
    data[..VERSION.len()].copy_from_slice(VERSION.as_bytes());
    let code = vec![0x90_u8; 0x2000];
    let mut sections: Vec<Section<'_>> = vec![
        (".text", 1, 6, TEXT, &code, 0, 0),
        (".rodata", 1, 2, RODATA, &b.rodata, 0, 0),
        (".data", 1, 3, DATA, &data, 0, 0),
        (".symtab", 2, 0, 0, &symbols, 5, 24),
        (".strtab", 3, 0, 0, &strings, 0, 0),
    ];
    if let Some(types) = types {
        sections.push((".SUNW_ctf", 1, 0, 0, types, 4, 0));
    }
    let mut names = vec![0_u8];
    let mut headers = vec![0_u8; 64];
    let mut body = Vec::new();
    let start = 0x1000_u64;
    let loads: Vec<_> = sections.iter().filter(|s| s.3 != 0).map(|s| (s.3, s.4.len() as u64, s.2)).collect();
    let mut places = Vec::new();
    for (name, kind, flags, address, contents, link, entry) in &sections {
        body.resize(body.len().next_multiple_of(0x1000), 0);
        let offset = start + body.len() as u64;
        places.push(offset);
        headers.extend((names.len() as u32).to_le_bytes());
        headers.extend(kind.to_le_bytes());
        for n in [*flags, *address, offset, contents.len() as u64] {
            headers.extend(n.to_le_bytes());
        }
        headers.extend(link.to_le_bytes());
        headers.extend(u32::from(*kind == 2).to_le_bytes());
        headers.extend(16_u64.to_le_bytes());
        headers.extend(entry.to_le_bytes());
        names.extend(name.as_bytes());
        names.push(0);
        body.extend(*contents);
    }
    let (table, names_at) = (start + body.len() as u64, names.len() as u32);
    names.extend(b".shstrtab\0");
    let names_offset = table + headers.len() as u64 + 64;
    headers.extend(names_at.to_le_bytes());
    headers.extend(3_u32.to_le_bytes());
    for n in [0, 0, names_offset, names.len() as u64] {
        headers.extend(u64::to_le_bytes(n));
    }
    headers.extend([0; 24]);
    let count = sections.len() as u16 + 2;
    let mut out = b"\x7fELF\x02\x01\x01\x09\0\0\0\0\0\0\0\0".to_vec();
    out.extend(2_u16.to_le_bytes());
    out.extend(62_u16.to_le_bytes());
    out.extend(1_u32.to_le_bytes());
    for n in [TEXT + 0x1000, 64, table] {
        out.extend(n.to_le_bytes());
    }
    out.extend(0_u32.to_le_bytes());
    for n in [64, 56, loads.len() as u16, 64, count, count - 1] {
        out.extend(n.to_le_bytes());
    }
    for ((address, size, flags), offset) in loads.iter().zip(&places) {
        out.extend(1_u32.to_le_bytes());
        out.extend((4_u32 | (*flags as u32 & 1) << 1 | (*flags as u32 & 4) >> 2).to_le_bytes());
        // The data segment goes on in memory, over what the file has nothing for.
        let memory = if *address == DATA { 0x20_0000 } else { *size };
        for n in [*offset, *address, *address, *size, memory, 0x1000] {
            out.extend(n.to_le_bytes());
        }
    }
    out.resize(start as usize, 0);
    out.extend(body);
    out.extend(headers);
    out.extend(names);
    out
}
