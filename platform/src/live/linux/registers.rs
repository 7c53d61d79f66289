//! What a stopped thread's registers and signals are, and the repair of waits that our stop has interrupted.

use super::ptrace::{self, Change, Tid};
use crate::linux_abi::registers::{General, general, in_progress};
use crate::linux_abi::{self, siginfo};
use evidence::{Arch, Doubt, Registers, Signal};
use std::ops::Range;
use std::sync::Arc;

/// The architecture whose registers this kernel has.
pub(super) const HOST: Arch = if cfg!(target_arch = "x86_64") {
    Arch::X86_64
} else if cfg!(target_arch = "aarch64") {
    Arch::Aarch64
} else {
    Arch::Other
};

/// The largest general register set: AArch64's 272 bytes.
const GENERAL_SIZE: usize = 512;

/// The largest vector register set. Intel's with AMX has 11,008 bytes, AArch64's 528.
const VECTOR_SIZE: usize = 65_536;

/// Everything that only the tracer can ask about a stopped thread.
#[derive(Debug)]
pub(super) struct Recorded {
    pub registers: Registers,
    /// The system call that was in progress.
    pub system_call: Option<u64>,
    /// The raw vector registers: their note type, and where in the [`Pool`] they are.
    pub vectors: Option<(u32, Range<usize>)>,
    pub signal_mask: Option<u64>,
    pub signal_pending: Option<u64>,
    pub debug_registers: Option<[u64; 6]>,
    /// The signal it is about to receive.
    pub signal: Option<(Signal, Arc<[u8]>)>,
    pub doubts: Vec<Doubt>,
}

/// Raw vector registers of all threads, one after the other. The memory is there before anything is stopped: while a
/// process stands still, a heap that grows costs more than the registers do.
#[derive(Debug, Default)]
pub(super) struct Pool {
    bytes: Vec<u8>,
    used: usize,
}

/// Bytes of one thread's vector registers with AVX-512; threads with more share what others leave.
const USUAL_VECTOR_SIZE: usize = 2816;
/// Most bytes prepared ahead; beyond it the pool grows as it goes.
const LIMIT_AHEAD: usize = 64 << 20;

impl Pool {
    /// Memory for so many threads, touched.
    pub(super) fn for_threads(count: usize) -> Self {
        let ahead = count.saturating_mul(USUAL_VECTOR_SIZE).min(LIMIT_AHEAD);
        // Not zero: pages of zeros are not there before they are written to.
        Self { bytes: vec![1; ahead.saturating_add(VECTOR_SIZE)], used: 0 }
    }

    /// Room for one more thread.
    fn room(&mut self) -> &mut [u8] {
        let end = self.used.saturating_add(VECTOR_SIZE);
        if self.bytes.len() < end {
            self.bytes.resize(end.saturating_add(LIMIT_AHEAD / 16), 1);
        }
        self.bytes.get_mut(self.used..end).unwrap_or_default()
    }

    /// What was recorded at a range.
    pub(super) fn get(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }
}

/// Asks a stopped thread for everything, without allocating memory.
pub(super) fn record(tid: Tid, change: Change, pool: &mut Pool) -> Recorded {
    let mut recorded = Recorded {
        registers: Registers::new(HOST),
        system_call: None,
        vectors: None,
        signal_mask: ptrace::signal_mask(tid).ok(),
        signal_pending: ptrace::signals_pending(tid).ok(),
        debug_registers: debug_registers(tid),
        signal: None,
        doubts: Vec::new(),
    };
    if let Change::Signalled(_) = change {
        recorded.signal = ptrace::signal_info(tid)
            .ok()
            .and_then(|raw| Some((siginfo::decode(&raw, HOST.pointer_size())?, Arc::from(raw.as_slice()))));
    }
    let mut raw = [0_u8; GENERAL_SIZE];
    let got = ptrace::register_set(tid, linux_abi::NT_PRSTATUS, &mut raw);
    let bytes = got.as_ref().ok().and_then(|n| raw.get_mut(..*n)).unwrap_or_default();
    match (general(HOST, bytes), got) {
        (Some(general), _) => {
            if let Change::Stopped { group: None } = change {
                recorded.doubts.extend(restart::keep_waiting(tid, bytes, &general));
            }
            take(&mut recorded, tid, general);
        }
        (None, Ok(size)) => recorded.doubts.push(Doubt::new(
            "registers",
            format!("thread {tid}: {size} bytes of general registers, which is no register set of {}", HOST.word()),
        )),
        (None, Err(error)) => {
            recorded.doubts.push(Doubt::new("registers", format!("thread {tid}: registers cannot be read: {error}")));
        }
    }
    vectors(&mut recorded, tid, pool);
    recorded
}

