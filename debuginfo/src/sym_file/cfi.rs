//! `STACK CFI`: how to find the caller's registers, by address.

use super::postfix::{Machine, PostfixError};
use super::text::{Kind, kind, line};
use evidence::bytes::Endian;
use evidence::{Addr, Arch, Memory, Register, Registers, ToUsize, register_number};
use std::ops::Range;

/// Most delta records read of one `STACK CFI INIT`: one per instruction of the longest prologues and epilogues.
const LIMIT_DELTAS: usize = 1 << 16;
/// Most registers with a rule. AArch64 with all vector registers has about a hundred.
const LIMIT_RULES: usize = 256;

/// The rules at one address: those of its `STACK CFI INIT` record, changed by the deltas up to the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CfiRules {
    /// Where the `INIT` record applies: addresses relative to the module's base.
    pub range: Range<u64>,
    /// (register as written, postfix expression), in the order of their first mention.
    pub rules: Vec<(String, String)>,
    /// A limit was reached before the last delta.
    pub cut_off: bool,
}

/// The caller's registers, as far as rules give them.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Canonical frame address: the caller's stack pointer.
    pub cfa: Addr,
    /// Where the caller goes on; `None` when the rule says that there is none (`.undef`).
    pub return_address: Option<Addr>,
    /// What other rules say: the value, or why there is none. Registers that are not here have no rule.
    pub registers: Vec<(Register, Result<u64, PostfixError>)>,
}

/// The rules for `at` that begin with the `STACK CFI INIT` record at `offset`.
pub(super) fn rules(bytes: &[u8], offset: u64, range: Range<u64>, at: u64) -> Option<CfiRules> {
    let (text, mut next) = line(bytes, offset.to_usize())?;
    let (Kind::CfiInit, mut fields) = kind(text) else { return None };
    fields.word()?;
    fields.word()?;
    let mut merged = CfiRules { range, rules: Vec::new(), cut_off: false };
    merged.merge(fields.rest());
    for n in 0_usize.. {
        let Some((text, after)) = line(bytes, next) else { break };
        match kind(text) {
            (Kind::CfiDelta, mut fields) => {
                if n >= LIMIT_DELTAS {
                    merged.cut_off = true;
                    break;
                }
                if fields.hex().is_some_and(|from| from <= at) {
                    merged.merge(fields.rest());
                }
            }
            (Kind::Other, _) if n < LIMIT_DELTAS => {}
            _ => break,
        }
        next = after;
    }
    Some(merged)
}

impl CfiRules {
    /// Replaces or adds what `text` has rules for: `register: expression register: expression`.
    fn merge(&mut self, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        let mut words = text.split_ascii_whitespace().peekable();
        while let Some(word) = words.next() {
            let Some(register) = word.strip_suffix(':').filter(|r| !r.is_empty()) else { continue };
            let mut expression = String::new();
            while let Some(word) = words.next_if(|w| !w.ends_with(':')) {
                if !expression.is_empty() {
                    expression.push(' ');
                }
                expression.push_str(word);
            }
            let room = self.rules.len() < LIMIT_RULES;
            match self.rules.iter_mut().find(|(name, _)| name == register) {
                Some((_, old)) => *old = expression,
                None if room => self.rules.push((register.to_owned(), expression)),
                None => self.cut_off = true,
            }
        }
    }

    /// The expression of a register, by its name as written.
    #[must_use]
    pub fn rule(&self, register: &str) -> Option<&str> {
        self.rules.iter().find(|(name, _)| name == register).map(|(_, expression)| expression.as_str())
    }

    /// Evaluates all rules for a frame with `registers`.
    ///
    /// # Errors
    /// In words, when there is no frame address or no return address to be had.
    pub fn evaluate(&self, registers: &Registers, memory: &dyn Memory, endian: Endian) -> Result<Recovered, String> {
        let arch = registers.arch;
        let word = arch.pointer_size();
        let read = |at: u64| memory.read_pointer(Addr(at), word, endian).ok();
        let known = |name: &str| registers.get(number(arch, name)?);
        let machine = Machine { word, register: &known, read: &read };
        let rule = |name: &str| self.rule(name).ok_or_else(|| format!("its STACK CFI has no rule for {name}"));
        let failed = |name: &str, text: &str, e| format!("its STACK CFI rule {name}: {text}: {e}");
        let text = rule(".cfa")?;
        let cfa = machine.evaluate(text).map_err(|e| failed(".cfa", text, e))?;
        let with_cfa = |name: &str| if name == ".cfa" { Some(cfa) } else { known(name) };
        let machine = Machine { register: &with_cfa, ..machine };
        let text = rule(".ra")?;
        let return_address = match text {
            UNDEFINED => None,
            _ => Some(Addr(machine.evaluate(text).map_err(|e| failed(".ra", text, e))?)),
        };
        let others = self.rules.iter().filter_map(|(name, text)| {
            let register = number(arch, name)?;
            let value =
                if text == UNDEFINED { Err(PostfixError::Unknown(name.clone())) } else { machine.evaluate(text) };
            Some((register, value))
        });
        Ok(Recovered { cfa: Addr(cfa), return_address, registers: others.collect() })
    }
}

/// The rule of a register that has no value in the caller.
pub(super) const UNDEFINED: &str = ".undef";

/// The DWARF number of a register as symbol files name it: x86 ones with a dollar sign, ARM ones without.
#[must_use]
pub fn number(arch: Arch, name: &str) -> Option<Register> {
    let name = name.strip_prefix('$').unwrap_or(name);
    let name = match (arch, name) {
        (Arch::Aarch64, "fp") => "x29",
        (Arch::Aarch64, "lr") => "x30",
        (Arch::Arm, "fp") => "r11",
        (Arch::Arm, "r13") => "sp",
        (Arch::Arm, "r14") => "lr",
        (Arch::Arm, "r15") => "pc",
        _ => name,
    };
    register_number(arch, name)
}
