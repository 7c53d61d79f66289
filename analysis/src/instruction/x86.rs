//! x86 and x86-64, by iced-x86's decoder and its list of used memory.
//!
//! Source for which operands must be aligned: Intel SDM volume 1, 4.1.1 and 14.9 (legacy SSE: all 16-byte memory
//! operands except those of the unaligned moves; VEX and EVEX: only the aligned and the non-temporal moves).

use super::{Access, Decoded, Held, Kind, Operand};
use crate::view::View;
use iced_x86::{
    Decoder, DecoderError, DecoderOptions, EncodingKind, FlowControl, Formatter, Instruction, InstructionInfoFactory,
    IntelFormatter, Mnemonic, OpAccess, OpKind, Register, UsedMemory,
};

/// The longest x86 instruction, bytes.
const LONGEST: usize = 15;

pub(super) fn decode(view: &View<'_>, pc: u64, bits: u32) -> Option<Decoded> {
    let bytes = view.bytes(pc, LONGEST);
    if bytes.is_empty() {
        return None;
    }
    let mut decoder = Decoder::try_with_ip(bits, bytes, pc, DecoderOptions::NONE).ok()?;
    let instruction = decoder.decode();
    if instruction.is_invalid() {
        // Bytes that end too early say nothing about what follows them.
        return (decoder.last_error() == DecoderError::InvalidInstruction).then(|| Decoded {
            text: hex(bytes),
            kind: Kind::Invalid,
            length: 0,
            operands: Vec::new(),
            features: Vec::new(),
        });
    }
    let operands = operands(view, &instruction);
    Some(Decoded {
        text: text(&instruction),
        kind: kind(view, &instruction, &operands),
        length: u64::try_from(instruction.len()).unwrap_or(0),
        operands,
        features: features(&instruction),
    })
}

fn hex(bytes: &[u8]) -> String {
    let words: Vec<String> = bytes.iter().take(8).map(|b| format!("{b:02x}")).collect();
    words.join(" ")
}

fn text(instruction: &Instruction) -> String {
    let mut formatter = IntelFormatter::new();
    let options = formatter.options_mut();
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    options.set_space_after_operand_separator(true);
    options.set_branch_leading_zeros(false);
    options.set_displacement_leading_zeros(false);
    options.set_small_hex_numbers_in_decimal(false);
    let mut out = String::new();
    formatter.format(instruction, &mut out);
    out
}

/// A register's value in the context frame; segment registers give the base of their segment.
fn value(view: &View<'_>, register: Register) -> Option<u64> {
    match register {
        Register::FS => return view.register("fs_base"),
        Register::GS => return view.register("gs_base"),
        // Flat in every system's user mode.
        Register::ES | Register::CS | Register::SS | Register::DS => return Some(0),
        _ => {}
    }
    let full = name(view, register);
    let whole = view.register(&full)?;
    Some(match register {
        Register::AH | Register::BH | Register::CH | Register::DH => (whole >> 8) & 0xff,
        _ => match register.size() {
            1 => whole & 0xff,
            2 => whole & 0xffff,
            4 => whole & 0xffff_ffff,
            8 => whole,
            _ => return None,
        },
    })
}

/// The name under which the snapshot files a register.
fn name(view: &View<'_>, register: Register) -> String {
    let full = match view.arch {
        crate::view::Arch::X86 => register.full_register32(),
        _ => register.full_register(),
    };
    format!("{full:?}").to_ascii_lowercase()
}

fn operands(view: &View<'_>, instruction: &Instruction) -> Vec<Operand> {
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(instruction);
    let mut found: Vec<Operand> = Vec::new();
    for memory in info.used_memory() {
        let Some(access) = access(memory.access()) else { continue };
        found.push(operand(view, instruction, memory, access));
    }
    // What the program wrote comes before what the instruction does to the stack by itself.
    found.sort_by_key(|o| o.stack && instruction.is_stack_instruction());
    found
}

/// The direction in which the memory system sees the access: a store that first loads is checked as a store.
fn access(access: OpAccess) -> Option<Access> {
    match access {
        OpAccess::Read | OpAccess::CondRead => Some(Access::Read),
        OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite => Some(Access::Write),
        OpAccess::None | OpAccess::NoMemAccess => None,
    }
}

