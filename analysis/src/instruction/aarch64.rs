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

#[cfg(test)]
mod tests {
    use super::*;
    use snapshot_format::Snapshot;
    use snapshot_format::schema::{MemoryExtent, RegisterValue, Thread};
    use std::process::Command;

    fn snapshot(words: &[u32]) -> Snapshot {
        let mut s = Snapshot::default();
        s.identity.arch = "aarch64".into();
        s.threads = vec![Thread { id: 1, faulting: true, ..Thread::default() }];
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        s.memory = vec![MemoryExtent { address: 0, length: bytes.len() as u64, bytes, ..MemoryExtent::default() }];
        let register = |name: String, value| RegisterValue { thread: 1, frame: 0, name, value };
        s.registers = (0..31).map(|n| register(format!("x{n}"), 0x1_0000 * (n + 1))).collect();
        s.registers.push(register("sp".into(), 0xffff_0000));
        s
    }

    fn check(word: u32, text: &str, address: Option<u64>, access: Access, size: u64) {
        let s = snapshot(&[word]);
        let view = View::new(&s);
        let decoded = decode(&view, 0).unwrap_or_else(|| panic!("{text} is not decoded"));
        assert_eq!(decoded.text, text);
        let operand = &decoded.operands[0];
        assert_eq!((operand.address, operand.access, operand.size), (address, access, size), "{text}");
    }

    #[test]
    fn addresses_are_computed_from_registers() {
        check(0xf940_1400, "ldr x0, [x0, #40]", Some(0x1_0028), Access::Read, 8);
        check(0xb900_0041, "str w1, [x2]", Some(0x3_0000), Access::Write, 4);
        check(0xa9be_7bfd, "stp x29, x30, [sp, #-32]!", Some(0xfffe_ffe0), Access::Write, 16);
        check(0xa8c2_7bfd, "ldp x29, x30, [sp], #32", Some(0xffff_0000), Access::Read, 16);
        check(0xf862_7820, "ldr x0, [x1, x2, lsl #3]", Some(0x2_0000 + 8 * 0x3_0000), Access::Read, 8);
        check(0x3862_6820, "ldrb w0, [x1, x2]", Some(0x5_0000), Access::Read, 1);
        check(0x3dc0_0420, "ldr q0, [x1, #16]", Some(0x2_0010), Access::Read, 16);
        check(0xc85f_7c41, "ldxr x1, [x2]", Some(0x3_0000), Access::Read, 8);
        check(0xf85f_8020, "ldur x0, [x1, #-8]", Some(0x1_fff8), Access::Read, 8);
    }

    #[test]
    fn branches_and_traps_are_known() {
        let s = snapshot(&[0xd63f_0020, 0xd65f_03c0, 0xd420_0020, 0x0000_0000]);
        let view = View::new(&s);
        let kinds: Vec<Kind> = [0, 4, 8, 12].iter().map(|pc| decode(&view, *pc).unwrap().kind).collect();
        assert_eq!(kinds[0], Kind::Branch { target: Some(0x2_0000), returns: false });
        assert_eq!(kinds[1], Kind::Branch { target: Some(0x1f_0000), returns: true });
        assert_eq!((&kinds[2], &kinds[3]), (&Kind::Trap, &Kind::Trap));
    }

    /// What LLVM calls otherwise: plain spellings of aliases, numbers and brackets.
    fn plain(text: &str) -> String {
        let text = text.split("//").next().unwrap_or("").split(" <").next().unwrap_or("").trim().replace('\t', " ");
        text.split_whitespace().collect::<Vec<_>>().join(" ").replace(", #0]", "]").replace(" ret x30", " ret")
    }

    /// Numbers in one spelling, so that `#0x28` and `#40` are equal.
    fn decimal(text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((head, tail)) = rest.split_once("0x") {
            out.push_str(head);
            let end = tail.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(tail.len());
            out.push_str(&u64::from_str_radix(&tail[..end], 16).map_or("?".into(), |n| n.to_string()));
            rest = &tail[end..];
        }
        out.push_str(rest);
        out
    }

    /// Whatever is decoded here must read as LLVM reads it.
    #[test]
    fn llvm_reads_the_same() {
        let mut seed = 0x9e37_79b9_u32;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 17;
            seed ^= seed << 5;
            seed
        };
        let words: Vec<u32> = (0..40_000).map(|_| (random() & !0x0200_0000) | 0x0800_0000).collect();
        let folder = tempfile::tempdir().unwrap();
        let (source, object) = (folder.path().join("a.s"), folder.path().join("a.o"));
        let lines: String = words.iter().map(|w| format!(".inst {w:#x}\n")).collect();
        std::fs::write(&source, lines).unwrap();
        let run = |names: [&str; 2], arguments: &[&std::ffi::OsStr]| {
            names.iter().find_map(|n| Command::new(n).args(arguments).output().ok())
        };
        let arguments = ["-triple=aarch64", "-mattr=+v8.2a", "-filetype=obj", "-o"].map(std::ffi::OsStr::new);
        let arguments = [&arguments[..], &[object.as_os_str(), source.as_os_str()]].concat();
        if run(["llvm-mc", "llvm-mc-14"], &arguments).is_none_or(|o| !o.status.success()) {
            println!("skipped: no llvm-mc");
            return;
        }
        let arguments = ["-d", "--no-show-raw-insn", "--mattr=+v8.2a"].map(std::ffi::OsStr::new);
        let arguments = [&arguments[..], &[object.as_os_str()]].concat();
        let Some(output) = run(["llvm-objdump", "llvm-objdump-14"], &arguments) else {
            println!("skipped: no llvm-objdump");
            return;
        };
        let s = snapshot(&words);
        let view = View::new(&s);
        let (mut compared, mut missed, mut wrong) = (0, 0, Vec::new());
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let Some((address, text)) = line.trim().split_once(':') else { continue };
            let Ok(pc) = u64::from_str_radix(address.trim(), 16) else { continue };
            let theirs = decimal(&plain(text));
            match decode(&view, pc) {
                Some(ours) => {
                    compared += 1;
                    let ours = decimal(&plain(&ours.text));
                    if ours != theirs && wrong.len() < 40 {
                        wrong.push(format!("{:#010x}: {ours:?}, LLVM says {theirs:?}", words[(pc / 4) as usize]));
                    }
                }
                None if theirs.starts_with("ld") || theirs.starts_with("st") => missed += 1,
                None => {}
            }
        }
        println!("{compared} compared, {missed} loads and stores left undecoded");
        assert!(wrong.is_empty(), "{compared} compared:\n{}", wrong.join("\n"));
        assert!(compared > 8_000, "{compared}");
    }
}
