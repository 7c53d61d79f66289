//! Register contexts of full size. A group of registers is marked as valid only if it was recorded.

use snapshot_format::schema::Note;
use std::collections::HashMap;

/// (offset, size, name) of a register.
type Field = (usize, usize, &'static str);

/// `CONTEXT` of x86-64 (winnt.h), 1232 bytes.
const AMD64: [Field; 24] = [
    (0x38, 2, "cs"),
    (0x3a, 2, "ds"),
    (0x3c, 2, "es"),
    (0x3e, 2, "fs"),
    (0x40, 2, "gs"),
    (0x42, 2, "ss"),
    (0x44, 4, "rflags"),
    (0x78, 8, "rax"),
    (0x80, 8, "rcx"),
    (0x88, 8, "rdx"),
    (0x90, 8, "rbx"),
    (0x98, 8, "rsp"),
    (0xa0, 8, "rbp"),
    (0xa8, 8, "rsi"),
    (0xb0, 8, "rdi"),
    (0xb8, 8, "r8"),
    (0xc0, 8, "r9"),
    (0xc8, 8, "r10"),
    (0xd0, 8, "r11"),
    (0xd8, 8, "r12"),
    (0xe0, 8, "r13"),
    (0xe8, 8, "r14"),
    (0xf0, 8, "r15"),
    (0xf8, 8, "rip"),
];

/// `CONTEXT` of x86 (winnt.h), 716 bytes.
const X86: [Field; 16] = [
    (140, 4, "gs"),
    (144, 4, "fs"),
    (148, 4, "es"),
    (152, 4, "ds"),
    (156, 4, "edi"),
    (160, 4, "esi"),
    (164, 4, "ebx"),
    (168, 4, "edx"),
    (172, 4, "ecx"),
    (176, 4, "eax"),
    (180, 4, "ebp"),
    (184, 4, "eip"),
    (188, 4, "cs"),
    (192, 4, "eflags"),
    (196, 4, "esp"),
    (200, 4, "ss"),
];

const ARM: [&str; 17] =
    ["r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "sp", "lr", "pc", "cpsr"];

/// The context of a thread; `None` for processors without a layout, and for a thread of which no program counter is
/// known. `floating` is the note with its floating point and vector registers.
pub fn write(arch: &str, registers: &HashMap<&str, u64>, floating: Option<&Note>) -> Option<Vec<u8>> {
    let known = |names: &[&str]| names.iter().all(|n| registers.contains_key(n));
    let group = |names: &[&str], bit: u32| if known(names) { bit } else { 0 };
    let (mut bytes, flags_at, flags) = match arch {
        "x86_64" => {
            // CONTEXT_AMD64 with CONTROL, INTEGER, SEGMENTS.
            let flags = group(&["rip", "rsp"], 1) | group(&["rax", "rbx", "r12"], 2) | group(&["ds", "es"], 4);
            (vec![0; 1232], 0x30, if flags == 0 { 0 } else { 0x10_0000 | flags })
        }
        "x86" => {
            let flags = group(&["eip", "esp"], 1) | group(&["eax", "ebx", "esi"], 2) | group(&["ds", "es"], 4);
            (vec![0; 716], 0, if flags == 0 { 0 } else { 0x1_0000 | flags })
        }
        "aarch64" => {
            let flags = group(&["pc", "sp"], 1) | group(&["x0", "x19"], 2);
            (vec![0; 912], 0, if flags == 0 { 0 } else { 0x40_0000 | flags })
        }
        // Breakpad's own layout (minidump_cpu_arm.h).
        "arm" => {
            let flags = group(&["pc", "sp"], 2);
            (vec![0; 368], 0, if flags == 0 { 0 } else { 0x4000_0000 | flags })
        }
        _ => return None,
    };
    if flags == 0 {
        return None;
    }
    let mut put = |at: usize, size: usize, value: u64| {
        if let Some(field) = bytes.get_mut(at..at + size) {
            field.copy_from_slice(&value.to_le_bytes()[..size]);
        }
    };
    let area = floating.and_then(|n| match (arch, n.kind, n.body.len()) {
        // CONTEXT_FLOATING_POINT of x86-64, CONTEXT_EXTENDED_REGISTERS of x86, CONTEXT_FLOATING_POINT of ARM64.
        ("x86_64", Note::FXSAVE, 512) => Some((8, 0x100, n.body.get(..512)?)),
        ("x86", Note::FXSAVE, 512) => Some((0x20, 204, n.body.get(..512)?)),
        ("aarch64", Note::FPSIMD, 520) => Some((4, 272, n.body.get(..512)?)),
        _ => None,
    });
    put(flags_at, 4, u64::from(flags | area.map_or(0, |(bit, ..)| bit)));
    match arch {
        "x86_64" => {
            AMD64.iter().for_each(|(at, size, name)| put(*at, *size, registers.get(name).copied().unwrap_or(0)))
        }
        "x86" => X86.iter().for_each(|(at, size, name)| put(*at, *size, registers.get(name).copied().unwrap_or(0))),
        "aarch64" => {
            for n in 0..31 {
                put(8 + 8 * n, 8, registers.get(format!("x{n}").as_str()).copied().unwrap_or(0));
            }
            for (at, size, name) in [(4, 4, "pstate"), (0x100, 8, "sp"), (0x108, 8, "pc")] {
                put(at, size, registers.get(name).copied().unwrap_or(0));
            }
        }
        _ => {
            for (n, name) in ARM.iter().enumerate() {
                put(4 + 4 * n, 4, registers.get(name).copied().unwrap_or(0));
            }
        }
    }
    if let Some((_, at, area)) = area {
        bytes.get_mut(at..at + 512)?.copy_from_slice(area);
        // MxCsr has a place of its own as well; ARM64's FPCR and FPSR change places.
        let body = &floating?.body;
        let (to, from): (usize, &[u8]) = match arch {
            "x86_64" => (0x34, body.get(24..28)?),
            "aarch64" => (784, &[body.get(516..520)?, body.get(512..516)?].concat()),
            _ => (0, &[]),
        };
        bytes.get_mut(to..to + from.len())?.copy_from_slice(from);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_groups_that_are_known_are_marked() {
        let registers = [("rip", 0x1234_5678_9abc), ("rsp", 0x7fff_0000)].into();
        let bytes = write("x86_64", &registers, None).expect("a context");
        assert_eq!(bytes.len(), 1232);
        assert_eq!(bytes[0x30..0x34], 0x0010_0001_u32.to_le_bytes());
        assert_eq!(bytes[0xf8..0x100], 0x1234_5678_9abc_u64.to_le_bytes());
        assert_eq!(write("x86_64", &HashMap::new(), None), None);
        assert_eq!(write("sparc", &registers, None), None);
        let registers = [("pc", 8), ("sp", 16), ("x0", 1), ("x19", 2), ("x30", 3)].into();
        let bytes = write("aarch64", &registers, None).expect("a context");
        assert_eq!((bytes.len(), &bytes[..4]), (912, &0x0040_0003_u32.to_le_bytes()[..]));
        assert_eq!(bytes[8 + 240..8 + 248], 3_u64.to_le_bytes());
    }
}
