//! Microdumps: Breakpad's form for system logs, lines of text between two marks.
//!
//! One thread, its context, its stack and the modules. Source: Breakpad's client/linux/microdump_writer and
//! processor/microdump.cc. Log systems put their own words before each line; the letter after `google-breakpad(PID): `
//! tells what it is.

use super::context::{self, Layout};
use super::memory::{DumpMemory, Piece, Store};
use super::modules::Module;
use super::{Minidump, exception};
use crate::Error;
use crate::input::Source;
use evidence::bytes::Endian;
use evidence::{
    Addr, Arch, Attribute, Context, Doubt, Doubts, Gaps, Identity, ModuleId, Origin, Os, Registers, Thread, ThreadId,
    ToU64,
};

/// First and last line.
const BEGIN: &[u8] = b"-----BEGIN BREAKPAD MICRODUMP-----";
const END: &str = "-----END BREAKPAD MICRODUMP-----";
/// What every line has before its content.
const TAG: &str = "google-breakpad";

/// How far into a file the first line is looked for: a log has other lines before it.
const LIMIT_SEARCH: usize = 4 << 20;
/// Bytes of text that are read. A stack of 8 MiB takes twice as much as text.
const LIMIT_TEXT: usize = 64 << 20;
/// Modules that are kept.
const LIMIT_MODULES: usize = 65_536;

/// Whether a microdump begins somewhere near the start of a file.
pub(crate) fn is_one(source: &Source) -> bool {
    find(&source.bytes(0, LIMIT_SEARCH)).is_some()
}

fn find(text: &[u8]) -> Option<usize> {
    text.windows(BEGIN.len()).position(|w| w == BEGIN)
}

#[derive(Default)]
struct Parsed {
    os: Option<Os>,
    processor: Option<u16>,
    wide: bool,
    release: Option<String>,
    facts: Vec<(&'static str, String)>,
    pid: Option<u64>,
    reason: Option<(u32, u64)>,
    sp: Option<u64>,
    stack: Vec<u8>,
    pieces: Vec<Piece>,
    context: Vec<u8>,
    modules: Vec<Module>,
    broken: usize,
    ended: bool,
}

/// Reads the first microdump of a text.
pub(super) fn read(source: &Source, doubts: &Doubts) -> Result<Minidump, Error> {
    let bytes = source.bytes(0, LIMIT_TEXT);
    let Some(begin) = find(&bytes) else {
        return Err(Error::format(source.path(), 0, "the line that begins a microdump", "no such line"));
    };
    let text = String::from_utf8_lossy(bytes.get(begin..).unwrap_or_default());
    let mut parsed = Parsed::default();
    for line in text.lines().skip(1) {
        if line.contains(END) {
            parsed.ended = true;
            break;
        }
        parsed.line(line);
    }
    if parsed.broken > 0 {
        let why = format!("{} lines of the microdump cannot be read: they are left out", parsed.broken);
        doubts.push(Doubt::new("microdump", why));
    }
    if !parsed.ended {
        doubts.push(Doubt::new("truncated", "the microdump has no last line: the log was cut off"));
    }
    Ok(parsed.finish(source, doubts))
}

impl Parsed {
    fn line(&mut self, line: &str) {
        // "W/google-breakpad( 3728): S 0 ...", with anything before it.
        let Some((_, rest)) = line.split_once(TAG) else { return };
        let Some((tag, rest)) = rest.split_once(": ") else { return };
        self.pid = self.pid.or_else(|| tag.trim_matches(['(', ')', ' ']).parse().ok());
        let Some((kind, rest)) = rest.split_once(' ') else { return };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let understood = match kind {
            "O" => self.system(&fields),
            "V" => self.fact("program.version", rest),
            "P" => self.fact("process.type", rest),
            "G" => self.fact("system.gpu", rest),
            "H" => self.fact("microdump.address_space", rest),
            "R" => self.why(&fields),
            "S" => self.stack(&fields),
            "C" => fields.first().and_then(|f| unhex(f)).map(|b| self.context = b),
            "M" => self.module(&fields, rest),
            _ => Some(()),
        };
        self.broken = self.broken.saturating_add(usize::from(understood.is_none()));
    }

    fn fact(&mut self, key: &'static str, value: &str) -> Option<()> {
        self.facts.push((key, value.trim().to_owned()));
        Some(())
    }

    /// System, processor, number of processors, the hardware's name, the system's version.
    fn system(&mut self, fields: &[&str]) -> Option<()> {
        self.os = Some(match *fields.first()? {
            "A" => Os::Android,
            "L" => Os::Linux,
            _ => Os::Other,
        });
        let (processor, wide) = match *fields.get(1)? {
            "x86" => (Some(context::PROCESSOR_X86), false),
            "x86_64" => (Some(context::PROCESSOR_AMD64), true),
            "arm" => (Some(context::PROCESSOR_ARM), false),
            "arm64" => (Some(context::PROCESSOR_ARM64_OLD), true),
            "mips" => (Some(context::PROCESSOR_MIPS), false),
            "mips64" => (Some(context::PROCESSOR_MIPS64), true),
            _ => (None, false),
        };
        (self.processor, self.wide) = (processor, wide);
        if let Some(n) = fields.get(2).and_then(|n| u64::from_str_radix(n, 16).ok()) {
            self.facts.push(("system.cpus", n.to_string()));
        }
        self.facts.push(("system.cpu", (*fields.get(3)?).to_owned()));
        self.release = fields.get(4..).map(|f| f.join(" ")).filter(|r| !r.is_empty());
        Some(())
    }

