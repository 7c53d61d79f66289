//! What died: the panicking thread's registers, the trap, the panic buffer.
//!
//! Sources: sys/panic.h (`panic_data_t`, `panic_trap_info`), sys/regset.h (`struct regs`), uts/intel/os/archdep.c.

use super::super::{Given, Kernel};
use super::Illumos;
use evidence::bytes::{Endian, c_str_at, slice_at, u32_at, u64_at};
use evidence::{Access, Addr, Arch, Attribute, Context, Doubt, Event, Register, Registers, ToUsize, register_number};

const LE: Endian = Endian::Little;
/// `PANICBUFSIZE`.
const BUFFER: usize = 8192;
/// Where the name and value pairs begin in the buffer of version 2, and bytes of one.
const PAIRS: usize = 48;
const PAIR: usize = 24;
/// The processor's number of a page fault.
const PAGE_FAULT: u64 = 14;

/// Members of `struct regs` and DWARF's numbers.
const MEMBERS: [(&str, u16); 24] = [
    ("r_rdi", 5),
    ("r_rsi", 4),
    ("r_rdx", 1),
    ("r_rcx", 2),
    ("r_r8", 8),
    ("r_r9", 9),
    ("r_rax", 0),
    ("r_rbx", 3),
    ("r_rbp", 6),
    ("r_r10", 10),
    ("r_r11", 11),
    ("r_r12", 12),
    ("r_r13", 13),
    ("r_r14", 14),
    ("r_r15", 15),
    ("r_ds", 53),
    ("r_es", 50),
    ("r_fs", 54),
    ("r_gs", 55),
    ("r_rip", 16),
    ("r_cs", 51),
    ("r_rfl", 49),
    ("r_rsp", 7),
    ("r_ss", 52),
];

/// The header holds so many bytes of the formatted message (`DUMP_PANICSIZE` less the final zero, sys/dumphdr.h).
const HEADER_MESSAGE: usize = 199;

/// What the panic buffer holds.
#[derive(Default)]
struct Buffer {
    values: Vec<(String, u64)>,
    message: Option<String>,
}

/// Registers at a trap, and what the processor said.
struct Trap {
    registers: Registers,
    number: Option<u64>,
    error: Option<u64>,
    address: Option<Addr>,
}

/// Completes the event and the panicking thread.
pub(super) fn complete(illumos: &Illumos<'_>, kernel: &mut Kernel) {
    let buffer = buffer(illumos).unwrap_or_default();
    let thread = illumos.variable("panic_thread").filter(|t| *t != 0).map(Addr);
    let panicked = illumos.variable("panicstr").is_some_and(|p| p != 0) || thread.is_some();
    if !panicked && kernel.event.is_none() {
        return;
    }
    if buffer.message.as_deref().is_none_or(str::is_empty) {
        header_message(illumos.given, kernel);
    }
    let trap = trap(illumos, thread, &buffer);
    let mut event = kernel.event.take().unwrap_or_default();
    // The header holds 199 bytes of the message, the buffer all of it.
    event.message = buffer.message.as_deref().filter(|m| !m.is_empty()).map(Into::into).or(event.message);
    let place = thread.and_then(|at| kernel.tasks.iter().position(|t| t.address == Some(at.0)));
    if let Some(at) = thread.filter(|_| place.is_none()) {
        illumos.doubt("kernel-panic", format!("the panicking thread at {at} is not among the kernel's threads"));
    }
    if let Some(found) = place.and_then(|n| kernel.threads.get_mut(n)) {
        event.thread = Some(found.id);
        match (&trap, registers(&buffer)) {
            (Some(trap), _) => found.registers = trap.registers.clone(),
            (None, Some(registers)) => found.registers = registers,
            (None, None) => {
                illumos.doubt("kernel-panic", "the panicking thread has no registers: no trap, no panic buffer");
            }
        }
        if let Context::Cpu(number) = found.context {
            kernel.attributes.push(attribute("panic.cpu", number.to_string()));
        }
    }
    if let Some(trap) = trap {
        state(&mut event, &trap);
    }
    // Pages of programs are kept under the address of their `struct as`; which one ran is said here.
    let space = thread
        .and_then(|t| illumos.pointer(t, "_kthread", "t_procp"))
        .and_then(|process| illumos.pointer(process, "proc", "p_as"));
    kernel.attributes.extend(space.map(|at| attribute("panic.address_space", format!("{at}"))));
    for name in ["cr2", "cr3"] {
        if let Some((_, value)) = buffer.values.iter().find(|(n, _)| n == name) {
            kernel.attributes.push(attribute(&format!("panic.{name}"), format!("{value:#x}")));
        }
    }
    if let Some(level) =
        illumos.symbols.find("panic_ipl").and_then(|at| illumos.given.memory.read_u32(Addr(at), LE).ok())
    {
        kernel.attributes.push(attribute("panic.ipl", level.cast_signed().to_string()));
    }
    kernel.event = Some(event);
}

