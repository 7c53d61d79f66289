//! A FreeBSD kernel that died: its file, its memory, and what a reader must say of it.
//!
//! Addresses are stated as amd64's; [`Port::at`] says where they are on the other machines.
//! Two layouts of its structures share no offset, so that nothing that is built into a reader passes by luck.

use super::Memory;
use super::debug_info::Sections;
use super::kernel_file::file;
use crate::ctf::CtfWriter;

/// The machine that the kernel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the system's names")]
pub enum Port {
    Amd64,
    /// amd64 before version 2 of its minidumps: all of the kernel lies in the topmost 2 GiB.
    Amd64Old,
    Arm64,
    I386,
}

impl Port {
    /// Bytes of a pointer.
    #[must_use]
    pub const fn pointer(self) -> u64 {
        if matches!(self, Self::I386) { 4 } else { 8 }
    }

    /// The lowest address that a minidump's page tables stand for.
    #[must_use]
    pub const fn kernel_base(self) -> u64 {
        match self {
            Self::Amd64 => HEAP_AREA,
            Self::Amd64Old => IMAGE_AREA,
            Self::Arm64 => 0xffff_0000_0000_0000,
            Self::I386 => 0xc000_0000,
        }
    }

    /// The name of the function that is called `name` on amd64.
    #[must_use]
    pub fn name(self, name: &'static str) -> &'static str {
        match (self, name) {
            (Self::Arm64, "calltrap") => "handle_el1h_sync",
            (Self::Arm64, "fast_syscall_common") => "handle_el0_sync",
            _ => name,
        }
    }

    /// Where something is whose address on amd64 is `address`: image and heap lie closer together elsewhere.
    #[must_use]
    pub const fn at(self, address: u64) -> u64 {
        match self {
            Self::Amd64 => address,
            _ if address >= IMAGE_AREA => self.kernel_base() + (address - IMAGE_AREA),
            _ => self.kernel_base() + 0x300_0000 + (address - HEAP_AREA),
        }
    }
}

const IMAGE_AREA: u64 = 0xffff_ffff_8000_0000;
const HEAP_AREA: u64 = 0xffff_fe00_0000_0000;

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
    /// `osreldate`: before 1400084, arm64's pcb holds 30 registers, from then on 12.
    pub osreldate: u32,
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
        osreldate: 1_302_001,
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
        osreldate: 1_401_000,
    }
}

/// The kernel's first byte.
pub const TEXT: u64 = 0xffff_ffff_8020_0000;
pub(super) const RODATA: u64 = 0xffff_ffff_8080_0000;
pub(super) const DATA: u64 = 0xffff_ffff_8100_0000;
const HEAP: u64 = 0xffff_fe00_0010_0000;
/// Where the stacks of the threads lie, 16 KiB each.
pub const STACKS: u64 = 0xffff_fe00_0020_0000;
const STACK: u64 = 0x4000;
/// Where the module `zfs.ko` was loaded.
pub const MODULE: u64 = 0xffff_ffff_8220_0000;
/// The name of the kernel in its own words.
pub const VERSION: &str = "FreeBSD 14.1-RELEASE releng/14.1-n267679-10e31f0946d8 GENERIC\n";

