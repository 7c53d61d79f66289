//! Numbers and layouts of FreeBSD's interface. `ci/freebsd/layouts.c` compares them with the system's own headers.

/// `sysctl` names: `CTL_KERN`, `KERN_PROC`, what of a process, `KERN_OSRELDATE`.
pub const CTL_KERN: i32 = 1;
pub const KERN_PROC: i32 = 14;
pub const KERN_OSRELDATE: i32 = 24;
pub const KERN_PROC_PID: i32 = 1;
pub const KERN_PROC_ARGS: i32 = 7;
pub const KERN_PROC_VMMAP: i32 = 32;
pub const KERN_PROC_FILEDESC: i32 = 33;
pub const KERN_PROC_ENV: i32 = 35;
pub const KERN_PROC_GROUPS: i32 = 34;
pub const KERN_PROC_AUXV: i32 = 36;
pub const KERN_PROC_RLIMIT: i32 = 37;
pub const KERN_PROC_PS_STRINGS: i32 = 38;
pub const KERN_PROC_UMASK: i32 = 39;

/// `struct kinfo_proc`: where its members lie, and values of `ki_stat`.
pub const KINFO_PROC: usize = 1088;
pub const KI_FLAG: usize = 368;
pub const KI_STAT: usize = 388;
pub const KI_COMM: usize = 447;
pub const STOPPED: u8 = 4;
pub const ZOMBIE: u8 = 5;
/// `P_KPROC`: a process of the kernel's own.
pub const P_KPROC: u32 = 4;

/// Bytes of `struct ptrace_lwpinfo`; where its name lies.
pub const LWPINFO: usize = 160;
pub const PL_TDNAME: usize = 128;

/// `errno` values of FreeBSD (sys/sys/errno.h).
pub const EPERM: i32 = 1;
pub const ESRCH: i32 = 3;
pub const EBUSY: i32 = 16;

/// `SIGSTOP`.
pub const SIGSTOP: i32 = 17;
