//! The postfix expressions of `STACK CFI` and `STACK WIN` records.
//!
//! Operators, from Breakpad's description of its symbol files: `+ - * / %`, `@` (align the first operand down to a
//! multiple of the second), `^` (read memory), `=` (assign, `STACK WIN` only). Everything else is a decimal number or
//! the name of a register or variable.

use std::collections::BTreeMap;
use std::fmt;

/// Most operands waiting. Real expressions need four or five.
const LIMIT_STACK: usize = 64;
/// Most words of one expression. The longest real programs have some dozens.
const LIMIT_WORDS: usize = 4096;
/// Most variables that a program may set.
const LIMIT_VARIABLES: usize = 256;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostfixError {
    /// The value of this register or variable is not known.
    Unknown(String),
    /// The memory at this address is not there.
    Memory(u64),
    /// A division by zero, or an alignment to what is no power of two.
    Arithmetic,
    /// An operator without its operands, or operands without an operator.
    Malformed,
    /// More operands, words or variables than any real expression has.
    Limit,
}

impl fmt::Display for PostfixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "{name} is not known"),
            Self::Memory(at) => write!(f, "the memory at {at:#x} is not there"),
            Self::Arithmetic => f.write_str("it divides by zero or aligns to what is no power of two"),
            Self::Malformed => f.write_str("it is no postfix expression"),
            Self::Limit => f.write_str("it is longer or deeper than any real one"),
        }
    }
}

impl std::error::Error for PostfixError {}

/// What an expression computes with.
pub struct Machine<'m> {
    /// Bytes of a word: 4 or 8. All arithmetic is unsigned, modulo its size.
    pub word: u8,
    /// The value of a register, by its name as written (`$rsp`, `x29`, `.cfa`).
    pub register: &'m dyn Fn(&str) -> Option<u64>,
    /// The word at an address.
    pub read: &'m dyn Fn(u64) -> Option<u64>,
}

/// A value, or a name that may yet be assigned to.
enum Operand<'e> {
    Value(u64),
    Name(&'e str),
}

impl Machine<'_> {
    const fn wrap(&self, value: u64) -> u64 {
        if self.word == 4 { value & 0xffff_ffff } else { value }
    }

    /// The value of an expression without assignments.
    ///
    /// # Errors
    /// When a part of it is not known or not there, or when it is no expression.
    pub fn evaluate(&self, expression: &str) -> Result<u64, PostfixError> {
        let mut none = BTreeMap::new();
        let mut stack = self.run_words(expression, &mut none, false)?;
        match (stack.pop(), stack.is_empty()) {
            (Some(last), true) => self.value(&last, &none),
            _ => Err(PostfixError::Malformed),
        }
    }

    /// Runs a program of assignments over `variables`, which may name registers too.
    ///
    /// # Errors
    /// As `evaluate`. What was assigned before the failure stays assigned.
    pub fn run(&self, program: &str, variables: &mut BTreeMap<String, u64>) -> Result<(), PostfixError> {
        let rest = self.run_words(program, variables, true)?;
        if rest.is_empty() { Ok(()) } else { Err(PostfixError::Malformed) }
    }

    fn value(&self, operand: &Operand<'_>, variables: &BTreeMap<String, u64>) -> Result<u64, PostfixError> {
        match operand {
            Operand::Value(v) => Ok(*v),
            Operand::Name(name) => variables
                .get(*name)
                .copied()
                .or_else(|| (self.register)(name))
                .map(|v| self.wrap(v))
                .ok_or_else(|| PostfixError::Unknown((*name).to_owned())),
        }
    }

    fn run_words<'e>(
        &self,
        text: &'e str,
        variables: &mut BTreeMap<String, u64>,
        assigns: bool,
    ) -> Result<Vec<Operand<'e>>, PostfixError> {
        let mut stack: Vec<Operand<'e>> = Vec::new();
        for (n, word) in text.split_ascii_whitespace().enumerate() {
            if n >= LIMIT_WORDS || stack.len() >= LIMIT_STACK {
                return Err(PostfixError::Limit);
            }
            let mut pop = || stack.pop().ok_or(PostfixError::Malformed);
            let result = match word {
                "+" | "-" | "*" | "/" | "%" | "@" => {
                    let (second, first) = (pop()?, pop()?);
                    let (first, second) = (self.value(&first, variables)?, self.value(&second, variables)?);
                    self.wrap(binary(word, first, second).ok_or(PostfixError::Arithmetic)?)
                }
                "^" => {
                    let at = self.value(&pop()?, variables)?;
                    self.wrap((self.read)(at).ok_or(PostfixError::Memory(at))?)
                }
                "=" if assigns => {
                    let (value, name) = (pop()?, pop()?);
                    let Operand::Name(name) = name else { return Err(PostfixError::Malformed) };
                    let value = self.value(&value, variables)?;
                    if variables.len() >= LIMIT_VARIABLES && !variables.contains_key(name) {
                        return Err(PostfixError::Limit);
                    }
                    variables.insert(name.to_owned(), value);
                    continue;
                }
                "=" => return Err(PostfixError::Malformed),
                _ => {
                    stack.push(match number(word) {
                        Some(n) => Operand::Value(self.wrap(n)),
                        None => Operand::Name(word),
                    });
                    continue;
                }
            };
            stack.push(Operand::Value(result));
        }
        Ok(stack)
    }
}

