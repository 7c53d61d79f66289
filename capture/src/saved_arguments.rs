//! Arguments that functions of illumos kernels and programs save on their stacks when they are entered.
//!
//! What illumos builds for amd64 is compiled with `-msave-args`: the first six integer arguments are stored right below the frame
//! pointer, where nothing changes them afterwards. Source: usr/src/lib/libsaveargs/amd64/saveargs.c of illumos-gate (the
//! patterns). The instructions are looked for in the function's code as it is in the dump; a value counts when its
//! instruction was executed, and stands before anything that is not known from such prologues.

use debuginfo::DebugInfo;
use evidence::bytes::{Endian, u32_at};
use evidence::{Addr, Arch, Memory, Svma, ToU64, ToUsize};
use snapshot_format::schema::{Value, Variable, VariableKind};
use unwind::{Frame, Stack, Trust};

/// Bytes of a function's start that are looked at: two stores of the frame pointer and of six arguments have 40, the
/// registers that are saved between them some more.
const LIMIT_PROLOGUE: u64 = 96;
/// The registers of arguments, in their order.
const REGISTERS: [&str; 6] = ["rdi", "rsi", "rdx", "rcx", "r8", "r9"];
/// `mov %rdi,-0x8(%rbp)` and so on, and `push %rdi` and so on.
const STORES: [u32; 6] = [0xf87d_8948, 0xf075_8948, 0xe855_8948, 0xe04d_8948, 0xd845_894c, 0xd04d_894c];
const PUSHES: [&[u8]; 6] = [&[0x57], &[0x56], &[0x52], &[0x51], &[0x41, 0x50], &[0x41, 0x51]];

/// The arguments of one frame.
pub(crate) struct Saved {
    /// Its index.
    pub(crate) frame: usize,
    /// The function: its module, and where it starts.
    pub(crate) function: (usize, Svma),
    /// Where each argument was saved, and its value.
    pub(crate) list: Vec<(Addr, u64)>,
}

/// The saved arguments of all frames of a stack that have some.
pub(crate) fn of(stack: &Stack, memory: &dyn Memory, info: &DebugInfo<'_>) -> Vec<Saved> {
    let frames = stack.frames.iter().enumerate();
    let found = frames.filter_map(|(n, f)| arguments(n, f, memory, info));
    found.filter(|saved| !saved.list.is_empty()).collect()
}

fn arguments(n: usize, frame: &Frame, memory: &dyn Memory, info: &DebugInfo<'_>) -> Option<Saved> {
    let sure = frame.registers.arch == Arch::X86_64 && !frame.suspect && frame.trust != Trust::Scan;
    let fp = frame.registers.fp().filter(|_| sure && !left(frame, memory))?;
    let (index, module) = info.modules().find(frame.lookup())?;
    let symbol = info.symbols(index)?.at(module.to_svma(frame.lookup()))?;
    let start = module.to_addr(symbol.start);
    // Only what was executed: a return address is behind its call.
    let length = frame.pc.offset_from(start)?.min(LIMIT_PROLOGUE);
    let mut code = vec![0; length.to_usize()];
    let (got, _) = memory.read(start, &mut code);
    code.truncate(got);
    let place = |n: usize| fp.0.checked_sub(n.to_u64().checked_add(1)?.checked_mul(8)?).map(Addr);
    let value = |at: Addr| Some((at, memory.read_u64(at, Endian::Little).ok()?));
    let list = (0..saved(&code)).map_while(|n| value(place(n)?)).collect();
    Some(Saved { frame: n, function: (index, symbol.start), list })
}

/// Whether a frame that was interrupted is left already: the frame pointer before a `ret` is the caller's.
fn left(frame: &Frame, memory: &dyn Memory) -> bool {
    let mut code = [0; 2];
    let (got, _) = memory.read(frame.pc, &mut code);
    !frame.is_return_address && got > 0 && matches!(code, [0xc2 | 0xc3, _] | [0xf3, 0xc3])
}

/// How many arguments a prologue saves.
fn saved(code: &[u8]) -> usize {
    let Some(mut rest) = code.strip_prefix(&[0x55]) else { return 0 };
    let Some(behind) = [[0x48, 0x89, 0xe5], [0x48, 0x8b, 0xec]].iter().find_map(|mov| rest.strip_prefix(mov)) else {
        return 0;
    };
    rest = behind;
    let mut pushed = 0;
    while let Some(behind) = PUSHES.get(pushed).and_then(|push| rest.strip_prefix(*push)) {
        pushed = pushed.saturating_add(1);
        rest = behind;
    }
    if pushed > 0 {
        return pushed;
    }
    // Stores come in either order, and other parts of a prologue between them.
    let mut stored = [false; 6];
    loop {
        let store = u32_at(rest, 0, Endian::Little).and_then(|word| STORES.iter().position(|s| *s == word));
        let length = match store.and_then(|n| stored.get_mut(n)) {
            Some(place) => {
                *place = true;
                4
            }
            None => match harmless(rest) {
                Some(length) => length,
                None => break,
            },
        };
        let Some(behind) = rest.get(length..) else { break };
        rest = behind;
    }
    let first = stored.iter().take_while(|s| **s).count();
    // A later one without those before it is no argument of this convention.
    if stored.iter().skip(first).any(|s| *s) { 0 } else { first }
}

