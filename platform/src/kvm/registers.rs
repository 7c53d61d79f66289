//! Registers of a vCPU by `KVM_GET_REGS`, `KVM_GET_SREGS`, `KVM_GET_XSAVE`, `KVM_GET_XCRS` and `KVM_GET_DEBUGREGS`.

use crate::Error;
use crate::linux_abi::xstate;
use evidence::{Arch, Attribute, Context, Doubt, Register, Registers, Thread, ThreadId, Vectors};
use kvm_ioctls::VcpuFd;
use std::sync::{Arc, OnceLock};

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
    pub(super) doubts: Vec<Doubt>,
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
    let mut doubts = Vec::new();
    registers.vectors = match vectors(vcpu) {
        Ok(vectors) => vectors,
        Err(why) => {
            // Guests with AMX have an area that KVM_GET_XSAVE refuses to cut off.
            let why = format!("KVM does not tell the XSAVE area of vCPU {number} ({why}): XMM registers at most");
            doubts.push(Doubt::new("vector registers", why));
            vcpu.get_fpu().ok().map(|fpu| {
                let bytes: Vec<u8> = fpu.xmm.iter().flatten().copied().collect();
                Arc::new(Vectors { first: 17, width: 16, bytes: bytes.into() })
            })
        }
    };
    let mut thread = Thread::new(ThreadId(u64::from(number)), Context::Cpu(number), registers);
    thread.cpu = Some(number);
    match vcpu.get_debug_regs() {
        Ok(debug) => {
            let mut values = debug.db.to_vec();
            values.extend([debug.dr6, debug.dr7]);
            thread.debug_registers = Some(values);
        }
        Err(why) => {
            doubts.push(Doubt::new("debug registers", format!("KVM does not tell those of vCPU {number}: {why}")));
        }
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
    Ok(Cpu { thread, control, attributes, doubts })
}

/// As wide as the guest has enabled them.
fn vectors(vcpu: &VcpuFd) -> Result<Option<Arc<Vectors>>, kvm_ioctls::Error> {
    static LAYOUT: OnceLock<xstate::Layout> = OnceLock::new();
    let layout = LAYOUT.get_or_init(|| xstate::Layout::from_note(&xstate::Layout::host_note()));
    let area = vcpu.get_xsave()?;
    let xcrs = vcpu.get_xcrs()?;
    let known = xcrs.xcrs.iter().take(usize::try_from(xcrs.nr_xcrs).unwrap_or(0));
    let xcr0 = known.into_iter().find(|x| x.xcr == 0).map_or(0, |x| x.value);
    let mut bytes: Vec<u8> = area.region.iter().flat_map(|word| word.to_le_bytes()).collect();
    // KVM notes there what the host has enabled; what counts is what the guest has.
    if let Some(noted) = bytes.get_mut(xstate::XCR0_AT..xstate::XCR0_AT.saturating_add(8)) {
        noted.copy_from_slice(&xcr0.to_le_bytes());
    }
    Ok(xstate::vectors(Arch::X86_64, &bytes, *layout))
}
