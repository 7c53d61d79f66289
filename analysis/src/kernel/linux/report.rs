//! What one report in a Linux kernel's log says: an oops, a BUG, a lockup, a stall.

use crate::kernel::text::Symbol;

/// What was reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A page fault in kernel mode, with the address that failed.
    PageFault(Option<u64>),
    /// A general protection fault, with the address where the kernel worked it out.
    Protection(Option<u64>),
    /// `kernel BUG at FILE:LINE!`.
    Bug(String),
    /// A division error.
    Divide,
    /// An invalid opcode that is no BUG.
    InvalidOpcode,
    /// The guard page of a stack, or a double fault that comes of it.
    StackGuard,
    /// A double fault.
    DoubleFault,
    /// Another exception, in the kernel's words.
    OtherOops(String),
    /// `list_add corruption` or `list_del corruption`, in the kernel's words.
    List(String),
    /// KASAN or KFENCE, with what it found.
    Sanitizer(String),
    /// A copy or string function that was stopped before it left its buffer, in the kernel's words.
    Fortify(String),
    /// The slab allocator's own checks: `Redzone overwritten`.
    Slab {
        /// The cache of the object.
        cache: String,
        /// What is wrong.
        words: String,
    },
    /// Another complaint of a checker, in the kernel's words; with whether a task slept where it may not.
    Complaint(String, bool),
    /// A reference counter that went wrong.
    Refcount(String),
    /// A CPU that does not schedule.
    SoftLockup(Option<u64>),
    /// A CPU that does not even take interrupts.
    HardLockup(Option<u64>),
    /// A task that sleeps for too long: seconds.
    HungTask(Option<u64>),
    /// CPUs that hold up RCU.
    RcuStall {
        /// The CPUs named.
        cpus: Vec<u64>,
        /// Whether the CPU that reports is the one that stalls.
        own: bool,
    },
    /// The state of one CPU, printed at another's request.
    Backtrace(Option<u64>),
    /// The OOM killer.
    Oom(String),
    /// `WARNING:`.
    Warning,
    /// The panic itself, with its message.
    Panic(String),
}

/// How memory was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    Read,
    Write,
    Fetch,
}

/// A line of a call trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TraceLine {
    pub(crate) symbol: Symbol,
    /// Not marked `?`: the kernel's unwinder vouches for it.
    pub(crate) sure: bool,
    /// Registers of an interrupted context were printed here: this is where it was.
    pub(crate) interrupted: bool,
}

/// One report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) kind: Kind,
    /// Its first line.
    pub(crate) title: String,
    pub(crate) cpu: Option<u64>,
    pub(crate) pid: Option<u64>,
    pub(crate) comm: Option<String>,
    pub(crate) tainted: Option<String>,
    /// The instruction, when it lies in a function.
    pub(crate) place: Option<Symbol>,
    /// The instruction's address, when it does not.
    pub(crate) ip: Option<u64>,
    /// Registers in the kernel's spelling, lower case: `rax`, `x0`.
    pub(crate) registers: Vec<(String, u64)>,
    pub(crate) touch: Option<Touch>,
    /// `Some(true)`: the page was there and its rights forbade it.
    pub(crate) rights: Option<bool>,
    /// `exploit attempt` lines: what they say.
    pub(crate) warning: Option<String>,
    /// What else the kernel says about the object or the lock, in its words.
    pub(crate) notes: Vec<String>,
    /// `[#1]`.
    pub(crate) number: Option<u64>,
    pub(crate) trace: Vec<TraceLine>,
}

impl Report {
    pub(crate) fn new(kind: Kind, title: &str) -> Self {
        Self {
            kind,
            title: title.trim().to_owned(),
            cpu: None,
            pid: None,
            comm: None,
            tainted: None,
            place: None,
            ip: None,
            registers: Vec::new(),
            touch: None,
            rights: None,
            warning: None,
            notes: Vec::new(),
            number: None,
            trace: Vec::new(),
        }
    }

    /// An exception of the processor or a BUG: what ends a task.
    pub(crate) const fn is_oops(&self) -> bool {
        match self.kind {
            Kind::PageFault(_)
            | Kind::Protection(_)
            | Kind::Bug(_)
            | Kind::Divide
            | Kind::InvalidOpcode
            | Kind::StackGuard
            | Kind::DoubleFault
            | Kind::OtherOops(_) => true,
            Kind::List(_) | Kind::Sanitizer(_) | Kind::Refcount(_) | Kind::Fortify(_) => self.number.is_some(),
            _ => false,
        }
    }

    /// Whether anything that follows a title has been seen.
    pub(super) const fn has_details(&self) -> bool {
        self.pid.is_some() || self.place.is_some() || self.ip.is_some() || !self.trace.is_empty()
    }

    /// `sh (pid 117)`.
    pub(crate) fn task(&self) -> Option<String> {
        match (&self.comm, self.pid) {
            (Some(comm), Some(pid)) => Some(format!("{comm} (pid {pid})")),
            (None, Some(pid)) => Some(format!("pid {pid}")),
            (Some(comm), None) => Some(comm.clone()),
            (None, None) => None,
        }
    }

    /// The instruction's function, then the callers that the unwinder vouches for, innermost first.
    pub(crate) fn stack(&self) -> Vec<&Symbol> {
        let sure = self.trace.iter().filter(|l| l.sure).map(|l| &l.symbol);
        let mut stack: Vec<&Symbol> = self.place.iter().chain(sure).collect();
        // Registers of an interrupted context stand both in front of the trace and inside of it.
        if let Some(inside) = self.trace.iter().position(|l| l.interrupted)
            && self.place.as_ref() == self.trace.get(inside).map(|l| &l.symbol)
        {
            stack = self.trace.iter().skip(inside).filter(|l| l.sure).map(|l| &l.symbol).collect();
        }
        // One CPU's state: what the interrupt that prints it runs on top of.
        let stopped =
            matches!(self.kind, Kind::Backtrace(_) | Kind::RcuStall { .. } | Kind::SoftLockup(_) | Kind::HardLockup(_));
        if stopped
            && self.place.is_none()
            && let Some(inside) = self.trace.iter().position(|l| l.interrupted)
        {
            stack = self.trace.iter().skip(inside).filter(|l| l.sure).map(|l| &l.symbol).collect();
        }
        // From an instruction outside of code the kernel's unwinder cannot start and vouches for nothing; its list
        // begins at the stack pointer, where a call has left the return address.
        if stack.is_empty() && self.ip.is_some() {
            stack.extend(self.trace.first().map(|l| &l.symbol));
        }
        stack
    }

    /// The first general register whose value satisfies `test`.
    pub(crate) fn register_with(&self, test: impl Fn(u64) -> bool) -> Option<(&str, u64)> {
        self.registers.iter().find(|(n, v)| n != "cr2" && test(*v)).map(|(n, v)| (n.as_str(), *v))
    }
}
