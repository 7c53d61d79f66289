//! The addresses that a panic is about: the registers of the trap, what its message names, what the allocator reported.

use super::report::Reported;
use super::tags::{FREED, UNSET};
use crate::outline::kernel::Kernel;
use evidence::{Addr, Arch, Register, register_name};

/// DWARF's numbers of the general registers, the stack pointer left out.
const GENERAL: [u16; 15] = [0, 3, 2, 1, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15];
/// Bytes that a member may lie behind the start of its structure.
const NEAR: u64 = 4096;
/// Addresses below this come from null pointers.
const LOW: u64 = 0x1_0000;
/// Values of one message that are looked at.
const LIMIT_NAMED: usize = 16;
/// The first address of the kernel.
const KERNEL: u64 = 0xffff_8000_0000_0000;

/// An address, and what it is called.
pub(super) struct Suspect {
    pub name: String,
    pub at: Addr,
}

/// `lp=fffffe0010000000 owner=deadbeefdeadbeef`: names and values that a message gives.
fn named(message: &str) -> Vec<(String, u64)> {
    let words = message.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '(' | ')'));
    let value = |word: &str| {
        let (name, value) = word.split_once('=')?;
        let value = u64::from_str_radix(value.strip_prefix("0x").unwrap_or(value), 16).ok()?;
        Some((name.to_owned(), value))
    };
    words.filter_map(value).take(LIMIT_NAMED).collect()
}

/// The pattern that a value is, or is a member's distance away from. Locks' owners are printed without their lowest bits.
fn pattern(value: u64) -> Option<u64> {
    [FREED, UNSET].into_iter().find(|p| value.wrapping_sub(p & !7) < NEAR)
}

/// The addresses to look up, and the values that were followed and led nowhere.
pub(super) fn of(kernel: &Kernel, error: Option<&Reported>) -> (Vec<Suspect>, Vec<(String, u64)>) {
    let (mut list, mut wild) = (Vec::new(), Vec::new());
    let mut add = |name: String, value: u64| {
        if value >= KERNEL {
            list.push(Suspect { name, at: Addr(value) });
        }
    };
    if let Some(error) = error {
        add("the report".into(), error.real.0);
        if error.buffer != error.real {
            add("what was handed over".into(), error.buffer.0);
        }
    }
    let Some(event) = &kernel.event else { return (list, wild) };
    let message = named(event.message.as_deref().unwrap_or_default());
    // Only a trap has registers that are those of the instruction at fault.
    let thread = event.thread.and_then(|id| kernel.threads.iter().find(|t| t.id == id));
    if let Some(thread) = thread.filter(|_| event.trap_number.is_some()) {
        let values = GENERAL.iter().filter_map(|n| {
            let name = register_name(Arch::X86_64, Register(*n))?;
            Some((name, thread.registers.get(Register(*n))?))
        });
        for (name, value) in values {
            add(name.to_owned(), value);
            let near = event.address.is_some_and(|a| a.0 >= LOW && a.0.wrapping_sub(value) < NEAR);
            if let Some(value) = pattern(value).or(Some(value).filter(|v| near && *v >= LOW)) {
                wild.push((name.to_owned(), value));
            }
        }
        if let Some(at) = event.address {
            add("the address".into(), at.0);
        }
    } else {
        for (name, value) in message {
            add(name.clone(), value);
            wild.extend(pattern(value).map(|p| (name, p)));
        }
    }
    (list, wild)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_message() {
        let found = named("mutex_enter: bad mutex, lp=fffffe0010000040 owner=deadbeefdeadbeef thread=fffffe0010000000");
        let names: Vec<&str> = found.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["lp", "owner", "thread"]);
        assert_eq!(found[1].1, FREED);
        assert!(named("a=b=c x=").is_empty());
        assert_eq!((pattern(FREED & !7), pattern(UNSET + 8), pattern(0x28)), (Some(FREED), Some(UNSET), None));
    }
}
