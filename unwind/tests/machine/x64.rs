//! A machine that carries out the few x86-64 instructions that clang made of the programs in `testdata`, and keeps a
//! record of its calls.

use super::{Call, IMAGE, Ram, STACK, STACK_SIZE};
use evidence::{Arch, Register, Registers};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register as Reg};

/// Registers that calls leave alone, by DWARF number, with rsp; the last two are those of Windows only.
pub static KEPT: [(Reg, u16); 9] = [
    (Reg::RBX, 3),
    (Reg::RBP, 6),
    (Reg::RSP, 7),
    (Reg::R12, 12),
    (Reg::R13, 13),
    (Reg::R14, 14),
    (Reg::R15, 15),
    (Reg::RSI, 4),
    (Reg::RDI, 5),
];

pub struct Machine {
    pub memory: Ram,
    pub calls: Vec<Call>,
    registers: [u64; 16],
    rip: u64,
    zero: bool,
    sign: bool,
    handler: u64,
    kept: &'static [(Reg, u16)],
}

impl Machine {
    /// With the image loaded, at the program's entry; `kept` are the registers that calls leave alone, `handler` is
    /// where breakpoints lead to.
    pub fn new(image: Vec<u8>, entry: u64, handler: u64, kept: &'static [(Reg, u16)]) -> Self {
        let mut machine = Self {
            memory: Ram::new(image),
            calls: Vec::new(),
            registers: [0x1111; 16],
            rip: IMAGE + entry,
            zero: false,
            sign: false,
            handler: IMAGE + handler,
            kept,
        };
        // Distinct values, to tell them apart; above them the null return address that ends a stack.
        for n in 0..16 {
            machine.registers[n] = 0xa000_0000_0000 + n as u64;
        }
        machine.registers[4] = STACK + STACK_SIZE as u64 - 0x48;
        machine
    }

    pub fn rip(&self) -> u64 {
        self.rip
    }

    pub fn registers(&self) -> Registers {
        let mut all = Registers::new(Arch::X86_64);
        for (n, register) in [0, 2, 1, 3, 7, 6, 4, 5].into_iter().chain(8..16).enumerate() {
            all.set(Register(register), self.registers[n]);
        }
        all.set(Register(16), self.rip);
        all
    }

    fn next(&self) -> Instruction {
        let at = (self.rip - IMAGE) as usize;
        Decoder::with_ip(64, &self.memory.image[at..], self.rip, DecoderOptions::NONE).decode()
    }

    pub fn at(&self, mnemonic: &str) -> bool {
        format!("{:?}", self.next().mnemonic()).eq_ignore_ascii_case(mnemonic)
    }

    fn get(&self, register: Reg) -> u64 {
        let value = self.registers[register.full_register().number()];
        match register.size() {
            8 => value,
            n => value & ((1 << (8 * n)) - 1),
        }
    }

    fn set(&mut self, register: Reg, value: u64) {
        let slot = &mut self.registers[register.full_register().number()];
        *slot = match register.size() {
            8 => value,
            4 => value & 0xffff_ffff,
            n => (*slot & !((1 << (8 * n)) - 1)) | (value & ((1 << (8 * n)) - 1)),
        };
    }

    fn address(&self, i: &Instruction) -> u64 {
        if i.is_ip_rel_memory_operand() {
            return i.ip_rel_memory_address();
        }
        let part = |r: Reg| if r == Reg::None { 0 } else { self.get(r) };
        let index = part(i.memory_index()).wrapping_mul(i.memory_index_scale().into());
        part(i.memory_base()).wrapping_add(index).wrapping_add(i.memory_displacement64())
    }

    fn size(i: &Instruction, n: u32) -> usize {
        match i.op_kind(n) {
            OpKind::Register => i.op_register(n).size(),
            OpKind::Memory => i.memory_size().size(),
            _ => 8,
        }
    }

    fn load(&mut self, at: u64, size: usize) -> u64 {
        let mut raw = [0; 8];
        raw[..size].copy_from_slice(self.memory.place(at, size));
        u64::from_le_bytes(raw)
    }

    fn operand(&mut self, i: &Instruction, n: u32) -> u64 {
        match i.op_kind(n) {
            OpKind::Register => self.get(i.op_register(n)),
            OpKind::Memory => {
                let at = self.address(i);
                self.load(at, i.memory_size().size())
            }
            OpKind::NearBranch64 => i.near_branch64(),
            _ => i.immediate(n),
        }
    }

    fn store(&mut self, i: &Instruction, value: u64) {
        match i.op_kind(0) {
            OpKind::Register => self.set(i.op_register(0), value),
            _ => {
                let (at, size) = (self.address(i), i.memory_size().size());
                self.memory.place(at, size).copy_from_slice(&value.to_le_bytes()[..size]);
            }
        }
    }

