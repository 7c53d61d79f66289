//! Why it was written: `MINIDUMP_EXCEPTION_STREAM`, in the meaning that each system's writers give to its fields.

use super::EXCEPTION;
use super::reader::{Location, Reader};
use evidence::bytes::{u32_at, u64_at};
use evidence::{Access, Addr, Arch, Event, Os, Signal, ThreadId};

/// Not an exception: Breakpad's and Crashpad's words for "somebody asked for a dump".
const DUMP_REQUESTED: u32 = 0xffff_ffff;
const CRASHPAD_SIMULATED: u32 = 0x0517_a7ed;

/// Windows' exceptions whose parameters are an access and an address (winnt.h, `EXCEPTION_RECORD`).
const ACCESS_VIOLATION: u32 = 0xc000_0005;
const IN_PAGE_ERROR: u32 = 0xc000_0006;
const GUARD_PAGE: u32 = 0x8000_0001;
/// `__fastfail` (`STATUS_STACK_BUFFER_OVERRUN`): its code is the first parameter.
const FAST_FAIL: u32 = 0xc000_0409;

/// Mach's `EXC_BAD_ACCESS`.
const EXC_BAD_ACCESS: u32 = 1;

/// The exception as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) thread: u64,
    code: u32,
    flags: u32,
    address: u64,
    parameters: Vec<u64>,
    pub(super) context: Location,
}

/// Reads the exception stream.
pub(super) fn read(reader: &Reader<'_>) -> Option<Record> {
    let s = reader.first(EXCEPTION, 32)?;
    let word = |at| u32_at(&s, at, reader.endian);
    let wide = |at| u64_at(&s, at, reader.endian);
    let count = usize::try_from(word(32).unwrap_or(0)).unwrap_or(usize::MAX);
    if count > 15 {
        reader.doubt(format!("its exception has {count} parameters, at most 15 are possible"));
    }
    let parameters = (0..count.min(15)).map_while(|n| wide(n.checked_mul(8)?.checked_add(40)?)).collect();
    Some(Record {
        thread: word(0)?.into(),
        code: word(8)?,
        flags: word(12)?,
        address: wide(24)?,
        parameters,
        context: Location::at(&s, 160, reader.endian).unwrap_or_default(),
    })
}

/// What is known besides the record itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    pub(super) os: Os,
    pub(super) arch: Arch,
    pub(super) pid: Option<u64>,
    /// The program counter of the thread.
    pub(super) pc: Option<u64>,
    /// Written by an lldb that puts the program counter where the fault address belongs, and loses the code.
    pub(super) by_lldb: bool,
}

impl Record {
    /// A signal and its address, of a source that records nothing else.
    pub(super) const fn of_signal(thread: u64, number: u32, address: u64) -> Self {
        let context = Location { size: 0, rva: 0 };
        Self { thread, code: number, flags: 0, address, parameters: Vec::new(), context }
    }

