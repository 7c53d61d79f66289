//! Registers of a vCPU by `KVM_GET_REGS`, `KVM_GET_SREGS`, `KVM_GET_FPU` and `KVM_GET_DEBUGREGS`.

use crate::Error;
use evidence::{Arch, Attribute, Context, Register, Registers, Thread, ThreadId, Vectors};
use kvm_ioctls::VcpuFd;
use std::sync::Arc;

/// What decides about paging.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Control {
    pub(super) cr0: u64,
    pub(super) cr3: u64,
    pub(super) cr4: u64,
    pub(super) efer: u64,
}

/// One vCPU.
pub(super) struct Cpu {
    pub(super) thread: Thread,
    pub(super) control: Control,
    pub(super) attributes: Vec<Attribute>,
}

pub(super) fn read(number: u32, vcpu: &VcpuFd) -> Result<Cpu, Error> {
    let fail = |doing: &'static str| {
        move |e: kvm_ioctls::Error| Error::io("/dev/kvm", doing, std::io::Error::from_raw_os_error(e.errno()))
    };
    let regs = vcpu.get_regs().map_err(fail("read the general registers of a vCPU of"))?;
    let sregs = vcpu.get_sregs().map_err(fail("read the system registers of a vCPU of"))?;
    let mut registers = Registers::new(Arch::X86_64);
    let general = [
        regs.rax, regs.rdx, regs.rcx, regs.rbx, regs.rsi, regs.rdi, regs.rbp, regs.rsp, regs.r8, regs.r9, regs.r10,
        regs.r11, regs.r12, regs.r13, regs.r14, regs.r15, regs.rip,
    ];
    for (dwarf, value) in (0_u16..).zip(general) {
        registers.set(Register(dwarf), value);
    }
    let selectors = [sregs.es, sregs.cs, sregs.ss, sregs.ds, sregs.fs, sregs.gs];
    for (dwarf, segment) in (50_u16..).zip(selectors) {
        registers.set(Register(dwarf), u64::from(segment.selector));
    }
    registers.set(Register(49), regs.rflags);
    registers.set(Register(58), sregs.fs.base);
    registers.set(Register(59), sregs.gs.base);
    if let Ok(fpu) = vcpu.get_fpu() {
        let bytes: Vec<u8> = fpu.xmm.iter().flatten().copied().collect();
        registers.vectors = Some(Arc::new(Vectors { first: 17, width: 16, bytes: bytes.into() }));
    }
    let mut thread = Thread::new(ThreadId(u64::from(number)), Context::Cpu(number), registers);
    thread.cpu = Some(number);
    if let Ok(debug) = vcpu.get_debug_regs() {
        let mut values = debug.db.to_vec();
        values.extend([debug.dr6, debug.dr7]);
        thread.debug_registers = Some(values);
    }
    let control = Control { cr0: sregs.cr0, cr3: sregs.cr3, cr4: sregs.cr4, efer: sregs.efer };
    let named = [
        ("cr0", sregs.cr0),
        ("cr2", sregs.cr2),
        ("cr3", sregs.cr3),
        ("cr4", sregs.cr4),
        ("efer", sregs.efer),
        ("gdt", sregs.gdt.base),
        ("idt", sregs.idt.base),
    ];
    let attributes = named
        .into_iter()
        .map(|(name, value)| Attribute {
            key: format!("cpu{number}.{name}").into(),
            thread: Some(thread.id),
            value: format!("{value:#x}").into(),
        })
        .collect();
    Ok(Cpu { thread, control, attributes })
}
