//! Windows: exception codes, the parameters of access violations, the codes of `__fastfail`.
//!
//! Sources: winnt.h (`EXCEPTION_*` are `STATUS_*` of ntstatus.h; `FAST_FAIL_*`), Visual C++'s ehdata.h for its own
//! code, CoreCLR's corexcep.h. Numbers are compared as 32 bits, whatever sign a snapshot gave them.

/// What an exception is like among the signals of Unix, so that one set of classifiers serves all.
pub(super) type Like = Option<(&'static str, Option<&'static str>)>;

const fn like(signal: &'static str) -> Like {
    Some((signal, None))
}

const fn fpe(code: &'static str) -> Like {
    Some(("SIGFPE", Some(code)))
}

/// (code, name, likeness).
const EXCEPTIONS: [(u32, &str, Like); 58] = [
    (0xc000_0005, "EXCEPTION_ACCESS_VIOLATION", like("SIGSEGV")),
    (0xc000_0006, "EXCEPTION_IN_PAGE_ERROR", like("SIGBUS")),
    (0x8000_0001, "EXCEPTION_GUARD_PAGE", like("SIGSEGV")),
    (0x8000_0002, "EXCEPTION_DATATYPE_MISALIGNMENT", like("SIGBUS")),
    (0x8000_0003, "EXCEPTION_BREAKPOINT", like("SIGTRAP")),
    (0x8000_0004, "EXCEPTION_SINGLE_STEP", like("SIGTRAP")),
    (0x4000_001f, "STATUS_WX86_BREAKPOINT", like("SIGTRAP")),
    (0x4000_001e, "STATUS_WX86_SINGLE_STEP", like("SIGTRAP")),
    (0xc000_001d, "EXCEPTION_ILLEGAL_INSTRUCTION", like("SIGILL")),
    (0xc000_0096, "EXCEPTION_PRIV_INSTRUCTION", like("SIGILL")),
    (0xc000_008c, "EXCEPTION_ARRAY_BOUNDS_EXCEEDED", None),
    (0xc000_008d, "EXCEPTION_FLT_DENORMAL_OPERAND", fpe("FPE_FLTUND")),
    (0xc000_008e, "EXCEPTION_FLT_DIVIDE_BY_ZERO", fpe("FPE_FLTDIV")),
    (0xc000_008f, "EXCEPTION_FLT_INEXACT_RESULT", fpe("FPE_FLTRES")),
    (0xc000_0090, "EXCEPTION_FLT_INVALID_OPERATION", fpe("FPE_FLTINV")),
    (0xc000_0091, "EXCEPTION_FLT_OVERFLOW", fpe("FPE_FLTOVF")),
    (0xc000_0092, "EXCEPTION_FLT_STACK_CHECK", fpe("FPE_FLTINV")),
    (0xc000_0093, "EXCEPTION_FLT_UNDERFLOW", fpe("FPE_FLTUND")),
    (0xc000_0094, "EXCEPTION_INT_DIVIDE_BY_ZERO", fpe("FPE_INTDIV")),
    (0xc000_0095, "EXCEPTION_INT_OVERFLOW", fpe("FPE_INTOVF")),
    (0xc000_02b4, "STATUS_FLOAT_MULTIPLE_FAULTS", like("SIGFPE")),
    (0xc000_02b5, "STATUS_FLOAT_MULTIPLE_TRAPS", like("SIGFPE")),
    (0xc000_00fd, "EXCEPTION_STACK_OVERFLOW", None),
    (0xc000_0025, "EXCEPTION_NONCONTINUABLE_EXCEPTION", None),
    (0xc000_0026, "EXCEPTION_INVALID_DISPOSITION", None),
    (0xc000_0008, "EXCEPTION_INVALID_HANDLE", None),
    (0xc000_0017, "STATUS_NO_MEMORY", None),
    (0xc000_009a, "STATUS_INSUFFICIENT_RESOURCES", None),
    (0xc000_012d, "STATUS_COMMITMENT_LIMIT", None),
    (0xc000_0135, "STATUS_DLL_NOT_FOUND", None),
    (0xc000_0138, "STATUS_ORDINAL_NOT_FOUND", None),
    (0xc000_0139, "STATUS_ENTRYPOINT_NOT_FOUND", None),
    (0xc000_0142, "STATUS_DLL_INIT_FAILED", None),
    (0xc000_0194, "EXCEPTION_POSSIBLE_DEADLOCK", None),
    (0xc000_0374, "STATUS_HEAP_CORRUPTION", None),
    (0xc000_0409, "EXCEPTION_STACK_BUFFER_OVERRUN", None),
    (0xc000_0417, "STATUS_INVALID_CRUNTIME_PARAMETER", None),
    (0xc000_041d, "STATUS_FATAL_USER_CALLBACK_EXCEPTION", None),
    (0xc000_0420, "STATUS_ASSERTION_FAILURE", None),
    (0xc000_0428, "STATUS_INVALID_IMAGE_HASH", None),
    (0xc000_0602, "STATUS_FAIL_FAST_EXCEPTION", None),
    (0xc000_070a, "STATUS_THREADPOOL_HANDLE_EXCEPTION", None),
    (0xc000_06ba, "RPC_S_SERVER_UNAVAILABLE", None),
    (0xc000_013a, "STATUS_CONTROL_C_EXIT", None),
    (0x4001_0005, "DBG_CONTROL_C", None),
    (0x4001_0008, "DBG_CONTROL_BREAK", None),
    (0x4001_0006, "DBG_PRINTEXCEPTION_C", None),
    (0x4000_0015, "STATUS_FATAL_APP_EXIT", None),
    (0x8000_000e, "E_PENDING", None),
    (0x8000_0029, "EXCEPTION_POSSIBLE_STACK_CORRUPTION", None),
    (0xe06d_7363, "Unhandled C++ Exception", None),
    (0xe043_4352, "Unhandled CLR Exception", None),
    (0xe0434f4d, "Unhandled CLR 1.0 Exception", None),
    (0xe000_0008, "Out of Memory", None),
    (0xe0424242, "Unhandled D Exception", None),
    (0xc06d_007e, "Delay-load: module not found", None),
    (0xc06d_007f, "Delay-load: procedure not found", None),
    (0x0517_a7ed, "Simulated Exception", None),
];