/// Says that a message which fills its place in the header may go on; for dumps whose panic buffer cannot be read.
pub(super) fn header_message(given: Given<'_>, kernel: &Kernel) {
    let message = kernel.event.as_ref().and_then(|e| e.message.as_deref()).unwrap_or_default();
    if message.len() >= HEADER_MESSAGE {
        let why = format!(
            "the panic buffer cannot be read: the message is the header's, which holds {HEADER_MESSAGE} bytes of it"
        );
        given.doubts.push(Doubt::new("kernel-panic", why));
    }
}

fn attribute(key: &str, value: String) -> Attribute {
    Attribute { key: key.into(), thread: None, value: value.into() }
}

fn state(event: &mut Event, trap: &Trap) {
    event.trap_number = trap.number;
    event.error_code = trap.error;
    if trap.number == Some(PAGE_FAULT) {
        event.address = trap.address;
        // The error code of a page fault: bit 1 write, bit 4 instruction fetch.
        event.access = trap.error.map(|e| match (e & 16 != 0, e & 2 != 0) {
            (true, _) => Access::Execute,
            (false, true) => Access::Write,
            (false, false) => Access::Read,
        });
    }
}

fn buffer(illumos: &Illumos<'_>) -> Option<Buffer> {
    let mut bytes = vec![0; BUFFER];
    illumos.given.memory.read_exact(Addr(illumos.symbols.find("panicbuf")?), &mut bytes).ok()?;
    let (version, message) = (u32_at(&bytes, 0, LE)?, u32_at(&bytes, 4, LE)?.to_usize());
    if version != 2 {
        if version != 0 {
            illumos.doubt("kernel-panic", format!("the panic buffer has version {version} (2 is read)"));
        }
        return None;
    }
    let pairs = bytes.get(PAIRS..message.min(BUFFER)).unwrap_or_default().chunks_exact(PAIR);
    let value = |raw: &[u8]| Some((c_str_at(slice_at(raw, 0, 16)?, 0)?, u64_at(raw, 16, LE)?));
    Some(Buffer {
        values: pairs.filter_map(value).filter(|(name, _)| !name.is_empty()).collect(),
        message: c_str_at(&bytes, message).map(|m| m.trim_end().to_owned()),
    })
}

/// The registers at the panic, out of the buffer.
fn registers(buffer: &Buffer) -> Option<Registers> {
    let mut registers = Registers::new(Arch::X86_64);
    for (name, value) in &buffer.values {
        let name = match name.as_str() {
            "rfl" => "rflags",
            "fsbase" => "fs_base",
            "gsbase" => "gs_base",
            other => other,
        };
        if let Some(number) = register_number(Arch::X86_64, name) {
            registers.set(number, *value);
        }
    }
    registers.pc().map(|_| registers)
}

/// A trap's registers: where the trap handler left them, or where the panic found them.
fn trap(illumos: &Illumos<'_>, thread: Option<Addr>, buffer: &Buffer) -> Option<Trap> {
    let info = thread.and_then(|t| illumos.pointer(t, "_kthread", "t_panic_trap"));
    let by_info = info.and_then(|i| illumos.pointer(i, "panic_trap_info", "trap_regs"));
    let at = by_info.or_else(|| illumos.variable("panic_reg").filter(|r| *r != 0).map(Addr))?;
    let mut registers = Registers::new(Arch::X86_64);
    for (name, number) in MEMBERS {
        if let Some(value) = illumos.number(at, "regs", name) {
            registers.set(Register(number), value);
        }
    }
    if registers.pc().is_none_or(|pc| pc.0 == 0) || registers.sp().is_none() {
        illumos.doubt("kernel-panic", format!("the trap's registers at {at} cannot be read"));
        return None;
    }
    // Only a trap has a number and an error code; for a call of panic() they are what lay there.
    let of_trap = |name| illumos.number(at, "regs", name).filter(|_| by_info.is_some());
    let cr2 = buffer.values.iter().find(|(n, _)| n == "cr2").map(|(_, v)| Addr(*v));
    let stated = info.and_then(|i| illumos.number(i, "panic_trap_info", "trap_addr")).map(Addr);
    Some(Trap { registers, number: of_trap("r_trapno"), error: of_trap("r_err"), address: stated.or(cr2) })
}