fn operand(view: &View<'_>, instruction: &Instruction, memory: &UsedMemory, access: Access) -> Operand {
    let held = |register: Register| {
        (register != Register::None).then(|| Held { name: name(view, register), value: value(view, register) })
    };
    let size = u64::try_from(memory.memory_size().size()).unwrap_or(0);
    let vector_index = memory.index().is_vector_register();
    let address = if vector_index { None } else { memory.virtual_address(0, |register, _, _| value(view, register)) };
    Operand {
        address: address.map(|a| if view.arch == crate::view::Arch::X86 { a & 0xffff_ffff } else { a }),
        access,
        size,
        base: held(memory.base()),
        index: held(memory.index()),
        displacement: memory.displacement().cast_signed(),
        thread_local: matches!(memory.segment(), Register::FS | Register::GS),
        stack: matches!(memory.base(), Register::RSP | Register::ESP | Register::SP),
        alignment: if must_be_aligned(instruction, size) { size } else { 1 },
    }
}

fn must_be_aligned(instruction: &Instruction, size: u64) -> bool {
    let aligned_move = matches!(
        instruction.mnemonic(),
        Mnemonic::Vmovaps
            | Mnemonic::Vmovapd
            | Mnemonic::Vmovdqa
            | Mnemonic::Vmovdqa32
            | Mnemonic::Vmovdqa64
            | Mnemonic::Vmovntps
            | Mnemonic::Vmovntpd
            | Mnemonic::Vmovntdq
            | Mnemonic::Vmovntdqa
    );
    match instruction.encoding() {
        EncodingKind::VEX | EncodingKind::EVEX => aligned_move && size >= 16,
        EncodingKind::Legacy if matches!(instruction.mnemonic(), Mnemonic::Cmpxchg16b) => size == 16,
        EncodingKind::Legacy => {
            let unaligned = matches!(
                instruction.mnemonic(),
                Mnemonic::Movups
                    | Mnemonic::Movupd
                    | Mnemonic::Movdqu
                    | Mnemonic::Lddqu
                    | Mnemonic::Pcmpestri
                    | Mnemonic::Pcmpestrm
                    | Mnemonic::Pcmpistri
                    | Mnemonic::Pcmpistrm
                    | Mnemonic::Maskmovdqu
            );
            let vector = (0..instruction.op_count()).any(|n| instruction.op_register(n).is_xmm());
            size == 16 && vector && !unaligned
        }
        _ => false,
    }
}

fn kind(view: &View<'_>, instruction: &Instruction, operands: &[Operand]) -> Kind {
    match instruction.mnemonic() {
        Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Ud2 | Mnemonic::Int3 | Mnemonic::Int1 => return Kind::Trap,
        Mnemonic::Div | Mnemonic::Idiv => return divide(view, instruction, operands),
        _ => {}
    }
    if instruction.is_privileged() {
        return Kind::Privileged;
    }
    match instruction.flow_control() {
        FlowControl::IndirectBranch | FlowControl::IndirectCall => {
            let target = match instruction.op0_kind() {
                OpKind::Register => value(view, instruction.op0_register()),
                OpKind::Memory => {
                    operands.iter().find(|o| o.access == Access::Read).and_then(|o| view.number(o.address?, o.size))
                }
                _ => None,
            };
            Kind::Branch { target, returns: false }
        }
        FlowControl::Return => {
            let target = operands.first().and_then(|o| view.number(o.address?, view.arch.pointer_size()));
            Kind::Branch { target, returns: true }
        }
        _ => Kind::Other,
    }
}

fn divide(view: &View<'_>, instruction: &Instruction, operands: &[Operand]) -> Kind {
    let signed = instruction.mnemonic() == Mnemonic::Idiv;
    if instruction.op0_kind() == OpKind::Register {
        let register = instruction.op0_register();
        let width = u64::try_from(register.size()).unwrap_or(0);
        return Kind::Divide { divisor: value(view, register), signed, width };
    }
    let memory = operands.first();
    let width = memory.map_or(0, |o| o.size);
    Kind::Divide { divisor: memory.and_then(|o| view.number(o.address?, o.size)), signed, width }
}

/// Features that not every x86-64 processor has.
fn features(instruction: &Instruction) -> Vec<String> {
    instruction
        .cpuid_features()
        .iter()
        .map(|feature| format!("{feature:?}"))
        .filter(|name| !name.starts_with("INTEL") && !matches!(name.as_str(), "X64" | "CMOV" | "SSE" | "SSE2" | "FPU"))
        .collect()
}
