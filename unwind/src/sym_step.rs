//! One step outwards by the rules of a Breakpad symbol file: `STACK WIN` of 32-bit Windows code, `STACK CFI` of all
//! other.

use crate::cfi_step::Caller;
use crate::code::{ReturnTo, judge};
use crate::walk::Walker;
use crate::{Frame, abi};
use debuginfo::sym_file::{Recovered, StackWin, SymFile};
use evidence::{Addr, Arch, Register, Registers};

/// Words above the expected place in which the return address of a frame without frame pointer is looked for. Records
/// do not count what a function has pushed for calls that it is about to make; a leaf that was interrupted may have
/// anything there.
const LIMIT_SEARCH: u64 = 40;
const LIMIT_SEARCH_INNERMOST: u64 = 160;

/// The caller of `frame` by its symbol file; `None` when that says nothing about the code. `inner` is the frame that
/// `frame` called.
pub(crate) fn step(frame: &Frame, inner: Option<&Frame>, walker: &Walker<'_, '_>) -> Option<Result<Caller, String>> {
    let (file, at) = symbols(frame, walker)?;
    if walker.arch == Arch::X86
        && let Some(record) = file.stack_win_at(at)
    {
        return Some(by_record(&record, frame, inner, walker));
    }
    let rules = file.cfi_at(at)?;
    let found = rules.evaluate(&frame.registers, walker.memory, walker.endian);
    Some(found.map(|recovered| caller(&recovered, frame, walker, |r| abi::is_preserved(walker.arch, r))))
}

/// The symbol file of the code that a frame is in, and the address by which the file knows it.
fn symbols<'m>(frame: &Frame, walker: &Walker<'_, 'm>) -> Option<(&'m SymFile, u64)> {
    let at = frame.lookup();
    let (index, module) = walker.info.modules().find(at)?;
    Some((walker.info.sym_file(index)?, module.to_relative(module.to_svma(at))))
}

/// Bytes of parameters that the function of a frame was handed on the stack.
fn parameters(frame: &Frame, walker: &Walker<'_, '_>) -> Option<u64> {
    let (file, at) = symbols(frame, walker)?;
    file.stack_win_at(at)
        .map(|record| record.parameters)
        .or_else(|| file.function_at(at).map(|f| f.parameters))
        .or_else(|| file.public_at(at).map(|p| p.parameters))
}

fn by_record(
    record: &StackWin,
    frame: &Frame,
    inner: Option<&Frame>,
    walker: &Walker<'_, '_>,
) -> Result<Caller, String> {
    let esp = frame.registers.sp().ok_or("the stack pointer is not known")?.0;
    let pushed = inner.and_then(|f| parameters(f, walker)).unwrap_or(0);
    let expected = record.return_address_expected_at(esp, pushed);
    let reach = if inner.is_none() { LIMIT_SEARCH_INNERMOST } else { LIMIT_SEARCH };
    let plausible = |at: &u64| {
        let word = walker.read_pointer(Addr(*at)).ok();
        word.is_some_and(|w| w != 0 && is_code(Addr(w), walker))
    };
    let slots = (0..reach).map(|n| expected.wrapping_add(n.wrapping_mul(4)));
    let start = slots.take_while(|at| *at >= expected).find(plausible).unwrap_or(expected);
    let found = record.evaluate(&frame.registers, pushed, start, walker.memory)?;
    if let Some(to) = found.return_address.filter(|to| to.0 != 0 && !is_code(*to, walker)) {
        return Err(format!("its STACK WIN record leads to {to}, where no code is"));
    }
    // A program names every register that it saves; one that does not name ebp leaves it alone.
    let kept = |r: Register| r.0 == 5 || abi::is_thread_state(Arch::X86, r);
    Ok(caller(&found, frame, walker, kept))
}

fn is_code(at: Addr, walker: &Walker<'_, '_>) -> bool {
    judge(at, walker.arch, walker.memory, walker.info.modules()) != ReturnTo::No
}

fn caller(recovered: &Recovered, frame: &Frame, walker: &Walker<'_, '_>, kept: impl Fn(Register) -> bool) -> Caller {
    let registers = &frame.registers;
    let arch = registers.arch;
    let mut outer = Registers::new(arch);
    for (register, value) in registers.iter().filter(|(r, _)| kept(*r)) {
        outer.set(register, value);
    }
    outer.set(Registers::sp_register(arch), recovered.cfa.0);
    for (register, value) in &recovered.registers {
        match value {
            Ok(value) => outer.set(*register, abi::wrap(arch, *value)),
            Err(_) => outer.forget(*register),
        }
    }
    let return_address = recovered.return_address.map(|at| abi::return_address(arch, at, walker.address_mask));
    if let Some(at) = return_address {
        outer.set(Registers::pc_register(arch), at.0);
    }
    Caller { registers: outer, cfa: recovered.cfa, return_address }
}
