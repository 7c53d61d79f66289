//! A small guest that the test runs itself: what we say of it is what KVM says and what its code did.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use evidence::{Absent, Addr, Machine, PhysAddr, Register, Target};
use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use platform::kvm::{Guest, MappedSlots, Slot};
use std::sync::Arc;

const SIZE: usize = 4 << 20;
const CODE: u64 = 0x8000;
const ROOT: u64 = 0x1000;

/// Page-aligned memory that lives as long as the process.
struct Ram(&'static mut [u8]);

impl Ram {
    fn new() -> Self {
        let memory = Box::leak(vec![0_u8; SIZE + 4096].into_boxed_slice());
        let skip = memory.as_ptr().align_offset(4096);
        Self(&mut memory[skip..skip + SIZE])
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        let at = usize::try_from(at).unwrap();
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn entry(&mut self, at: u64, value: u64) {
        self.put(at, &value.to_le_bytes());
    }
}

/// Identity-mapped low memory by 2 MiB pages; at 0x40000000 4 KiB pages in reverse order with a hole; at 512 GiB a
/// 1 GiB page.
fn page_tables(ram: &mut Ram) {
    ram.entry(ROOT, 0x2000 | 3);
    ram.entry(ROOT + 8, 0x5000 | 3);
    ram.entry(0x2000, 0x3000 | 3);
    ram.entry(0x2008, 0x4000 | 3);
    for n in 0..2 {
        ram.entry(0x3000 + n * 8, (n << 21) | 0x83);
    }
    ram.entry(0x4000, 0x6000 | 3);
    for n in 0..256 {
        if n != 100 {
            ram.entry(0x6000 + n * 8, ((255 - n) << 12) | 3);
        }
    }
    ram.entry(0x5000, 0x83);
}

fn segment(kind: u8, long: u8) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector: if long == 1 { 8 } else { 16 },
        type_: kind,
        present: 1,
        s: 1,
        l: long,
        db: u8::from(long == 0),
        g: 1,
        ..kvm_segment::default()
    }
}

fn long_mode(vcpu: &VcpuFd, stack: u64) {
    let mut sregs = vcpu.get_sregs().unwrap();
    sregs.cs = segment(11, 1);
    for data in [&mut sregs.ds, &mut sregs.es, &mut sregs.ss, &mut sregs.fs, &mut sregs.gs] {
        *data = segment(3, 0);
    }
    sregs.fs.base = 0x1234_5000;
    sregs.cr0 = 0x8000_0011;
    sregs.cr3 = ROOT;
    sregs.cr4 = 0x20;
    sregs.efer = 0x500;
    vcpu.set_sregs(&sregs).unwrap();
    let mut regs = vcpu.get_regs().unwrap();
    regs.rip = CODE;
    regs.rsp = stack;
    regs.rflags = 2;
    vcpu.set_regs(&regs).unwrap();
}

fn guest() -> Option<(VmFd, Vec<VcpuFd>, &'static [u8])> {
    let kvm = match Kvm::new() {
        Ok(kvm) => kvm,
        Err(e) => {
            eprintln!("skipped: /dev/kvm: {e}");
            return None;
        }
    };
    let vm = match kvm.create_vm() {
        Ok(vm) => vm,
        Err(e) => {
            eprintln!("skipped: no virtual machine can be made: {e}");
            return None;
        }
    };
    let mut ram = Ram::new();
    page_tables(&mut ram);
    // mov rax, 0x1122334455667788; mov [0x9000], rax; mov r15, 0xabcdef; push r15; hlt
    let mut code = vec![0x48, 0xb8];
    code.extend(0x1122_3344_5566_7788_u64.to_le_bytes());
    code.extend([0x48, 0xa3]);
    code.extend(0x9000_u64.to_le_bytes());
    code.extend([0x49, 0xc7, 0xc7, 0xef, 0xcd, 0xab, 0x00, 0x41, 0x57, 0xf4]);
    ram.put(CODE, &code);
    let region = kvm_userspace_memory_region {
        slot: 0,
        guest_phys_addr: 0,
        memory_size: SIZE as u64,
        userspace_addr: ram.0.as_ptr() as u64,
        flags: 0,
    };
    // SAFETY: the memory is page-aligned, is leaked and so outlives the virtual machine, and is only read by us after
    // the guest has stopped.
    unsafe { vm.set_user_memory_region(region).unwrap() };
    let mut vcpus = Vec::new();
    for n in 0..2 {
        let mut vcpu = vm.create_vcpu(n).unwrap();
        // Pages of 1 GiB exist for a guest only if its CPUID says so.
        vcpu.set_cpuid2(&kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).unwrap()).unwrap();
        long_mode(&vcpu, 0xa000 + n * 0x1000);
        match vcpu.run() {
            Ok(VcpuExit::Hlt) => {}
            other => {
                eprintln!("skipped: the guest does not run here: {other:?}");
                return None;
            }
        }
        vcpus.push(vcpu);
    }
    Some((vm, vcpus, ram.0))
}

