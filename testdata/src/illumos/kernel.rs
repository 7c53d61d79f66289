//! A small kernel that has panicked: four processes, five threads, two CPUs, a trap, modules, messages, types.

use super::ctf;
use super::dump::Dump;
use super::heap::{Heap, heap};
use super::ksyms;
use super::layouts::{Layout, REGS};
use super::waits::waits;
use std::collections::BTreeMap;

const TEXT: u64 = 0xffff_ffff_fb80_0000;
const GENUNIX: u64 = 0xffff_ffff_fb90_0000;
const HEAP: u64 = 0xffff_fe00_1000_0000;
const DATA: u64 = 0xffff_ffff_fbc0_0000;
const SLABS: u64 = 0xffff_fe00_2000_0000;
const PAGE: u64 = 4096;
/// Bytes of a function; it calls something so many bytes after its start.
const FUNCTION: u64 = 0x100;
const RETURN: u64 = 0x20;

const UNIX: [&str; 8] = ["_start", "cmntrap", "trap", "panic_idle", "resume", "idle", "thread_start", "die"];
const OF_GENUNIX: [&str; 8] = ["swtch", "cv_wait", "taskq_thread", "ioctl", "broken_driver", "vpanic", "main", "poll"];

/// Functions that save their arguments behind their frame pointer: how, and which values there are.
pub const SAVES: [(&str, &[u8], &[u64]); 3] = [
    // sub $0x20,%rsp; mov %rdi,-8(%rbp); mov %rsi,-16(%rbp); mov %rdx,-24(%rbp)
    (
        "ioctl",
        &[0x48, 0x83, 0xec, 0x20, 0x48, 0x89, 0x7d, 0xf8, 0x48, 0x89, 0x75, 0xf0, 0x48, 0x89, 0x55, 0xe8],
        &[3, 0x5401, 0x0804_7a10],
    ),
    // push %rdi; push %rsi
    ("cv_wait", &[0x57, 0x56], &[0xffff_fe00_1234_5678, 0xffff_fe00_8765_4321]),
    // Behind an instruction that no prologue has: it is not believed.
    ("idle", &[0xf4, 0x48, 0x89, 0x7d, 0xf8], &[0x6666]),
];

/// A kernel in memory.
pub struct Image {
    layout: Layout,
    pages: BTreeMap<u64, Vec<u8>>,
    symbols: Vec<(String, u64, u64, bool)>,
    heap: u64,
    data: u64,
    slabs: u64,
    message: String,
}

