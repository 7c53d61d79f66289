//! AArch64: loads, stores, branches to registers and breakpoints, by their encodings.
//!
//! Source: Arm Architecture Reference Manual for A-profile (DDI 0487), C4.1 "A64 instruction set encoding". What is not
//! listed here decodes to nothing, and the classifiers then go by the signal alone.

use super::{Access, Decoded, Held, Kind, Operand};
use crate::view::View;

pub(super) fn decode(view: &View<'_>, pc: u64) -> Option<Decoded> {
    // Instructions are little-endian whatever the data is.
    let bytes: [u8; 4] = view.bytes(pc, 4).try_into().ok()?;
    let word = u32::from_le_bytes(bytes);
    special(view, word).or_else(|| memory(view, word, pc))
}

/// Bits `low..low+count` of the word.
const fn field(word: u32, low: u32, count: u32) -> u32 {
    (word >> low) & !(u32::MAX << count)
}

fn simple(text: String, kind: Kind) -> Decoded {
    Decoded { text, kind, length: 4, operands: Vec::new(), features: Vec::new() }
}

fn special(view: &View<'_>, word: u32) -> Option<Decoded> {
    if word & 0xffe0_001f == 0xd420_0000 {
        return Some(simple(format!("brk #{:#x}", field(word, 5, 16)), Kind::Trap));
    }
    if word & 0xffff_0000 == 0 {
        return Some(simple(format!("udf #{:#x}", field(word, 0, 16)), Kind::Trap));
    }
    if word & 0xff9f_fc1f == 0xd61f_0000 && field(word, 21, 2) != 3 {
        let register = field(word, 5, 5);
        let word = match field(word, 21, 2) {
            0 => "br",
            1 => "blr",
            _ => "ret",
        };
        let held = register_or_zero(view, register);
        let text = format!("{word} {}", held.name);
        return Some(simple(text, Kind::Branch { target: held.value, returns: word == "ret" }));
    }
    None
}

/// Register 31 is the stack pointer when it addresses memory.
fn register_or_sp(view: &View<'_>, number: u32) -> Held {
    let name = if number == 31 { "sp".to_owned() } else { format!("x{number}") };
    Held { value: view.register(&name), name }
}

/// Register 31 is zero otherwise.
fn register_or_zero(view: &View<'_>, number: u32) -> Held {
    if number == 31 {
        return Held { name: "xzr".to_owned(), value: Some(0) };
    }
    register_or_sp(view, number)
}

/// Sign-extends the low `bits` of `value`.
const fn signed(value: u32, bits: u32) -> i64 {
    let shift = 32_u32.saturating_sub(bits);
    let moved = (value << shift).cast_signed() >> shift;
    // Lossless: i32 to i64 has no const From.
    #[allow(clippy::as_conversions, reason = "widening in a const fn")]
    {
        moved as i64
    }
}

/// What of an access is common to all addressing modes.
struct Shape {
    mnemonic: &'static str,
    access: Access,
    /// Bytes of the whole access.
    size: u64,
    /// What is loaded or stored, as written.
    data: String,
}

fn memory(view: &View<'_>, word: u32, pc: u64) -> Option<Decoded> {
    // op0 of the top level: bit 27 set and bit 25 clear are loads and stores.
    if word & 0x0a00_0000 != 0x0800_0000 {
        return None;
    }
    match (field(word, 28, 2), field(word, 23, 2)) {
        (1, _) if field(word, 24, 1) == 0 => literal(word, pc),
        (2, mode) => pair(view, word, mode),
        (3, mode) => single(view, word, mode),
        (0, mode) if word & 0x3f00_0000 == 0x0800_0000 => exclusive(view, word, mode),
        _ => None,
    }
}

fn data_register(vector: bool, size: u64, number: u32) -> String {
    let prefix = match (vector, size) {
        (true, 1) => "b",
        (true, 2) => "h",
        (true, 4) => "s",
        (true, 8) => "d",
        (true, _) => "q",
        (false, 8) => "x",
        (false, _) => "w",
    };
    match (vector, number) {
        (false, 31) => format!("{prefix}zr"),
        _ => format!("{prefix}{number}"),
    }
}

fn finish(view: &View<'_>, shape: Shape, base: u32, offset: i64, mode: &str) -> Decoded {
    let base = register_or_sp(view, base);
    let (address, place) = match mode {
        "post" => (base.value, format!("[{}], #{offset}", base.name)),
        "pre" => (base.value.map(|b| b.wrapping_add_signed(offset)), format!("[{}, #{offset}]!", base.name)),
        _ if offset == 0 => (base.value, format!("[{}]", base.name)),
        _ => (base.value.map(|b| b.wrapping_add_signed(offset)), format!("[{}, #{offset}]", base.name)),
    };
    let displacement = if mode == "post" { 0 } else { offset };
    built(shape, base, None, displacement, address, &place)
}

