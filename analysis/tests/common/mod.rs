//! Builds snapshots for the classifiers' tests: an x86-64 Linux process with a usual address space, and a fault.
#![allow(dead_code, reason = "each test file uses its part")]

use snapshot_format::Snapshot;
use snapshot_format::schema::*;

/// Where the builder's program has its code.
pub const CODE: u64 = 0x5555_5555_5000;
/// Its constants.
pub const RODATA: u64 = 0x5555_5555_7000;
/// Its data.
pub const DATA: u64 = 0x5555_5555_8000;
/// Its heap.
pub const HEAP: u64 = 0x5555_5557_0000;
/// A library's code.
pub const LIBC: u64 = 0x7fff_f7c2_0000;
/// A mapped file with one page.
pub const FILE: u64 = 0x7fff_f7fa_0000;
/// The main stack.
pub const STACK: u64 = 0x7fff_ffdf_e000;
/// Its end.
pub const STACK_END: u64 = 0x7fff_ffff_f000;
/// The stack pointer of a usual frame.
pub const SP: u64 = STACK_END - 0x2000;
/// The process and its thread.
pub const PID: u64 = 4711;

/// A snapshot under construction.
#[derive(Clone)]
pub struct Crash(pub Snapshot);

impl Crash {
    /// A Linux process that got `signal` with `code`, at the first instruction of its code.
    pub fn new(signal: i64, code: i64) -> Self {
        let mut s = Snapshot::default();
        s.identity.origin = "core".into();
        s.identity.os = "linux".into();
        s.identity.arch = "x86_64".into();
        s.identity.pid = Some(PID);
        s.event = Some(Event { thread: Some(PID), signal: Some(signal), code: Some(code), ..Event::default() });
        s.modules = vec![
            Module { path: "/usr/bin/prog".into(), base: CODE - 0x1000, size: 0x5000, ..Module::default() },
            Module { path: "/lib/libc.so.6".into(), base: LIBC, size: 0x20_0000, ..Module::default() },
        ];
        s.threads =
            vec![Thread { id: PID, faulting: true, context: "lwp".into(), stack: Some(0), ..Thread::default() }];
        s.stacks = vec![Stack { first: 0, count: 0 }];
        let crash = Self(s)
            .map(CODE, 0x2000, "r-xp", "/usr/bin/prog")
            .map(RODATA, 0x1000, "r--p", "/usr/bin/prog")
            .map(DATA, 0x1000, "rw-p", "/usr/bin/prog")
            .map(HEAP, 0x2_1000, "rw-p", "[heap]")
            .map(LIBC, 0x20_0000, "r-xp", "/lib/libc.so.6")
            .map(FILE, 0x1_0000, "rw-s", "/data/table")
            .map(STACK, STACK_END - STACK, "rw-p", "[stack]");
        crash.reg("rip", CODE).reg("rsp", SP).reg("fs_base", HEAP)
    }

    /// SIGSEGV, SEGV_MAPERR at `address`.
    pub fn unmapped(address: u64) -> Self {
        Self::new(11, 1).at(address)
    }

    /// SIGSEGV, SEGV_ACCERR at `address`.
    pub fn forbidden(address: u64) -> Self {
        Self::new(11, 2).at(address)
    }

    /// SIGSEGV, SI_KERNEL: a general protection fault.
    pub fn protection() -> Self {
        Self::new(11, 0x80).at(0)
    }

    /// SIGABRT by abort() in the process itself.
    pub fn abort() -> Self {
        Self::new(6, -6).sender(PID)
    }

    /// Sets the fault address.
    pub fn at(mut self, address: u64) -> Self {
        self.0.event.as_mut().unwrap().address = Some(address);
        self
    }

    /// Sets the sender.
    pub fn sender(mut self, pid: u64) -> Self {
        self.0.event.as_mut().unwrap().sender_pid = Some(pid);
        self.0.event.as_mut().unwrap().sender_uid = Some(1000);
        self
    }

    /// Changes the event.
    pub fn event(mut self, change: impl FnOnce(&mut Event)) -> Self {
        change(self.0.event.as_mut().unwrap());
        self
    }

    /// Changes anything.
    pub fn with(mut self, change: impl FnOnce(&mut Snapshot)) -> Self {
        change(&mut self.0);
        self
    }

    /// Adds a mapping.
    pub fn map(mut self, start: u64, length: u64, protection: &str, path: &str) -> Self {
        let path = (!path.is_empty()).then(|| path.to_owned());
        let protection = protection.to_owned();
        self.0.mappings.push(Mapping { start, end: start + length, protection, path, ..Mapping::default() });
        self
    }

    /// Sets a register of the innermost frame.
    pub fn reg(self, name: &str, value: u64) -> Self {
        self.reg_of(0, name, value)
    }

