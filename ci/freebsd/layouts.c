/*
 * The layouts of FreeBSD/amd64 that the project relies on, checked against the system's own headers. The same numbers
 * stand in platform/src/live/freebsd/abi.rs and kernel-dumps/src/freebsd: whoever changes one changes the other.
 */
#include <stddef.h>
#include <sys/param.h>
#include <sys/types.h>
#include <sys/proc.h>
#include <sys/ptrace.h>
#include <sys/sysctl.h>
#include <sys/user.h>
#include <sys/kerneldump.h>
#include <sys/msgbuf.h>
#include <sys/elf_common.h>
#include <sys/event.h>
#include <sys/exec.h>
#include <sys/resource.h>
#include <machine/reg.h>
#include <machine/minidump.h>
#include <machine/pcb.h>

#define SIZE(type, n) _Static_assert(sizeof(type) == (n), "size of " #type)
#define AT(type, member, n) _Static_assert(offsetof(type, member) == (n), #type "." #member)
#define IS(name, n) _Static_assert((name) == (n), #name)

SIZE(struct reg, 176);
AT(struct reg, r_r15, 0);
AT(struct reg, r_rdi, 64);
AT(struct reg, r_rax, 112);
AT(struct reg, r_trapno, 120);
AT(struct reg, r_err, 128);
AT(struct reg, r_rip, 136);
AT(struct reg, r_cs, 144);
AT(struct reg, r_rflags, 152);
AT(struct reg, r_rsp, 160);
AT(struct reg, r_ss, 168);
SIZE(struct fpreg, 512);
SIZE(struct ptrace_lwpinfo, 160);
AT(struct ptrace_lwpinfo, pl_event, 4);
AT(struct ptrace_lwpinfo, pl_flags, 8);
AT(struct ptrace_lwpinfo, pl_sigmask, 12);
AT(struct ptrace_lwpinfo, pl_siglist, 28);
AT(struct ptrace_lwpinfo, pl_siginfo, 48);
AT(struct ptrace_lwpinfo, pl_tdname, 128);
AT(struct ptrace_lwpinfo, pl_syscall_code, 152);
SIZE(struct ptrace_io_desc, 32);
SIZE(struct ptrace_vm_entry, 64);
AT(struct ptrace_vm_entry, pve_start, 8);
AT(struct ptrace_vm_entry, pve_pathlen, 36);
AT(struct ptrace_vm_entry, pve_path, 56);
SIZE(struct ptrace_coredump, 16);
SIZE(struct kinfo_proc, 1088);
AT(struct kinfo_proc, ki_pid, 72);
AT(struct kinfo_proc, ki_stat, 388);
AT(struct kinfo_proc, ki_flag, 368);
AT(struct kinfo_proc, ki_ppid, 76);
AT(struct kinfo_proc, ki_tdname, 394);
AT(struct kinfo_proc, ki_comm, 447);
AT(struct kinfo_proc, ki_tid, 600);
SIZE(struct kinfo_vmentry, 1160);
AT(struct kinfo_vmentry, kve_start, 8);
AT(struct kinfo_vmentry, kve_end, 16);
AT(struct kinfo_vmentry, kve_offset, 24);
AT(struct kinfo_vmentry, kve_protection, 56);
AT(struct kinfo_vmentry, kve_path, 136);
SIZE(struct kinfo_file, 1392);
AT(struct kinfo_file, kf_fd, 8);
AT(struct kinfo_file, kf_path, 368);

SIZE(struct kerneldumpheader, 512);
AT(struct kerneldumpheader, version, 32);
AT(struct kerneldumpheader, dumplength, 40);
AT(struct kerneldumpheader, dumptime, 48);
AT(struct kerneldumpheader, dumpkeysize, 56);
AT(struct kerneldumpheader, blocksize, 60);
AT(struct kerneldumpheader, hostname, 64);
AT(struct kerneldumpheader, versionstring, 128);
AT(struct kerneldumpheader, panicstring, 320);
AT(struct kerneldumpheader, compression, 495);
AT(struct kerneldumpheader, dumpextent, 496);
AT(struct kerneldumpheader, parity, 508);
SIZE(struct minidumphdr, 72);
AT(struct minidumphdr, kernbase, 40);
AT(struct minidumphdr, dumpavailsize, 64);
AT(struct pcb, pcb_r15, 0);
AT(struct pcb, pcb_rbp, 32);
AT(struct pcb, pcb_rip, 56);
AT(struct msgbuf, msg_magic, 8);
AT(struct msgbuf, msg_size, 12);
AT(struct msgbuf, msg_wseq, 16);

SIZE(struct kinfo_knote, 1160);
AT(struct kinfo_knote, knt_event.ident, 8);
AT(struct kinfo_knote, knt_event.filter, 16);
AT(struct kinfo_knote, knt_event.flags, 18);
AT(struct kinfo_knote, knt_event.fflags, 20);
AT(struct kinfo_knote, knt_event.data, 24);
AT(struct kinfo_knote, knt_status, 72);
AT(struct kinfo_knote, knt_extdata, 76);
AT(struct kinfo_knote, knt_vnode.knt_vnode_fullpath, 136);
IS(EVFILT_READ, -1);
IS(EVFILT_JAILDESC, -15);
SIZE(struct ps_strings, 32);
AT(struct ps_strings, ps_nargvstr, 8);
AT(struct ps_strings, ps_envstr, 16);
SIZE(rlim_t, 8);
IS(RLIMIT_PIPEBUF, 15);
IS(NT_PROCSTAT_GROUPS, 11);
IS(NT_PROCSTAT_UMASK, 12);
IS(NT_PROCSTAT_RLIMIT, 13);
IS(NT_PROCSTAT_PSSTRINGS, 15);
IS(NT_PROCSTAT_KQUEUES, 18);
SIZE(struct dbreg, 128);
IS(PT_GETDBREGS, 37);
IS(PC_COMPRESS, 1);
IS(PC_ALL, 2);

IS(PT_LWPINFO, 13);
IS(PT_GETNUMLWPS, 14);
IS(PT_GETLWPLIST, 15);
IS(PT_COREDUMP, 29);
IS(PT_GETREGS, 33);
IS(PT_GETFPREGS, 35);
IS(PT_VM_ENTRY, 41);
IS(PT_GETXSTATE_INFO, 68);
IS(PT_GETXSTATE, 69);
IS(PT_GETFSBASE, 71);
IS(PT_GETGSBASE, 73);
IS(PL_FLAG_SI, 0x20);
IS(CTL_KERN, 1);
IS(KERN_PROC, 14);
IS(KERN_OSRELDATE, 24);
IS(KERN_PROC_PID, 1);
IS(KERN_PROC_ARGS, 7);
IS(KERN_PROC_PATHNAME, 12);
IS(KERN_PROC_VMMAP, 32);
IS(KERN_PROC_FILEDESC, 33);
IS(KERN_PROC_ENV, 35);
IS(KERN_PROC_GROUPS, 34);
IS(KERN_PROC_AUXV, 36);
IS(KERN_PROC_RLIMIT, 37);
IS(KERN_PROC_PS_STRINGS, 38);
IS(KERN_PROC_UMASK, 39);
IS(SSTOP, 4);
IS(SZOMB, 5);
IS(P_KPROC, 4);
IS(PIOD_READ_D, 1);
IS(PT_IO, 12);