/// What must be found in it.
pub struct Truth {
    /// Of every thread: id, process, state, name, functions from the innermost outwards.
    pub threads: Vec<(u64, u64, &'static str, &'static str, Vec<&'static str>)>,
    /// The panicking thread.
    pub panicking: u64,
    /// The message.
    pub message: &'static str,
    /// The address that was read.
    pub address: u64,
    /// rdi at the trap.
    pub rdi: u64,
    /// Messages in order.
    pub log: Vec<&'static str>,
    /// Modules.
    pub modules: Vec<&'static str>,
    /// Addresses of the threads and of the processes, in the order of their making.
    pub places: (Vec<u64>, Vec<u64>),
    /// The allocator's buffers.
    pub heap: Heap,
}

impl Image {
    /// Writes bytes at an address.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        for (n, byte) in bytes.iter().enumerate() {
            let here = at + n as u64;
            let page = self.pages.entry(here & !(PAGE - 1)).or_insert_with(|| vec![0; PAGE as usize]);
            page[(here & (PAGE - 1)) as usize] = *byte;
        }
    }

    /// Writes a long.
    pub fn long(&mut self, at: u64, value: u64) {
        self.write(at, &value.to_le_bytes());
    }

    /// The long at an address; what was not written is zero.
    #[must_use]
    pub fn read(&self, at: u64) -> u64 {
        let byte = |at: u64| self.pages.get(&(at & !(PAGE - 1))).map_or(0, |page| page[(at & (PAGE - 1)) as usize]);
        (0..8).rev().fold(0, |value, n| value << 8 | u64::from(byte(at + n)))
    }

    /// How structures are laid out.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whole pages of zeros.
    pub(super) fn pages(&mut self, count: u64) -> u64 {
        let at = self.slabs;
        self.slabs += count * PAGE;
        self.write(at, &vec![0; (count * PAGE) as usize]);
        at
    }

    /// Makes the trap another one: its number and error code, the address, registers by name, the message.
    pub fn trap(&mut self, number: u64, error: u64, address: u64, registers: &[(&str, u64)], message: &str) {
        let regs = self.read(self.at("panic_reg"));
        let thread = self.read(self.at("panic_thread"));
        let info = self.read(thread + self.layout.offset("_kthread", "t_panic_trap"));
        self.set(info, "panic_trap_info", &[("trap_type", number), ("trap_addr", address)]);
        self.set(regs, "regs", &[("r_trapno", number), ("r_err", error)]);
        self.set(regs, "regs", registers);
        self.panic_with(message);
    }

    /// Makes it a call of panic() with this message, without a trap.
    pub fn called(&mut self, message: &str) {
        let thread = self.read(self.at("panic_thread"));
        self.set(thread, "_kthread", &[("t_panic_trap", 0)]);
        self.panic_with(message);
    }

    fn panic_with(&mut self, message: &str) {
        let buffer = self.at("panicbuf");
        let at = buffer + (self.read(buffer) >> 32);
        self.write(at, &[0; 512]);
        self.write(at, message.as_bytes());
        self.message = message.to_owned();
    }

    fn allocate(&mut self, size: u64) -> u64 {
        let at = self.heap;
        self.heap = (at + size).next_multiple_of(64);
        at
    }

    /// Bytes on the heap.
    pub fn put(&mut self, bytes: &[u8]) -> u64 {
        let at = self.allocate(bytes.len() as u64 + 1);
        self.write(at, bytes);
        at
    }

    /// A structure on the heap with these members, otherwise zeros.
    ///
    /// # Panics
    /// There is none of this name.
    pub fn make(&mut self, of: &str, values: &[(&str, u64)]) -> u64 {
        let at = self.allocate(self.layout.of(of).size);
        self.write(at, &vec![0; self.layout.of(of).size as usize]);
        self.set(at, of, values);
        at
    }

    /// Sets members of a structure.
    ///
    /// # Panics
    /// There is none of this name.
    pub fn set(&mut self, at: u64, of: &str, values: &[(&str, u64)]) {
        for (member, value) in values {
            let (_, offset, kind) = *self.layout.of(of).members.iter().find(|(m, ..)| m == member).expect("a member");
            let size = self.layout.size(kind).min(8) as usize;
            self.write(at + offset, &value.to_le_bytes()[..size]);
        }
    }

    /// A global variable of zeros.
    pub fn variable(&mut self, name: &str, size: u64) -> u64 {
        let at = self.data;
        self.data = (at + size).next_multiple_of(64);
        self.write(at, &vec![0; size as usize]);
        self.symbols.push((name.into(), at, size, false));
        at
    }

    fn pointer(&mut self, name: &str, value: u64) {
        let at = self.variable(name, 8);
        self.long(at, value);
    }

    /// Where a symbol lies.
    ///
    /// # Panics
    /// There is none of this name.
    #[must_use]
    pub fn at(&self, name: &str) -> u64 {
        self.symbols.iter().find(|(n, ..)| n == name).unwrap_or_else(|| panic!("{name}")).1
    }

    fn text(&mut self) {
        for (base, names) in [(TEXT, UNIX), (GENUNIX, OF_GENUNIX)] {
            for (n, name) in names.iter().enumerate() {
                let start = base + n as u64 * FUNCTION;
                let mut code = vec![0x90; FUNCTION as usize];
                code[..4].copy_from_slice(&[0x55, 0x48, 0x89, 0xe5]);
                if let Some((_, stores, _)) = SAVES.iter().find(|(of, ..)| of == name) {
                    code[4..4 + stores.len()].copy_from_slice(stores);
                }
                for end in [RETURN, RETURN * 2] {
                    code[end as usize - 5..end as usize].copy_from_slice(&[0xe8, 0, 0, 0, 0]);
                }
                self.write(start, &code);
                self.symbols.push(((*name).into(), start, FUNCTION, true));
            }
        }
    }

    /// Frames on a stack that grows down from `top`, innermost first; where the innermost one's record lies.
    fn frames(&mut self, top: u64, names: &[&str], outermost: u64) -> u64 {
        let mut fp = outermost;
        let mut at = top;
        for name in names.iter().rev() {
            at -= 64;
            let back = self.at(name) + RETURN;
            if let Some((_, _, values)) = SAVES.iter().find(|(of, ..)| of == name).filter(|_| fp != 0) {
                for (n, value) in values.iter().enumerate() {
                    self.long(fp - 8 * (n as u64 + 1), *value);
                }
            }
            self.long(at, fp);
            self.long(at + 8, back);
            fp = at;
        }
        fp
    }

    fn registers(&mut self, values: &[(&str, u64)]) -> Vec<u8> {
        REGS.iter()
            .flat_map(|name| values.iter().find(|(n, _)| n == name).map_or(0, |(_, v)| *v).to_le_bytes())
            .collect()
    }

    /// A dump of it; every page is mapped by the kernel.
    #[must_use]
    pub fn dump(&self) -> Dump {
        let kas = self.at("kas");
        let pages: Vec<(u64, Vec<u8>)> =
            self.pages.values().enumerate().map(|(n, p)| (0x1000 + n as u64 * 3, p.clone())).collect();
        let map = self.pages.keys().zip(&pages).map(|(va, (pfn, _))| (kas, *va, *pfn)).collect();
        let mut dump = Dump::new(pages, map);
        dump.ksyms = ksyms::table(&self.symbols);
        dump.panic.clone_from(&self.message);
        dump
    }
}

