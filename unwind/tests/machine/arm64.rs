//! A machine that carries out the AArch64 instructions that clang made of the programs in `testdata` (Arm ARM, C4.1),
//! without floating point, and keeps a record of its calls.

use super::{Call, IMAGE, Ram, STACK, STACK_SIZE};
use evidence::{Arch, Register, Registers};

/// Where the bits of a signature lie that this machine puts into a return address: above 48 bits, not bit 55.
const SIGNATURE: u64 = 0x0055_0000_0000_0000;

pub struct Machine {
    pub memory: Ram,
    pub calls: Vec<Call>,
    /// x0 to x30, sp.
    x: [u64; 32],
    vectors: [[u64; 2]; 32],
    pc: u64,
    /// Negative, zero, carry, overflow.
    flags: [bool; 4],
    pub signed: usize,
}

fn bits(word: u32, low: u32, count: u32) -> u32 {
    (word >> low) & ((1 << count) - 1)
}

fn extend(value: u64, from: u32) -> u64 {
    ((value << (64 - from)).cast_signed() >> (64 - from)).cast_unsigned()
}

/// `DecodeBitMasks` for logical immediates.
fn mask(n: u32, immr: u32, imms: u32, wide: bool) -> u64 {
    let length = 31 - ((n << 6) | (!imms & 0x3f)).leading_zeros();
    let size = 1_u32 << length;
    let (s, r) = (imms & (size - 1), immr & (size - 1));
    let ones = if s == 63 { u64::MAX } else { (1_u64 << (s + 1)) - 1 };
    let limit = if size == 64 { u64::MAX } else { (1_u64 << size) - 1 };
    let turned = if r == 0 { ones } else { ((ones >> r) | (ones << (size - r))) & limit };
    let mut all = 0;
    for n in 0..64 / size {
        all |= turned << (n * size);
    }
    if wide { all } else { all & 0xffff_ffff }
}

impl Machine {
    /// With the image loaded, at the program's entry.
    pub fn new(image: Vec<u8>, entry: u64) -> Self {
        let mut machine = Self {
            memory: Ram::new(image),
            calls: Vec::new(),
            x: [0; 32],
            vectors: [[7; 2]; 32],
            pc: IMAGE + entry,
            flags: [false; 4],
            signed: 0,
        };
        // Distinct values, to tell them apart; the null return address ends the stack.
        for n in 0..29 {
            machine.x[n] = 0xa000_0000_0000 + n as u64;
        }
        machine.x[31] = STACK + STACK_SIZE as u64 - 0x40;
        machine
    }

    pub fn pc(&self) -> u64 {
        self.pc
    }

    pub fn registers(&self) -> Registers {
        let mut all = Registers::new(Arch::Aarch64);
        for (n, value) in self.x.iter().enumerate() {
            all.set(Register(n as u16), *value);
        }
        all.set(Register(32), self.pc);
        all
    }

    fn enter(&mut self, to: u64) {
        let registers = (19..30).chain([31]).map(|n| (Register(n), self.x[usize::from(n)])).collect();
        self.x[30] = self.pc;
        self.calls.push(Call { pc: self.pc, interrupted: false, registers });
        self.pc = to;
    }

    /// A register of an instruction, in which 31 is zero.
    fn get(&self, n: u32, wide: bool) -> u64 {
        let value = if n == 31 { 0 } else { self.x[n as usize] };
        if wide { value } else { value & 0xffff_ffff }
    }

    fn set(&mut self, n: u32, value: u64, wide: bool) {
        if n != 31 {
            self.set_sp(n, value, wide);
        }
    }

    /// As `set`, where 31 is the stack pointer.
    fn set_sp(&mut self, n: u32, value: u64, wide: bool) {
        self.x[n as usize] = if wide { value } else { value & 0xffff_ffff };
    }

    fn load(&mut self, at: u64, size: usize) -> u64 {
        let mut raw = [0; 8];
        raw[..size].copy_from_slice(self.memory.place(at, size));
        u64::from_le_bytes(raw)
    }

