//! From log lines to reports.

use super::arm;
use super::report::{Kind, Report, Touch, TraceLine};
use super::title::title;
use crate::kernel::text::{after, hex_at, number_at, symbol};

/// Reports kept, the last ones: a machine that oopses in a loop fills its log with the same one.
const LIMIT_REPORTS: usize = 512;
/// Call trace lines kept of one report: the kernel prints at most some hundred.
const LIMIT_TRACE: usize = 1024;
/// Registers kept of one report: AArch64 prints 34.
const LIMIT_REGISTERS: usize = 64;

/// Notes kept of one report.
const LIMIT_NOTES: usize = 8;
/// What SLUB says about an object's history.
const NOTES: [&str; 2] = ["Allocated in ", "Freed in "];

/// All reports of a log, in its order.
pub(crate) fn reports(lines: &[&str]) -> Vec<Report> {
    let mut parser = Parser::default();
    for line in lines {
        parser.line(line);
    }
    parser.close();
    parser.done
}

#[derive(Default)]
struct Parser {
    done: Vec<Report>,
    open: Option<Report>,
    in_trace: bool,
    /// The registers that follow are user space's, or of a report that has ended.
    past: bool,
}

impl Parser {
    fn close(&mut self) {
        self.in_trace = false;
        self.past = false;
        if let Some(report) = self.open.take() {
            if self.done.len() >= LIMIT_REPORTS {
                self.done.remove(0);
            }
            self.done.push(report);
        }
    }

    fn line(&mut self, line: &str) {
        let trimmed = line.trim_start();
        if let Some(kind) = title(trimmed) {
            self.begin(kind, trimmed);
            return;
        }
        if trimmed.starts_with("---[ end trace") || trimmed.starts_with("---[ end Kernel panic") {
            self.close();
            return;
        }
        let Some(report) = &mut self.open else { return };
        if let Kind::RcuStall { cpus, .. } = &mut report.kind
            && !self.in_trace
            && let Some(cpu) = stalled(trimmed)
        {
            cpus.push(cpu);
        }
        if NOTES.iter().any(|n| trimmed.starts_with(n))
            || (trimmed.starts_with("INFO: task ") && trimmed.contains(" likely "))
        {
            if report.notes.len() < LIMIT_NOTES {
                report.notes.push(trimmed.to_owned());
            }
            return;
        }
        // What RCU's own thread does says nothing about who holds it up.
        if trimmed.starts_with("rcu: RCU grace-period kthread stack dump")
            || trimmed.starts_with("rcu: Stack dump where RCU GP kthread last ran")
        {
            self.close();
            return;
        }
        if trimmed.starts_with("CPU: ") && !report.has_details() {
            who(report, trimmed);
        } else if let Some(rest) = trimmed.strip_prefix("task:") {
            // `task:sh state:D stack:0 pid:118 ppid:1 flags:0x00004002`
            report.comm = report.comm.take().or_else(|| rest.split(" state:").next().map(|c| c.trim().to_owned()));
            report.pid = report.pid.or_else(|| after(rest, "pid:").and_then(number_at));
        } else if trimmed.starts_with("Call Trace:") || trimmed.starts_with("Call trace:") {
            self.in_trace = true;
        } else if self.in_trace {
            self.past = !trace(report, trimmed, self.past);
        } else {
            detail(report, trimmed);
        }
    }

