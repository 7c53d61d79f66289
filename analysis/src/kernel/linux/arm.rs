//! How AArch64 kernels say how memory was touched (arch/arm64/mm/fault.c, arch/arm64/include/asm/esr.h).

use super::report::{Kind, Report, Touch};
use crate::kernel::text::{after, hex_at, number_at};

/// Exception class of an instruction abort in the kernel (`ESR_ELx_EC_IABT_CUR`).
const INSTRUCTION_ABORT: u64 = 0x21;
/// Exception class of a data abort in the kernel (`ESR_ELx_EC_DABT_CUR`).
const DATA_ABORT: u64 = 0x25;

/// The first line's own words: `Unable to handle kernel write to read-only memory at virtual address ...`.
pub(super) fn words(report: &mut Report, line: &str) {
    if !matches!(report.kind, Kind::PageFault(_)) {
        return;
    }
    let (touch, forbidden) = match line {
        l if l.contains("write to read-only memory") => (Some(Touch::Write), true),
        l if l.contains("execute from non-executable memory") => (Some(Touch::Fetch), true),
        l if l.contains("execution of user memory") => (Some(Touch::Fetch), true),
        l if l.contains("read from unreadable memory") => (Some(Touch::Read), true),
        l if l.contains("access to user memory outside uaccess routines") => (None, true),
        _ => (None, false),
    };
    report.touch = touch.or(report.touch);
    report.rights = forbidden.then_some(true).or(report.rights);
}

/// Lines of `Mem abort info:`; whether the line was one.
pub(super) fn detail(report: &mut Report, line: &str) -> bool {
    if !matches!(report.kind, Kind::PageFault(_)) {
        return false;
    }
    if let Some(value) = line.strip_prefix("ESR = ").and_then(hex_at) {
        syndrome(report, value);
        return true;
    }
    if let Some(bit) = line.starts_with("CM = ").then(|| after(line, "WnR = ").and_then(number_at)).flatten() {
        report.touch = report.touch.or(Some(if bit == 1 { Touch::Write } else { Touch::Read }));
        return true;
    }
    if line.starts_with("FSC = ") {
        report.rights = report.rights.or(Some(line.contains("permission fault")));
        return true;
    }
    false
}

/// The exception syndrome register: bits 31..26 class, bit 6 write not read, bits 5..0 fault status, of which
/// 0b0011xx is a permission fault and 0b0001xx a translation fault.
pub(super) fn syndrome(report: &mut Report, value: u64) {
    let touch = match (value >> 26) & 0x3f {
        INSTRUCTION_ABORT => Touch::Fetch,
        DATA_ABORT if value & 0x40 != 0 => Touch::Write,
        DATA_ABORT => Touch::Read,
        _ => return,
    };
    report.touch = report.touch.or(Some(touch));
    report.rights = report.rights.or(match (value >> 2) & 0xf {
        0b0011 => Some(true),
        0b0001 => Some(false),
        _ => None,
    });
}
