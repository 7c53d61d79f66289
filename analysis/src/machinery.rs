//! Functions that are never the bug: those that raise, abort, assert, throw and panic, and those that start threads.

/// What part of the machinery a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Sends a signal to its own process or ends it: `raise`, `abort`.
    Raise,
    /// Reports a failed assertion.
    Assert,
    /// A check of the C library or the compiler that failed: fortify, stack protector.
    Check,
    /// The allocator's report of a corrupt heap.
    Heap,
    /// Throwing, or terminating for want of a handler.
    Throw,
    /// Rust's way from `panic!` to the end.
    Panic,
    /// Starts threads or `main`: everything outside of it is the system's.
    Start,
}

const EXACT: [(&str, Part); 104] = [
    ("raise", Part::Raise),
    ("gsignal", Part::Raise),
    ("kill", Part::Raise),
    ("tgkill", Part::Raise),
    ("tkill", Part::Raise),
    ("thr_kill", Part::Raise),
    ("__sys_thr_kill", Part::Raise),
    ("_lwp_kill", Part::Raise),
    ("__lwp_kill", Part::Raise),
    ("_kill", Part::Raise),
    ("__raise", Part::Raise),
    ("_raise", Part::Raise),
    ("__libc_raise", Part::Raise),
    ("pthread_kill", Part::Raise),
    ("__pthread_kill", Part::Raise),
    ("__pthread_kill_implementation", Part::Raise),
    ("__pthread_kill_internal", Part::Raise),
    ("__pthread_raise_internal", Part::Raise),
    ("__kernel_vsyscall", Part::Raise),
    ("abort", Part::Raise),
    ("__abort", Part::Raise),
    ("__libc_message", Part::Raise),
    ("__libc_message_impl", Part::Raise),
    ("__libc_fatal", Part::Raise),
    ("__libc_message_wrapper", Part::Raise),
    ("std::process::abort", Part::Raise),
    ("std::sys::pal::unix::abort_internal", Part::Raise),
    ("std::sys::unix::abort_internal", Part::Raise),
    ("__assert_fail", Part::Assert),
    ("__assert_fail_base", Part::Assert),
    ("__assert_perror_fail", Part::Assert),
    ("__assert", Part::Assert),
    ("_assert", Part::Assert),
    ("__assert13", Part::Assert),
    ("__assert_c99", Part::Assert),
    ("__assert_rtn", Part::Assert),
    ("__libc_assert_fail", Part::Assert),
    ("__malloc_assert", Part::Heap),
    ("assfail", Part::Assert),
    ("g_assertion_message", Part::Assert),
    ("g_assertion_message_expr", Part::Assert),
    ("std::__replacement_assert", Part::Assert),
    ("std::__glibcxx_assert_fail", Part::Assert),
    ("std::__libcpp_verbose_abort", Part::Assert),
    ("std::__libcpp_assertion_handler", Part::Assert),
    ("__fortify_fail", Part::Check),
    ("__fortify_fail_abort", Part::Check),
    ("__chk_fail", Part::Check),
    ("__stack_chk_fail", Part::Check),
    ("__stack_chk_fail_local", Part::Check),
    ("__stack_smash_handler", Part::Check),
    ("__longjmp_chk", Part::Check),
    ("__fdelt_chk", Part::Check),
    ("malloc_printerr", Part::Heap),
    ("malloc_printerr_tail", Part::Heap),
    ("__cxa_throw", Part::Throw),
    ("__cxa_rethrow", Part::Throw),
    ("std::rethrow_exception", Part::Throw),
    ("__cxa_bad_cast", Part::Throw),
    ("__cxa_bad_typeid", Part::Throw),
    ("__cxa_throw_bad_array_new_length", Part::Throw),
    ("__cxa_call_terminate", Part::Throw),
    ("__cxa_call_unexpected", Part::Throw),
    ("__cxa_pure_virtual", Part::Throw),
    ("__cxa_deleted_virtual", Part::Throw),
    ("__clang_call_terminate", Part::Throw),
    ("std::terminate", Part::Throw),
    ("std::__terminate", Part::Throw),
    ("std::unexpected", Part::Throw),
    ("__cxxabiv1::__terminate", Part::Throw),
    ("__cxxabiv1::__unexpected", Part::Throw),
    ("__gnu_cxx::__verbose_terminate_handler", Part::Throw),
    ("demangling_terminate_handler", Part::Throw),
    ("abort_message", Part::Throw),
    ("__gxx_personality_v0", Part::Throw),
    ("_Unwind_RaiseException", Part::Throw),
    ("_Unwind_Resume", Part::Throw),
    ("_Unwind_Resume_or_Rethrow", Part::Throw),
    ("rust_panic", Part::Panic),
    ("rust_begin_unwind", Part::Panic),
    ("__rustc::rust_begin_unwind", Part::Panic),
    ("__rust_start_panic", Part::Panic),
    ("__rustc::__rust_start_panic", Part::Panic),
    ("__rustc::__rust_abort", Part::Panic),
    ("__rust_abort", Part::Panic),
    ("rust_oom", Part::Panic),
    ("std::alloc::rust_oom", Part::Panic),
    ("alloc::alloc::handle_alloc_error", Part::Panic),
    ("std::sys::backtrace::__rust_end_short_backtrace", Part::Panic),
    ("std::sys_common::backtrace::__rust_end_short_backtrace", Part::Panic),
    ("_start", Part::Start),
    ("__libc_start_main", Part::Start),
    ("__libc_start_main_impl", Part::Start),
    ("__libc_start_call_main", Part::Start),
    ("__libc_init_first", Part::Start),
    ("libc_start_main_stage2", Part::Start),
    ("generic_start_main", Part::Start),
    ("start_thread", Part::Start),
    ("thread_start", Part::Start),
    ("_lwp_start", Part::Start),
    ("_thrp_setup", Part::Start),
    ("clone", Part::Start),
    ("__clone", Part::Start),
    ("clone3", Part::Start),
];

