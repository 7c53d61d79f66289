//! ELF notes of a dump: registers of each CPU.

use evidence::bytes::{Endian, slice_at, u32_at, u64_at};
use evidence::{Arch, Context, Doubt, Note, Register, Registers, Thread, ThreadId, ToUsize};

const NT_PRSTATUS: u32 = 1;
/// Most notes read: a few per CPU.
const LIMIT_NOTES: usize = 1 << 18;
/// Offset of `pr_reg` in x86-64's `struct elf_prstatus` (include/linux/elfcore.h): 112 bytes of common fields.
const PR_REG: usize = 112;
const PR_PID: usize = 32;

/// DWARF numbers in the order of x86-64's `struct user_regs_struct` (arch/x86/include/asm/user_64.h): r15 r14 r13 r12
/// rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base ds es fs gs.
const ORDER: [Option<u16>; 27] = [
    Some(15),
    Some(14),
    Some(13),
    Some(12),
    Some(6),
    Some(3),
    Some(11),
    Some(10),
    Some(9),
    Some(8),
    Some(0),
    Some(2),
    Some(1),
    Some(4),
    Some(5),
    None,
    Some(16),
    Some(51),
    Some(49),
    Some(7),
    Some(52),
    Some(58),
    Some(59),
    Some(53),
    Some(50),
    Some(54),
    Some(55),
];

/// Splits a note area.
pub(super) fn parse(bytes: &[u8], doubts: &mut Vec<Doubt>) -> Vec<Note> {
    let le = Endian::Little;
    let mut notes = Vec::new();
    let mut at = 0_usize;
    while at < bytes.len() && notes.len() < LIMIT_NOTES {
        let header =
            (u32_at(bytes, at, le), u32_at(bytes, at.saturating_add(4), le), u32_at(bytes, at.saturating_add(8), le));
        let (Some(name_size), Some(body_size), Some(kind)) = header else { break };
        // Areas are padded with zeros between CPUs.
        if name_size == 0 && body_size == 0 {
            at = at.saturating_add(4);
            continue;
        }
        let name_at = at.saturating_add(12);
        let body_at = name_at.saturating_add(name_size.to_usize().saturating_add(3) & !3);
        let (Some(name), Some(body)) =
            (slice_at(bytes, name_at, name_size.to_usize()), slice_at(bytes, body_at, body_size.to_usize()))
        else {
            doubts.push(Doubt::new("note", format!("the note at {at:#x} of the note area reaches past its end")));
            break;
        };
        let owner = String::from_utf8_lossy(name.split(|b| *b == 0).next().unwrap_or_default()).into_owned();
        notes.push(Note { owner: owner.into(), kind, thread: None, body: body.into() });
        at = body_at.saturating_add(body_size.to_usize().saturating_add(3) & !3);
    }
    notes
}

/// One context per `NT_PRSTATUS`. The index of a note is not the number of a CPU when CPUs were offline; without types
/// there is nothing better, so it is given as the thread's number and not as `cpu`.
pub(super) fn cpus(notes: &[Note]) -> Vec<Thread> {
    let mut threads = Vec::new();
    for (index, note) in (0_u32..).zip(notes.iter().filter(|n| n.kind == NT_PRSTATUS && &*n.owner == "CORE")) {
        let le = Endian::Little;
        let mut registers = Registers::new(Arch::X86_64);
        for (slot, number) in ORDER.iter().enumerate() {
            let at = PR_REG.saturating_add(slot.saturating_mul(8));
            if let (Some(number), Some(value)) = (number, u64_at(&note.body, at, le)) {
                registers.set(Register(*number), value);
            }
        }
        let mut thread = Thread::new(ThreadId(u64::from(index)), Context::Cpu(index), registers);
        thread.process = u32_at(&note.body, PR_PID, le).map(u64::from);
        threads.push(thread);
    }
    threads
}