    fn store(&mut self, at: u64, size: usize, value: u64) {
        self.memory.place(at, size).copy_from_slice(&value.to_le_bytes()[..size]);
    }

    fn sum(&mut self, a: u64, b: u64, subtract: bool, wide: bool, flags: bool) -> u64 {
        let width = if wide { 64 } else { 32 };
        let (a, b) = if wide { (a, b) } else { (a & 0xffff_ffff, b & 0xffff_ffff) };
        let result = if subtract { a.wrapping_sub(b) } else { a.wrapping_add(b) };
        let result = if wide { result } else { result & 0xffff_ffff };
        if flags {
            let sign = |v: u64| v >> (width - 1) & 1 != 0;
            let carry =
                if subtract { a >= b } else { u128::from(a) + u128::from(b) > u128::from(u64::MAX >> (64 - width)) };
            let other = if subtract { !sign(b) } else { sign(b) };
            self.flags = [sign(result), result == 0, carry, sign(a) == other && sign(result) != sign(a)];
        }
        result
    }

    fn holds(&self, condition: u32) -> bool {
        let [n, z, c, v] = self.flags;
        let base = match condition >> 1 {
            0 => z,
            1 => c,
            2 => n,
            3 => v,
            4 => c && !z,
            5 => n == v,
            6 => n == v && !z,
            _ => return true,
        };
        base != (condition & 1 == 1)
    }

    fn shifted(value: u64, kind: u32, by: u32, wide: bool) -> u64 {
        let width = if wide { 64 } else { 32 };
        let value = if wide { value } else { value & 0xffff_ffff };
        match kind {
            0 => value << by,
            1 => value >> by,
            2 => (extend(value, width).cast_signed() >> by).cast_unsigned(),
            _ => (value >> by) | (value << ((width - by) % width)),
        }
    }

    fn extended(value: u64, option: u32) -> u64 {
        match option {
            0 => value & 0xff,
            1 => value & 0xffff,
            2 => value & 0xffff_ffff,
            4 => extend(value & 0xff, 8),
            5 => extend(value & 0xffff, 16),
            6 => extend(value & 0xffff_ffff, 32),
            _ => value,
        }
    }

    /// Carries out one instruction. `false` when the program has returned.
    pub fn step(&mut self) -> bool {
        let at = self.pc;
        let word = self.load(at, 4) as u32;
        self.pc += 4;
        let group = bits(word, 25, 4);
        match group {
            0b1000 | 0b1001 => self.immediate(word, at),
            0b1010 | 0b1011 => return self.branch(word, at),
            0b0100 | 0b0110 | 0b1100 | 0b1110 => self.memory_access(word),
            0b0101 | 0b1101 => self.registers_only(word),
            0b0111 | 0b1111 if word & 0xffe0_fc00 == 0x6f00_e400 || word & 0xbfe0_fc00 == 0x0f00_e400 => {
                self.vectors[(word & 31) as usize] = [0, 0];
            }
            _ => panic!("{word:#010x} at {at:#x} is not known here"),
        }
        true
    }