    /// Sets a register of a frame.
    pub fn reg_of(mut self, frame: u32, name: &str, value: u64) -> Self {
        self.0.registers.retain(|r| !(r.name == name && r.frame == frame));
        self.0.registers.push(RegisterValue { thread: PID, frame, name: name.into(), value });
        self
    }

    /// Keeps bytes.
    pub fn bytes(mut self, address: u64, bytes: &[u8]) -> Self {
        self.0.memory.push(MemoryExtent {
            address,
            length: bytes.len() as u64,
            bytes: bytes.to_vec(),
            ..MemoryExtent::default()
        });
        self
    }

    /// The instruction at the program counter, and 16 nops after it.
    pub fn code(self, bytes: &[u8]) -> Self {
        let mut padded = bytes.to_vec();
        padded.extend([0x90; 16]);
        self.bytes(CODE, &padded)
    }

    /// Appends a frame of the program.
    pub fn frame(self, function: &str) -> Self {
        self.frame_at(CODE + 0x100, function)
    }

    /// Appends a frame with this pc.
    pub fn frame_at(mut self, pc: u64, function: &str) -> Self {
        let function = (!function.is_empty()).then(|| function.into());
        let trust = if self.0.frames.is_empty() { Trust::Context } else { Trust::Cfi };
        self.0.frames.push(Frame { pc, function, trust, ..Frame::default() });
        self.0.stacks[0].count = self.0.frames.len() as u32;
        self
    }

    /// Appends several frames.
    pub fn frames(self, functions: &[&str]) -> Self {
        functions.iter().fold(self, |c, f| c.frame(f))
    }

    /// Appends a signal trampoline.
    pub fn trampoline(self) -> Self {
        let mut crash = self.frame_at(LIBC + 0x3c000, "__restore_rt");
        crash.0.frames.last_mut().unwrap().signal_frame = true;
        crash
    }

    /// Appends a variable.
    pub fn variable(mut self, frame: u32, kind: VariableKind, name: &str, type_name: &str, value: Value) -> Self {
        self.0.variables.push(Variable {
            thread: Some(PID),
            frame: Some(frame),
            name: name.into(),
            type_name: type_name.into(),
            kind,
            value,
            ..Variable::default()
        });
        self
    }

    /// Appends a part of the variable `parent` rows back (1 is the last one).
    pub fn part(mut self, back: usize, name: &str, type_name: &str, value: Value) -> Self {
        let parent = self.0.variables.len() - back;
        let frame = self.0.variables[parent].frame;
        self = self.variable(frame.unwrap(), VariableKind::Member, name, type_name, value);
        self.0.variables.last_mut().unwrap().parent = Some(parent as u32);
        self
    }

    /// The abort message.
    pub fn message(self, text: &str) -> Self {
        self.event(|e| e.message = Some(text.into()))
    }
}

/// All classes found, strongest first, with their confidences.
pub fn classes(crash: &Crash) -> Vec<String> {
    analysis::classify(&crash.0).into_iter().map(|(f, _)| f.class).collect()
}

/// Asserts the strongest class (`""` for none).
#[track_caller]
pub fn check(what: &str, crash: Crash, expected: &str) {
    let found = analysis::classify(&crash.0);
    let first = found.first().map_or("", |(f, _)| f.class.as_str());
    assert_eq!(first, expected, "{what}: {found:#?}");
    for (finding, grounds) in &found {
        assert!((0.0..=1.0).contains(&finding.confidence), "{what}: {finding:?}");
        assert!(!finding.text.is_empty(), "{what}: {finding:?}");
        assert!(grounds.iter().any(|g| !g.counter), "{what}: no evidence");
        assert!(["none", "low", "medium", "high"].contains(&finding.security.as_str()));
        assert!(["fatal", "error", "warning", "info"].contains(&finding.severity.as_str()));
    }
    let mut twice = crash.0.clone();
    analysis::analyse(&mut twice);
    let once = twice.clone();
    analysis::analyse(&mut twice);
    assert_eq!(once, twice, "{what}: not idempotent");
}

/// The report of a crash as text, for golden tests.
pub fn report(crash: &Crash) -> String {
    let mut out = String::new();
    for (finding, grounds) in analysis::classify(&crash.0) {
        let frame = finding.frame.map_or_else(String::new, |f| format!(" frame {f}"));
        out.push_str(&format!(
            "{} ({:.2}) {} security {}{frame}\n  {}\n",
            finding.class, finding.confidence, finding.severity, finding.security, finding.text
        ));
        for ground in grounds {
            out.push_str(if ground.counter { "  - " } else { "  + " });
            out.push_str(&ground.text);
            out.push('\n');
        }
    }
    out
}
