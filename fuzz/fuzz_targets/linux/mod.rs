//! What is asked of a Linux kernel dump, whatever its container.
#![allow(dead_code, reason = "each target uses its own part")]

use evidence::{Addr, Machine, PhysAddr, Target};
use kernel_dumps::linux::LinuxDump;
use std::path::Path;

/// Opens the bytes as a dump and reads what an analysis would read first.
pub fn exercise(bytes: Vec<u8>) {
    let Ok(dump) = LinuxDump::from_source(Path::new("fuzz"), Box::new(bytes)) else { return };
    let (mut page, mut again) = (vec![0; 4096 + 64], vec![0; 4096 + 64]);
    for extent in dump.physical_extents().iter().take(8) {
        let range = &extent.range;
        assert!(range.start.0 <= range.end.0, "extents do not run backwards");
        for at in [range.start.0, range.start.0.wrapping_add(4090), range.end.0.wrapping_sub(1)] {
            let got = dump.read_physical(PhysAddr(at), &mut page);
            assert!(got.0 <= page.len());
            assert!(got.0 == page.len() || got.1.is_some(), "less than asked for has a reason");
            assert_eq!(got, dump.read_physical(PhysAddr(at), &mut again), "the same question, the same answer");
            assert_eq!(page.get(..got.0), again.get(..got.0));
        }
    }
    for thread in dump.threads().iter().take(4) {
        for at in [thread.registers.pc(), thread.registers.sp()].into_iter().flatten() {
            dump.memory().read(at, &mut page);
        }
    }
    for at in [0, 0xffff_8880_0000_0000, 0xffff_ffff_8100_0000, u64::MAX] {
        dump.memory().read(Addr(at), &mut page);
    }
    if let Ok(space) = dump.space(PhysAddr(0x1000)) {
        space.read(Addr(0x40_0000), &mut page);
    }
}

/// A table of pages that names itself, at physical address 0: whatever is translated leads somewhere.
pub const VMCOREINFO: &[u8] = b"OSRELEASE=6.1.0\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffff80000000\n\
    SYMBOL(init_uts_ns)=ffffffff80000000\nNUMBER(phys_base)=0\nNUMBER(pgtable_l5_enabled)=0\n\0";

/// A note as ELF files have it.
pub fn note(owner: &[u8], kind: u32, body: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    for word in [owner.len() + 1, body.len()] {
        note.extend(u32::try_from(word).expect("short").to_le_bytes());
    }
    note.extend(kind.to_le_bytes());
    note.extend(owner);
    note.resize((note.len() + 1).next_multiple_of(4), 0);
    note.extend(body);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}