    fn begin(&mut self, kind: Kind, line: &str) {
        let number = after(line, "[#").and_then(number_at);
        if let Some(open) = &mut self.open
            && !open.has_details()
            && number.is_some()
            && continues(&open.kind, &kind)
        {
            open.number = number;
            code(open, line);
            return;
        }
        // A list's corruption is told, then BUG() or WARN() says where.
        if let Some(open) = &mut self.open
            && !open.has_details()
            && matches!(open.kind, Kind::List(_) | Kind::Refcount(_) | Kind::Fortify(_))
            && matches!(kind, Kind::Bug(_) | Kind::Warning)
        {
            return;
        }
        // `kernel BUG at` is an invalid opcode afterwards, and the state of other CPUs belongs to a stall.
        self.close();
        let mut report = Report::new(kind, line);
        report.number = number;
        code(&mut report, line);
        arm::words(&mut report, line);
        match &report.kind {
            // `... stuck for 22s! [sh:118]`
            Kind::SoftLockup(cpu) => {
                report.cpu = *cpu;
                let inside = line.rsplit_once('[').and_then(|(_, t)| t.split_once(']')).map(|(t, _)| t);
                if let Some((comm, pid)) = inside.and_then(|t| t.rsplit_once(':')) {
                    report.comm = Some(comm.to_owned());
                    report.pid = pid.parse().ok();
                }
            }
            // `INFO: task sh:118 blocked for more than 5 seconds.`
            Kind::HungTask(_) => {
                let named = after(line, "INFO: task ").and_then(|t| t.split(" blocked ").next());
                if let Some((comm, pid)) = named.and_then(|t| t.rsplit_once(':')) {
                    report.comm = Some(comm.to_owned());
                    report.pid = pid.trim().parse().ok();
                }
            }
            Kind::HardLockup(cpu) | Kind::Backtrace(cpu) => report.cpu = *cpu,
            _ => {}
        }
        self.open = Some(report);
    }
}

/// Whether a numbered line goes on with the report before it.
const fn continues(open: &Kind, next: &Kind) -> bool {
    match (open, next) {
        // `Oops: 0002 [#1] SMP`, `Internal error: Oops: 96000004 [#1] SMP`, and since 6.13 `Oops: general protection...`
        (_, Kind::OtherOops(_)) => true,
        (
            Kind::Bug(_) | Kind::List(_) | Kind::Sanitizer(_) | Kind::Refcount(_) | Kind::Fortify(_),
            Kind::InvalidOpcode,
        ) => true,
        (Kind::StackGuard, _) => true,
        _ => false,
    }
}

/// `0002` of `Oops: 0002 [#1]`: the page fault's error code (bit 0 rights, bit 1 write, bit 4 fetch).
fn code(report: &mut Report, line: &str) {
    if !matches!(report.kind, Kind::PageFault(_)) {
        return;
    }
    if let Some(syndrome) = line.strip_prefix("Internal error: Oops").and_then(|l| after(l, ": ")).and_then(hex_at) {
        arm::syndrome(report, syndrome);
        return;
    }
    let Some(code) = line.strip_prefix("Oops: ").and_then(hex_at) else { return };
    report.rights = report.rights.or(Some(code & 1 != 0));
    report.touch = report.touch.or(Some(match code {
        c if c & 0x10 != 0 => Touch::Fetch,
        c if c & 2 != 0 => Touch::Write,
        _ => Touch::Read,
    }));
}

/// `rcu:    1-....: (20 ticks this GP) idle=...`.
fn stalled(line: &str) -> Option<u64> {
    let line = line.strip_prefix("rcu:").unwrap_or(line).trim_start();
    let (cpu, rest) = line.split_once('-')?;
    let flags = rest.split(':').next()?;
    let legal = flags.len() >= 3 && flags.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '!'));
    cpu.parse().ok().filter(|_| legal && rest.contains("ticks this GP"))
}

/// `CPU: 0 PID: 117 Comm: sh Tainted: G OE 6.1.0 #1`, since 6.11 with `UID:` before the pid.
fn who(report: &mut Report, line: &str) {
    report.cpu = after(line, "CPU: ").and_then(number_at).or(report.cpu);
    if matches!(report.kind, Kind::HungTask(_)) {
        return;
    }
    report.pid = after(line, "PID: ").and_then(number_at).or(report.pid);
    let comm = after(line, "Comm: ");
    if let Some(rest) = comm {
        let end = rest.find(" Tainted: ").or_else(|| rest.find(" Not tainted")).unwrap_or(rest.len());
        report.comm = rest.get(..end).map(|c| c.trim().to_owned());
        report.tainted = after(rest, " Tainted: ").map(|t| {
            let flags: String = t.chars().take_while(|c| c.is_ascii_uppercase() || *c == ' ').collect();
            flags.split_whitespace().filter(|w| w.len() <= 20).collect::<Vec<_>>().join("")
        });
    }
}

