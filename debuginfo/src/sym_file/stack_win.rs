//! `STACK WIN`: how 32-bit Windows code lays out its frames (`FPO_DATA` and the `FrameData` of program databases).

use super::cfi::{Recovered, number};
use super::postfix::{Machine, PostfixError};
use super::text::{Kind, kind};
use evidence::bytes::Endian;
use evidence::{Addr, Memory, Register, Registers};
use std::collections::BTreeMap;
use std::ops::Range;

/// Where the record came from, which says what its fields mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WinKind {
    /// `FRAME_FPO` (0): an `FPO_DATA` structure of the image.
    Fpo,
    /// 4: the `FrameData` of a program database, with a program.
    FrameData,
    /// Another: trap, TSS or standard frames.
    Other(u64),
}

/// One record. Sizes are bytes, addresses relative to the module's base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackWin {
    /// Where it came from.
    pub kind: WinKind,
    /// The code that it is about.
    pub range: Range<u64>,
    /// Size of the code that sets the frame up.
    pub prologue: u64,
    /// Size of the code that takes it down.
    pub epilogue: u64,
    /// Parameters that the caller pushed.
    pub parameters: u64,
    /// Saved registers.
    pub saved: u64,
    /// Local variables.
    pub locals: u64,
    /// Most that it pushes, when known.
    pub max_stack: u64,
    /// The program that recovers the caller's registers.
    pub program: Option<String>,
    /// Without a program: whether it uses ebp for itself, and saves the caller's.
    pub allocates_base_pointer: bool,
}

/// The record in a line.
pub(super) fn record(text: &[u8]) -> Option<StackWin> {
    let (Kind::StackWin, mut fields) = kind(text) else { return None };
    let kind = match fields.hex()? {
        0 => WinKind::Fpo,
        4 => WinKind::FrameData,
        other => WinKind::Other(other),
    };
    let start = fields.hex()?;
    let end = start.checked_add(fields.hex()?)?;
    let mut size = || fields.hex();
    let (prologue, epilogue, parameters, saved) = (size()?, size()?, size()?, size()?);
    let (locals, max_stack) = (size()?, size()?);
    let has_program = fields.hex()? != 0;
    let last = String::from_utf8_lossy(fields.rest()).into_owned();
    Some(StackWin {
        kind,
        range: start..end,
        prologue,
        epilogue,
        parameters,
        saved,
        locals,
        max_stack,
        allocates_base_pointer: !has_program && last.trim().parse().is_ok_and(|n: u64| n != 0),
        program: has_program.then_some(last),
    })
}

impl StackWin {
    /// Where the return address is expected without a frame pointer: above the parameters of the function that this
    /// frame called (`callee_parameters`, bytes), its own locals and saved registers.
    #[must_use]
    pub fn return_address_expected_at(&self, esp: u64, callee_parameters: u64) -> u64 {
        let below = callee_parameters.wrapping_add(self.locals).wrapping_add(self.saved);
        esp.wrapping_add(below) & 0xffff_ffff
    }

    /// Recovers the caller of a frame with `registers`. `search_start` is where the return address is looked for: as
    /// [`StackWin::return_address_expected_at`] says, or where the unwinder found a better one.
    ///
    /// # Errors
    /// In words, when the program cannot be run, or when it does not say where the caller goes on.
    pub fn evaluate(
        &self,
        registers: &Registers,
        callee_parameters: u64,
        search_start: u64,
        memory: &dyn Memory,
    ) -> Result<Recovered, String> {
        // Without a program these say the same: the return address lies at the start of the search, and a saved ebp
        // below the saved registers.
        const PLAIN: &str = "$eip .raSearchStart ^ = $esp .raSearchStart 4 + =";
        const WITH_EBP: &str = "$eip .raSearchStart ^ = $ebp $esp .cbCalleeParams + .cbSavedRegs + 8 - ^ = \
                                $esp .raSearchStart 4 + =";
        let program = match (&self.program, self.allocates_base_pointer) {
            (Some(program), _) => program.as_str(),
            (None, true) => WITH_EBP,
            (None, false) => PLAIN,
        };
        let read = |at: u64| memory.read_pointer(Addr(at), 4, Endian::Little).ok();
        let arch = registers.arch;
        let known = |name: &str| {
            Some(match name {
                ".cbParams" => self.parameters,
                ".cbCalleeParams" => callee_parameters,
                ".cbSavedRegs" => self.saved,
                ".cbLocals" => self.locals,
                ".raSearch" | ".raSearchStart" => search_start,
                _ => return registers.get(number(arch, name)?),
            })
        };
        let machine = Machine { word: 4, register: &known, read: &read };
        let mut variables = BTreeMap::new();
        let run = machine.run(program, &mut variables);
        let set = |name: &str| variables.get(name).copied();
        // Programs end with rules for registers that are of no use to find the caller, and may fail there.
        let (Some(esp), Some(eip)) = (set("$esp"), set("$eip")) else {
            let why = run.err().unwrap_or(PostfixError::Malformed);
            return Err(format!("its STACK WIN program does not give the caller's eip and esp: {why}"));
        };
        let others = ["$ebp", "$ebx", "$esi", "$edi"].into_iter();
        let registers: Vec<(Register, Result<u64, PostfixError>)> =
            others.filter_map(|name| Some((number(arch, name)?, Ok(set(name)?)))).collect();
        Ok(Recovered { cfa: Addr(esp), return_address: Some(Addr(eip)), registers })
    }
}
