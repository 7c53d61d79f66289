//! Registers of 32-bit programs as a 64-bit observer reads them: in the order and width of amd64.

use evidence::{Arch, Register, Registers};

/// DWARF's numbers on amd64 and on i386 of the registers that both have.
const BOTH: [(u16, u16); 17] = [
    (0, 0),
    (1, 2),
    (2, 1),
    (3, 3),
    (4, 6),
    (5, 7),
    (6, 5),
    (7, 4),
    (16, 8),
    (49, 9),
    (50, 40),
    (51, 41),
    (52, 42),
    (53, 43),
    (54, 44),
    (55, 45),
    (59, 58),
];

/// The registers of an i386 program.
pub(super) fn narrowed(wide: &Registers) -> Registers {
    let mut narrow = Registers::new(Arch::X86);
    for (from, to) in BOTH {
        if let Some(value) = wide.get(Register(from)) {
            narrow.set(Register(to), value & 0xffff_ffff);
        }
    }
    narrow
}

#[cfg(test)]
mod tests {
    use super::*;
    use evidence::register_name;

    #[test]
    fn names_agree() {
        for (from, to) in BOTH {
            let wide = register_name(Arch::X86_64, Register(from)).unwrap();
            let narrow = register_name(Arch::X86, Register(to)).unwrap();
            // `es` begins with the letter that wide names have in front on i386.
            let same = wide == narrow || wide.trim_start_matches('r') == narrow.trim_start_matches('e');
            assert!(same, "{from}: {wide} and {narrow}");
        }
    }
}
