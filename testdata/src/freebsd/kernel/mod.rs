//! A FreeBSD kernel that died: its file, its memory, and what a reader must say of it.
//!
//! Addresses are stated as amd64's; [`Port::at`] says where they are on the other machines.
//! Two layouts of its structures share no offset, so that nothing that is built into a reader passes by luck.

mod layout;
mod modules;
mod threads;
mod types;
pub mod uma;

use super::Memory;
use super::debug_info::Sections;
use super::kernel_file::file;
pub use layout::{Layout, first_layout, second_layout};

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

/// The kernel's first byte.
pub const TEXT: u64 = 0xffff_ffff_8020_0000;
pub(super) const RODATA: u64 = 0xffff_ffff_8080_0000;
pub(super) const DATA: u64 = 0xffff_ffff_8100_0000;
const HEAP: u64 = 0xffff_fe00_0010_0000;
/// Where the stacks of the threads lie, 16 KiB each.
pub const STACKS: u64 = 0xffff_fe00_0020_0000;
const STACK: u64 = 0x4000;
/// How far behind the code for traps its copy lies, on i386 since 12.
const COPY: u64 = 0x3f00_0000;
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
    /// What happened.
    story: Story,
    /// A function of a module that the thread that sleeps is in.
    in_module: Option<u64>,
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

/// What the kernel died of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Story {
    /// A null pointer was written to.
    #[default]
    Null,
    /// A pointer out of an item that was freed was read from.
    Freed,
    /// As `Null`, with an item at hand that was freed twice.
    Twice,
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
    /// What happened.
    pub story: Story,
    /// The relocatable file of `zfs.ko`; the thread that sleeps does it in its function `zfs_wait`.
    pub module: Option<Vec<u8>>,
}

impl Default for Has {
    fn default() -> Self {
        Self {
            ctf: None,
            sections: Sections::new(),
            constants: true,
            frame_pointers: true,
            story: Story::Null,
            module: None,
        }
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
        story: has.story,
        in_module: None,
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
    if port == Port::Arm64 {
        // Its header lies at the first address.
        b.memory.write(port.kernel_base(), b"\x7fELF");
    }
    if port == Port::I386 && l.osreldate >= 1_400_000 {
        let start = b.function("calltrap") - 0x20;
        b.symbols.push(("start_exceptions".into(), start, 0, true));
        b.symbols.push(("end_exceptions".into(), start + 0x100, 0, true));
        b.global("setidt_disp", 4, &(COPY as u32).to_le_bytes());
    }
    let log = log(port, has.story);
    facts(&mut b, l.osreldate, log);
    let loaded = has.module.as_ref().map(|file| modules::load(&mut b, file));
    let of_module = loaded.as_ref().and_then(|m| m.functions.iter().find(|(name, _)| name == "zfs_wait"));
    b.in_module = of_module.map(|(_, at)| at + 4);
    threads::processes(&mut b, l, has.frame_pointers);
    modules::modules(&mut b, l, loaded.as_ref());
    uma::allocator(&mut b, l);
    let types = has.ctf.map(|version| types::types(port, l, version));
    let file = file(&b, types.as_deref(), &has.sections);
    Kernel { file, memory: b.memory, log }
}

/// What the log says of what happened.
#[must_use]
pub fn log(port: Port, story: Story) -> &'static str {
    match (story, port) {
        (Story::Freed, Port::Arm64) => ARM64_FREED,
        (Story::Freed, Port::I386) => I386_FREED,
        (Story::Freed, _) => FREED,
        _ => LOG,
    }
}

const FREED: &str = "<118>Starting devd.\n\nFatal trap 12: page fault while in kernel mode\ncpuid = 1; apic id = 02\n\
    fault virtual address\t= 0xffffdead00001028\nfault code\t\t= supervisor read data, page not present\n\
    panic: page fault\ncpuid = 1\n";
const I386_FREED: &str = "<118>Starting devd.\n\nFatal trap 12: page fault while in kernel mode\ncpuid = 1; apic id = 02\n\
    fault virtual address\t= 0xdead028\nfault code\t\t= supervisor read data, page not present\n\
    panic: page fault\ncpuid = 1\n";
const ARM64_FREED: &str = "<118>Starting devd.\n\nFatal data abort:\n  x0: ffff000003300188\n\
    \x20far: ffffdead00001028\n esr:         96000004\npanic: page fault\ncpuid = 1\n";

fn facts(b: &mut Builder, osreldate: u32, log: &str) {
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
    let filler = size - log.len();
    text[filler - 1] = b'\n';
    text[filler..].copy_from_slice(log.as_bytes());
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