/// Codes of `__fastfail`, in the order of their numbers (winnt.h).
const FAST_FAIL: [&str; 73] = [
    "FAST_FAIL_LEGACY_GS_VIOLATION",
    "FAST_FAIL_VTGUARD_CHECK_FAILURE",
    "FAST_FAIL_STACK_COOKIE_CHECK_FAILURE",
    "FAST_FAIL_CORRUPT_LIST_ENTRY",
    "FAST_FAIL_INCORRECT_STACK",
    "FAST_FAIL_INVALID_ARG",
    "FAST_FAIL_GS_COOKIE_INIT",
    "FAST_FAIL_FATAL_APP_EXIT",
    "FAST_FAIL_RANGE_CHECK_FAILURE",
    "FAST_FAIL_UNSAFE_REGISTRY_ACCESS",
    "FAST_FAIL_GUARD_ICALL_CHECK_FAILURE",
    "FAST_FAIL_GUARD_WRITE_CHECK_FAILURE",
    "FAST_FAIL_INVALID_FIBER_SWITCH",
    "FAST_FAIL_INVALID_SET_OF_CONTEXT",
    "FAST_FAIL_INVALID_REFERENCE_COUNT",
    "",
    "",
    "",
    "FAST_FAIL_INVALID_JUMP_BUFFER",
    "FAST_FAIL_MRDATA_MODIFIED",
    "FAST_FAIL_CERTIFICATION_FAILURE",
    "FAST_FAIL_INVALID_EXCEPTION_CHAIN",
    "FAST_FAIL_CRYPTO_LIBRARY",
    "FAST_FAIL_INVALID_CALL_IN_DLL_CALLOUT",
    "FAST_FAIL_INVALID_IMAGE_BASE",
    "FAST_FAIL_DLOAD_PROTECTION_FAILURE",
    "FAST_FAIL_UNSAFE_EXTENSION_CALL",
    "FAST_FAIL_DEPRECATED_SERVICE_INVOKED",
    "FAST_FAIL_INVALID_BUFFER_ACCESS",
    "FAST_FAIL_INVALID_BALANCED_TREE",
    "FAST_FAIL_INVALID_NEXT_THREAD",
    "FAST_FAIL_GUARD_ICALL_CHECK_SUPPRESSED",
    "FAST_FAIL_APCS_DISABLED",
    "FAST_FAIL_INVALID_IDLE_STATE",
    "FAST_FAIL_MRDATA_PROTECTION_FAILURE",
    "FAST_FAIL_UNEXPECTED_HEAP_EXCEPTION",
    "FAST_FAIL_INVALID_LOCK_STATE",
    "FAST_FAIL_GUARD_JUMPTABLE",
    "FAST_FAIL_INVALID_LONGJUMP_TARGET",
    "FAST_FAIL_INVALID_DISPATCH_CONTEXT",
    "FAST_FAIL_INVALID_THREAD",
    "FAST_FAIL_INVALID_SYSCALL_NUMBER",
    "FAST_FAIL_INVALID_FILE_OPERATION",
    "FAST_FAIL_LPAC_ACCESS_DENIED",
    "FAST_FAIL_GUARD_SS_FAILURE",
    "FAST_FAIL_LOADER_CONTINUITY_FAILURE",
    "FAST_FAIL_GUARD_EXPORT_SUPPRESSION_FAILURE",
    "FAST_FAIL_INVALID_CONTROL_STACK",
    "FAST_FAIL_SET_CONTEXT_DENIED",
    "FAST_FAIL_INVALID_IAT",
    "FAST_FAIL_HEAP_METADATA_CORRUPTION",
    "FAST_FAIL_PAYLOAD_RESTRICTION_VIOLATION",
    "FAST_FAIL_LOW_LABEL_ACCESS_DENIED",
    "FAST_FAIL_ENCLAVE_CALL_FAILURE",
    "FAST_FAIL_UNHANDLED_LSS_EXCEPTON",
    "FAST_FAIL_ADMINLESS_ACCESS_DENIED",
    "FAST_FAIL_UNEXPECTED_CALL",
    "FAST_FAIL_CONTROL_INVALID_RETURN_ADDRESS",
    "FAST_FAIL_UNEXPECTED_HOST_BEHAVIOR",
    "FAST_FAIL_FLAGS_CORRUPTION",
    "FAST_FAIL_VEH_CORRUPTION",
    "FAST_FAIL_ETW_CORRUPTION",
    "FAST_FAIL_RIO_ABORT",
    "FAST_FAIL_INVALID_PFN",
    "FAST_FAIL_GUARD_ICALL_CHECK_FAILURE_XFG",
    "FAST_FAIL_CAST_GUARD",
    "FAST_FAIL_HOST_VISIBILITY_CHANGE",
    "FAST_FAIL_KERNEL_CET_SHADOW_STACK_ASSIST",
    "FAST_FAIL_PATCH_CALLBACK_FAILED",
    "FAST_FAIL_NTDLL_PATCH_FAILED",
    "FAST_FAIL_INVALID_FLS_DATA",
    "FAST_FAIL_ASAN_ERROR",
    "FAST_FAIL_CLR_EXCEPTION_AOT",
];