const PREFIXES: [(&str, Part); 22] = [
    ("core::panicking::", Part::Panic),
    ("std::panicking::", Part::Panic),
    ("panic_abort::", Part::Panic),
    ("panic_unwind::", Part::Panic),
    ("__rustc::", Part::Panic),
    ("core::option::unwrap_failed", Part::Panic),
    ("core::option::expect_failed", Part::Panic),
    ("core::option::expect_none_failed", Part::Panic),
    ("core::result::unwrap_failed", Part::Panic),
    ("core::slice::index::slice_", Part::Panic),
    ("core::str::slice_error_fail", Part::Panic),
    ("core::cell::panic_already", Part::Panic),
    ("std::__throw_", Part::Throw),
    ("__stack_chk_fail", Part::Check),
    ("__clone3", Part::Start),
    ("__pthread_start", Part::Start),
    ("pthread_start", Part::Start),
    ("std::rt::lang_start", Part::Start),
    ("std::sys::backtrace::__rust_begin_short_backtrace", Part::Start),
    ("std::sys_common::backtrace::__rust_begin_short_backtrace", Part::Start),
    ("std::sys::pal::unix::thread::Thread::new::thread_start", Part::Start),
    ("execute_native_thread_routine", Part::Start),
];

/// Every Rust thread runs inside of these: they wait for a panic and are no sign of one.
const CATCHING: [&str; 3] = ["std::panicking::catch_unwind", "std::panicking::try", "core::panicking::catch"];

/// The part that a function in normal form plays, if any.
pub(crate) fn part(name: &str) -> Option<Part> {
    if let Some((_, part)) = EXACT.iter().find(|(n, _)| *n == name) {
        return Some(*part);
    }
    if CATCHING.iter().any(|c| name.starts_with(c)) {
        return None;
    }
    PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, part)| *part)
}

/// Whether the function only carries the stop out: it is skipped where a stack is named by its top.
pub(crate) fn is_messenger(name: &str) -> bool {
    part(name).is_some_and(|p| p != Part::Start) || is_fortified(name)
}

/// `__memcpy_chk` and its like: the checked forms that `_FORTIFY_SOURCE` calls.
pub(crate) fn is_fortified(name: &str) -> bool {
    name.len() > 6 && name.starts_with("__") && name.ends_with("_chk")
}

/// Whether the function belongs to an allocator.
pub(crate) fn is_allocator(name: &str) -> bool {
    let bare = name.trim_start_matches('_').trim_start_matches("libc_");
    matches!(
        bare,
        "malloc"
            | "free"
            | "cfree"
            | "calloc"
            | "realloc"
            | "reallocarray"
            | "memalign"
            | "aligned_alloc"
            | "posix_memalign"
            | "int_malloc"
            | "int_free"
            | "int_free_check"
            | "int_free_chunk"
            | "int_free_merge_chunk"
            | "int_free_create_chunk"
            | "int_free_maybe_consolidate"
            | "int_realloc"
            | "int_memalign"
            | "sysmalloc"
            | "systrim"
            | "unlink_chunk"
            | "malloc_consolidate"
            | "munmap_chunk"
            | "tcache_get"
            | "tcache_put"
            | "tcache_free"
            | "tcache_double_free_verify"
            | "tcache_thread_shutdown"
            | "malloc_arena_thread_freeres"
            | "malloc_thread_freeres"
            | "libc_freeres"
    ) || name.starts_with("operator delete")
        || name.starts_with("operator new")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_from_the_program() {
        let cases = [
            ("abort", Some(Part::Raise)),
            ("abort_transaction", None),
            ("core::panicking::panic_bounds_check", Some(Part::Panic)),
            ("my::core::panicking", None),
            ("std::panicking::catch_unwind::do_call<f>", None),
            ("__stack_chk_fail_local", Some(Part::Check)),
            ("std::terminate", Some(Part::Throw)),
            ("start_thread", Some(Part::Start)),
            ("main", None),
        ];
        for (name, expected) in cases {
            assert_eq!(part(name), expected, "{name}");
        }
        assert!(is_fortified("__memcpy_chk") && is_messenger("__strcpy_chk"));
        assert!(!is_fortified("memcpy") && !is_messenger("start_thread"));
        assert!(is_allocator("_int_free") && is_allocator("__libc_malloc") && !is_allocator("free_pod"));
    }
}