/// Whether guests may use pages of 1 GiB: CPUID 0x80000001, EDX bit 26.
fn huge_pages() -> bool {
    let supported = Kvm::new().unwrap().get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).unwrap();
    supported.as_slice().iter().any(|e| e.function == 0x8000_0001 && e.edx >> 26 & 1 == 1)
}

#[test]
fn a_guest_is_what_kvm_says_it_is() {
    let Some((_vm, vcpus, ram)) = guest() else { return };
    let slot = Slot { base: PhysAddr(0), bytes: Arc::new(ram) };
    let guest = Guest::new(&vcpus, Arc::new(MappedSlots::new(vec![slot]))).unwrap();
    assert_eq!(guest.cpus(), 2);
    for (n, thread) in guest.threads().iter().enumerate() {
        let r = &thread.registers;
        assert_eq!(r.get(Register(0)), Some(0x1122_3344_5566_7788));
        assert_eq!(r.get(Register(15)), Some(0xab_cdef));
        assert_eq!(r.get(Register(58)), Some(0x1234_5000));
        let sp = r.sp().unwrap();
        assert_eq!(sp, Addr(0xa000 + n as u64 * 0x1000 - 8));
        assert_eq!(guest.memory().read_u64(sp, evidence::bytes::Endian::Little).unwrap(), 0xab_cdef);
    }
    assert_eq!(guest.memory().read_u64(Addr(0x9000), evidence::bytes::Endian::Little).unwrap(), 0x1122_3344_5566_7788);

    // Our walk of the page tables beside KVM's own translation, over every kind of page and over holes.
    let mut addresses: Vec<u64> = (0..300).map(|n| 0x4000_0000 + n * 4096 + n * 7).collect();
    addresses.extend((0..200).map(|n| n * 0x4321));
    if huge_pages() {
        addresses.extend((0..100).map(|n| (1 << 39) + n * 0x7777));
    } else {
        eprintln!("pages of 1 GiB are left out: KVM does not offer them here");
    }
    addresses.extend([0x8000_0000, 1 << 40, 0xffff_8000_0000_0000, 0x7fff_ffff_f000]);
    let (mut mapped, mut unmapped) = (0, 0);
    for at in addresses {
        let theirs = vcpus[0].translate_gva(at).unwrap();
        let mut ours = [0; 1];
        match guest.memory().read(Addr(at), &mut ours) {
            (1, None) => {
                assert_eq!(theirs.valid, 1, "{at:#x}");
                assert_eq!(ours[0], ram[usize::try_from(theirs.physical_address).unwrap()], "{at:#x}");
                mapped += 1;
            }
            (0, Some(Absent::Unmapped)) => {
                assert_eq!(theirs.valid, 0, "{at:#x}");
                unmapped += 1;
            }
            (0, Some(Absent::Denied)) => {
                assert!(theirs.valid == 1 && theirs.physical_address >= SIZE as u64, "{at:#x}");
            }
            other => panic!("{at:#x}: {other:?}"),
        }
    }
    assert!(mapped > 400 && unmapped > 40, "{mapped} mapped, {unmapped} unmapped");
    assert_eq!(guest.read_physical(PhysAddr(SIZE as u64 - 2), &mut [0; 4]), (2, Some(Absent::Unmapped)));
    assert!(guest.space(PhysAddr(ROOT)).is_ok() && guest.space(PhysAddr(1 << 50)).is_err());
}
