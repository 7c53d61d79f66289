//! The processor's shadow stack (Intel CET) as a witness of the frames: in a real dump, and in made ones.

use crate::support::*;
use crate::synth::*;
use debuginfo::Locator;
use evidence::bytes::Endian;
use evidence::{Addr, Target, register_number};
use snapshot_format::schema::Trust;

const CODE: u64 = 0x1_4000_0000;
const STACK: u64 = 0x20_0000;
const SHADOW: u64 = 0x30_0000;

/// Every caller is a word of the shadow stack, in their order, to its end.
#[test]
fn a_real_dump_has_the_frames_of_its_shadow_stack() {
    let Some(path) = dump("tiny-exe-with-cet-xsave") else { return };
    let target = open(&path);
    let thread = &target.threads()[0];
    let ssp = thread.registers.get(register_number(thread.registers.arch, "ssp").unwrap()).unwrap();
    let words = (0..).map_while(|n| target.memory().read_pointer(Addr(ssp + n * 8), 8, Endian::Little).ok());
    let words: Vec<u64> = words.collect();
    assert_eq!(words.len(), 7);
    let snapshot = snapshot(&path);
    let frames = frames(&snapshot);
    assert_eq!(frames[1..].iter().map(|f| f.pc).collect::<Vec<_>>(), words);
    assert!(frames[1..].iter().all(|f| f.trust == Trust::ShadowStack && !f.suspect));
    assert_eq!(snapshot.threads[0].truncated, None);
}

/// A context with an XSAVE area behind it that holds `IA32_PL3_SSP`, as Windows 11 writes it.
fn context(values: &[(usize, u64)]) -> Vec<u8> {
    let mut bytes = amd64(1232, values);
    bytes[0x30..0x34].copy_from_slice(&0x10_005f_u32.to_le_bytes());
    for (offset, length) in [(-1232_i32, 1392_u32), (-1232, 1232), (80, 80)] {
        bytes.extend(offset.to_le_bytes());
        bytes.extend(length.to_le_bytes());
    }
    bytes.resize(1232 + 80, 0);
    let area = [0x800, 1 << 63 | 0x800, 0, 0, 0, 0, 0, 0, 1, SHADOW + 0xfe8_u64];
    bytes.extend(area.iter().flat_map(|w| w.to_le_bytes()));
    bytes
}

/// A thread with two records of the frame pointer and three callers, of which `kept` are on the shadow stack.
fn thread(overwritten: bool, kept: bool) -> Vec<(u64, Trust)> {
    let returns = [CODE + 0x2004, CODE + 0x3004, CODE + 0x4004];
    let mut stack = vec![0_u8; 0x800];
    let mut put = |at: usize, value: u64| stack[at..at + 8].copy_from_slice(&value.to_le_bytes());
    put(0x120, STACK + 0x180);
    put(0x128, if overwritten { 0x4141_4141_4141_4141 } else { returns[0] });
    put(0x180, 0);
    put(0x188, returns[1]);
    put(0x1c8, returns[2]);
    let shadow: Vec<u8> = returns.iter().flat_map(|w| w.to_le_bytes()).collect();
    let registers = [(RIP, CODE + 0x1000), (RSP, STACK + 0x100), (RBP, STACK + 0x120)];
    let dump = Synth {
        processor: AMD64,
        platform: WINDOWS,
        threads: vec![SynthThread { id: 7, context: context(&registers), stack: (STACK, stack) }],
        memory: if kept { vec![(SHADOW + 0xfe8, shadow)] } else { Vec::new() },
        modules: vec![(CODE, 0x10000, "C:\\a.exe")],
        ..Synth::default()
    };
    let snapshot = snapshot_with(dump.write().path(), &Locator::default());
    frames(&snapshot).iter().map(|f| (f.pc - CODE, f.trust)).collect()
}

#[test]
fn it_confirms_replaces_and_ends() {
    let all = [0x1000, 0x2004, 0x3004, 0x4004];
    for overwritten in [false, true] {
        let found = thread(overwritten, true);
        assert_eq!(found.iter().map(|f| f.0).collect::<Vec<_>>(), all, "{found:?}");
        assert!(found[1..].iter().all(|f| f.1 == Trust::ShadowStack), "{found:?}");
    }
}

/// Its pages are not in the dump: then the other methods count as ever.
#[test]
fn without_its_memory_frames_are_found_as_ever() {
    let found = thread(false, false);
    assert_eq!(found.iter().map(|f| f.0).collect::<Vec<_>>(), [0x1000, 0x2004, 0x3004], "{found:?}");
    assert!(found.iter().all(|f| f.1 != Trust::ShadowStack), "{found:?}");
}
