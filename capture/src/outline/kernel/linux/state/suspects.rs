//! The values that an oops was about, or what a CPU was at that did not get on: the registers that the kernel printed.
//!
//! Source of the lines: `__show_regs` in `arch/x86/kernel/process_64.c`.

use evidence::Addr;
use snapshot_format::schema::LogRecord;
use std::collections::VecDeque;

/// The selector of kernel code, as the line of the instruction pointer begins with it.
const KERNEL: &str = "RIP: 0010:";
/// General registers as they are printed, the stack pointer left out.
const REGISTERS: [&str; 15] =
    ["RAX", "RBX", "RCX", "RDX", "RSI", "RDI", "RBP", "R08", "R09", "R10", "R11", "R12", "R13", "R14", "R15"];
/// Most reports that are kept of a log.
const LIMIT_REPORTS: usize = 256;
/// Bytes that a member may lie behind the start of its structure.
const NEAR: u64 = 4096;
/// Addresses below this come from null pointers.
const LOW: u64 = 0x1_0000;

/// What an oops printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Suspects {
    /// Registers by name, lower case, in the order of print.
    pub registers: Vec<(String, u64)>,
    /// The instruction pointer, when it lies in no function.
    pub ip: Option<u64>,
    /// The address that was accessed.
    pub address: Option<u64>,
    /// The function that it happened in.
    pub function: Option<String>,
    /// The CPU that printed it.
    pub cpu: Option<u32>,
    /// An exception or a failed check, rather than the state of a CPU that does not get on.
    pub oops: bool,
}

impl Suspects {
    /// The values that were followed and led nowhere, with what they are.
    pub(super) fn wild(&self) -> Vec<(String, u64)> {
        let mut wild: Vec<(String, u64)> =
            self.ip.filter(|ip| *ip >= LOW).map(|ip| ("rip".into(), ip)).into_iter().collect();
        if let Some(address) = self.address.filter(|a| *a >= LOW) {
            let near = |v: u64| address.wrapping_sub(v) < NEAR;
            let bases = self.registers.iter().filter(|(_, v)| near(*v) && *v >= LOW);
            wild.extend(bases.map(|(name, v)| (name.clone(), *v)));
        }
        wild
    }
}

fn hex(text: &str) -> Option<u64> {
    let text = text.trim_start().strip_prefix("0x").unwrap_or(text.trim_start());
    let end = text.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(text.len());
    u64::from_str_radix(text.get(..end)?, 16).ok()
}

/// How reports begin: those of an exception or a failed check, and those of CPUs and tasks that do not get on.
const OOPSES: [&str; 6] =
    ["BUG: ", "general protection fault", "kernel BUG at", "divide error", "invalid opcode", "Oops"];
const STATES: [&str; 4] = ["watchdog: ", "INFO: ", "NMI backtrace", "Sending NMI"];

/// The address that the first line of a report names.
fn accessed(text: &str) -> Option<u64> {
    let behind = |mark: &str| text.find(mark).and_then(|at| text.get(at.checked_add(mark.len())?..));
    let at = behind("address: ").or_else(|| behind("non-canonical address ")).or_else(|| behind(" request at "))?;
    hex(at)
}

/// The registers of a log's reports, oldest first; of more than are kept the last ones.
pub(super) fn of_log(log: &[LogRecord]) -> Vec<Suspects> {
    let mut all: VecDeque<Suspects> = VecDeque::new();
    let mut next = Suspects::default();
    // The registers of the first oops are printed once more behind its end.
    let (mut ended, mut kernel) = (false, false);
    for line in log.iter().flat_map(|r| r.text.lines()) {
        let text = line.trim_start();
        if text.starts_with("---[ end trace") {
            (ended, kernel) = (true, false);
        } else if OOPSES.iter().any(|head| text.starts_with(head)) {
            // The exception's own line follows the one that says what was meant.
            let address = accessed(text).or(next.address.filter(|_| next.oops && next.cpu.is_none()));
            next = Suspects { oops: true, address, ..Suspects::default() };
            ended = false;
        } else if STATES.iter().any(|head| text.contains(head)) {
            next = Suspects::default();
            ended = false;
        } else if let Some(cpu) = text.strip_prefix("CPU: ") {
            next.cpu = cpu.split_whitespace().next().and_then(|n| n.parse().ok());
        } else if let Some(place) = text.strip_prefix(KERNEL) {
            // Registers inside of a call trace follow no such line, and may be another CPU's, which prints at the same time.
            kernel = !ended && next.cpu.is_some();
            if kernel {
                let ip = if place.starts_with("0x") { hex(place) } else { None };
                let function = place.split('+').next().filter(|_| ip.is_none()).map(str::to_owned);
                if all.len() >= LIMIT_REPORTS {
                    all.pop_front();
                }
                all.push_back(Suspects { ip, function, ..std::mem::take(&mut next) });
            }
        } else if text.starts_with("RIP: ") || text.starts_with("Call Trace:") {
            kernel = false;
        } else if kernel {
            let words: Vec<&str> = text.split_whitespace().collect();
            for pair in words.windows(2) {
                let [name, value] = pair else { continue };
                let name = name.strip_suffix(':').filter(|n| REGISTERS.contains(n));
                if let (Some(name), Some(value), Some(found)) = (name, hex(value), all.back_mut()) {
                    // `R08` is r8.
                    found.registers.push((name.to_ascii_lowercase().replace("r0", "r"), value));
                }
            }
        }
    }
    all.into()
}

