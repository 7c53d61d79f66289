//! Why a process cannot be attached to, and what would help.

use super::ptrace::Tid;
use super::{files, parse};
use crate::Refusal;
use std::io;
use std::os::unix::fs::MetadataExt;

/// `CAP_SYS_PTRACE` (`include/uapi/linux/capability.h`).
const CAP_SYS_PTRACE: u32 = 19;

/// Finds the reason of a failed attach.
pub(super) fn explain(pid: Tid, error: io::Error) -> Refusal {
    match error.raw_os_error() {
        Some(libc::ESRCH | libc::ENOENT) => missing(pid),
        Some(libc::EPERM | libc::EACCES) => refused(pid).or_else(|| any_traced(pid)).unwrap_or_else(|| forbidden(pid)),
        _ => Refusal::System { doing: format!("attaching to process {pid}").into(), source: error },
    }
}

/// What can be said before anything is tried.
pub(super) fn beforehand(pid: Tid) -> Result<(), Refusal> {
    let status = match files::text(format!("/proc/{pid}/status")) {
        Ok(status) => status,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => return Err(missing(pid)),
        Err(error) => return Err(explain(pid, error)),
    };
    let process = parse::number(&status, "Tgid").unwrap_or(0);
    if process == u64::from(std::process::id()) {
        return Err(Refusal::Ourselves);
    }
    if process != u64::try_from(pid).unwrap_or(0) {
        return Err(Refusal::NotALeader { process });
    }
    refused(pid).map_or(Ok(()), Err)
}

/// No thread could be held although the process was there.
pub(super) fn nothing_left(pid: Tid) -> Refusal {
    explain(pid, io::Error::from_raw_os_error(libc::ESRCH))
}

/// States in which nobody can attach, whatever their rights.
fn refused(pid: Tid) -> Option<Refusal> {
    let (stat, _) = files::read(format!("/proc/{pid}/stat"), files::LIMIT_TEXT).ok()?;
    let stat = parse::stat(&stat)?;
    if stat.kernel_thread() {
        return Some(Refusal::KernelThread);
    }
    let alive = super::threads::list(pid).is_ok_and(|(all, _)| all.iter().any(|tid| *tid != pid));
    if stat.state == 'Z' && !alive {
        return Some(Refusal::Zombie);
    }
    traced(&format!("/proc/{pid}"))
}

/// Who traces the thread that this folder describes. The kernel names the tracing thread; people know its process.
fn traced(folder: &str) -> Option<Refusal> {
    let status = files::text(format!("{folder}/status")).ok()?;
    let thread = parse::number(&status, "TracerPid").filter(|t| *t != 0)?;
    let process = files::text(format!("/proc/{thread}/status")).ok().and_then(|s| parse::number(&s, "Tgid"));
    let tracer = process.unwrap_or(thread);
    let command = files::text(format!("/proc/{tracer}/comm")).unwrap_or_default();
    Some(Refusal::Traced { tracer, command: command.trim_end_matches('\n').into() })
}

/// Any of the threads may be the one that has a tracer.
fn any_traced(pid: Tid) -> Option<Refusal> {
    let (tids, _) = super::threads::list(pid).ok()?;
    tids.into_iter().find_map(|tid| traced(&format!("/proc/{pid}/task/{tid}")))
}

/// `/proc` does not show it: it is not there, or it is hidden.
fn missing(pid: Tid) -> Refusal {
    if std::fs::metadata("/proc/self/stat").is_err() {
        return Refusal::Forbidden { reason: "/proc is not mounted here; mount it and try again".into() };
    }
    if nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None) == Err(nix::errno::Errno::EPERM)
        && std::fs::metadata(format!("/proc/{pid}")).is_err()
    {
        return Refusal::Forbidden {
            reason: "the process exists and /proc hides it (mount option hidepid); run as root".into(),
        };
    }
    if std::fs::metadata(format!("/proc/{pid}/stat")).is_ok() && refused(pid).is_some() {
        return refused(pid).unwrap_or(Refusal::NoSuchProcess);
    }
    Refusal::NoSuchProcess
}

/// The kernel said no: why, from what the system shows of both.
fn forbidden(pid: Tid) -> Refusal {
    let ours = files::text("/proc/self/status").unwrap_or_default();
    let theirs = files::text(format!("/proc/{pid}/status")).unwrap_or_default();
    let namespace = |who: &str| files::link(format!("/proc/{who}/ns/user")).ok();
    let rights = Rights {
        capable: parse::signals(&ours, "CapEff")
            .is_some_and(|set| set & 1_u64.checked_shl(CAP_SYS_PTRACE).unwrap_or(0) != 0),
        us: parse::users(&ours).map(|(_, effective)| effective),
        them: parse::users(&theirs),
        files: std::fs::metadata(format!("/proc/{pid}/environ")).ok().map(|m| m.uid()),
        scope: files::text("/proc/sys/kernel/yama/ptrace_scope").ok().and_then(|t| t.trim().parse().ok()),
        same_namespace: namespace("self") == namespace(&pid.to_string()),
    };
    Refusal::Forbidden { reason: rights.reason().into() }
}

