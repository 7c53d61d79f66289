//! Kernel functions that are never the bug: those that report, those that detect, and those that only did what their
//! caller asked for.

/// Names, after clone suffixes are gone, of Linux, FreeBSD and illumos.
const EXACT: &[&str] = &[
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
    "delay_tsc",
    "__delay",
    "__const_udelay",
    "__udelay",
    "__preempt_count_add",
    "__preempt_count_sub",
    "do_exit",
    "do_group_exit",
    "make_task_dead",
    "rewind_stack_and_make_dead",
    "rewind_stack_do_exit",
    "__x64_sys_exit",
    "__x64_sys_exit_group",
    "__do_sys_exit_group",
    "__se_sys_exit_group",
    "__arm64_sys_exit_group",
    "get_signal",
    "arch_do_signal_or_restart",
    "do_notify_resume",
    "exit_to_user_mode_loop",
    "exit_to_user_mode_prepare",
    "syscall_exit_to_user_mode",
    "__syscall_exit_to_user_mode_work",
    "irqentry_exit_to_user_mode",
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
    "kdb_trap",
    "data_abort",
    "align_abort",
    "external_abort",
    "do_el1h_sync",
    "handle_el1h_sync",
    "do_serror",
    "handle_serror",
    "handle_el1h_serror",
    "uma_dbg_free",
    "uma_dbg_alloc",
    "trash_ctor",
    "mtrash_ctor",
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
    "__check_heap_object",
    "check_heap_object",
    "check_kernel_text_object",
    "check_stack_object",
    "__schedule_bug",
    "__might_sleep",
    "___might_sleep",
    "__might_resched",
    "check_bytes_and_report",
    "check_slab",
    "check_pad_bytes",
    "slab_pad_check",
    "on_freelist",
    "print_trailer",
    "alloc_debug_processing",
    "alloc_consistency_checks",
    "free_consistency_checks",
    "free_page_is_bad",
    "check_free_page",
    "check_new_page_bad",
    "free_pcp_prepare",
    "free_unref_page_prepare",
    "free_unref_page",
    "free_unref_folios",
    "free_frozen_pages",
    "get_page_from_freelist",
    "prep_new_page",
    "__free_pages",
    "__free_pages_ok",
    "free_pages",
    "__folio_put",
    "print_bad_pte",
    "rcu_dump_cpu_stacks",
    "rcu_sched_clock_irq",
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
const PREFIXES: &[&str] = &[
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

/// What only asks for memory on behalf of a program or of a file's pages: nobody's bug when memory runs out.
const ALLOCATING: &[&str] = &[
    "__folio_alloc",
    "folio_alloc",
    "vma_alloc_folio",
    "alloc_anon_folio",
    "__get_free_page",
    "get_zeroed_page",
    "filemap_alloc_folio",
    "__filemap_get_folio",
    "filemap_fault",
    "page_cache_ra_",
    "ondemand_readahead",
    "do_sync_mmap_readahead",
    "do_anonymous_page",
    "do_fault",
    "__do_fault",
    "do_read_fault",
    "do_cow_fault",
    "do_shared_fault",
    "do_wp_page",
    "wp_page_copy",
    "do_swap_page",
    "swapin_readahead",
    "swap_cluster_readahead",
    "read_swap_cache_async",
    "__read_swap_cache_async",
    "handle_pte_fault",
    "__handle_mm_fault",
    "handle_mm_fault",
    "faultin_page",
    "__get_user_pages",
    "populate_vma_page_range",
    "__mm_populate",
    "pte_alloc_one",
    "__pte_alloc",
    "__pmd_alloc",
    "__pud_alloc",
];

/// What a bug's own functions did not do themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excused {
    /// Reporting, detecting and serving.
    Helpers,
    /// Waiting as well.
    Waiting,
    /// Memory that was asked for on a program's behalf as well.
    Allocating,
}

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

/// The index of the function to blame: the first that is neither helper nor excused. `None` when
/// the kernel's entry comes first.
pub(crate) fn blamed<'n>(names: impl Iterator<Item = &'n str>, excused: Excused) -> Option<usize> {
    for (at, name) in names.enumerate() {
        let name = crate::names::normalise(name);
        if is_entry(&name) {
            return None;
        }
        let serves = is_helper(&name)
            || match excused {
                Excused::Helpers => false,
                Excused::Waiting => is_waiting(&name),
                Excused::Allocating => ALLOCATING.iter().any(|p| name.starts_with(p)),
            };
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
        assert_eq!(blamed(list.into_iter(), Excused::Helpers), Some(1));
        let free = ["kmem_cache_free", "lkf_dfree"];
        assert_eq!(blamed(free.into_iter(), Excused::Helpers), Some(1));
        let hung = ["__schedule", "schedule", "schedule_preempt_disabled", "__mutex_lock.constprop.0", "lkf_hang"];
        assert_eq!(blamed(hung.into_iter(), Excused::Waiting), Some(4));
        let hog = ["out_of_memory", "__alloc_pages", "__folio_alloc", "handle_mm_fault", "asm_exc_page_fault"];
        assert_eq!(blamed(hog.into_iter(), Excused::Allocating), None);
        let init = ["panic", "do_exit.cold", "do_group_exit", "__x64_sys_exit_group", "do_syscall_64"];
        assert_eq!(blamed(init.into_iter(), Excused::Helpers), None);
        let nothing = ["panic", "do_syscall_64", "x"];
        assert_eq!(blamed(nothing.into_iter(), Excused::Helpers), None);
    }
}