    fn immediate(&mut self, word: u32, at: u64) {
        let wide = word >> 31 == 1;
        let (rd, rn) = (bits(word, 0, 5), bits(word, 5, 5));
        match bits(word, 23, 3) {
            0 | 1 => {
                let offset = extend(u64::from(bits(word, 5, 19) << 2 | bits(word, 29, 2)), 21);
                let value = if wide { (at & !0xfff).wrapping_add(offset << 12) } else { at.wrapping_add(offset) };
                self.set(rd, value, true);
            }
            2 => {
                let number = u64::from(bits(word, 10, 12)) << (12 * bits(word, 22, 1));
                let flags = bits(word, 29, 1) == 1;
                let value = self.sum(self.x[rn as usize], number, bits(word, 30, 1) == 1, wide, flags);
                if flags { self.set(rd, value, wide) } else { self.set_sp(rd, value, wide) }
            }
            4 => {
                let number = mask(bits(word, 22, 1), bits(word, 16, 6), bits(word, 10, 6), wide);
                self.logical(word, self.get(rn, wide), number, wide, true);
            }
            5 => {
                let (number, shift) = (u64::from(bits(word, 5, 16)), 16 * bits(word, 21, 2));
                let value = match bits(word, 29, 2) {
                    0 => !(number << shift),
                    2 => number << shift,
                    _ => self.get(rd, true) & !(0xffff << shift) | number << shift,
                };
                self.set(rd, value, wide);
            }
            6 => {
                let (r, s) = (bits(word, 16, 6), bits(word, 10, 6));
                let width = if wide { 64 } else { 32 };
                let source = self.get(rn, wide);
                // The field, and where it goes.
                let (count, from, to) = if s >= r { (s - r + 1, r, 0) } else { (s + 1, 0, width - r) };
                let ones = if count == 64 { u64::MAX } else { (1 << count) - 1 };
                let field = source >> from & ones;
                let value = match bits(word, 29, 2) {
                    0 => extend(field, count) << to,
                    1 => self.get(rd, wide) & !(ones << to) | field << to,
                    _ => field << to,
                };
                self.set(rd, value, wide);
            }
            7 => {
                let (rm, by) = (bits(word, 16, 5), bits(word, 10, 6));
                let width = if wide { 64 } else { 32 };
                let value = if by == 0 {
                    self.get(rm, wide)
                } else {
                    self.get(rm, wide) >> by | self.get(rn, wide) << (width - by)
                };
                self.set(rd, value, wide);
            }
            other => panic!("{word:#010x} at {at:#x}: {other}"),
        }
    }

    fn logical(&mut self, word: u32, a: u64, b: u64, wide: bool, immediate: bool) {
        let rd = bits(word, 0, 5);
        let b = if !immediate && bits(word, 21, 1) == 1 { !b } else { b };
        let kind = bits(word, 29, 2);
        let value = match kind {
            1 => a | b,
            2 => a ^ b,
            _ => a & b,
        };
        let value = if wide { value } else { value & 0xffff_ffff };
        if kind == 3 {
            self.flags = [value >> (if wide { 63 } else { 31 }) != 0, value == 0, false, false];
        }
        if immediate && kind != 3 { self.set_sp(rd, value, wide) } else { self.set(rd, value, wide) }
    }

    fn branch(&mut self, word: u32, at: u64) -> bool {
        let go = |offset: u32, count: u32| at.wrapping_add(extend(u64::from(offset), count) << 2);
        match word >> 24 {
            0x14..=0x17 => self.pc = go(bits(word, 0, 26), 26),
            0x94..=0x97 => self.enter(go(bits(word, 0, 26), 26)),
            0x54 => {
                if self.holds(word & 15) {
                    self.pc = go(bits(word, 5, 19), 19);
                }
            }
            0x34 | 0x35 | 0xb4 | 0xb5 => {
                let zero = self.get(word & 31, word >> 31 == 1) == 0;
                if zero != (bits(word, 24, 1) == 1) {
                    self.pc = go(bits(word, 5, 19), 19);
                }
            }
            0x36 | 0x37 | 0xb6 | 0xb7 => {
                let bit = bits(word, 31, 1) << 5 | bits(word, 19, 5);
                if self.get(word & 31, true) >> bit & 1 == u64::from(bits(word, 24, 1)) {
                    self.pc = go(bits(word, 5, 14), 14);
                }
            }
            0xd5 => match word {
                // paciasp, pacibsp; autiasp, autibsp.
                0xd503_233f | 0xd503_237f => {
                    self.signed += 1;
                    self.x[30] |= SIGNATURE;
                }
                0xd503_23bf | 0xd503_23ff => self.x[30] &= !SIGNATURE,
                _ => assert_eq!(word & 0xffff_f01f, 0xd503_201f, "{word:#x}"),
            },
            0xd6 => match word {
                0xd65f_03c0 | 0xd65f_0bff | 0xd65f_0fff => {
                    let to = if word == 0xd65f_03c0 { self.x[30] } else { self.x[30] & !SIGNATURE };
                    self.pc = to;
                    let Some(call) = self.calls.pop() else { return false };
                    assert_eq!(call.pc, to, "the return at {at:#x}");
                    for (register, value) in call.registers {
                        assert_eq!(self.x[usize::from(register.0)], value, "{register:?} at {at:#x}");
                    }
                }
                _ if word & 0xffff_fc1f == 0xd61f_0000 => self.pc = self.x[bits(word, 5, 5) as usize],
                _ if word & 0xffff_fc1f == 0xd63f_0000 => self.enter(self.x[bits(word, 5, 5) as usize]),
                _ => panic!("{word:#x} at {at:#x}"),
            },
            _ => panic!("{word:#x} at {at:#x}"),
        }
        true
    }

