//! A small guest that the test runs itself: what we say of it is what KVM says and what its code did.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use evidence::bytes::Endian;
use evidence::{Absent, Addr, Machine, Os, PhysAddr, Register, Target};
use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use platform::kvm::{Guest, GuestMemory, HostSlot, HostSlots, MappedSlots, Slot};
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

/// Where the tables say something that only Linux understands: a page without access, its frame inverted.
const NO_ACCESS: u64 = 0x4000_0000 + 257 * 4096;

/// Identity-mapped low memory by 2 MiB pages; at 0x40000000 4 KiB pages in reverse order with a hole; at 512 GiB a
/// 1 GiB page; entries that the processor refuses.
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
    // Not present, whatever the other bits say.
    ram.entry(0x6000 + 256 * 8, 0x9000 | 0x102);
    ram.entry(0x6000 + 257 * 8, (!0x9000 & 0x000f_ffff_ffff_f000) | 0x102);
    // Bits that must be clear: in a large page's address, and the one for large pages in a top-level entry.
    ram.entry(0x4008, 0x20_2000 | 0x83);
    ram.entry(ROOT + 24, 0x2000 | 0x83);
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
    // PAE, OSFXSR, and OSXSAVE where there is AVX.
    sregs.cr4 = 0x220 | if avx() { 0x4_0000 } else { 0 };
    sregs.efer = 0x500;
    vcpu.set_sregs(&sregs).unwrap();
    if avx() {
        let mut xcrs = vcpu.get_xcrs().unwrap();
        xcrs.nr_xcrs = 1;
        xcrs.xcrs[0].xcr = 0;
        xcrs.xcrs[0].value = 7;
        vcpu.set_xcrs(&xcrs).unwrap();
    }
    let mut regs = vcpu.get_regs().unwrap();
    regs.rip = CODE;
    regs.rsp = stack;
    regs.rflags = 2;
    vcpu.set_regs(&regs).unwrap();
}

/// Gives vector registers their values from outside: some hosts emulate a guest's privileged code and know no SSE.
fn vector_registers(vcpu: &VcpuFd) {
    let mut area = vcpu.get_xsave().unwrap();
    let mut put = |at: usize, value: u32| area.region[at / 4..at / 4 + 4].fill(value);
    // XMM3, and the upper half of YMM3 (Intel SDM volume 1, sections 13.4.1 and 13.4.3).
    put(160 + 3 * 16, 0x3333_3333);
    if avx() {
        put(576 + 3 * 16, 0x4444_4444);
    }
    // XSTATE_BV: what is not in its initial state.
    area.region[512 / 4] |= if avx() { 6 } else { 2 };
    // SAFETY: no feature was enabled whose state lies beyond the 4096 bytes of the area.
    unsafe { vcpu.set_xsave(&area).unwrap() };
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
    // mov rax, 0x1122334455667788; mov [0x9000], rax; mov r15, 0xabcdef; push r15; mov dr0, r15; hlt
    let mut code = vec![0x48, 0xb8];
    code.extend(0x1122_3344_5566_7788_u64.to_le_bytes());
    code.extend([0x48, 0xa3]);
    code.extend(0x9000_u64.to_le_bytes());
    code.extend([0x49, 0xc7, 0xc7, 0xef, 0xcd, 0xab, 0x00, 0x41, 0x57]);
    code.extend([0x41, 0x0f, 0x23, 0xc7, 0xf4]);
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
                let other = format!("{other:?}");
                let at = vcpu.get_regs().unwrap().rip - CODE;
                eprintln!("skipped: the guest does not run here: {other} at byte {at} of its code");
                return None;
            }
        }
        vector_registers(&vcpu);
        vcpus.push(vcpu);
    }
    Some((vm, vcpus, ram.0))
}

/// Whether KVM offers guests what this bit of their CPUID stands for.
fn offered(function: u32, bit: impl Fn(&kvm_cpuid_entry2) -> u32) -> bool {
    let supported = Kvm::new().unwrap().get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).unwrap();
    supported.as_slice().iter().any(|e| e.function == function && bit(e) & 1 == 1)
}

fn huge_pages() -> bool {
    offered(0x8000_0001, |e| e.edx >> 26)
}

fn avx() -> bool {
    offered(1, |e| e.ecx >> 28)
}

/// The memory of [`guest`], as a monitor knows it.
fn host_slot(ram: &[u8], base: u64) -> HostSlot {
    HostSlot { base: PhysAddr(base), size: ram.len() as u64, host: ram.as_ptr() as u64 }
}