/// Where the exception was, how memory was touched, registers.
fn detail(report: &mut Report, line: &str) {
    if arm::detail(report, line) {
        return;
    }
    if let Some(rest) = line.strip_prefix("#PF: ") {
        page_fault(report, rest);
    } else if line.contains("exploit attempt?") || line.contains("user access to") {
        report.warning = Some(line.to_owned());
    } else if let Some(rest) = line.strip_prefix("RIP: ").or_else(|| line.strip_prefix("EIP: ")) {
        instruction(report, rest);
    } else if let Some(rest) = line.strip_prefix("pc : ") {
        place(report, rest);
    } else if report.registers.len() < LIMIT_REGISTERS {
        registers(report, line);
    }
}

fn page_fault(report: &mut Report, rest: &str) {
    report.touch = match rest {
        _ if rest.contains("write access") => Some(Touch::Write),
        _ if rest.contains("read access") => Some(Touch::Read),
        _ if rest.contains("instruction fetch") => Some(Touch::Fetch),
        _ => report.touch,
    };
    if rest.starts_with("error_code(") {
        report.rights = Some(!rest.contains("not-present"));
    }
}

/// `0010:lkf_level3+0x5/0x30 [lkfault]`; selectors with the lowest bits set are user space's.
fn instruction(report: &mut Report, rest: &str) {
    let (selector, rest) = rest.split_once(':').unwrap_or(("0010", rest));
    if hex_at(selector).unwrap_or(0x10) & 3 == 0 {
        place(report, rest);
    }
}

fn place(report: &mut Report, rest: &str) {
    if report.place.is_some() || report.ip.is_some() {
        return;
    }
    // Older kernels put the address in front: `[<ffffffff81000000>] f+0x1/0x2`.
    let rest = rest.trim_start();
    let inner = rest.strip_prefix("[<").and_then(|r| r.split_once(">] ")).map_or(rest, |(_, tail)| tail);
    match symbol(inner) {
        Some(found) => report.place = Some(found),
        None => report.ip = hex_at(rest.trim_start_matches("[<")),
    }
}

/// `RAX: 0000000000000000 RBX: ...`, `x29: ffff.. x28: ...`, `sp : ffff...`.
fn registers(report: &mut Report, line: &str) {
    const NAMES: [&str; 20] = [
        "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r08", "r09", "r10", "r11", "r12", "r13", "r14",
        "r15", "cr2", "sp", "rsp",
    ];
    let mut words = line.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let name = word.trim_end_matches(':').to_ascii_lowercase();
        if !word.ends_with(':') && words.peek() == Some(&":") {
            words.next();
        } else if !word.ends_with(':') {
            continue;
        }
        let numbered = name.strip_prefix('x').is_some_and(|n| n.parse::<u8>().is_ok_and(|n| n < 31));
        if !(NAMES.contains(&name.as_str()) || numbered) {
            continue;
        }
        let Some(value) = words.peek().map(|v| v.rsplit(':').next().unwrap_or(v)).filter(|v| v.len() >= 8) else {
            continue;
        };
        let known = report.registers.iter().any(|(n, _)| *n == name);
        if let (false, Ok(value)) = (known, u64::from_str_radix(value, 16)) {
            let name = name.strip_prefix("r0").map_or(name.clone(), |n| format!("r{n}"));
            report.registers.push((name, value));
        }
    }
}

/// A line inside of a call trace; `false` when what follows is not the kernel's any more.
fn trace(report: &mut Report, line: &str, past: bool) -> bool {
    if let Some(rest) = line.strip_prefix("RIP: ") {
        let (selector, rest) = rest.split_once(':').unwrap_or(("0010", rest));
        let user = hex_at(selector).unwrap_or(0x10) & 3 != 0;
        if let (false, false, Some(symbol)) = (user, past, symbol(rest)) {
            push(report, TraceLine { symbol, sure: true, interrupted: true });
        }
        return !user && !past;
    }
    if past || line.starts_with('<') || line.starts_with("Modules linked in") {
        return !past;
    }
    let bare = line.strip_prefix("[<").and_then(|r| r.split_once(">] ")).map_or(line, |(_, tail)| tail);
    let (sure, bare) = bare.strip_prefix("? ").map_or((true, bare), |tail| (false, tail));
    if let Some(symbol) = symbol(bare) {
        push(report, TraceLine { symbol, sure, interrupted: false });
    }
    true
}

fn push(report: &mut Report, line: TraceLine) {
    if report.trace.len() < LIMIT_TRACE {
        report.trace.push(line);
    }
}