fn take(recorded: &mut Recorded, tid: Tid, general: General) {
    let entered = entered_by(tid, &general);
    recorded.system_call = entered.filter(|_| general.result.is_some_and(in_progress));
    recorded.registers = general.registers;
    thread_pointer(&mut recorded.registers, tid);
}

#[cfg(target_arch = "x86_64")]
fn entered_by(_: Tid, general: &General) -> Option<u64> {
    general.entered_by
}

#[cfg(not(target_arch = "x86_64"))]
fn entered_by(tid: Tid, _: &General) -> Option<u64> {
    let mut raw = [0_u8; 4];
    ptrace::register_set(tid, linux_abi::NT_ARM_SYSTEM_CALL, &mut raw).ok()?;
    u64::try_from(i32::from_le_bytes(raw)).ok()
}

/// i386 programs address thread-local storage through gs, whose base is in no 32-bit register set.
#[cfg(target_arch = "x86_64")]
fn thread_pointer(registers: &mut Registers, tid: Tid) {
    /// The offset of `gs_base` in x86-64's `struct user`.
    const GS_BASE: usize = 22 * 8;
    if registers.arch == Arch::X86
        && let Ok(base) = ptrace::peek_user(tid, GS_BASE)
    {
        registers.set(evidence::Register(58), base);
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn thread_pointer(registers: &mut Registers, tid: Tid) {
    let mut raw = [0_u8; 16];
    if registers.arch == Arch::Aarch64
        && ptrace::register_set(tid, linux_abi::NT_ARM_TLS, &mut raw).is_ok()
        && let Some(base) = evidence::bytes::u64_at(&raw, 0, evidence::bytes::Endian::Little)
    {
        registers.set(evidence::Register(36), base);
    }
}

/// DR0-DR3, DR6 and DR7, at `u_debugreg` of `struct user` (`arch/x86/include/asm/user_64.h`).
#[cfg(target_arch = "x86_64")]
fn debug_registers(tid: Tid) -> Option<[u64; 6]> {
    const AT: [usize; 6] = [848, 856, 864, 872, 896, 904];
    const CONTROL: usize = 904;
    let control = ptrace::peek_user(tid, CONTROL).ok()?;
    // Nothing is enabled: the addresses do not count, and five calls are saved while everything stands still.
    if control == 0 {
        return Some([0; 6]);
    }
    let mut values = [0; 6];
    for (value, offset) in values.iter_mut().zip(AT) {
        *value = ptrace::peek_user(tid, offset).ok()?;
    }
    Some(values)
}

#[cfg(not(target_arch = "x86_64"))]
fn debug_registers(_: Tid) -> Option<[u64; 6]> {
    None
}

fn vectors(recorded: &mut Recorded, tid: Tid, pool: &mut Pool) {
    let kind = if HOST == Arch::X86_64 { linux_abi::NT_X86_XSTATE } else { linux_abi::NT_PRFPREG };
    match ptrace::register_set(tid, kind, pool.room()) {
        Ok(size) if size < VECTOR_SIZE => {
            let end = pool.used.saturating_add(size);
            recorded.vectors = Some((kind, pool.used..end));
            pool.used = end;
        }
        Ok(size) => recorded.doubts.push(Doubt::new(
            "registers",
            format!("thread {tid}: {size} bytes of vector registers or more: more than any known processor has"),
        )),
        // Virtual machines and old processors without XSAVE: general registers are all there is.
        Err(_) => {}
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) fn decode_vectors(registers: &mut Registers, raw: &[u8]) {
    use linux_abi::xstate;
    use std::sync::OnceLock;
    static LAYOUT: OnceLock<xstate::Layout> = OnceLock::new();
    let layout = LAYOUT.get_or_init(|| xstate::Layout::from_note(&xstate::Layout::host_note()));
    registers.vectors = xstate::vectors(registers.arch, raw, *layout);
    registers.x87 = xstate::x87(raw).map(Arc::new);
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn decode_vectors(registers: &mut Registers, raw: &[u8]) {
    registers.vectors = linux_abi::registers::aarch64_vectors(raw);
    linux_abi::registers::aarch64_status(registers, raw);
}

/// Waits that Linux does not take up again by itself after a stop.
///
/// Most system calls go on after a stop without the program noticing. A few return `EINTR` instead, also when no signal
/// handler ran (signal(7), "Interruption of system calls and library functions by stop signals"). Where such a call
/// waits without a time limit, its result is changed from `EINTR` to the kernel's own "restart unless a handler runs"
/// (`ERESTARTNOHAND`), and the kernel does the rest: the program waits on, and a signal that has a handler still gives
/// `EINTR`. A call with a time limit cannot be restarted without prolonging it; it returns `EINTR`, and a doubt says so.
#[cfg(target_arch = "x86_64")]
mod restart {
    use super::{Change, Doubt, General, Tid, linux_abi, ptrace};
    use evidence::{Arch, Register};

    /// What a wait's time limit looks like in its arguments.
    #[derive(Clone, Copy)]
    enum Limit {
        /// There is none.
        Never,
        /// An `int` of milliseconds in this register; negative is without limit.
        Milliseconds(u16),
        /// A pointer to a `timespec` in this register; null is without limit.
        Pointer(u16),
    }

    const RDX: u16 = 1;
    const R8: u16 = 8;
    const R10: u16 = 10;
    const EINTR: i64 = -4;
    const ERESTARTNOHAND: i64 = -514;

    /// (number, name, limit), from `arch/x86/entry/syscalls/syscall_64.tbl`.
    const WAITS: [(u64, &str, Limit); 8] = [
        (65, "semop", Limit::Never),
        (128, "rt_sigtimedwait", Limit::Pointer(RDX)),
        (208, "io_getevents", Limit::Pointer(R8)),
        (220, "semtimedop", Limit::Pointer(R10)),
        (232, "epoll_wait", Limit::Milliseconds(R10)),
        (281, "epoll_pwait", Limit::Milliseconds(R10)),
        (333, "io_pgetevents", Limit::Pointer(R8)),
        (441, "epoll_pwait2", Limit::Pointer(R10)),
    ];

    /// Where `rax` lies in `user_regs_struct`.
    const RAX_AT: usize = 10 * 8;

    fn without_limit(general: &General, limit: Limit) -> bool {
        let value = |n| general.registers.get(Register(n));
        match limit {
            Limit::Never => true,
            Limit::Pointer(n) => value(n) == Some(0),
            Limit::Milliseconds(n) => value(n).is_some_and(|v| v & 0x8000_0000 != 0),
        }
    }

    pub(super) fn keep_waiting(tid: Tid, raw: &mut [u8], general: &General) -> Option<Doubt> {
        let number = general.entered_by.filter(|_| general.result == Some(EINTR))?;
        let known = WAITS.iter().find(|w| w.0 == number && general.registers.arch == Arch::X86_64);
        let failed = match known {
            Some((.., limit)) if without_limit(general, *limit) => {
                raw.get_mut(RAX_AT..RAX_AT.saturating_add(8))?.copy_from_slice(&ERESTARTNOHAND.to_le_bytes());
                // The thread is stopped and nobody else can change it; a failure means that it was killed.
                match ptrace::set_register_set(tid, linux_abi::NT_PRSTATUS, raw) {
                    Ok(()) => return None,
                    Err(_) if matches!(ptrace::look(tid), Ok(Some(Change::Ended)) | Err(_)) => return None,
                    Err(error) => format!(", and its registers cannot be written: {error}"),
                }
            }
            _ => String::new(),
        };
        let name = known.map_or_else(|| format!("system call {number}"), |w| w.1.to_owned());
        Some(Doubt::new(
            "interrupted-call",
            format!(
                "thread {tid}: {name} is one that Linux does not take up again after a stop; it returns EINTR to the \
                 program, as after SIGSTOP and SIGCONT{failed}"
            ),
        ))
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use evidence::Registers;

        fn general(limit: u64) -> General {
            let mut registers = Registers::new(Arch::X86_64);
            registers.set(Register(R10), limit);
            General { registers, entered_by: Some(232), result: Some(EINTR) }
        }

        #[test]
        fn only_waits_without_a_limit_are_taken_up() {
            assert!(without_limit(&general(0xffff_ffff), Limit::Milliseconds(R10)));
            assert!(without_limit(&general(u64::MAX), Limit::Milliseconds(R10)));
            assert!(!without_limit(&general(0), Limit::Milliseconds(R10)));
            assert!(!without_limit(&general(1000), Limit::Pointer(R10)));
            let doubt = keep_waiting(0, &mut [], &general(1000)).unwrap();
            assert!(doubt.why.contains("epoll_wait"), "{}", doubt.why);
        }

        #[test]
        fn what_was_not_interrupted_is_left_alone() {
            let mut finished = general(0xffff_ffff);
            finished.result = Some(3);
            assert_eq!(keep_waiting(0, &mut [], &finished), None);
        }
    }
}

/// AArch64 prepares the restart of a call before it stops for a tracer, so a tracer cannot ask for one.
#[cfg(not(target_arch = "x86_64"))]
mod restart {
    use super::{Doubt, General, Tid};

    pub(super) fn keep_waiting(_: Tid, _: &mut [u8], _: &General) -> Option<Doubt> {
        None
    }
}
