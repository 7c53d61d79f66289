//! Which task ran on which CPU, and with which registers.
//!
//! A dump has one note of registers for each CPU that answered; their order is not the order of CPUs, as those that
//! were offline have none. A note belongs to the CPU whose stacks its stack pointer lies in.

use super::context::Linux;
use super::tasks::Task;
use evidence::{Addr, Register, Registers, Thread, ThreadId};
use std::ops::Range;

/// Bytes of an interrupt stack on x86-64 (`IRQ_STACK_SIZE`, `arch/x86/include/asm/page_64_types.h`; KASAN doubles it).
const IRQ_STACK: u64 = 32 << 10;
/// DWARF's numbers of the base addresses of fs and gs.
const FS_BASE: Register = Register(58);
const GS_BASE: Register = Register(59);
/// The first address of the upper half, which is the kernel's.
const KERNEL_HALF: u64 = 1 << 63;

/// Whether a note belongs to a CPU.
type Method<'f> = &'f dyn Fn(&Cpu, &Thread) -> bool;

/// A CPU.
#[derive(Clone, Debug)]
pub(super) struct Cpu {
    pub number: u32,
    /// The `task_struct` of what it ran.
    pub current: Option<Addr>,
    /// That of its idle task.
    pub idle: Option<Addr>,
    /// The thread of what it ran.
    pub thread: Option<ThreadId>,
    pub registers: Option<Registers>,
    /// Its stacks for interrupts and exceptions.
    stacks: Vec<Range<Addr>>,
}

impl Cpu {
    fn of(linux: &Linux<'_>, number: u32) -> Self {
        let layouts = linux.fields.layouts;
        let queue = linux.per_cpu("runqueues", number);
        let in_queue = |member: &str| linux.fields.pointer(queue?, "rq", member).ok();
        let hot = |member: &str| {
            let inside = layouts.member("pcpu_hot", member)?;
            linux.fields.pointer_at(linux.per_cpu("pcpu_hot", number)?.wrapping_add(inside.offset)).ok()
        };
        let variable = |name: &str| linux.fields.pointer_at(linux.per_cpu(name, number)?).ok();
        let valid = |at: &Addr| at.0 != 0;
        let current = in_queue("curr").or_else(|| variable("current_task")).or_else(|| hot("current_task"));
        let idle = in_queue("idle").or_else(|| variable("idle_threads"));
        let irq = hot("hardirq_stack_ptr")
            .or_else(|| ["hardirq_stack_ptr", "irq_stack_ptr"].iter().find_map(|name| variable(name)));
        let mut stacks = Vec::new();
        stacks.extend(irq.filter(valid).map(|top| Addr(top.0.saturating_sub(IRQ_STACK))..top.saturating_add(8)));
        let exceptions = variable("cea_exception_stacks").filter(valid).zip(layouts.size_of("cea_exception_stacks"));
        stacks.extend(exceptions.map(|(start, size)| start..start.saturating_add(size)));
        let (current, idle) = (current.filter(valid), idle.filter(valid));
        Self { number, current, idle, thread: None, registers: None, stacks }
    }
}

/// All CPUs that were running: those of the kernel's mask, and those that a task says it was running on.
pub(super) fn all(linux: &Linux<'_>, tasks: &[Task]) -> Vec<Cpu> {
    let running = || tasks.iter().filter(|t| t.running);
    let mut numbers = linux.online();
    numbers.extend(running().filter_map(|t| t.cpu).filter(|n| *n < super::context::LIMIT_CPUS));
    numbers.sort_unstable();
    numbers.dedup();
    let cpu = |number| {
        let mut cpu = Cpu::of(linux, number);
        cpu.current = cpu.current.or_else(|| running().find(|t| t.cpu == Some(number)).map(|t| t.address));
        cpu
    };
    numbers.into_iter().map(cpu).collect()
}

/// Gives each CPU its task's thread and its registers.
pub(super) fn assign(linux: &Linux<'_>, cpus: &mut [Cpu], tasks: &[Task], notes: &[Thread], live: bool) {
    for cpu in cpus.iter_mut() {
        cpu.thread = tasks.iter().find(|t| Some(t.address) == cpu.current).map(|t| ThreadId(t.id));
    }
    let mut left: Vec<&Thread> = notes.iter().collect();
    let task_of = |cpu: &Cpu| tasks.iter().find(|t| Some(t.address) == cpu.current);
    let by_stack = |cpu: &Cpu, note: &Thread| {
        let Some(sp) = note.registers.sp() else { return false };
        let own = task_of(cpu).and_then(|t| t.stack.as_ref());
        own.into_iter().chain(&cpu.stacks).any(|range| range.contains(&sp))
    };
    let by_base = |cpu: &Cpu, note: &Thread| {
        let base = note.registers.get(GS_BASE).filter(|base| *base != 0);
        base.is_some() && base == linux.cpu_offset(cpu.number)
    };
    let by_pid = |cpu: &Cpu, note: &Thread| {
        let pid = note.process.filter(|pid| *pid != 0);
        pid.is_some() && task_of(cpu).map(|t| t.id) == pid
    };
    // A CPU in user mode has neither a kernel stack nor the kernel's gs, but its task's own thread pointer.
    let by_thread_pointer = |cpu: &Cpu, note: &Thread| {
        let in_user_mode = note.registers.sp().is_some_and(|sp| sp.0 < KERNEL_HALF);
        let base = note.registers.get(FS_BASE).filter(|base| *base != 0 && in_user_mode);
        let own = cpu.current.and_then(|task| linux.fields.pointer(task, "task_struct", "thread.fsbase").ok());
        base.is_some() && own.map(|a| a.0) == base
    };
    let methods: [Method<'_>; 4] = [&by_stack, &by_base, &by_pid, &by_thread_pointer];
    for method in methods {
        for cpu in cpus.iter_mut().filter(|c| c.registers.is_none()) {
            let mut fitting = left.iter().enumerate().filter(|(_, note)| method(cpu, note)).map(|(index, _)| index);
            // Two notes that fit one CPU say nothing.
            if let (Some(index), None) = (fitting.next(), fitting.next()) {
                cpu.registers = Some(left.remove(index).registers.clone());
            }
        }
    }
    for note in left {
        let sp = note.registers.sp().map_or("unknown".to_owned(), |sp| sp.to_string());
        let why =
            format!("the registers of note {} (stack pointer {sp}) belong to no CPU that ran the kernel", note.id.0);
        linux.doubt("cpu-registers", why);
    }
    // A running kernel has told already that it has no registers.
    for cpu in cpus.iter().filter(|c| c.registers.is_none() && !live) {
        linux.doubt("cpu-registers", format!("the dump has no registers of CPU {}", cpu.number));
    }
}