pub(super) fn name(number: i64) -> Option<&'static str> {
    find(number).map(|(_, name, _)| *name)
}

pub(super) fn likeness(number: i64) -> Like {
    find(number).and_then(|(_, _, like)| *like)
}

fn find(number: i64) -> Option<&'static (u32, &'static str, Like)> {
    let code = u32::try_from(number & 0xffff_ffff).ok()?;
    EXCEPTIONS.iter().find(|(n, ..)| *n == code)
}

/// The first parameter in words: the direction of an access, the reason of a fast fail.
pub(super) fn code_name(number: i64, code: i64) -> Option<&'static str> {
    match (u32::try_from(number & 0xffff_ffff).ok()?, code) {
        (0xc000_0005, 0) => Some("EXCEPTION_ACCESS_VIOLATION_READ"),
        (0xc000_0005, 1) => Some("EXCEPTION_ACCESS_VIOLATION_WRITE"),
        (0xc000_0005, 8) => Some("EXCEPTION_ACCESS_VIOLATION_EXEC"),
        (0xc000_0006, 0) => Some("EXCEPTION_IN_PAGE_ERROR_READ"),
        (0xc000_0006, 1) => Some("EXCEPTION_IN_PAGE_ERROR_WRITE"),
        (0xc000_0006, 8) => Some("EXCEPTION_IN_PAGE_ERROR_EXEC"),
        (0xc000_0409, code) => FAST_FAIL.get(usize::try_from(code).ok()?).copied().filter(|name| !name.is_empty()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_32_bits_of_either_sign() {
        assert_eq!(name(0xc000_0005), Some("EXCEPTION_ACCESS_VIOLATION"));
        assert_eq!(name(i64::from(0xc000_0005_u32.cast_signed())), Some("EXCEPTION_ACCESS_VIOLATION"));
        assert_eq!(name(1), None);
        assert_eq!(likeness(0xc000_0094), Some(("SIGFPE", Some("FPE_INTDIV"))));
        let mut codes: Vec<u32> = EXCEPTIONS.iter().map(|(n, ..)| *n).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), EXCEPTIONS.len());
    }

    /// Anchors of winnt.h across the table: a name left out would shift all that follow.
    #[test]
    fn fast_fail_codes() {
        let cases = [
            (2, "FAST_FAIL_STACK_COOKIE_CHECK_FAILURE"),
            (7, "FAST_FAIL_FATAL_APP_EXIT"),
            (18, "FAST_FAIL_INVALID_JUMP_BUFFER"),
            (29, "FAST_FAIL_INVALID_BALANCED_TREE"),
            (37, "FAST_FAIL_GUARD_JUMPTABLE"),
            (44, "FAST_FAIL_GUARD_SS_FAILURE"),
            (50, "FAST_FAIL_HEAP_METADATA_CORRUPTION"),
            (57, "FAST_FAIL_CONTROL_INVALID_RETURN_ADDRESS"),
            (64, "FAST_FAIL_GUARD_ICALL_CHECK_FAILURE_XFG"),
            (71, "FAST_FAIL_ASAN_ERROR"),
        ];
        for (code, name) in cases {
            assert_eq!(code_name(0xc000_0409, code), Some(name), "{code}");
        }
        assert_eq!(code_name(0xc000_0409, 15), None);
        assert_eq!(code_name(0xc000_0409, 99), None);
    }
}