/// Addresses in registers that may be of the kernel's memory.
pub(super) fn pointers(suspects: &Suspects) -> Vec<(&str, Addr)> {
    let registers = suspects.registers.iter().filter(|(_, v)| *v >> 63 == 1);
    registers.map(|(name, v)| (name.as_str(), Addr(*v))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[&str]) -> Suspects {
        let rows: Vec<_> = lines.iter().map(|l| LogRecord { text: (*l).to_owned(), ..LogRecord::default() }).collect();
        of_log(&rows).pop().unwrap_or_default()
    }

    #[test]
    fn the_registers_of_the_last_oops() {
        let found = check(&[
            "general protection fault: 0000 [#1] PREEMPT SMP NOPTI",
            "CPU: 1 PID: 7 Comm: sh Not tainted",
            "RIP: 0010:0x4141414141414141",
            "RSP: 0018:ffffd1374040bc70 EFLAGS: 00000206",
            "RAX: 0000000000000030 RBX: 0000000000000030 RCX: 0000000000000001",
            "RDX: 4141414141414141 RSI: 0000000000000030 RDI: ffff8ebc028f03f0",
            "Call Trace:",
            "RIP: 0033:0x47b7a0",
            "RAX: ffffffffffffffda RBX: 0000000000000008 RCX: 000000000047b7a0",
            "---[ end trace 0000000000000000 ]---",
            "RIP: 0010:0x1111111111111111",
            "RAX: 1111111111111111 RBX: 1111111111111111 RCX: 1111111111111111",
        ]);
        assert_eq!((found.ip, found.address, found.registers.len()), (Some(0x4141_4141_4141_4141), None, 6));
        assert_eq!(pointers(&found), [("rdi", Addr(0xffff_8ebc_028f_03f0))]);
        assert_eq!(found.wild(), [("rip".to_owned(), 0x4141_4141_4141_4141)]);
        let fault = check(&[
            "BUG: unable to handle page fault for address: ffffdead00001028",
            "CPU: 1 PID: 7 Comm: sh Not tainted",
            "RIP: 0010:demo_deep+0x5/0x30 [demo]",
            "RAX: ffffdead00001000 RBX: 0000000000000030 RCX: ffffdead00001029",
        ]);
        assert_eq!(fault.address, Some(0xffff_dead_0000_1028));
        assert_eq!(fault.wild(), [("rax".to_owned(), 0xffff_dead_0000_1000)]);
        let gpf = check(&[
            "general protection fault, probably for non-canonical address 0x6b6b6b6b6b6b6b93: 0000 [#1] PREEMPT SMP",
            "CPU: 1 PID: 7 Comm: sh Not tainted",
            "RIP: 0010:demo_deep+0x5/0x30 [demo]",
            "RAX: 6b6b6b6b6b6b6b6b RBX: 0000000000000030 RCX: ffffdead00001029",
        ]);
        assert_eq!(gpf.wild(), [("rax".to_owned(), 0x6b6b_6b6b_6b6b_6b6b)]);
        assert!(gpf.oops);
        let stuck = check(&[
            "watchdog: BUG: soft lockup - CPU#0 stuck for 5s! [demo:119]",
            "CPU: 0 PID: 119 Comm: demo Tainted: G           OE      6.1.0-demo #1",
            "RIP: 0010:native_queued_spin_lock_slowpath+0x30/0x50",
            "RDX: 0000000000000000 RSI: 0000000000000000 RDI: ffffffffc02bf000",
            "RBP: 0000000000000000 R08: 0000000000000008 R09: 0000000000000009",
        ]);
        assert_eq!((stuck.oops, stuck.cpu), (false, Some(0)));
        assert_eq!(stuck.function.as_deref(), Some("native_queued_spin_lock_slowpath"));
        assert_eq!(stuck.registers.last(), Some(&("r9".to_owned(), 9)));
        let bug = check(&[
            "kernel BUG at mm/slub.c:419!",
            "invalid opcode: 0000 [#1] PREEMPT SMP NOPTI",
            "CPU: 1 PID: 118 Comm: sh Tainted: G           OE      6.1.0-demo #1",
            "RIP: 0010:kmem_cache_free+0x2f7/0x310",
        ]);
        assert_eq!((bug.oops, bug.address, bug.cpu), (true, None, Some(1)));
        assert_eq!(check(&["RAX: ffff888000000000"]), Suspects::default());
    }
}