const MESSAGE: &str = "BAD TRAP: type=e (#pf Page fault) rp=fffffe0010000000 addr=28 occurred in module \"genunix\" due to a NULL pointer dereference";

/// The kernel in a layout, and what must be found.
#[must_use]
pub fn panicked(layout: Layout) -> (Image, Truth) {
    let mut k = Image {
        layout,
        pages: BTreeMap::new(),
        symbols: Vec::new(),
        heap: HEAP,
        data: DATA,
        slabs: SLABS,
        message: MESSAGE.into(),
    };
    k.text();
    k.variable("kas", 256);
    modules(&mut k);
    let processes: Vec<u64> = [(0, "sched"), (1, "init"), (3, "fsflush"), (101, "victim")]
        .into_iter()
        .map(|(pid, name)| {
            let id = k.make("pid", &[("pid_id", pid)]);
            let at = k.make("proc", &[("p_pidp", id), ("p_ppid", u64::from(pid > 1))]);
            let comm = k.layout.offset("proc", "p_user") + k.layout.offset("user", "u_comm");
            k.write(at + comm, name.as_bytes());
            at
        })
        .collect();
    for pair in processes.windows(2) {
        k.set(pair[1], "proc", &[("p_next", pair[0])]);
    }
    k.pointer("practive", processes[3]);
    k.symbols.push(("p0".into(), processes[0], 64, false));
    let threads: Vec<u64> = (0..9).map(|n| k.make("_kthread", &[("t_did", 11 + n), ("t_tid", 1)])).collect();
    let stacks: Vec<u64> = (0..9).map(|_| k.allocate(16 << 10) + (16 << 10)).collect();
    for (n, thread) in threads.iter().enumerate() {
        let (next, before) = (threads[(n + 1) % 9], threads[(n + 8) % 9]);
        let (top, base) = (stacks[n], stacks[n] - (16 << 10));
        k.set(*thread, "_kthread", &[("t_next", next), ("t_prev", before), ("t_stk", top), ("t_stkbase", base)]);
    }
    k.pointer("allthreads", threads[0]);
    let buffers = heap(&mut k, threads[1]);
    waits(&mut k, &threads, &buffers);
    // A taskq thread, switched out; a program's thread in poll, with a name; a thread that a trap interrupted.
    switched_out(&mut k, threads[0], stacks[0], &["swtch", "cv_wait", "taskq_thread", "thread_start"]);
    let start = k.at("taskq_thread");
    k.set(threads[0], "_kthread", &[("t_procp", processes[0]), ("t_startpc", start)]);
    switched_out(&mut k, threads[1], stacks[1], &["swtch", "cv_wait", "poll"]);
    let (name, lwp) = (k.put(b"listener"), k.make("_klwp", &[]));
    k.set(threads[1], "_kthread", &[("t_procp", processes[1]), ("t_name", name), ("t_lwp", lwp)]);
    trapped(&mut k, threads[4], stacks[4]);
    k.set(threads[4], "_kthread", &[("t_procp", processes[2])]);
    for n in 5..9 {
        switched_out(&mut k, threads[n], stacks[n], &["swtch", "cv_wait", "taskq_thread"]);
        k.set(threads[n], "_kthread", &[("t_procp", processes[0]), ("t_startpc", start)]);
    }
    // On the other CPU: stopped by the panic.
    let idle = k.frames(stacks[3], &["idle", "thread_start"], 0);
    let pcb = threads[3] + k.layout.offset("_kthread", "t_pcb");
    let stopped = [k.at("panic_idle") + RETURN, idle - 32, idle];
    stopped.iter().zip(0..).for_each(|(v, n)| k.long(pcb + n * 8, *v));
    k.set(threads[3], "_kthread", &[("t_state", 4), ("t_procp", processes[0])]);
    let name = k.put(b"idle-1");
    k.set(threads[3], "_kthread", &[("t_name", name)]);
    let regs = died(&mut k, threads[2], stacks[2]);
    let lwp = k.make("_klwp", &[]);
    k.set(threads[2], "_kthread", &[("t_procp", processes[3]), ("t_lwp", lwp)]);
    cpus(&mut k, threads[2], threads[3]);
    panic(&mut k, threads[2], regs);
    let log = vec!["SunOS Release 5.11", "pool rpool imported", "panic[cpu0]/thread: BAD TRAP"];
    messages(&mut k, &log);
    let uuid = k.variable("dump_osimage_uuid", 37);
    k.write(uuid, b"5a1ee9a2-0001-4001-8001-0123456789ab");
    let truth = Truth {
        threads: vec![
            (11, 0, "sleeping", "taskq_thread", vec!["swtch", "cv_wait", "taskq_thread", "thread_start"]),
            (12, 1, "sleeping", "listener", vec!["swtch", "cv_wait", "poll"]),
            (13, 101, "running", "victim", vec!["broken_driver", "ioctl", "main"]),
            (14, 0, "running", "idle-1", vec!["panic_idle", "idle", "thread_start"]),
            (15, 3, "runnable", "fsflush", vec!["swtch", "trap", "cmntrap", "ioctl", "main"]),
            (16, 0, "sleeping", "taskq_thread", vec!["swtch", "cv_wait", "taskq_thread"]),
            (17, 0, "sleeping", "taskq_thread", vec!["swtch", "cv_wait", "taskq_thread"]),
            (18, 0, "sleeping", "taskq_thread", vec!["swtch", "cv_wait", "taskq_thread"]),
            (19, 0, "sleeping", "taskq_thread", vec!["swtch", "cv_wait", "taskq_thread"]),
        ],
        panicking: 13,
        message: MESSAGE,
        address: 0x28,
        rdi: 0x1234_5678,
        log,
        modules: vec!["genunix", "unix"],
        places: (threads, processes),
        heap: buffers,
    };
    (k, truth)
}