    fn memory_access(&mut self, word: u32) {
        let (rt, rn) = (bits(word, 0, 5), bits(word, 5, 5));
        let vector = bits(word, 26, 1) == 1;
        let base = self.x[rn as usize];
        if bits(word, 27, 3) == 0b101 {
            let opc = bits(word, 30, 2);
            let size = if vector { 4 << opc } else { 4 << (opc >> 1) };
            let offset = extend(u64::from(bits(word, 15, 7)), 7).wrapping_mul(size);
            let mode = bits(word, 23, 2);
            let start = if mode == 1 { base } else { base.wrapping_add(offset) };
            for (register, at) in [(rt, start), (bits(word, 10, 5), start + size)] {
                self.transfer(register, at, size as usize, bits(word, 22, 1), vector, opc == 1 && !vector);
            }
            if mode & 1 == 1 {
                self.x[rn as usize] = base.wrapping_add(offset);
            }
            return;
        }
        if word & 0x3f00_0000 == 0x1800_0000 {
            let at = (self.pc - 4).wrapping_add(extend(u64::from(bits(word, 5, 19)), 19) << 2);
            let kind = bits(word, 30, 2);
            return self.transfer(rt, at, if kind == 1 { 8 } else { 4 }, 1, false, kind == 2);
        }
        assert_eq!(bits(word, 27, 3), 0b111, "{word:#x}");
        let (scale, opc) = (bits(word, 30, 2), bits(word, 22, 2));
        let size: u64 = if vector && opc & 2 != 0 { 16 } else { 1 << scale };
        let (load, signed) = if vector { (opc & 1, false) } else { (u32::from(opc != 0), opc & 2 != 0) };
        let mut back = None;
        let at = if bits(word, 24, 1) == 1 {
            base.wrapping_add(u64::from(bits(word, 10, 12)) * size)
        } else if bits(word, 21, 1) == 1 {
            let index = Self::extended(self.get(bits(word, 16, 5), true), bits(word, 13, 3));
            base.wrapping_add(index << if bits(word, 12, 1) == 1 { size.trailing_zeros() } else { 0 })
        } else {
            let moved = base.wrapping_add(extend(u64::from(bits(word, 12, 9)), 9));
            match bits(word, 10, 2) {
                1 => {
                    back = Some(moved);
                    base
                }
                3 => {
                    back = Some(moved);
                    moved
                }
                _ => moved,
            }
        };
        self.transfer(rt, at, size as usize, load, vector, signed);
        if signed && opc == 3 {
            self.set(rt, self.get(rt, false), false);
        }
        if let Some(back) = back {
            self.x[rn as usize] = back;
        }
    }

    fn transfer(&mut self, rt: u32, at: u64, size: usize, load: u32, vector: bool, signed: bool) {
        if vector {
            for half in 0..size.div_ceil(8) {
                let (at, size) = (at + 8 * half as u64, size.min(8));
                if load == 1 {
                    let value = self.load(at, size);
                    self.vectors[rt as usize][half] = value;
                } else {
                    let value = self.vectors[rt as usize][half];
                    self.store(at, size, value);
                }
            }
        } else if load == 1 {
            let value = self.load(at, size);
            self.set(rt, if signed { extend(value, 8 * size as u32) } else { value }, true);
        } else {
            self.store(at, size, self.get(rt, true));
        }
    }

