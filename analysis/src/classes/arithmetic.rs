//! `divide-by-zero`, and its relatives `integer-overflow` and `floating-point`.

use crate::case::{Case, Sender};
use crate::instruction::Kind;
use crate::verdict::{Security, Verdict};
use crate::words::{hex, report_phrase};

pub(super) fn check(case: &Case<'_>) -> Option<Verdict> {
    if !case.signal_is(&["SIGFPE"]) || matches!(case.sender, Sender::Itself | Sender::Other(_)) {
        return None;
    }
    let instruction = case.instruction.as_ref();
    let text = instruction.map_or_else(String::new, |i| format!("; the faulting instruction is `{}`", i.text));
    if let Some(Kind::Divide { divisor, signed, width }) = instruction.map(|i| &i.kind) {
        return Some(match divisor {
            Some(0) => Verdict::new(case, "divide-by-zero", 0.98)
                .text(format!("an integer was divided by zero{text}"))
                .because_if(report_phrase(case))
                .because("the divisor is 0")
                .security(Security::Low, "the program stops; no memory is touched"),
            Some(divisor) => overflow(case, *divisor, *signed, *width, &text),
            None => Verdict::new(case, "divide-by-zero", 0.85)
                .text(format!("an integer was divided by zero{text}"))
                .because_if(report_phrase(case))
                .but("the divisor was not kept; a quotient too large for its register is reported alike")
                .security(Security::Low, "the program stops; no memory is touched"),
        });
    }
    match case.code? {
        "FPE_INTDIV" if instruction.is_none() => Some(
            Verdict::new(case, "divide-by-zero", 0.85)
                .text("an integer was divided by zero")
                .because_if(report_phrase(case))
                .but("the instruction's bytes were not kept; on x86 a quotient too large is reported alike")
                .security(Security::Low, "the program stops; no memory is touched"),
        ),
        "FPE_FLTDIV" => Some(
            Verdict::new(case, "divide-by-zero", 0.95)
                .text(format!(
                    "a floating-point number was divided by zero, and the program had asked for the exception{text}"
                ))
                .because_if(report_phrase(case))
                .security(Security::Low, "the program stops; no memory is touched"),
        ),
        "FPE_INTOVF" => Some(
            Verdict::new(case, "integer-overflow", 0.95)
                .text(format!("an integer operation overflowed{text}"))
                .because_if(report_phrase(case))
                .security(Security::Low, "the program stops; no memory is touched"),
        ),
        code @ ("FPE_FLTOVF" | "FPE_FLTUND" | "FPE_FLTRES" | "FPE_FLTINV" | "FPE_FLTSUB" | "FPE_FLTIDO"
        | "FPE_FLTDEN") => {
            let what = match code {
                "FPE_FLTOVF" => "overflowed",
                "FPE_FLTUND" => "underflowed",
                "FPE_FLTRES" => "gave an inexact result",
                "FPE_FLTINV" => "was invalid",
                "FPE_FLTSUB" => "had a subscript out of range",
                _ => "had a denormal operand",
            };
            Some(
                Verdict::new(case, "floating-point", 0.95)
                    .text(format!(
                        "a floating-point operation {what}, and the program had asked for the exception{text}"
                    ))
                    .because_if(report_phrase(case))
                    .security(Security::None, "the program stops; no memory is touched"),
            )
        }
        _ => None,
    }
}

/// The divisor is not zero, so the quotient did not fit.
fn overflow(case: &Case<'_>, divisor: u64, signed: bool, width: u64, text: &str) -> Verdict {
    let bits = width.saturating_mul(8).min(64);
    let ones = if bits >= 64 { u64::MAX } else { !(u64::MAX << bits) };
    let minus_one = signed && divisor == ones;
    let shown = if minus_one { "-1".to_owned() } else { hex(divisor) };
    let what = if minus_one {
        "the smallest integer was divided by -1, and its negative does not fit"
    } else {
        "a quotient does not fit its register"
    };
    Verdict::new(case, "integer-overflow", 0.95)
        .text(format!("{what}{text}"))
        .because_if(report_phrase(case))
        .because(format!("the divisor is {shown}, not 0"))
        .security(Security::Low, "the program stops; no memory is touched")
}