fn modules(k: &mut Image) {
    let size = k.layout.of("modctl").size;
    let head = k.variable("modules", size);
    let second = k.make("modctl", &[]);
    for (at, other, name, base, of_unix) in
        [(head, second, "unix", TEXT, true), (second, head, "genunix", GENUNIX, false)]
    {
        // Names of the allocator's structures are those of the symbol table's strings, which follow its symbols.
        let mut strings = vec![0];
        let types = ctf::container_with(&k.layout, of_unix, of_unix, Some((&["kmem_", "slab_"][..], &mut strings)));
        let (length, types) = (types.len() as u64, k.put(&types));
        let (name, file) = (k.put(name.as_bytes()), k.put(format!("/kernel/{name}").as_bytes()));
        let size = 8 * FUNCTION;
        let mut section = vec![0; 64];
        section[32..40].copy_from_slice(&(strings.len() as u64).to_le_bytes());
        let section = k.put(&section);
        let space = k.put(&[vec![0; 48], strings.clone(), vec![0; 32]].concat());
        let values = [
            ("text", base),
            ("text_size", size),
            ("ctfdata", types),
            ("ctfsize", length),
            ("strhdr", section),
            ("symspace", space),
            ("symsize", 80 + strings.len() as u64),
            ("strings", space + 48),
        ];
        let module = k.make("module", &values);
        let values = [
            ("mod_next", other),
            ("mod_prev", other),
            ("mod_mp", module),
            ("mod_filename", file),
            ("mod_modname", name),
            ("mod_text", base),
            ("mod_text_size", size),
        ];
        k.set(at, "modctl", &values);
    }
}

fn switched_out(k: &mut Image, thread: u64, top: u64, names: &[&str]) {
    let fp = k.frames(top, names, 0);
    let pcb = thread + k.layout.offset("_kthread", "t_pcb");
    let resume = k.at("resume") + 0x40;
    k.long(pcb, resume);
    k.long(pcb + 8, fp);
    // Not the frame pointer that leads on: that one was pushed.
    k.long(pcb + 16, 0xdead);
    k.set(thread, "_kthread", &[("t_state", 1)]);
}