    /// The event in the numbers of its system, with the facts that an event has no place for.
    pub(super) fn event(&self, given: &Given) -> (Event, Vec<(&'static str, String)>) {
        let narrow = given.arch.pointer_size() == 4;
        let cut = |at: u64| if narrow { at & 0xffff_ffff } else { at };
        let mut facts = vec![
            ("exception.code", format!("{:#010x}", self.code)),
            ("exception.flags", format!("{:#x}", self.flags)),
            ("exception.address", format!("{:#x}", cut(self.address))),
        ];
        if !self.parameters.is_empty() {
            let list: Vec<String> = self.parameters.iter().map(|p| format!("{:#x}", cut(*p))).collect();
            facts.push(("exception.parameters", list.join(" ")));
        }
        let mut event = Event { thread: Some(ThreadId(self.thread)), ..Event::default() };
        if matches!(self.code, DUMP_REQUESTED | CRASHPAD_SIMULATED) {
            event.message = Some("the program asked for this dump; nothing failed".into());
            facts.push(("exception.requested", "yes".to_owned()));
            return (event, facts);
        }
        let mut signal = Signal {
            number: self.code.cast_signed(),
            code: None,
            errno: None,
            address: None,
            sender_pid: None,
            sender_uid: None,
        };
        match given.os {
            Os::Windows => self.windows(&mut event, &mut signal, &cut),
            Os::MacOs | Os::Ios => {
                signal.code = Some(self.flags.cast_signed());
                signal.address = (self.code == EXC_BAD_ACCESS).then_some(Addr(cut(self.address)));
            }
            _ => self.unix(given, &mut signal, cut(self.address)),
        }
        event.signal = Some(signal);
        (event, facts)
    }

    fn windows(&self, event: &mut Event, signal: &mut Signal, cut: &dyn Fn(u64) -> u64) {
        let first = self.parameters.first().copied();
        let small = |n: u64| i32::try_from(n).ok();
        match self.code {
            ACCESS_VIOLATION | IN_PAGE_ERROR | GUARD_PAGE => {
                signal.code = first.and_then(small);
                signal.address = self.parameters.get(1).map(|a| Addr(cut(*a)));
                event.access = match first {
                    Some(0) => Some(Access::Read),
                    Some(1) => Some(Access::Write),
                    Some(8) => Some(Access::Execute),
                    _ => None,
                };
            }
            FAST_FAIL => signal.code = first.and_then(small),
            _ => {}
        }
    }

    /// The code is the signal, the flags are `si_code`, the address is `si_addr`: where the kernel put the sender's
    /// numbers into the same union, it is no address.
    ///
    /// Writers of before 2017 leave the flags 0, which reads as `SI_USER`; for the signals of the processor it then says
    /// nothing, for the others it may.
    fn unix(&self, given: &Given, signal: &mut Signal, address: u64) {
        // SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV in Linux's numbers; BSD and illumos have SIGBUS at 10.
        let bus = if matches!(given.os, Os::FreeBsd | Os::Illumos) { 10 } else { 7 };
        let of_processor = matches!(signal.number, 4 | 5 | 8 | 11) || signal.number == bus;
        let code = self.flags.cast_signed();
        signal.code = (code != 0).then_some(code);
        if of_processor && code >= 0 {
            let no_address = given.by_lldb && code == 0 && Some(self.address) == given.pc;
            signal.address = (!no_address).then_some(Addr(address));
            return;
        }
        // si_pid and si_uid, 32 bits each, lie where si_addr would.
        let sender = self.address & 0xffff_ffff;
        let plausible = code < 0 || Some(sender) == given.pid;
        if plausible && self.address != 0 && Some(self.address) != given.pc {
            signal.sender_pid = Some(sender);
            signal.sender_uid = (given.arch.pointer_size() == 8).then_some(self.address >> 32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(os: Os, arch: Arch) -> Given {
        Given { os, arch, pid: Some(77), pc: Some(0x40_1000), by_lldb: false }
    }

    fn record(code: u32, flags: u32, address: u64, parameters: &[u64]) -> Record {
        Record { thread: 5, code, flags, address, parameters: parameters.to_vec(), context: Location::default() }
    }

    fn signal(record: &Record, given: &Given) -> Signal {
        record.event(given).0.signal.unwrap()
    }

    #[test]
    fn windows_says_direction_and_address_in_parameters() {
        let x86 = given(Os::Windows, Arch::X86);
        let (event, _) = record(0xc000_0005, 0, 0x40_1000, &[1, 0xffff_ffff_f000_0045]).event(&x86);
        assert_eq!(event.access, Some(Access::Write));
        assert_eq!(event.signal.unwrap().address, Some(Addr(0xf000_0045)));
        let (event, _) = record(0xc000_0005, 0, 1, &[8, 0x1234]).event(&x86);
        assert_eq!((event.access, event.signal.unwrap().code), (Some(Access::Execute), Some(8)));
        let fail = signal(&record(0xc000_0409, 1, 0x40_1000, &[7]), &x86);
        assert_eq!((fail.code, fail.address), (Some(7), None));
        assert_eq!(signal(&record(0xc000_0094, 0, 0x40_1000, &[]), &x86).address, None);
    }

    #[test]
    fn senders_are_no_addresses() {
        let linux = given(Os::Linux, Arch::X86_64);
        let abort = signal(&record(6, (-6_i32).cast_unsigned(), 0x4_d144_0000_004d, &[]), &linux);
        assert_eq!((abort.address, abort.sender_pid, abort.sender_uid), (None, Some(77), Some(0x4d144)));
        // Without a code, only our own number shows that it is a sender.
        assert_eq!(signal(&record(6, 0, 0x1_0000_004d, &[]), &linux).sender_pid, Some(77));
        assert_eq!(signal(&record(6, 0, 0x1_0000_005d, &[]), &linux).sender_pid, None);
        let fault = signal(&record(11, 0, 0x10, &[]), &linux);
        assert_eq!((fault.code, fault.address), (None, Some(Addr(0x10))));
        let sent = signal(&record(11, (-6_i32).cast_unsigned(), 0x4d, &[]), &linux);
        assert_eq!((sent.address, sent.sender_pid), (None, Some(77)));
    }

    #[test]
    fn lldb_puts_the_program_counter_in_the_place_of_the_address() {
        let lldb = Given { by_lldb: true, ..given(Os::Linux, Arch::X86_64) };
        let found = signal(&record(11, 0, 0x40_1000, &[]), &lldb);
        assert_eq!((found.address, found.code), (None, None));
        assert_eq!(signal(&record(11, 0, 0x10, &[]), &lldb).address, Some(Addr(0x10)));
    }

    #[test]
    fn requests_are_no_signals() {
        for code in [0xffff_ffff, 0x0517_a7ed] {
            let (event, _) = record(code, 0, 0, &[]).event(&given(Os::Linux, Arch::X86_64));
            assert!(event.signal.is_none() && event.thread.is_some() && event.message.is_some());
        }
    }
}
