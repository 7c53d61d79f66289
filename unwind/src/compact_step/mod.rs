//! One step outwards by the compact unwind information of images of macOS and iOS.
//!
//! The information describes a function's body only. For a program counter that may be anywhere (the innermost frame, an
//! interrupted one) the code says whether the frame is set up: prologues are recognised by their instructions, and what
//! is left of a function from there to its return is carried out, if it is nothing but an epilogue.

mod arm64;
mod x64;

use crate::Frame;
use crate::cfi_step::Caller;
use crate::walk::Walker;
use debuginfo::Module;
use debuginfo::elf::ElfFile;
use debuginfo::macho::{MachO, compact};
use evidence::bytes::Endian;
use evidence::{Arch, Svma, ToU64, ToUsize};
use std::ops::Range;

/// Most bytes of one function that are looked at before and behind the program counter: the longest functions of
/// generated code have some hundred thousand.
const LIMIT_CODE: u64 = 1 << 20;
/// Most instructions followed from a program counter on.
const LIMIT_STEPS: usize = 4096;

/// The function that a frame is in: its code, and where in it the program counter is.
struct Function<'f> {
    /// Its addresses, in the image.
    range: Range<u64>,
    /// The program counter, in the image.
    pc: u64,
    module: &'f Module,
    file: &'f ElfFile,
}

/// The caller of `frame`; `None` when the frame is in no image of macOS, or nothing is known of its function.
pub(crate) fn step(frame: &Frame, walker: &Walker<'_, '_>) -> Option<Result<Caller, String>> {
    let at = frame.lookup();
    let (_, module) = walker.info.modules().find(at)?;
    let file = module.main()?;
    let image = file.macho()?;
    let table = file.section_data("__unwind_info").ok().flatten()?;
    let svma = module.to_svma(at).0;
    let offset = u32::try_from(svma.checked_sub(image.header_address()?)?).ok()?;
    let endian = Endian::from_big(file.endian() == gimli::RunTimeEndian::Big);
    let entry = match compact::find(table, endian, offset) {
        Ok(entry) => entry?,
        Err(why) => return Some(Err(why.to_owned())),
    };
    let function = Function::of(image, &entry, frame.is_return_address, svma, module, file)?;
    let described = match walker.arch {
        Arch::X86_64 => compact::x86_64(entry.encoding),
        Arch::Aarch64 => compact::aarch64(entry.encoding),
        Arch::X86 | Arch::Arm | Arch::Other => return None,
    };
    let found = match described {
        compact::Frame::Unknown => return None,
        // `__eh_frame` has rules for the body; at its edges those of Apple's compilers are not exact.
        compact::Frame::Dwarf if frame.is_return_address => return None,
        compact::Frame::Dwarf if walker.arch == Arch::X86_64 => x64::edge(frame, described, &function, walker)?,
        compact::Frame::Dwarf => arm64::edge(frame, &function, walker)?,
        _ if walker.arch == Arch::X86_64 => x64::step(frame, described, &function, walker),
        _ => arm64::step(frame, described, &function, walker),
    };
    Some(found.map_err(str::to_owned))
}

impl<'f> Function<'f> {
    /// Entries of equal functions are made one: the list of function starts tells them apart.
    fn of(
        image: &MachO,
        entry: &compact::Entry,
        returned: bool,
        at: u64,
        module: &'f Module,
        file: &'f ElfFile,
    ) -> Option<Self> {
        let base = image.header_address()?;
        let stated = base.checked_add(entry.start.into())?..base.checked_add(entry.end.into())?;
        let range = image.function_at(file.bytes(), at).unwrap_or(stated);
        let pc = if returned { at.checked_add(1)? } else { at };
        Some(Self { range, pc, module, file })
    }

    /// Code from an address of the image on, at most to `end`: of the file, or of the memory.
    fn code(&self, start: u64, end: u64, walker: &Walker<'_, '_>) -> Vec<u8> {
        let length = end.saturating_sub(start).min(LIMIT_CODE).to_usize();
        if let Some(bytes) = self.file.bytes_at(Svma(start)) {
            return bytes.get(..length).unwrap_or(bytes).to_vec();
        }
        let mut bytes = vec![0; length];
        let (got, _) = walker.memory.read(self.module.to_addr(Svma(start)), &mut bytes);
        bytes.truncate(got);
        bytes
    }

    /// From its start (or what is near enough) to the program counter, with where that begins.
    fn before(&self, walker: &Walker<'_, '_>) -> (u64, Vec<u8>) {
        let start = self.range.start.max(self.pc.saturating_sub(LIMIT_CODE));
        (start, self.code(start, self.pc, walker))
    }

    /// From the program counter to its end.
    fn after(&self, walker: &Walker<'_, '_>) -> Vec<u8> {
        self.code(self.pc, self.range.end, walker)
    }
}

/// The number of bytes as an address.
fn length(bytes: &[u8]) -> u64 {
    bytes.len().to_u64()
}