/// Functions, each 256 bytes long, from 4 KiB behind the start on.
pub(super) const FUNCTIONS: [&str; 14] = [
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

/// What is being built.
pub(super) struct Builder {
    pub(super) port: Port,
    memory: Memory,
    /// Name, address, size, whether it is code.
    pub(super) symbols: Vec<(String, u64, u64, bool)>,
    pub(super) rodata: Vec<u8>,
    next_data: u64,
    next_heap: u64,
}

impl Builder {
    fn constant(&mut self, name: &str, value: u64) {
        self.symbols.push((name.to_owned(), self.port.at(RODATA) + self.rodata.len() as u64, 4, false));
        self.rodata.extend((value as u32).to_le_bytes());
    }

    fn global(&mut self, name: &str, size: u64, bytes: &[u8]) -> u64 {
        let at = self.next_data;
        self.next_data += size.next_multiple_of(64);
        self.symbols.push((name.to_owned(), at, size, false));
        self.memory.write(at, bytes);
        at
    }

    fn pointer(&mut self, name: &str, value: u64) {
        let bytes = self.bytes(value);
        self.global(name, self.port.pointer(), &bytes);
    }

    fn heap(&mut self, size: u64) -> u64 {
        let at = self.next_heap;
        self.next_heap += size.next_multiple_of(64);
        self.memory.write(at, &vec![0; size as usize]);
        at
    }

    fn function(&self, name: &str) -> u64 {
        self.port.at(function(name))
    }

    /// A word of the machine.
    fn word(&mut self, at: u64, value: u64) {
        let bytes = self.bytes(value);
        self.memory.write(at, &bytes);
    }

    fn bytes(&self, value: u64) -> Vec<u8> {
        value.to_le_bytes()[..self.port.pointer() as usize].to_vec()
    }

    fn half(&mut self, at: u64, value: u32) {
        self.memory.write(at, &value.to_le_bytes());
    }

    fn string(&mut self, text: &str) -> u64 {
        let at = self.heap(text.len() as u64 + 1);
        self.memory.write(at, text.as_bytes());
        at
    }

    /// A pcb: amd64 r15 r14 r13 r12 rbp rsp rbx rip; i386 edi esi ebp esp ebx eip; arm64 x0 to x29, lr, a reserved
    /// word, sp, or x19 to x29, lr, sp.
    fn pcb(&mut self, at: u64, fp: u64, sp: u64, pc: u64, osreldate: u32) {
        let words = match self.port {
            Port::Amd64 | Port::Amd64Old => vec![15, 14, 13, 12, fp, sp, 0xbb, pc],
            Port::I386 => vec![0xd1, 0x51, fp, sp, 0xbb, pc],
            Port::Arm64 if osreldate >= 1_400_084 => (19..29).chain([fp, pc, sp]).collect(),
            Port::Arm64 => (0..29).chain([fp, pc, 0, sp]).collect(),
        };
        for (n, value) in words.iter().enumerate() {
            self.word(at + n as u64 * self.port.pointer(), *value);
        }
    }

    /// Frame records from `at` upwards, 64 bytes apart, each returning into a function; the last frame pointer.
    fn chain(&mut self, at: u64, back: &[&str], last: u64) {
        for (n, name) in back.iter().enumerate() {
            let here = at + n as u64 * 64;
            let saved = if n + 1 == back.len() { last } else { here + 64 };
            self.word(here, saved);
            self.word(here + self.port.pointer(), self.function(name));
        }
    }
}

/// What a kernel has besides its symbols.
#[derive(Clone, Debug)]
pub struct Has {
    /// The version of CTF in its file.
    pub ctf: Option<u8>,
    /// More sections of its file.
    pub sections: Sections,
    /// The constants for debuggers (`proc_off_*`).
    pub constants: bool,
    /// Every function keeps a frame record; without, that of the thread that sleeps does not.
    pub frame_pointers: bool,
}

impl Default for Has {
    fn default() -> Self {
        Self { ctf: None, sections: Sections::new(), constants: true, frame_pointers: true }
    }
}

/// Builds a kernel of amd64. `ctf`: the version of the types in its file, if it is to have any.
#[must_use]
pub fn build(layout: &Layout, ctf: Option<u8>) -> Kernel {
    build_for(Port::Amd64, layout, ctf)
}

/// Builds the kernel of a machine.
#[must_use]
pub fn build_for(port: Port, layout: &Layout, ctf: Option<u8>) -> Kernel {
    build_with(port, layout, &Has { ctf, ..Has::default() })
}

/// Builds the kernel of a machine that has what is said.
#[must_use]
pub fn build_with(port: Port, layout: &Layout, has: &Has) -> Kernel {
    let mut b = Builder {
        port,
        memory: Memory::new(0x300),
        symbols: Vec::new(),
        rodata: Vec::new(),
        next_data: port.at(DATA),
        next_heap: port.at(HEAP),
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
        if has.constants {
            b.constant(name, value);
        }
    }
    b.rodata.resize(b.rodata.len().max(16), 0);
    let rodata = b.rodata.clone();
    b.memory.write(port.at(RODATA), &rodata);
    b.memory.write(port.at(TEXT), b"\x7fELF");
    b.memory.write(port.at(TEXT) + 0x1000, &[0x90; 0x1000]);
    for name in FUNCTIONS {
        let at = b.function(name) - 0x20;
        b.symbols.push((port.name(name).to_owned(), at, 0x100, true));
    }
    facts(&mut b, l.osreldate);
    processes(&mut b, l, has.frame_pointers);
    modules(&mut b, l);
    let types = has.ctf.map(|version| types(port, l, version));
    let file = file(&b, types.as_deref(), &has.sections);
    Kernel { file, memory: b.memory, log: LOG }
}

fn facts(b: &mut Builder, osreldate: u32) {
    b.global("version", 256, VERSION.as_bytes());
    b.global("osrelease", 32, b"14.1-RELEASE");
    b.global("ostype", 32, b"FreeBSD");
    b.global("osreldate", 4, &osreldate.to_le_bytes());
    b.global("hz", 4, &1000_u32.to_le_bytes());
    b.global("mp_ncpus", 4, &2_u32.to_le_bytes());
    let panic = b.string("page fault");
    b.pointer("panicstr", panic);
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
        b.half(header + b.port.pointer() + n as u64 * 4, *value);
    }
    b.pointer("msgbufp", header);
}