fn built(
    shape: Shape,
    base: Held,
    index: Option<Held>,
    displacement: i64,
    address: Option<u64>,
    place: &str,
) -> Decoded {
    let stack = base.name == "sp";
    Decoded {
        text: format!("{} {}, {place}", shape.mnemonic, shape.data),
        kind: Kind::Other,
        length: 4,
        operands: vec![Operand {
            address,
            access: shape.access,
            size: shape.size,
            base: Some(base),
            index,
            displacement,
            thread_local: false,
            stack,
            alignment: 1,
        }],
        features: Vec::new(),
    }
}

/// LDR (literal).
fn literal(word: u32, pc: u64) -> Option<Decoded> {
    let vector = field(word, 26, 1) == 1;
    let (mnemonic, size, width) = match (field(word, 30, 2), vector) {
        (0, _) => ("ldr", 4, 4),
        (1, _) => ("ldr", 8, 8),
        (2, false) => ("ldrsw", 4, 8),
        (2, true) => ("ldr", 16, 16),
        // PRFM does not fault.
        _ => return None,
    };
    let offset = signed(field(word, 5, 19), 19).wrapping_mul(4);
    let address = pc.wrapping_add_signed(offset);
    Some(Decoded {
        text: format!("{mnemonic} {}, {address:#x}", data_register(vector, width, field(word, 0, 5))),
        kind: Kind::Other,
        length: 4,
        operands: vec![Operand {
            address: Some(address),
            access: Access::Read,
            size,
            base: None,
            index: None,
            displacement: offset,
            thread_local: false,
            stack: false,
            alignment: 1,
        }],
        features: Vec::new(),
    })
}

/// LDP, STP and their non-temporal forms.
fn pair(view: &View<'_>, word: u32, mode: u32) -> Option<Decoded> {
    let vector = field(word, 26, 1) == 1;
    let load = field(word, 22, 1) == 1;
    let (each, width, signed_word) = match (field(word, 30, 2), vector) {
        (0, _) => (4_u64, 4, false),
        (1, true) => (8, 8, false),
        (1, false) if load && mode != 0 => (4, 8, true),
        (2, false) => (8, 8, false),
        (2, true) => (16, 16, false),
        _ => return None,
    };
    let mnemonic = match (load, mode, signed_word) {
        (true, _, true) => "ldpsw",
        (true, 0, _) => "ldnp",
        (false, 0, _) => "stnp",
        (true, ..) => "ldp",
        (false, ..) => "stp",
    };
    let scale = i64::try_from(each).unwrap_or(0);
    let offset = signed(field(word, 15, 7), 7).wrapping_mul(scale);
    let first = data_register(vector, width, field(word, 0, 5));
    let second = data_register(vector, width, field(word, 10, 5));
    let shape = Shape {
        mnemonic,
        access: if load { Access::Read } else { Access::Write },
        size: each.saturating_mul(2),
        data: format!("{first}, {second}"),
    };
    let mode = match mode {
        1 => "post",
        3 => "pre",
        _ => "offset",
    };
    Some(finish(view, shape, field(word, 5, 5), offset, mode))
}

/// The mnemonic, direction and widths of a single-register access; `None` for prefetches and reserved encodings.
fn single_shape(word: u32, unscaled: bool, unprivileged: bool) -> Option<(Shape, u32)> {
    let vector = field(word, 26, 1) == 1;
    let size = field(word, 30, 2);
    let operation = field(word, 22, 2);
    let target = field(word, 0, 5);
    if vector {
        let scale = if operation & 2 == 2 { (size == 0).then_some(4)? } else { size };
        let bytes = 1_u64.checked_shl(scale)?;
        let load = operation & 1 == 1;
        let mnemonic = match (load, unscaled) {
            (true, false) => "ldr",
            (true, true) => "ldur",
            (false, false) => "str",
            (false, true) => "stur",
        };
        let access = if load { Access::Read } else { Access::Write };
        return Some((Shape { mnemonic, access, size: bytes, data: data_register(true, bytes, target) }, scale));
    }
    let bytes = 1_u64.checked_shl(size)?;
    let names: [&'static str; 3] = match (size, operation) {
        (0, 0) => ["strb", "sturb", "sttrb"],
        (0, 1) => ["ldrb", "ldurb", "ldtrb"],
        (1, 0) => ["strh", "sturh", "sttrh"],
        (1, 1) => ["ldrh", "ldurh", "ldtrh"],
        (2 | 3, 0) => ["str", "stur", "sttr"],
        (2 | 3, 1) => ["ldr", "ldur", "ldtr"],
        (0, 2 | 3) => ["ldrsb", "ldursb", "ldtrsb"],
        (1, 2 | 3) => ["ldrsh", "ldursh", "ldtrsh"],
        (2, 2) => ["ldrsw", "ldursw", "ldtrsw"],
        _ => return None,
    };
    let [plain, unscaled_name, unprivileged_name] = names;
    let mnemonic = if unprivileged {
        unprivileged_name
    } else if unscaled {
        unscaled_name
    } else {
        plain
    };
    let wide = size == 3 || operation == 2;
    let access = if operation == 0 { Access::Write } else { Access::Read };
    let data = data_register(false, if wide { 8 } else { 4 }, target);
    Some((Shape { mnemonic, access, size: bytes, data }, size))
}

