//! Minidumps and Breakpad symbol files of any size, made from nothing: inputs of measurements.
//!
//! Layouts: minidumpapiset.h and winnt.h (`CONTEXT` of x86-64), and Breakpad's docs/symbol_files.md. Each thread's stack
//! is a chain of frame records that return into the one module `busy`; what follows is what its symbol file describes
//! with `STACK CFI` as well, so that every method finds the same frames.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Where the module lies.
pub const CODE: u64 = 0x40_0000;
/// Bytes of one function of the module.
pub const FUNCTION: u64 = 0x40;
/// The name of the module and of its symbol file.
pub const MODULE: &str = "busy";
/// The identity of the module, as symbol stores write it: GUID and age.
pub const ID: &str = "000102030405060708090A0B0C0D0E0F1";

const STACKS: u64 = 0x7f00_0000_0000;
const STACK: u64 = 0x1000;
const RECORD: u64 = 0x20;
const HEAD: usize = 32 + 12 * 6;
/// Functions that the stacks of [`Threads`] return into.
const FUNCTIONS: u64 = 8192;

/// A minidump of many threads.
#[derive(Clone, Copy, Debug)]
pub struct Threads {
    /// How many threads.
    pub threads: u32,
    /// Frames of each, at most 100.
    pub frames: u64,
    /// Functions of the module, over which the frames are spread.
    pub functions: u64,
    /// Bytes of one more range of memory, in a `Memory64List` at the end of the file; a hole of the file.
    pub memory: u64,
}

impl Default for Threads {
    fn default() -> Self {
        Self { threads: 1, frames: 60, functions: FUNCTIONS, memory: 0 }
    }
}

struct Out {
    bytes: Vec<u8>,
    directory: Vec<u8>,
}

fn little(value: u64) -> [u8; 4] {
    u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes()
}

impl Out {
    fn here(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn words(&mut self, words: &[u64]) {
        words.iter().for_each(|w| self.bytes.extend(little(*w)));
    }
    fn stream(&mut self, kind: u64, body: &[u8]) {
        for word in [kind, body.len() as u64, self.here()] {
            self.directory.extend(little(word));
        }
        self.bytes.extend(body);
    }
}

impl Threads {
    /// The address that frame `frame` of thread `thread` stands at: no two threads have the same stack.
    #[must_use]
    pub fn pc(&self, thread: u64, frame: u64) -> u64 {
        let spread = (thread * 31 + frame * (self.functions / 61).max(1)) % self.functions.max(1);
        CODE + 0x1000 + spread * FUNCTION + 0x10
    }

    /// Writes it to `path`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut out = Out { bytes: vec![0; HEAD], directory: Vec::new() };
        let mut system = vec![0_u8; 56];
        system[0] = 9; // PROCESSOR_ARCHITECTURE_AMD64
        system[20..24].copy_from_slice(&0x8201_u32.to_le_bytes()); // Linux
        out.stream(7, &system);

        let mut list = self.threads.to_le_bytes().to_vec();
        for thread in 0..u64::from(self.threads) {
            let base = STACKS + thread * 0x1_0000;
            let stack_at = out.here();
            out.bytes.extend(self.stack(thread, base));
            let context_at = out.here();
            out.bytes.extend(self.context(thread, base));
            for word in [thread + 1, 0, 0, 0, 0, 0] {
                list.extend(little(word));
            }
            list.extend(base.to_le_bytes());
            for word in [STACK, stack_at, 1232, context_at] {
                list.extend(little(word));
            }
        }
        out.stream(3, &list);
        self.module(&mut out);
        if self.memory > 0 {
            // The list is the last thing before the bytes.
            let base = out.here() + 32;
            let mut list = 1_u64.to_le_bytes().to_vec();
            for word in [base, 0x10_0000_0000, self.memory] {
                list.extend(word.to_le_bytes());
            }
            out.stream(9, &list);
        }
        let streams = out.directory.len() as u64 / 12;
        let head: Vec<u8> = [0x504d_444d, 0xa793, streams, 32].into_iter().flat_map(little).collect();
        out.bytes[..16].copy_from_slice(&head);
        out.bytes[32..32 + out.directory.len()].copy_from_slice(&out.directory);
        let mut file = File::create(path)?;
        file.write_all(&out.bytes)?;
        file.set_len(out.here() + self.memory)
    }