/// The length of an instruction that prologues have between the stores: room is made on the stack, registers that the
/// caller needs are pushed, registers are copied or cleared.
fn harmless(code: &[u8]) -> Option<usize> {
    let registers = |byte: Option<&u8>| byte.is_some_and(|b| b >> 6 == 3);
    Some(match code {
        [0x53, ..] => 1,
        [0x41, 0x54..=0x57, ..] => 2,
        [0x48, 0x83, 0xec | 0xe4, _, ..] => 4,
        [0x48, 0x81, 0xec, _, _, _, _, ..] => 7,
        // Not a copy to rsp or rbp.
        [0x48 | 0x4c, 0x89, modrm, ..] if registers(Some(modrm)) && !matches!(modrm & 7, 4 | 5) => 3,
        [0x49 | 0x4d | 0x41 | 0x44 | 0x45, 0x89 | 0x31, modrm, ..] if registers(Some(modrm)) => 3,
        [0x89 | 0x31, modrm, ..] if registers(Some(modrm)) && !matches!(modrm & 7, 4 | 5) => 2,
        _ => return None,
    })
}

/// A frame's saved arguments as rows.
pub(crate) fn rows(
    list: &[(Addr, u64)],
    thread: u64,
    frame: u32,
    share: &dyn Fn(&str) -> std::sync::Arc<str>,
) -> Vec<Variable> {
    let row = |(n, (at, value)): (usize, &(Addr, u64))| Variable {
        thread: Some(thread),
        frame: Some(frame),
        name: share(&format!("arg{}", n.saturating_add(1))),
        type_name: share(&format!("{} on entry, saved by the prologue", REGISTERS.get(n).unwrap_or(&"register"))),
        kind: VariableKind::Parameter,
        value: Value::Pointer(*value),
        address: Some(at.0),
        ..Variable::default()
    };
    list.iter().enumerate().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_kinds_of_prologues() {
        // push %rbp; mov %rsp,%rbp; sub $0x20,%rsp; rdi, rsi, rdx.
        let forward = [
            0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x20, 0x48, 0x89, 0x7d, 0xf8, 0x48, 0x89, 0x75, 0xf0, 0x48, 0x89,
            0x55, 0xe8, 0xe8,
        ];
        assert_eq!(saved(&forward), 3);
        // The last store was not executed yet, or only half of it is there.
        assert_eq!((saved(&forward[..16]), saved(&forward[..18]), saved(&forward[..4])), (2, 2, 0));
        // Backwards, with a callee's register and a copy between.
        let backward = [
            0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x30, 0x4c, 0x89, 0x4d, 0xd0, 0x4c, 0x89, 0x45, 0xd8, 0x48, 0x89,
            0x4d, 0xe0, 0x48, 0x89, 0x55, 0xe8, 0x53, 0x48, 0x89, 0xfb, 0x48, 0x89, 0x75, 0xf0, 0x48, 0x89, 0x7d, 0xf8,
        ];
        assert_eq!(saved(&backward), 6);
        assert_eq!(saved(&backward[..28]), 0);
        let pushes = [0x55, 0x48, 0x8b, 0xec, 0x57, 0x56, 0x52, 0x51, 0x41, 0x50, 0x41, 0x51, 0x90];
        assert_eq!(saved(&pushes), 6);
        assert_eq!((saved(&pushes[..6]), saved(&pushes[..9])), (2, 4));
    }

    #[test]
    fn other_prologues_save_nothing() {
        for code in [
            &[0x48, 0x83, 0xec, 0x20, 0x48, 0x89, 0x7d, 0xf8][..],
            // A structure's address in rdi: the arguments begin with rsi.
            &[0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x10, 0x48, 0x89, 0x75, 0xf8],
            // A call comes before the store.
            &[0x55, 0x48, 0x89, 0xe5, 0xe8, 1, 2, 3, 4, 0x48, 0x89, 0x7d, 0xf8],
            &[0x55, 0x48, 0x89, 0xe5, 0x56, 0x57],
            &[],
        ] {
            assert_eq!(saved(code), 0, "{code:x?}");
        }
    }
}