    /// Signal number, its name, the fault address.
    fn why(&mut self, fields: &[&str]) -> Option<()> {
        let number = u32::from_str_radix(fields.first()?, 16).ok()?;
        let address = u64::from_str_radix(fields.last()?, 16).ok()?;
        self.reason = Some((number, address));
        Some(())
    }

    /// Either the header (a zero, the stack pointer, start and size of what follows), or an address and its bytes.
    fn stack(&mut self, fields: &[&str]) -> Option<()> {
        let number = |at: usize| u64::from_str_radix(fields.get(at)?, 16).ok();
        if fields.len() == 4 {
            self.sp = number(1);
            return self.sp.map(|_| ());
        }
        let (start, bytes) = (number(0)?, unhex(fields.get(1)?)?);
        let offset = self.stack.len().to_u64();
        match self.pieces.last_mut() {
            Some(last) if last.start.checked_add(last.size) == Some(start) => {
                last.size = last.size.saturating_add(bytes.len().to_u64());
            }
            _ => self.pieces.push(Piece { start, size: bytes.len().to_u64(), offset }),
        }
        self.stack.extend(bytes);
        Some(())
    }

    /// Base, offset in the file, size, debug id, name (which may hold blanks).
    fn module(&mut self, fields: &[&str], rest: &str) -> Option<()> {
        let number = |at: usize| u64::from_str_radix(fields.get(at)?, 16).ok();
        let (base, size) = (number(0)?, number(2)?);
        let id = fields.get(3)?;
        let at = rest.find(id)?.checked_add(id.len())?;
        let name = rest.get(at..)?.trim();
        if self.modules.len() >= LIMIT_MODULES {
            return None;
        }
        let known = id.bytes().any(|b| b != b'0');
        self.modules.push(Module {
            base,
            size,
            name: Some(name.into()),
            id: ModuleId {
                base: Addr(base),
                debug_file: Some(name.into()),
                debug_id: known.then(|| Box::from(*id)),
                ..ModuleId::default()
            },
            build_id: None,
        });
        Some(())
    }

    fn finish(self, source: &Source, doubts: &Doubts) -> Minidump {
        let arch = self.processor.map_or(Arch::Other, context::arch);
        let layout = context::layout(self.processor, &self.context, Endian::Little);
        let found = if layout == Layout::Unknown { None } else { context::read(layout, &self.context, Endian::Little) };
        if found.is_none() {
            let why = format!("its register context of {} bytes cannot be read", self.context.len());
            doubts.push(Doubt::new("registers", why));
        }
        let id = ThreadId(self.pid.unwrap_or(0));
        let mut thread = Thread::new(id, Context::Lwp, found.map_or(Registers::new(arch), |c| c.registers));
        thread.stack = self.pieces.first().map(|p| Addr(p.start)..Addr(p.start.saturating_add(p.size)));
        let os = self.os.unwrap_or(Os::Other);
        let mut identity = Identity::new(Origin::Minidump, os, arch);
        identity.pid = self.pid;
        identity.release = self.release.map(Into::into);
        identity.executable = self.modules.first().and_then(|m| m.name.as_deref()).map(Into::into);
        let mut facts = self.facts;
        let pc = thread.registers.pc().map(|p| p.0);
        let given = exception::Given { os, arch, pid: self.pid, pc, by_lldb: false };
        let event = match self.reason {
            Some((number, address)) => {
                let (event, told) = exception::Record::of_signal(id.0, number, address).event(&given);
                facts.extend(told);
                Some(event)
            }
            None => Some(evidence::Event { thread: Some(id), ..evidence::Event::default() }),
        };
        facts.retain(|(_, value)| !value.is_empty());
        let fact = |(key, value): (&str, String)| Attribute { key: key.into(), thread: None, value: value.into() };
        let memory = DumpMemory::new(Store::Bytes(self.stack.into()), &self.pieces, &[], self.wide, doubts);
        Minidump {
            gaps: Gaps { truncated_at: (!self.ended).then_some(source.len()), ..Gaps::default() },
            images: self.modules.iter().map(Module::hint).collect(),
            module_ids: self.modules.into_iter().map(|m| m.id).collect(),
            threads: vec![thread],
            mappings: Vec::new(),
            notes: Vec::new(),
            open_files: Vec::new(),
            attributes: facts.into_iter().map(fact).collect(),
            identity,
            memory,
            event,
        }
    }
}

/// Hexadecimal digits as bytes; `None` for anything else.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if digits.len() & 1 != 0 {
        return None;
    }
    let value = |d: &u8| char::from(*d).to_digit(16).and_then(|v| u8::try_from(v).ok());
    digits.chunks_exact(2).map(|pair| Some(value(pair.first()?)? << 4 | value(pair.last()?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal() {
        assert_eq!(unhex("00ffA5"), Some(vec![0, 0xff, 0xa5]));
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("0g"), None);
    }
}