/// LDR, STR and their narrow forms: unsigned offset, unscaled, pre- and post-indexed, register offset.
fn single(view: &View<'_>, word: u32, mode: u32) -> Option<Decoded> {
    let base = field(word, 5, 5);
    if mode & 2 == 2 {
        let (shape, scale) = single_shape(word, false, false)?;
        let offset = u64::from(field(word, 10, 12)).checked_shl(scale)?;
        return Some(finish(view, shape, base, i64::try_from(offset).ok()?, "offset"));
    }
    if field(word, 21, 1) == 1 {
        return if field(word, 10, 2) == 2 { register_offset(view, word) } else { None };
    }
    let offset = signed(field(word, 12, 9), 9);
    let kind = field(word, 10, 2);
    let (shape, _) = single_shape(word, kind == 0, kind == 2)?;
    let mode = match kind {
        1 => "post",
        3 => "pre",
        // There are no unprivileged vector accesses.
        2 if field(word, 26, 1) == 1 => return None,
        _ => "offset",
    };
    Some(finish(view, shape, base, offset, mode))
}

fn register_offset(view: &View<'_>, word: u32) -> Option<Decoded> {
    let (shape, scale) = single_shape(word, false, false)?;
    let base = register_or_sp(view, field(word, 5, 5));
    let number = field(word, 16, 5);
    let shift = if field(word, 12, 1) == 1 { scale } else { 0 };
    let index = register_or_zero(view, number);
    let (narrow, extend) = match field(word, 13, 3) {
        2 => (true, "uxtw"),
        3 => (false, "lsl"),
        6 => (true, "sxtw"),
        7 => (false, "sxtx"),
        _ => return None,
    };
    let extended = index.value.map(|value| match extend {
        "uxtw" => value & 0xffff_ffff,
        "sxtw" => ((value << 32).cast_signed() >> 32).cast_unsigned(),
        _ => value,
    });
    let address = match (base.value, extended) {
        (Some(b), Some(i)) => i.checked_shl(shift).map(|i| b.wrapping_add(i)),
        _ => None,
    };
    let shown = if narrow { index.name.replacen('x', "w", 1) } else { index.name.clone() };
    let place = match (extend, field(word, 12, 1)) {
        ("lsl", 0) => format!("[{}, {shown}]", base.name),
        (_, 0) => format!("[{}, {shown}, {extend}]", base.name),
        _ => format!("[{}, {shown}, {extend} #{shift}]", base.name),
    };
    let index = Held { name: index.name, value: extended };
    Some(built(shape, base, Some(index), 0, address, &place))
}

/// LDXR, STXR, LDAR, STLR and their kin; compare-and-swap is left undecoded.
fn exclusive(view: &View<'_>, word: u32, mode: u32) -> Option<Decoded> {
    let size = field(word, 30, 2);
    let load = field(word, 22, 1) == 1;
    let ordered = mode & 1 == 1;
    // o1 distinguishes pairs and compare-and-swap.
    if field(word, 21, 1) == 1 {
        return None;
    }
    let bytes = 1_u64.checked_shl(size)?;
    let release = field(word, 15, 1) == 1;
    let mnemonic = match (ordered, load, release) {
        (false, true, false) => "ldxr",
        (false, true, true) => "ldaxr",
        (false, false, false) => "stxr",
        (false, false, true) => "stlxr",
        (true, true, true) => "ldar",
        (true, false, true) => "stlr",
        (true, true, false) => "ldlar",
        (true, false, false) => "stllr",
    };
    let mnemonic = match (mnemonic, size) {
        ("ldxr", 0) => "ldxrb",
        ("ldxr", 1) => "ldxrh",
        ("ldaxr", 0) => "ldaxrb",
        ("ldaxr", 1) => "ldaxrh",
        ("stxr", 0) => "stxrb",
        ("stxr", 1) => "stxrh",
        ("stlxr", 0) => "stlxrb",
        ("stlxr", 1) => "stlxrh",
        ("ldar", 0) => "ldarb",
        ("ldar", 1) => "ldarh",
        ("stlr", 0) => "stlrb",
        ("stlr", 1) => "stlrh",
        ("ldlar", 0) => "ldlarb",
        ("ldlar", 1) => "ldlarh",
        ("stllr", 0) => "stllrb",
        ("stllr", 1) => "stllrh",
        (plain, _) => plain,
    };
    let target = data_register(false, bytes, field(word, 0, 5));
    let data = match (ordered, load) {
        (false, false) => format!("{}, {target}", data_register(false, 4, field(word, 16, 5))),
        _ => target,
    };
    let access = if load { Access::Read } else { Access::Write };
    let mut decoded = finish(view, Shape { mnemonic, access, size: bytes, data }, field(word, 5, 5), 0, "offset");
    for operand in &mut decoded.operands {
        operand.alignment = bytes;
    }
    Some(decoded)
}