    /// Small numbers only: nothing overflows.
    fn flags(&mut self, value: u64, size: usize) {
        let value = value << (64 - 8 * size);
        (self.zero, self.sign) = (value == 0, value >> 63 != 0);
    }

    fn push(&mut self, value: u64) {
        self.registers[4] -= 8;
        let at = self.registers[4];
        self.memory.place(at, 8).copy_from_slice(&value.to_le_bytes());
    }

    fn pop(&mut self) -> u64 {
        let at = self.registers[4];
        self.registers[4] += 8;
        self.load(at, 8)
    }

    fn enter(&mut self, pc: u64, to: u64, interrupted: bool) {
        let registers = self.kept.iter().map(|(r, n)| (Register(*n), self.get(*r))).collect();
        self.calls.push(Call { pc, interrupted, registers });
        self.rip = to;
    }

    /// Carries out one instruction. `false` when the program has returned.
    pub fn step(&mut self) -> bool {
        let i = self.next();
        let next = i.next_ip();
        self.rip = next;
        let signed = |value: u64, size: usize| (value << (64 - 8 * size)).cast_signed() >> (64 - 8 * size);
        match i.mnemonic() {
            Mnemonic::Nop => {}
            Mnemonic::Push => {
                let value = self.operand(&i, 0);
                self.push(value);
            }
            Mnemonic::Pop => {
                let value = self.pop();
                self.store(&i, value);
            }
            Mnemonic::Mov | Mnemonic::Movzx => {
                let value = self.operand(&i, 1);
                self.store(&i, value);
            }
            Mnemonic::Movsx | Mnemonic::Movsxd => {
                let value = signed(self.operand(&i, 1), Self::size(&i, 1));
                self.store(&i, value.cast_unsigned());
            }
            Mnemonic::Lea => {
                let at = self.address(&i);
                self.store(&i, at);
            }
            Mnemonic::Add | Mnemonic::Sub | Mnemonic::And | Mnemonic::Or | Mnemonic::Xor | Mnemonic::Shl => {
                let (a, b) = (self.operand(&i, 0), self.operand(&i, 1));
                let value = match i.mnemonic() {
                    Mnemonic::Add => a.wrapping_add(b),
                    Mnemonic::Sub => a.wrapping_sub(b),
                    Mnemonic::And => a & b,
                    Mnemonic::Or => a | b,
                    Mnemonic::Xor => a ^ b,
                    _ => a << (b & 31),
                };
                self.store(&i, value);
                self.flags(value, Self::size(&i, 0));
            }
            Mnemonic::Imul => {
                let from = if i.op_count() == 3 { 1 } else { 0 };
                let value = self.operand(&i, from).wrapping_mul(self.operand(&i, from + 1));
                self.store(&i, value);
            }
            Mnemonic::Test => {
                let (value, size) = (self.operand(&i, 0) & self.operand(&i, 1), Self::size(&i, 0));
                self.flags(value, size);
            }
            Mnemonic::Neg => {
                let value = self.operand(&i, 0).wrapping_neg();
                self.store(&i, value);
                self.flags(value, Self::size(&i, 0));
            }
            Mnemonic::Cmp => {
                let value = self.operand(&i, 0).wrapping_sub(self.operand(&i, 1));
                self.flags(value, Self::size(&i, 0));
            }
            Mnemonic::Inc | Mnemonic::Dec => {
                let by = if i.mnemonic() == Mnemonic::Inc { 1 } else { u64::MAX };
                let value = self.operand(&i, 0).wrapping_add(by);
                self.store(&i, value);
                self.flags(value, Self::size(&i, 0));
            }
            Mnemonic::Cdqe => self.registers[0] = signed(self.registers[0], 4).cast_unsigned(),
            Mnemonic::Jmp => self.rip = self.operand(&i, 0),
            Mnemonic::Jne => self.rip = if self.zero { next } else { i.near_branch64() },
            Mnemonic::Jle => self.rip = if self.zero || self.sign { i.near_branch64() } else { next },
            Mnemonic::Je => self.rip = if self.zero { i.near_branch64() } else { next },
            Mnemonic::Call => {
                let to = self.operand(&i, 0);
                self.enter(next, to, false);
                self.push(next);
            }
            Mnemonic::Int3 => {
                let sp = self.registers[4];
                let to = self.handler;
                self.enter(next, to, true);
                [0x2b, sp, 0x246, 0x33, next].into_iter().for_each(|word| self.push(word));
            }
            Mnemonic::Iretq => {
                self.rip = self.pop();
                self.registers[4] += 16;
                self.registers[4] = self.pop();
                self.calls.pop();
            }
            Mnemonic::Ret => {
                self.rip = self.pop();
                let Some(call) = self.calls.pop() else { return false };
                assert_eq!(call.pc, self.rip);
            }
            other => panic!("{other:?} at {:#x} is not known here", i.ip()),
        }
        true
    }
}
