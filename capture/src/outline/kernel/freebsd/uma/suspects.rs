//! The values that a panic was about: the registers of what the trap interrupted, the address that faulted, and the
//! addresses that the panic's own words name.

use evidence::{Addr, Arch, Event, Registers, register_name};

/// Bytes that a member may lie behind the start of its structure.
const NEAR: u64 = 4096;
/// Addresses below this come from null pointers.
const LOW: u64 = 0x1_0000;
/// Most addresses of a panic's message.
const LIMIT_WORDS: usize = 8;

/// All values with what they are.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Suspects {
    arch: Option<Arch>,
    /// General registers by name, without program counter, stack and frame pointer.
    registers: Vec<(&'static str, u64)>,
    /// The program counter, when it lies in no module, and its name.
    pc: Option<(&'static str, u64)>,
    /// The address that was accessed.
    address: Option<u64>,
    /// Whether the processor refused an address without saying which one.
    unsaid: bool,
    /// Addresses in the panic's message.
    words: Vec<u64>,
}

impl Suspects {
    /// `code`: whether an address is one of code.
    pub(in super::super) fn new(
        arch: Arch,
        trapped: Option<&Registers>,
        event: Option<&Event>,
        code: impl Fn(Addr) -> bool,
    ) -> Self {
        let message = event.and_then(|e| e.message.as_deref()).unwrap_or_default();
        let mut suspects = Self { arch: Some(arch), words: words(message), ..Self::default() };
        suspects.address = event.and_then(|e| e.address).map(|a| a.0);
        suspects.unsaid = suspects.address.is_none() && message.contains("protection fault");
        let Some(trapped) = trapped else { return suspects };
        let special = [Registers::sp_register(arch), Registers::fp_register(arch)];
        for (register, value) in trapped.iter() {
            let Some(name) = register_name(arch, register) else { continue };
            if register == Registers::pc_register(arch) {
                suspects.pc = Some((name, value)).filter(|_| !code(Addr(value)));
            } else if !special.contains(&register) && !name.contains("flags") {
                suspects.registers.push((name, value));
            }
        }
        suspects
    }

    /// What may point into the kernel's memory, with its name.
    pub(super) fn pointers(&self) -> Vec<(&'static str, Addr)> {
        let kernel = |v: u64| match self.arch {
            Some(Arch::X86) => v >= LOW,
            _ => v >> 63 == 1,
        };
        let words = self.words.iter().map(|v| ("the panic's address", *v));
        let all = self.registers.iter().copied().chain(words).filter(|(_, v)| kernel(*v));
        all.map(|(name, v)| (name, Addr(v))).collect()
    }

    /// The values that were followed and led nowhere, with what they are.
    pub(super) fn wild(&self) -> Vec<(String, u64)> {
        let mut wild: Vec<(String, u64)> =
            self.pc.filter(|(_, v)| *v >= LOW).map(|(name, v)| (name.into(), v)).into_iter().collect();
        if let Some(address) = self.address.filter(|a| *a >= LOW) {
            let near = |v: u64| address.wrapping_sub(v) < NEAR;
            let bases = self.registers.iter().filter(|(_, v)| near(*v) && *v >= LOW);
            wild.extend(bases.map(|(name, v)| ((*name).to_owned(), *v)));
        }
        if self.unsaid && self.arch == Some(Arch::X86_64) {
            let canonical = |v: u64| matches!(v.cast_signed() >> 47, 0 | -1);
            let bases = self.registers.iter().filter(|(_, v)| !canonical(*v));
            wild.extend(bases.map(|(name, v)| ((*name).to_owned(), *v)));
        }
        wild
    }
}

/// The numbers that are written `0x...` in a message.
fn words(message: &str) -> Vec<u64> {
    let mut found = Vec::new();
    for part in message.split("0x").skip(1).take(LIMIT_WORDS) {
        let end = part.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(part.len());
        found.extend(part.get(..end).and_then(|hex| u64::from_str_radix(hex, 16).ok()));
    }
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use evidence::Register;

    fn trapped(values: &[(u16, u64)]) -> Registers {
        let mut registers = Registers::new(Arch::X86_64);
        for (number, value) in values {
            registers.set(Register(*number), *value);
        }
        registers
    }

    #[test]
    fn what_is_followed() {
        let registers = trapped(&[
            (0, 0xffff_dead_0000_1000),
            (5, 0xffff_f800_0010_0000),
            (7, 0xffff_fe00_0020_0000),
            (16, 0xffff_ffff_8020_1234),
            (4, 7),
        ]);
        let event = Event { address: Some(Addr(0xffff_dead_0000_1028)), ..Event::default() };
        let found = Suspects::new(Arch::X86_64, Some(&registers), Some(&event), |_| true);
        assert_eq!(found.wild(), [("rax".to_owned(), 0xffff_dead_0000_1000)]);
        let names: Vec<_> = found.pointers().iter().map(|(n, _)| *n).collect();
        assert_eq!(names, ["rax", "rdi"]);
        let jumped = Suspects::new(Arch::X86_64, Some(&registers), None, |_| false);
        assert_eq!(jumped.wild(), [("rip".to_owned(), 0xffff_ffff_8020_1234)]);
    }

    #[test]
    fn what_words_name() {
        let message = "Duplicate free of 0xfffff80003a5c000 from zone 0xfffffe00dd1a8000(malloc-128) slab 0x0(3)";
        let event = Event { message: Some(message.into()), ..Event::default() };
        let found = Suspects::new(Arch::X86_64, None, Some(&event), |_| true);
        let pointers: Vec<_> = found.pointers().iter().map(|(_, a)| a.0).collect();
        assert_eq!(pointers, [0xffff_f800_03a5_c000, 0xffff_fe00_dd1a_8000]);
        let refused = Event { message: Some("general protection fault".into()), ..Event::default() };
        let registers = trapped(&[(0, 0xdead_c0de_dead_c0de), (3, 12)]);
        let found = Suspects::new(Arch::X86_64, Some(&registers), Some(&refused), |_| true);
        assert_eq!(found.wild(), [("rax".to_owned(), 0xdead_c0de_dead_c0de)]);
    }
}