/// What the kernel's answer to ptrace(2) depends on.
struct Rights {
    /// This program has `CAP_SYS_PTRACE` in its own user namespace.
    capable: bool,
    /// Our effective user.
    us: Option<u32>,
    /// The target's real and effective user.
    them: Option<(u32, u32)>,
    /// Who owns the target's files in `/proc`: root where it is not dumpable.
    files: Option<u32>,
    /// `kernel.yama.ptrace_scope`; `None` without that security module.
    scope: Option<u8>,
    /// Both are in one user namespace.
    same_namespace: bool,
}

impl Rights {
    /// Which rule forbids it: those of ptrace(2), "Ptrace access mode checking" and "/proc/sys/kernel/yama/ptrace_scope",
    /// in their order.
    fn reason(&self) -> String {
        let Self { capable, us, them, files, scope, same_namespace } = *self;
        match (us, them) {
            _ if scope == Some(3) => "kernel.yama.ptrace_scope is 3: attaching is forbidden to everybody until the \
                                      machine is started anew"
                .into(),
            (Some(us), Some((real, effective))) if !capable && (us != real || us != effective) => format!(
                "it runs as user {effective} (started by user {real}) and this program as user {us}: run as root, or \
                 give this program CAP_SYS_PTRACE"
            ),
            (Some(us), _) if !capable && files.is_some_and(|owner| owner != us) => {
                "it is a set-user-id program, or has forbidden tracing (PR_SET_DUMPABLE): run as root, or give this \
                 program CAP_SYS_PTRACE"
                    .into()
            }
            _ if !capable && scope == Some(1) => {
                "kernel.yama.ptrace_scope is 1: only ancestors may attach; run as root, or set it to 0".into()
            }
            _ if !capable && scope == Some(2) => {
                "kernel.yama.ptrace_scope is 2: only programs with CAP_SYS_PTRACE may attach; run as root".into()
            }
            _ if !capable && !same_namespace => {
                "it is in another user namespace: run as root of the machine, or inside that namespace".into()
            }
            _ if !capable => "this program lacks CAP_SYS_PTRACE (in a container: --cap-add=SYS_PTRACE)".into(),
            _ => "the kernel refuses although this program has CAP_SYS_PTRACE: it may be in an outer user namespace, or \
                  a security module (SELinux, AppArmor) or a system call filter forbids it; the system's audit log says \
                  which"
                .into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_beforehand() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(matches!(beforehand(own), Err(Refusal::Ourselves)));
        assert!(matches!(beforehand(i32::MAX), Err(Refusal::NoSuchProcess)));
        // kthreadd, where the pid namespace shows it.
        if std::fs::read_to_string("/proc/2/comm").is_ok_and(|c| c == "kthreadd\n") {
            assert!(matches!(beforehand(2), Err(Refusal::KernelThread)));
        }
    }

    /// An ordinary user before an ordinary process of the same user.
    const PLAIN: Rights = Rights {
        capable: false,
        us: Some(1000),
        them: Some((1000, 1000)),
        files: Some(1000),
        scope: None,
        same_namespace: true,
    };

    #[test]
    fn the_rule_that_forbids_it_is_named() {
        let check = |rights: Rights, says: &str| {
            let reason = rights.reason();
            assert!(reason.contains(says), "{says}: {reason}");
        };
        check(PLAIN, "lacks CAP_SYS_PTRACE");
        check(Rights { scope: Some(0), ..PLAIN }, "lacks CAP_SYS_PTRACE");
        check(Rights { scope: Some(1), ..PLAIN }, "ptrace_scope is 1: only ancestors");
        check(Rights { scope: Some(2), ..PLAIN }, "ptrace_scope is 2: only programs with CAP_SYS_PTRACE");
        check(Rights { scope: Some(3), ..PLAIN }, "ptrace_scope is 3: attaching is forbidden to everybody");
        // Not even to root.
        check(Rights { scope: Some(3), capable: true, us: Some(0), ..PLAIN }, "ptrace_scope is 3");
        // Whose it is comes first: setting the switch to 0 would not help.
        check(Rights { scope: Some(1), them: Some((0, 0)), ..PLAIN }, "it runs as user 0");
        check(Rights { them: Some((1000, 0)), ..PLAIN }, "it runs as user 0 (started by user 1000)");
        check(Rights { scope: Some(1), files: Some(0), ..PLAIN }, "set-user-id program");
        check(Rights { same_namespace: false, ..PLAIN }, "another user namespace");
        check(
            Rights { capable: true, us: Some(0), scope: Some(2), ..PLAIN },
            "although this program has CAP_SYS_PTRACE",
        );
    }
}