/// A decimal number, negative ones in two's complement.
fn number(word: &str) -> Option<u64> {
    let digits = word.strip_prefix('-').unwrap_or(word);
    if !digits.bytes().next()?.is_ascii_digit() {
        return None;
    }
    let magnitude: u64 = digits.parse().ok()?;
    Some(if word.starts_with('-') { magnitude.wrapping_neg() } else { magnitude })
}

fn binary(operator: &str, first: u64, second: u64) -> Option<u64> {
    Some(match operator {
        "+" => first.wrapping_add(second),
        "-" => first.wrapping_sub(second),
        "*" => first.wrapping_mul(second),
        "/" => first.checked_div(second)?,
        "%" => first.checked_rem(second)?,
        _ if second.is_power_of_two() => first & !second.wrapping_sub(1),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(word: u8, text: &str, expected: Result<u64, PostfixError>) {
        let register = |name: &str| match name {
            "$rsp" => Some(0x1000),
            "$big" => Some(u64::MAX),
            _ => None,
        };
        let read = |at: u64| (at < 0x2000).then_some(at + 1);
        let machine = Machine { word, register: &register, read: &read };
        assert_eq!(machine.evaluate(text), expected, "{text}");
    }

    #[test]
    fn expressions() {
        check(8, "$rsp 8 +", Ok(0x1008));
        check(8, "$rsp -8 + ^", Ok(0xff9));
        check(8, "$rsp 7 - 16 @", Ok(0xff0));
        check(8, "7 2 / 3 * 4 %", Ok(1));
        check(8, "0 1 -", Ok(u64::MAX));
        check(4, "0 1 -", Ok(u64::from(u32::MAX)));
        check(4, "$big", Ok(u64::from(u32::MAX)));
        check(8, "1 0 /", Err(PostfixError::Arithmetic));
        check(8, "1 0 %", Err(PostfixError::Arithmetic));
        check(8, "1 3 @", Err(PostfixError::Arithmetic));
        check(8, "9000 ^", Err(PostfixError::Memory(9000)));
        check(8, "$nope 1 +", Err(PostfixError::Unknown("$nope".into())));
        for text in ["", "+", "1 +", "1 2", "1 2 =", "^"] {
            check(8, text, Err(PostfixError::Malformed));
        }
        check(8, &"1 ".repeat(100), Err(PostfixError::Limit));
        check(8, &format!("1 {}", "1 + ".repeat(5000)), Err(PostfixError::Limit));
    }

    #[test]
    fn a_program_assigns() {
        // The program of a function that keeps a frame pointer, as the Microsoft compilers write it.
        let program = "$T0 $ebp = $eip $T0 4 + ^ = $ebp $T0 ^ = $esp $T0 8 + =";
        let register = |name: &str| (name == "$ebp").then_some(0x100);
        let read = |at: u64| [(0x100, 0x200), (0x104, 0x401000)].iter().find(|(a, _)| *a == at).map(|(_, v)| *v);
        let machine = Machine { word: 4, register: &register, read: &read };
        let mut variables = BTreeMap::new();
        assert_eq!(machine.run(program, &mut variables), Ok(()));
        let expected = [("$T0", 0x100), ("$ebp", 0x200), ("$eip", 0x401000), ("$esp", 0x108)];
        assert_eq!(variables, expected.map(|(n, v)| (n.to_owned(), v)).into());
        assert_eq!(machine.run("1 2 =", &mut variables), Err(PostfixError::Malformed));
    }
}
