//! The registers of tasks that were not running: what `__switch_to_asm` pushed.

use super::context::Linux;
use evidence::{Addr, Arch, Register, Registers};

/// DWARF's numbers of what `struct inactive_task_frame` holds (`arch/x86/include/asm/switch_to.h`).
const SAVED: [(&str, u16); 7] =
    [("r15", 15), ("r14", 14), ("r13", 13), ("r12", 12), ("bx", 3), ("bp", 6), ("ret_addr", 16)];

/// Where things lie, looked up once.
pub(super) struct Frame {
    sp: u64,
    members: Vec<(u16, u64)>,
    size: u64,
}

impl Frame {
    /// `None` when nothing describes the frame.
    pub(super) fn of(linux: &Linux<'_>) -> Option<Self> {
        let sp = linux.fields.layouts.member("task_struct", "thread.sp")?.offset;
        let place = |(name, number): &(&str, u16)| {
            Some((*number, linux.fields.layouts.member("inactive_task_frame", name)?.offset))
        };
        let members = SAVED.iter().map(place).collect::<Option<Vec<_>>>()?;
        Some(Self { sp, members, size: linux.fields.layouts.size_of("inactive_task_frame")? })
    }

    /// The registers as they will be when the task returns from the switch; the program counter is a return address.
    pub(super) fn registers(&self, linux: &Linux<'_>, task: Addr) -> Option<Registers> {
        let sp = linux.fields.pointer_at(task.wrapping_add(self.sp)).ok().filter(|sp| sp.0 != 0)?;
        let mut registers = Registers::new(Arch::X86_64);
        for (number, offset) in &self.members {
            registers.set(Register(*number), linux.fields.pointer_at(sp.wrapping_add(*offset)).ok()?.0);
        }
        registers.set(Registers::sp_register(Arch::X86_64), sp.checked_add(self.size)?.0);
        Some(registers)
    }
}
