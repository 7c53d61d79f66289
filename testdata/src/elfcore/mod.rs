//! A writer of ELF cores of any class, byte order and size, also of broken ones.
//!
//! It follows the layout of Linux: ELF header, program headers (notes first), notes, memory, and, where there are more
//! program headers than `e_phnum` can count, one section header at the end that counts them.

pub mod freebsd;
pub mod freebsd_process;
pub mod illumos;
pub mod linux;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// `e_phnum` when a section header counts instead.
const PN_XNUM: usize = 0xffff;
/// Where segments are aligned to in the file.
const PAGE: u64 = 4096;

/// What a segment has in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// These bytes.
    Bytes(Vec<u8>),
    /// So many zeros, written as a hole.
    Hole(u64),
    /// So many bytes that lie at this file offset already, whatever is there.
    At(u64, u64),
}

impl Contents {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(b) => b.len() as u64,
            Self::Hole(len) | Self::At(_, len) => *len,
        }
    }
}

#[derive(Clone, Debug)]
struct Load {
    vaddr: u64,
    memsz: u64,
    flags: u32,
    contents: Contents,
}

/// Builds a core.
#[derive(Clone, Debug)]
pub struct CoreBuilder {
    wide: bool,
    big: bool,
    machine: u16,
    osabi: u8,
    notes: Vec<Vec<u8>>,
    loads: Vec<Load>,
}

impl CoreBuilder {
    /// A core without notes and memory. `wide`: 64-bit; `big`: most significant byte first.
    #[must_use]
    pub fn new(wide: bool, big: bool, machine: u16) -> Self {
        Self { wide, big, machine, osabi: 0, notes: vec![Vec::new()], loads: Vec::new() }
    }

    /// Sets the byte `EI_OSABI`.
    #[must_use]
    pub fn osabi(mut self, osabi: u8) -> Self {
        self.osabi = osabi;
        self
    }

    /// Adds a note to the last note segment.
    #[must_use]
    pub fn note(mut self, owner: &str, kind: u32, body: &[u8]) -> Self {
        let mut raw = Vec::new();
        for word in [owner.len() + 1, body.len(), kind as usize] {
            raw.extend(self.word(word as u32));
        }
        for part in [[owner.as_bytes(), &[0]].concat().as_slice(), body] {
            raw.extend(part);
            raw.resize(raw.len().next_multiple_of(4), 0);
        }
        self.notes.last_mut().expect("there is always one").extend(raw);
        self
    }

    /// Adds raw bytes to the last note segment.
    #[must_use]
    pub fn raw_note(mut self, raw: &[u8]) -> Self {
        self.notes.last_mut().expect("there is always one").extend(raw);
        self
    }

    /// Begins another note segment, as illumos does.
    #[must_use]
    pub fn next_note_segment(mut self) -> Self {
        self.notes.push(Vec::new());
        self
    }

    /// Adds memory. `flags`: 4 read, 2 write, 1 execute.
    #[must_use]
    pub fn load(mut self, vaddr: u64, memsz: u64, flags: u32, contents: Contents) -> Self {
        self.loads.push(Load { vaddr, memsz, flags, contents });
        self
    }

    fn word(&self, value: u32) -> [u8; 4] {
        if self.big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn half(&self, value: u16) -> [u8; 2] {
        if self.big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    /// A `long` of the program.
    #[must_use]
    pub fn long(&self, value: u64) -> Vec<u8> {
        match (self.wide, self.big) {
            (true, true) => value.to_be_bytes().to_vec(),
            (true, false) => value.to_le_bytes().to_vec(),
            (false, true) => (value as u32).to_be_bytes().to_vec(),
            (false, false) => (value as u32).to_le_bytes().to_vec(),
        }
    }

    fn program_header(&self, kind: u32, flags: u32, numbers: [u64; 5]) -> Vec<u8> {
        let [offset, vaddr, filesz, memsz, align] = numbers;
        let mut out = self.word(kind).to_vec();
        if self.wide {
            out.extend(self.word(flags));
        }
        for number in [offset, vaddr, 0, filesz, memsz] {
            out.extend(self.long(number));
        }
        if !self.wide {
            out.extend(self.word(flags));
        }
        out.extend(self.long(align));
        out
    }

    /// Everything but the memory that is written to a file of its own: pieces with their offsets, and the file's length.
    fn layout(&self) -> (Vec<(u64, Vec<u8>)>, u64) {
        let (ehdr, phdr, shdr) = if self.wide { (64_u64, 56_u64, 64_u64) } else { (52, 32, 40) };
        let count = self.notes.len() + self.loads.len();
        let mut at = ehdr + phdr * count as u64;
        let mut headers = Vec::new();
        let mut pieces = Vec::new();
        for notes in &self.notes {
            headers.extend(self.program_header(4, 0, [at, 0, notes.len() as u64, 0, 4]));
            pieces.push((at, notes.clone()));
            at += notes.len() as u64;
        }
        at = at.next_multiple_of(PAGE);
        for load in &self.loads {
            let offset = if let Contents::At(offset, _) = load.contents { offset } else { at };
            let len = load.contents.len();
            headers.extend(self.program_header(1, load.flags, [offset, load.vaddr, len, load.memsz, PAGE]));
            match &load.contents {
                Contents::Bytes(bytes) => pieces.push((at, bytes.clone())),
                Contents::Hole(_) => {}
                Contents::At(..) => continue,
            }
            at = (at + len).next_multiple_of(PAGE);
        }
        let extended = count >= PN_XNUM;
        let mut head = vec![0x7f, b'E', b'L', b'F', 1 + u8::from(self.wide), 1 + u8::from(self.big), 1, self.osabi];
        head.resize(16, 0);
        head.extend(self.half(4));
        head.extend(self.half(self.machine));
        head.extend(self.word(1));
        head.extend(self.long(0));
        head.extend(self.long(ehdr));
        head.extend(self.long(if extended { at } else { 0 }));
        head.extend(self.word(0));
        let halves = [ehdr as u16, phdr as u16, count.min(PN_XNUM) as u16];
        let sections = if extended { [shdr as u16, 1, 0] } else { [0, 0, 0] };
        for value in halves.into_iter().chain(sections) {
            head.extend(self.half(value));
        }
        head.extend(headers);
        pieces.insert(0, (0, head));
        if extended {
            // sh_name, sh_type, sh_flags, sh_addr, sh_offset, sh_size (1), sh_link, sh_info (the count), ...
            let mut section = [self.word(0), self.word(0)].concat();
            for value in [0, 0, 0, 1] {
                section.extend(self.long(value));
            }
            section.extend(self.word(0));
            section.extend(self.word(count as u32));
            section.resize(shdr as usize, 0);
            pieces.push((at, section));
            at += shdr;
        }
        (pieces, at)
    }

    /// The core as bytes.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let (pieces, len) = self.layout();
        let mut out = vec![0; len as usize];
        for (at, bytes) in pieces {
            out[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
        }
        out
    }

    /// Writes the core to a new file, with holes.
    ///
    /// # Errors
    /// What the system said.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let (pieces, len) = self.layout();
        let file = File::create(path)?;
        for (at, bytes) in pieces {
            file.write_all_at(&bytes, at)?;
        }
        file.set_len(len)
    }
}