    fn registers_only(&mut self, word: u32) {
        match word {
            // pacia, pacib; autia, autib: x30, sp.
            0xdac1_03fe | 0xdac1_07fe => {
                self.signed += 1;
                self.x[30] |= SIGNATURE;
                return;
            }
            0xdac1_13fe | 0xdac1_17fe => {
                self.x[30] &= !SIGNATURE;
                return;
            }
            _ => {}
        }
        let wide = word >> 31 == 1;
        let (rd, rn, rm) = (bits(word, 0, 5), bits(word, 5, 5), bits(word, 16, 5));
        let (n, m) = (self.get(rn, wide), self.get(rm, wide));
        match (bits(word, 24, 5), bits(word, 21, 3)) {
            (0b01010, _) => {
                let m = Self::shifted(m, bits(word, 22, 2), bits(word, 10, 6), wide);
                self.logical(word, n, m, wide, false);
            }
            (0b01011, kind) => {
                let (subtract, flags) = (bits(word, 30, 1) == 1, bits(word, 29, 1) == 1);
                if kind & 1 == 1 {
                    let m = Self::extended(self.get(rm, true), bits(word, 13, 3)) << bits(word, 10, 3);
                    let value = self.sum(self.x[rn as usize], m, subtract, wide, flags);
                    if flags { self.set(rd, value, wide) } else { self.set_sp(rd, value, wide) }
                } else {
                    let m = Self::shifted(m, bits(word, 22, 2), bits(word, 10, 6), wide);
                    let value = self.sum(n, m, subtract, wide, flags);
                    self.set(rd, value, wide);
                }
            }
            (0b11010, 0b010) => {
                let m = if bits(word, 11, 1) == 1 { u64::from(rm) } else { m };
                if self.holds(bits(word, 12, 4)) {
                    self.sum(n, m, bits(word, 30, 1) == 1, wide, true);
                } else {
                    self.flags = [3, 2, 1, 0].map(|bit| word >> bit & 1 == 1);
                }
            }
            (0b11010, 0b100) => {
                let other = if bits(word, 30, 1) == 1 { !m } else { m };
                let other = other.wrapping_add(u64::from(bits(word, 10, 1)));
                let value = if self.holds(bits(word, 12, 4)) { n } else { other };
                self.set(rd, value, wide);
            }
            (0b11010, 0b110) if bits(word, 30, 1) == 0 => {
                let width = if wide { 64 } else { 32 };
                let value = match bits(word, 10, 6) {
                    2 => n.checked_div(m).unwrap_or(0),
                    3 => extend(n, width)
                        .cast_signed()
                        .checked_div(extend(m, width).cast_signed())
                        .unwrap_or(0)
                        .cast_unsigned(),
                    kind @ 8..=11 => Self::shifted(n, kind - 8, (m % u64::from(width)) as u32, wide),
                    other => panic!("{word:#x}: {other}"),
                };
                self.set(rd, value, wide);
            }
            (0b11011, kind) => {
                let add = self.get(bits(word, 10, 5), wide);
                let (n, m) = match kind {
                    0 => (n, m),
                    1 => (extend(self.get(rn, false), 32), extend(self.get(rm, false), 32)),
                    5 => (self.get(rn, false), self.get(rm, false)),
                    6 => {
                        let high = (u128::from(n) * u128::from(m)) >> 64;
                        return self.set(rd, high as u64, true);
                    }
                    other => panic!("{word:#x}: {other}"),
                };
                let product = n.wrapping_mul(m);
                let value = if bits(word, 15, 1) == 1 { add.wrapping_sub(product) } else { add.wrapping_add(product) };
                self.set(rd, value, wide);
            }
            other => panic!("{word:#010x} is not known here: {other:?}"),
        }
    }
}