#[test]
fn a_guest_is_what_kvm_says_it_is() {
    let Some((_vm, vcpus, ram)) = guest() else { return };
    let guest = Guest::new(&vcpus, Arc::new(HostSlots::new(vec![host_slot(ram, 0)]))).unwrap();
    assert!(guest.gaps().doubts.is_empty(), "{:?}", guest.gaps().doubts);
    assert_eq!(guest.cpus(), 2);
    for (n, thread) in guest.threads().iter().enumerate() {
        let r = &thread.registers;
        assert_eq!(r.get(Register(0)), Some(0x1122_3344_5566_7788));
        assert_eq!(r.get(Register(15)), Some(0xab_cdef));
        assert_eq!(r.get(Register(58)), Some(0x1234_5000));
        let xmm3 = if avx() { [[0x33; 16], [0x44; 16]].concat() } else { vec![0x33; 16] };
        assert_eq!(r.vector(Register(20)).unwrap(), xmm3);
        assert_eq!(r.get(Register(16)), Some(vcpus[n].get_regs().unwrap().rip));
        assert_eq!(thread.debug_registers.as_ref().unwrap()[0], 0xab_cdef);
        let sp = r.sp().unwrap();
        assert_eq!(sp, Addr(0xa000 + n as u64 * 0x1000 - 8));
        assert_eq!(guest.memory().read_u64(sp, Endian::Little).unwrap(), 0xab_cdef);
    }
    assert_eq!(guest.memory().read_u64(Addr(0x9000), Endian::Little).unwrap(), 0x1122_3344_5566_7788);

    // Our walk of the page tables beside KVM's own translation, over every kind of page and over holes.
    let mut addresses: Vec<u64> = (0..300).map(|n| 0x4000_0000 + n * 4096 + n * 7).collect();
    addresses.extend((0..200).map(|n| n * 0x4321));
    if huge_pages() {
        addresses.extend((0..100).map(|n| (1 << 39) + n * 0x7777));
    } else {
        eprintln!("pages of 1 GiB are left out: KVM does not offer them here");
    }
    addresses.extend([0x8000_0000, 1 << 40, 0xffff_8000_0000_0000, 0x7fff_ffff_f000, 0x4020_1000, 3 << 39]);
    let (mut mapped, mut unmapped, mut corrupt) = (0, 0, 0);
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
            (0, Some(Absent::Corrupt)) => {
                assert_eq!(theirs.valid, 0, "{at:#x}");
                corrupt += 1;
            }
            (0, Some(Absent::Denied)) => {
                assert!(theirs.valid == 1 && theirs.physical_address >= SIZE as u64, "{at:#x}");
            }
            other => panic!("{at:#x}: {other:?}"),
        }
    }
    assert!(mapped > 400 && unmapped > 40, "{mapped} mapped, {unmapped} unmapped");
    assert_eq!(corrupt, 2);
    assert_eq!(guest.memory().read(Addr(NO_ACCESS), &mut [0; 8]), (0, Some(Absent::Unmapped)));
    assert_eq!(guest.read_physical(PhysAddr(SIZE as u64 - 2), &mut [0; 4]), (2, Some(Absent::Unmapped)));
    assert!(guest.space(PhysAddr(ROOT)).is_ok() && guest.space(PhysAddr(1 << 50)).is_err());

    let linux = guest.with_os(Os::Linux);
    assert_eq!(linux.identity().os, Os::Linux);
    assert_eq!(linux.memory().read_u64(Addr(NO_ACCESS), Endian::Little).unwrap(), 0x1122_3344_5566_7788);
    let space = linux.space(PhysAddr(ROOT)).unwrap();
    assert_eq!(space.read_u64(Addr(NO_ACCESS), Endian::Little).unwrap(), 0x1122_3344_5566_7788);
}

#[test]
fn slots_are_read_across_their_borders_and_not_into_holes() {
    let bytes: &'static [u8] = Box::leak((0..=255).collect::<Vec<u8>>().into_boxed_slice());
    let (low, high) = bytes.split_at(100);
    let lent = |base, bytes: &'static [u8]| Slot { base: PhysAddr(base), bytes: Arc::new(bytes) };
    let memories: [Box<dyn GuestMemory>; 2] = [
        Box::new(MappedSlots::new(vec![lent(9000, low), lent(1100, high), lent(1000, low), lent(5, &[])])),
        Box::new(HostSlots::new(vec![host_slot(low, 9000), host_slot(high, 1100), host_slot(low, 1000)])),
    ];
    for memory in memories {
        assert_eq!(memory.ranges(), [PhysAddr(1000)..PhysAddr(1256), PhysAddr(9000)..PhysAddr(9100)]);
        let mut all = [0; 300];
        assert_eq!(memory.read(PhysAddr(1000), &mut all), 256);
        assert_eq!(all[..256], *bytes);
        assert_eq!(memory.read(PhysAddr(9099), &mut all), 1);
        assert_eq!(all[0], 99);
        for hole in [0, 999, 1256, 8999, 9100, u64::MAX] {
            assert_eq!(memory.read(PhysAddr(hole), &mut all), 0, "{hole}");
        }
    }
    // Nothing is mapped at the first page: missing memory, not a crash.
    let gone = HostSlots::new(vec![HostSlot { base: PhysAddr(0), size: u64::MAX, host: 1 }]);
    assert_eq!(gone.read(PhysAddr(7), &mut [0; 64]), 0);
    assert_eq!(gone.read(PhysAddr(u64::MAX - 1), &mut [0; 64]), 0);
}