    fn stack(&self, thread: u64, base: u64) -> Vec<u8> {
        let mut stack = vec![0_u8; STACK as usize];
        for frame in 1..self.frames.min(100) {
            let at = (frame * RECORD) as usize;
            stack[at..at + 8].copy_from_slice(&(base + (frame + 1) * RECORD).to_le_bytes());
            stack[at + 8..at + 16].copy_from_slice(&self.pc(thread, frame).to_le_bytes());
        }
        stack
    }

    fn context(&self, thread: u64, base: u64) -> Vec<u8> {
        let mut context = vec![0_u8; 1232];
        context[0x30..0x34].copy_from_slice(&0x10_000f_u32.to_le_bytes());
        // rsp, rbp, rip.
        for (at, value) in [(0x98, base + 0x10), (0xa0, base + RECORD), (0xf8, self.pc(thread, 0))] {
            context[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        context
    }

    fn module(&self, out: &mut Out) {
        let name_at = out.here();
        out.words(&[2 * MODULE.len() as u64]);
        out.bytes.extend(MODULE.encode_utf16().flat_map(u16::to_le_bytes));
        out.bytes.extend([0; 2]);
        let record_at = out.here();
        // GUID: its first three numbers are little-endian.
        out.bytes.extend(b"RSDS\x03\x02\x01\x00\x05\x04\x07\x06\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x01\x00\x00\x00");
        out.bytes.extend(MODULE.as_bytes());
        out.bytes.push(0);
        let record = out.here() - record_at;
        let mut list = 1_u32.to_le_bytes().to_vec();
        list.extend(CODE.to_le_bytes());
        for word in [0x2000 + self.functions * FUNCTION, 0, 0, name_at] {
            list.extend(little(word));
        }
        list.extend([0; 52]);
        for word in [record, record_at, 0, 0, 0, 0, 0, 0] {
            list.extend(little(word));
        }
        out.stream(4, &list);
    }
}

/// Writes a symbol file of [`MODULE`] of at least `bytes` bytes to `path`: functions with lines, then their
/// `STACK CFI`. Gives the number of functions.
///
/// # Errors
/// When the file cannot be written.
pub fn symbol_file(path: &Path, bytes: u64) -> io::Result<u64> {
    /// Bytes of the records of one function, as written below with addresses of eight digits.
    const RECORDS: u64 = 240;
    let functions = bytes.div_ceil(RECORDS);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    writeln!(out, "MODULE Linux x86_64 {ID} {MODULE}")?;
    for file in 0..1000 {
        writeln!(out, "FILE {file} /build/busy/src/part{file:04}.cc")?;
    }
    for n in 0..functions {
        let at = 0x1000 + n * FUNCTION;
        writeln!(out, "FUNC {at:08x} 40 0 busy::part{:04}::Worker::step{n:08}(unsigned long, void*)", n % 1000)?;
        for line in 0..4 {
            writeln!(out, "{:08x} 10 {} {}", at + line * 0x10, n % 5000 + line, n % 1000)?;
        }
    }
    for n in 0..functions {
        let at = 0x1000 + n * FUNCTION;
        writeln!(out, "STACK CFI INIT {at:08x} 40 .cfa: $rbp 16 + .ra: .cfa 8 - ^ $rbp: .cfa 16 - ^ $rsp: .cfa")?;
    }
    out.into_inner()?.sync_all()?;
    Ok(functions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_the_sizes_that_were_asked_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let (dump, sym) = (folder.path().join("a.dmp"), folder.path().join("a.sym"));
        Threads { threads: 3, memory: 1 << 20, ..Threads::default() }.write(&dump).expect("a dump");
        let size = |path: &Path| std::fs::metadata(path).expect("it was written").len();
        assert!(size(&dump) > 1 << 20 && size(&dump) < 2 << 20);
        let functions = symbol_file(&sym, 1 << 20).expect("a symbol file");
        assert!(size(&sym) >= 1 << 20 && size(&sym) < 5 << 18, "{} bytes", size(&sym));
        assert_eq!(functions, 4370);
    }
}