/// Three processes: the kernel's with two threads, the one that died, and one that sleeps.
fn processes(b: &mut Builder, l: &Layout, frame_pointers: bool) {
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
            let stack = b.port.at(STACKS) + n as u64 * STACK;
            b.word(td + l.td_kstack, stack);
            b.memory.write(td + l.td_kstack_pages, &4_u16.to_le_bytes());
            thread(b, l, n, td, stack, (dumppcb, stoppcbs));
            if n == 1 && !frame_pointers {
                // Something else than a frame record.
                let (pcb, other) = (td + l.td_pcb, b.bytes(0xffff_ffff_dead_beef));
                let pcb = b.memory.number(pcb, b.port.pointer());
                b.memory.write(pcb + 4 * b.port.pointer(), &other);
            }
        }
    }
    b.pointer("allproc", procs[0]);
}

fn thread(b: &mut Builder, l: &Layout, n: usize, td: u64, stack: u64, saved: (u64, u64)) {
    let frames = stack + 0x2000;
    match n {
        // It died of a page fault in sys_ioctl, on CPU 1.
        0 => {
            b.half(td + l.td_oncpu, 1);
            b.half(td + l.td_state, (l.first_state + 4) as u32);
            b.pcb(saved.0, frames, frames - 16, b.function("doadump"), l.osreldate);
            let (width, before) = (b.port.pointer(), ["vpanic", "panic", "trap_fatal", "trap", "calltrap"]);
            let inner = frames + 0x400;
            // Where a program's own stack is.
            let user = match b.port {
                Port::I386 => 0x800,
                Port::Arm64 => inner + 0x200,
                _ => 0x7fff_ffff_e000,
            };
            b.chain(inner, &["amd64_syscall", "fast_syscall_common"], user);
            // The trap frame lies where calltrap's stack pointer was.
            let (trap, call) = (frames + 4 * 64 + 2 * width, inner + 64 + 2 * width);
            match b.port {
                Port::Amd64 | Port::Amd64Old => {
                    b.chain(frames, &before, inner);
                    b.word(trap + 64, inner);
                    b.word(trap + 152, function("sys_ioctl"));
                    b.word(trap + 160, 0x20);
                    b.word(trap + 176, frames + 0x3c0);
                    b.word(call + 152, 0x20_1234);
                    b.word(call + 160, 0x43);
                }
                Port::I386 => {
                    b.chain(frames, &before, inner);
                    let (trap, call) = (trap + 4, call + 4);
                    b.word(trap + 20, inner);
                    b.word(trap + 52, b.function("sys_ioctl"));
                    b.word(trap + 56, 0x20);
                    b.word(call + 52, 0x20_1234);
                    b.word(call + 56, 0x33);
                }
                Port::Arm64 => {
                    // The frame pointer is the end of the trap frame, 128 bytes below what was the stack.
                    let (end, size, general) =
                        if l.osreldate >= 1_400_000 { (frames + 0x300, 288, 48) } else { (frames + 0x300, 272, 32) };
                    b.chain(frames, &before, end);
                    b.word(end - size, end + 128);
                    b.word(end - size + 8, b.function("sys_ioctl"));
                    b.word(end - size + 16, b.function("sys_ioctl"));
                    b.word(end - size + general + 29 * 8, inner);
                    // What is there by chance looks like a frame record.
                    b.word(end, frames);
                    b.word(end + 8, b.function("sched_switch"));
                }
            }
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
            b.pcb(pcb, frames, frames - 16, b.function("sched_switch"), l.osreldate);
            b.chain(frames, &["sleepq_wait", "fork_exit"], 0);
            b.word(frames + 64, 0);
        }
        // CPU 0 was stopped.
        _ => {
            b.half(td + l.td_oncpu, 0);
            b.half(td + l.td_state, (l.first_state + 4) as u32);
            b.pcb(saved.1, frames, frames - 16, b.function("cpustop_handler"), l.osreldate);
            b.chain(frames, &["fork_exit"], frames + 64);
            b.word(frames + 64, 0);
        }
    }
}

fn modules(b: &mut Builder, l: &Layout) {
    let kernel = b.heap(256);
    let zfs = b.heap(256);
    for (at, name, path, address, size, next) in [
        (kernel, "kernel", "/boot/kernel/kernel", b.port.at(TEXT), 0x200_0000, zfs),
        (zfs, "zfs.ko", "/boot/kernel/zfs.ko", b.port.at(MODULE), 0x50_0000, 0),
    ] {
        let (name, path) = (b.string(name), b.string(path));
        b.word(at + l.kld_filename, name);
        b.word(at + l.kld_pathname, path);
        b.word(at + l.kld_address, address);
        b.word(at + l.kld_size, size);
        b.word(at + l.kld_next, next);
    }
    b.pointer("linker_files", kernel);
}

fn types(port: Port, l: &Layout, version: u8) -> Vec<u8> {
    let mut w = CtfWriter::new(version).compressed();
    let int = w.integer("int", true, 32, 4);
    let short = w.integer("unsigned short", false, 16, 2);
    let long = w.integer("unsigned long", false, port.pointer() as u32 * 8, port.pointer());
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
