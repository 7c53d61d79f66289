//! The process: `NT_PRPSINFO`, the auxiliary vector, and who it is.

use super::Parts;
use crate::elfcore::Reading;
use crate::elfcore::headers::Headers;
use crate::linux_abi::NT_AUXV;
use evidence::bytes::{c_str_at, slice_at, u8_at, u16_at, u32_at, u64_at};
use evidence::{Addr, Attribute};

/// How many entries of an auxiliary vector are read; Linux 6.12 writes 25.
const LIMIT_AUXV: usize = 256;
/// The longest path of a program: `PATH_MAX`.
const LIMIT_PATH: usize = 4096;
/// `ELF_PRARGSZ` (`include/uapi/linux/elfcore.h`): the kernel cuts the command line here, one byte being the NUL.
const ARGUMENTS: usize = 80;

/// `struct elf_prpsinfo` (`include/linux/elfcore.h`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Info {
    pub(super) pid: u64,
    parent: u64,
    uid: u64,
    gid: u64,
    nice: i8,
    pub(super) command: String,
    arguments: String,
    cut: bool,
}

/// Decodes it. 64-bit programs: 136 bytes. 32-bit: 124 where `uid_t` has 16 bits (i386, ARM), 128 elsewhere.
pub(super) fn info(body: &[u8], headers: &Headers) -> Option<Info> {
    let e = headers.endian;
    let number = |at| u32_at(body, at, e).map(u64::from);
    let short = |at| u16_at(body, at, e).map(u64::from);
    let (uid, gid, pid_at) = match (headers.wide, body.len()) {
        (true, 136..) => (number(16)?, number(20)?, 24_usize),
        (false, 124..=127) => (short(8)?, short(10)?, 12),
        (false, 128..) => (number(8)?, number(12)?, 16),
        _ => return None,
    };
    let names = pid_at.checked_add(16)?;
    let arguments_at = names.checked_add(16)?;
    let command = slice_at(body, names, 16).and_then(|b| c_str_at(b, 0))?;
    let raw = slice_at(body, arguments_at, ARGUMENTS)?;
    let arguments = c_str_at(raw, 0)?;
    Some(Info {
        pid: number(pid_at)?,
        parent: number(pid_at.checked_add(4)?)?,
        uid,
        gid,
        nice: u8_at(body, 3)?.cast_signed(),
        command,
        cut: raw.iter().take(ARGUMENTS.saturating_sub(1)).all(|b| *b != 0),
        arguments: arguments.trim_end_matches(' ').into(),
    })
}

/// What is used of the auxiliary vector (`include/uapi/linux/auxvec.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Auxv {
    pub(super) program_headers: Option<u64>,
    pub(super) entry: Option<u64>,
    pub(super) vdso: Option<u64>,
    /// Where the program's name stands, as it was given to `execve`.
    pub(super) exec_name: Option<u64>,
}

impl Auxv {
    pub(super) fn read(parts: &Parts<'_>) -> Self {
        let mut out = Self::default();
        let Some(note) = parts.index.iter().find(|n| super::is_core(n, NT_AUXV)) else { return out };
        let (wide, endian) = (parts.headers.wide, parts.headers.endian);
        let size = if wide { 16 } else { 8 };
        for entry in note.body(parts.source, parts.doubts).chunks_exact(size).take(LIMIT_AUXV) {
            let (key, value) = if wide {
                (u64_at(entry, 0, endian), u64_at(entry, 8, endian))
            } else {
                (u32_at(entry, 0, endian).map(u64::from), u32_at(entry, 4, endian).map(u64::from))
            };
            match key {
                Some(0) | None => break,
                Some(3) => out.program_headers = value,
                Some(9) => out.entry = value,
                Some(31) => out.exec_name = value,
                Some(33) => out.vdso = value,
                Some(_) => {}
            }
        }
        out
    }
}

/// Fills the identity. The executable is the file that holds the program's headers or its entry; the name given to
/// `execve`, which may be relative or a link, only where no list of files says better.
pub(super) fn identify(reading: &mut Reading, info: Option<&Info>, auxv: &Auxv, parts: &Parts<'_>) {
    let memory: &dyn evidence::Memory = parts.memory;
    let file_at = |at: Option<u64>| {
        let at = Addr(at?);
        let file = reading.files.iter().find(|f| f.range.contains(&at))?;
        file.path.as_deref().filter(|p| !p.starts_with('['))
    };
    let mapped = file_at(auxv.program_headers).or_else(|| file_at(auxv.entry)).map(Box::from);
    let given = auxv.exec_name.and_then(|at| memory.read_c_string(Addr(at), LIMIT_PATH).ok()).filter(|s| !s.is_empty());
    let mut attribute = |key: &str, value: String| {
        reading.attributes.push(Attribute { key: key.into(), thread: None, value: value.into() });
    };
    if let Some(info) = info {
        attribute("process.uid", info.uid.to_string());
        attribute("process.gid", info.gid.to_string());
        attribute("process.nice", info.nice.to_string());
        if info.cut {
            attribute("process.arguments_cut", "the system keeps 79 bytes of the command line".into());
        }
    }
    if let Some(given) = &given {
        attribute("process.exec_name", given.clone());
    }
    let identity = &mut reading.identity;
    identity.executable = mapped.or_else(|| given.map(String::into_boxed_str));
    if let Some(info) = info {
        identity.pid = Some(info.pid);
        identity.parent_pid = Some(info.parent);
        identity.command = Some(info.command.as_str()).filter(|c| !c.is_empty()).map(Box::from);
        identity.arguments = Some(info.arguments.as_str()).filter(|a| !a.is_empty()).map(Box::from);
        // The only name in the core is the process's: that of its first thread, which has the process's number.
        if let Some(thread) = reading.threads.iter_mut().find(|t| t.id.0 == info.pid) {
            thread.name.clone_from(&identity.command);
        }
    }
}
