//! Kernel functions that are never the bug: those that report, those that detect, and those that only did what their
//! caller asked for.

/// Names, after clone suffixes are gone, of Linux, FreeBSD and illumos.
const EXACT: [&str; 97] = [
    // Reporting and dying.
    "panic",
    "vpanic",
    "nmi_panic",
    "nmi_panic_self_stop",
    "__crash_kexec",
    "crash_kexec",
    "machine_kexec",
    "dump_stack",
    "show_stack",
    "oops_end",
    "oops_begin",
    "die",
    "__die",
    "die_addr",
    "die_body",
    "no_context",
    "search_exception_tables",
    "report_bug",
    "handle_bug",
    "do_trap",
    "do_error_trap",
    "bad_area_nosemaphore",
    "page_fault_oops",
    "kernelmode_fixup_or_oops",
    "do_kern_addr_fault",
    "do_user_addr_fault",
    "do_page_fault",
    "error_entry",
    "page_fault",
    "general_protection",
    "invalid_op",
    "divide_error",
    "double_fault",
    "trap_pfault",
    "trap_fatal",
    "trap",
    "calltrap",
    "alltraps",
    "kdb_enter",
    "kdb_backtrace",
    "kern_reboot",
    "doadump",
    "dumpsys",
    "dumpsys_generic",
    "minidumpsys",
    "cmntrap",
    "_cmntrap",
    "panicsys",
    "die_on_trap",
    "debug_enter",
    "restore_regs_and_return_to_kernel",
    "ret_from_exc",
    "handle_stack_overflow",
    "arm64_notify_die",
    "el1_abort",
    "do_mem_abort",
    "do_translation_fault",
    "do_sp_pc_abort",
    "el1h_64_sync",
    "el1h_64_sync_handler",
    "el1_sync",
    "bug_handler",
    "brk_handler",
    "call_break_hook",
    "do_debug_exception",
    "el1_dbg",
    // Detecting.
    "__stack_chk_fail",
    "fortify_panic",
    "__fortify_panic",
    "__fortify_report",
    "usercopy_abort",
    "__check_object_size",
    "refcount_warn_saturate",
    "refcount_error_report",
    "set_freepointer",
    "slab_err",
    "object_err",
    "slab_bug",
    "check_object",
    "free_debug_processing",
    "free_to_partial_list",
    "bad_page",
    "dump_header",
    "oom_kill_process",
    "out_of_memory",
    "check_panic_on_oom",
    "check_hung_uninterruptible_tasks",
    "check_hung_task",
    "watchdog",
    "watchdog_timer_fn",
    "print_other_cpu_stall",
    "print_cpu_stall",
    "check_cpu_stall",
    "panic_on_rcu_stall",
    "sysrq_handle_crash",
    "__handle_sysrq",
    "write_sysrq_trigger",
];

/// Beginnings of such names.
const PREFIXES: [&str; 45] = [
    "asm_exc_",
    "exc_",
    "asm_sysvec_",
    "sysvec_",
    "asm_common_interrupt",
    "__warn",
    "warn_slowpath",
    "kasan_",
    "__kasan_",
    "kfence_",
    "__kfence_",
    "__ubsan_",
    "ubsan_",
    "__asan_",
    "__list_del_entry_valid",
    "__list_add_valid",
    "kfree",
    "__kfree",
    "kmem_cache_",
    "__kmem_cache_",
    "kmalloc",
    "__kmalloc",
    "krealloc",
    "slab_",
    "__slab_",
    "___slab_",
    "cache_free_debugcheck",
    "__alloc_pages",
    "alloc_pages",
    "__get_free_pages",
    "vfree",
    "__vmalloc",
    "memcpy",
    "__memcpy",
    "memset",
    "__memset",
    "memmove",
    "__memmove",
    "copy_user_",
    "_copy_from_user",
    "_copy_to_user",
    "rep_movs",
    "nmi_",
    "trigger_",
    "dump_stack",
];

/// What waits, locks and schedules: the bug of a task that sleeps is where it was told to.
const WAITING: [&str; 26] = [
    "__schedule",
    "schedule",
    "io_schedule",
    "preempt_schedule",
    "__mutex_lock",
    "mutex_lock",
    "__ww_mutex_lock",
    "rwsem_",
    "down_",
    "__down",
    "__wait_",
    "wait_for_",
    "do_wait_for_common",
    "bit_wait",
    "out_of_line_wait",
    "_raw_spin_lock",
    "native_queued_spin_lock_slowpath",
    "queued_spin_lock_slowpath",
    "_raw_read_lock",
    "_raw_write_lock",
    "queued_read_lock_slowpath",
    "queued_write_lock_slowpath",
    "do_raw_spin_lock",
    "mi_switch",
    "sleepq_",
    "_sleep",
];

/// Where the kernel is entered: what lies outside says only how it came to be called.
const ENTRIES: [&str; 22] = [
    "entry_SYSCALL_64_after_hwframe",
    "entry_SYSCALL_64",
    "entry_SYSCALL_compat",
    "do_syscall_64",
    "x64_sys_call",
    "do_int80_syscall_32",
    "do_fast_syscall_32",
    "entry_SYSENTER_compat",
    "ret_from_fork",
    "ret_from_fork_asm",
    "kthread",
    "start_secondary",
    "start_kernel",
    "secondary_startup_64",
    "secondary_startup_64_no_verify",
    "el0t_64_sync",
    "el0_svc",
    "invoke_syscall",
    "amd64_syscall",
    "fast_syscall_common",
    "fork_exit",
    "sys_syscall",
];

/// Whether the function only reports, detects or serves.
pub(crate) fn is_helper(name: &str) -> bool {
    EXACT.contains(&name) || PREFIXES.iter().any(|p| name.starts_with(p))
}

/// Whether the function waits for something on its caller's behalf.
pub(crate) fn is_waiting(name: &str) -> bool {
    WAITING.iter().any(|p| name.starts_with(p))
}

/// Whether the kernel is entered here.
pub(crate) fn is_entry(name: &str) -> bool {
    ENTRIES.contains(&name)
}

/// The index of the function to blame: the first that is neither helper nor, where that counts, waiting. `None` when
/// the kernel's entry comes first.
pub(crate) fn blamed<'n>(names: impl Iterator<Item = &'n str>, waits: bool) -> Option<usize> {
    for (at, name) in names.enumerate() {
        let name = crate::names::normalise(name);
        if is_entry(&name) {
            return None;
        }
        let serves = is_helper(&name) || (waits && is_waiting(&name));
        if !serves {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_of_the_detector_is_blamed() {
        let list = ["__list_del_entry_valid.cold", "lkf_listcorrupt", "vfs_write"];
        assert_eq!(blamed(list.into_iter(), false), Some(1));
        let free = ["kmem_cache_free", "lkf_dfree"];
        assert_eq!(blamed(free.into_iter(), false), Some(1));
        let hung = ["__schedule", "schedule", "schedule_preempt_disabled", "__mutex_lock.constprop.0", "lkf_hang"];
        assert_eq!(blamed(hung.into_iter(), true), Some(4));
        let nothing = ["panic", "do_syscall_64", "x"];
        assert_eq!(blamed(nothing.into_iter(), false), None);
    }
}