/// A trap in the middle of a stack: the trap handler's frame record is the `struct regs` itself.
fn trapped(k: &mut Image, thread: u64, top: u64) {
    let outer = k.frames(top, &["main"], 0);
    let rip = k.at("ioctl") + 0x81;
    let at = outer - 512;
    let values = [
        ("r_savfp", outer),
        ("r_savpc", rip),
        ("r_rbp", outer),
        ("r_rip", rip),
        ("r_cs", 0x28),
        ("r_rsp", outer - 64),
        ("r_trapno", 0x20),
    ];
    let regs = k.registers(&values);
    k.write(at, &regs);
    let fp = k.frames(at, &["swtch", "trap", "cmntrap"], at);
    let pcb = thread + k.layout.offset("_kthread", "t_pcb");
    let resume = k.at("resume") + 0x40;
    k.long(pcb, resume);
    k.long(pcb + 8, fp);
    k.set(thread, "_kthread", &[("t_state", 2)]);
}

/// The thread that read through a null pointer; where the trap left its registers.
fn died(k: &mut Image, thread: u64, top: u64) -> u64 {
    let fp = k.frames(top, &["ioctl", "main"], 0);
    let rip = k.at("broken_driver") + 0x81;
    let values = [
        ("r_savfp", fp),
        ("r_savpc", rip),
        ("r_rdi", 0x1234_5678),
        ("r_rbp", fp),
        ("r_trapno", 14),
        ("r_err", 0),
        ("r_rip", rip),
        ("r_cs", 0x28),
        ("r_rfl", 0x10246),
        ("r_rsp", fp - 48),
    ];
    let regs = k.registers(&values);
    let at = fp - 512;
    k.write(at, &regs);
    let info = k.make("panic_trap_info", &[("trap_regs", at), ("trap_type", 14), ("trap_addr", 0x28)]);
    k.set(thread, "_kthread", &[("t_state", 4), ("t_panic_trap", info)]);
    at
}

fn cpus(k: &mut Image, panicking: u64, idle: u64) {
    let first = k.make("cpu", &[("cpu_id", 0), ("cpu_thread", idle)]);
    let second = k.make("cpu", &[("cpu_id", 1), ("cpu_thread", idle), ("cpu_next", first)]);
    k.set(first, "cpu", &[("cpu_next", second)]);
    k.pointer("cpu_list", first);
    // The list shows what ran afterwards; the copy what panicked.
    let size = k.layout.of("cpu").size;
    let copy = k.variable("panic_cpu", size);
    k.set(copy, "cpu", &[("cpu_id", 0), ("cpu_thread", panicking)]);
}

fn panic(k: &mut Image, thread: u64, regs: u64) {
    let format = k.put(b"BAD TRAP: type=%x (%s %s) rp=%p addr=%lx");
    k.pointer("panicstr", format);
    k.pointer("panic_thread", thread);
    k.pointer("panic_reg", regs);
    let level = k.variable("panic_ipl", 4);
    k.write(level, &u32::MAX.to_le_bytes());
    let buffer = k.variable("panicbuf", 8192);
    let values = [("rdi", 1), ("rip", k.at("vpanic")), ("rsp", regs), ("cr2", 0x28), ("cr3", 0x1000)];
    k.write(buffer, &2_u32.to_le_bytes());
    k.write(buffer + 4, &(48 + 24 * values.len() as u32).to_le_bytes());
    for (n, (name, value)) in values.iter().enumerate() {
        k.write(buffer + 48 + n as u64 * 24, name.as_bytes());
        k.long(buffer + 64 + n as u64 * 24, *value);
    }
    k.write(buffer + 48 + 24 * values.len() as u64, MESSAGE.as_bytes());
}

fn messages(k: &mut Image, log: &[&str]) {
    let mut next = [0, 0];
    for (n, text) in log.iter().enumerate().rev() {
        let mut control = [0; 24];
        control[12..16].copy_from_slice(&(1_700_000_000 + n as u32).to_le_bytes());
        control[16..20].copy_from_slice(&(n as u32).to_le_bytes());
        control[20..24].copy_from_slice(&13_u32.to_le_bytes());
        let (control, body) = (k.put(&control), k.put(text.as_bytes()));
        let body = k.make("msgb", &[("b_rptr", body), ("b_wptr", body + text.len() as u64)]);
        // The newest message waits to be read, the others have been.
        let queue = usize::from(n + 1 == log.len());
        next[queue] =
            k.make("msgb", &[("b_next", next[queue]), ("b_cont", body), ("b_rptr", control), ("b_wptr", control + 24)]);
    }
    for (name, first) in [("log_recentq", next[0]), ("log_consq", next[1])] {
        let queue = k.make("queue", &[("q_first", first)]);
        k.pointer(name, queue);
    }
}
