//! What the target's memory shows of an image: headers, build-id, where its segments lie.

use crate::BuildId;
use crate::elf::{Headers, LIMIT_HEAD, ProgramHeader, note_build_id};
use evidence::bytes::Endian;
use evidence::{Absent, Addr, Arch, Memory, ToU64, ToUsize};
use object::{Endianness, elf};

/// Most bytes of one note segment that are searched for a build-id. Real ones hold some hundred bytes.
const LIMIT_NOTES: u64 = 64 << 10;
/// Most note segments of one image that are searched.
const LIMIT_NOTE_SEGMENTS: usize = 16;
/// Largest span of one image's segments: 64 GiB, far above what any code model links.
pub(super) const LIMIT_SPAN: u64 = 1 << 36;
/// How much of the head is read at first: all program headers of nearly all images lie in it.
const FIRST_READ: usize = 4096;

/// An image found by its ELF header in memory.
#[derive(Clone, Debug)]
pub(super) struct InMemory {
    pub base: Addr,
    pub slide: u64,
    pub headers: Headers,
    pub build_id: Option<BuildId>,
    /// Why a note segment could not be read, when there is one and no build-id was found.
    pub notes_absent: Option<Absent>,
}

/// Why there is no image at an address.
pub(super) enum NoImage {
    /// The bytes are there and are no ELF header of an image.
    Other,
    /// The bytes are not there.
    Absent(Absent),
}

impl InMemory {
    /// Reads the image whose file offset 0 lies at `base`.
    pub(super) fn read(memory: &dyn Memory, base: Addr) -> Result<Self, NoImage> {
        let mut head = vec![0; FIRST_READ];
        let (got, stop) = memory.read(base, &mut head);
        head.truncate(got);
        if let (0, Some(why)) = (got, stop) {
            return Err(NoImage::Absent(why));
        }
        if !head.starts_with(&elf::ELFMAG) {
            return Err(NoImage::Other);
        }
        let headers = match Headers::parse(&head) {
            Ok(headers) => headers,
            Err(needed) => {
                head = vec![0; needed.min(LIMIT_HEAD).to_usize()];
                let (got, stop) = memory.read(base, &mut head);
                if let Some(why) = stop {
                    return Err(NoImage::Absent(why));
                }
                head.truncate(got);
                Headers::parse(&head).unwrap_or_default()
            }
        };
        let headers = headers.ok_or(NoImage::Other)?;
        let slide = slide_of(&headers, base).ok_or(NoImage::Other)?;
        let mut image = Self { base, slide, headers, build_id: None, notes_absent: None };
        if image.span_size() == 0 || image.span_size() > LIMIT_SPAN {
            return Err(NoImage::Other);
        }
        image.read_build_id(memory);
        Ok(image)
    }

    fn read_build_id(&mut self, memory: &dyn Memory) {
        let notes: Vec<ProgramHeader> =
            self.headers.programs.iter().filter(|p| p.is(elf::PT_NOTE)).take(LIMIT_NOTE_SEGMENTS).copied().collect();
        for note in notes {
            let mut bytes = vec![0; note.file_size.min(LIMIT_NOTES).to_usize()];
            let (got, stop) = memory.read(self.to_addr(note.address), &mut bytes);
            bytes.truncate(got);
            if let Some(id) = note_build_id(&bytes, self.headers.endian, self.headers.is_64, note.align) {
                self.build_id = Some(id);
                self.notes_absent = None;
                return;
            }
            self.notes_absent = self.notes_absent.or(stop);
        }
    }

    pub(super) const fn to_addr(&self, svma: u64) -> Addr {
        Addr(svma.wrapping_add(self.slide))
    }

    /// Bytes from `base` to the end of the last loadable segment, in whole pages.
    pub(super) fn span_size(&self) -> u64 {
        span_end(&self.headers, self.slide).wrapping_sub(self.base.0)
    }

    pub(super) const fn endian(&self) -> Endian {
        match self.headers.endian {
            Endianness::Little => Endian::Little,
            Endianness::Big => Endian::Big,
        }
    }

    pub(super) const fn pointer_size(&self) -> u8 {
        if self.headers.is_64 { 8 } else { 4 }
    }

    /// Address and size of the dynamic section.
    pub(super) fn dynamic(&self) -> Option<(Addr, u64)> {
        let p = self.headers.programs.iter().find(|p| p.is(elf::PT_DYNAMIC))?;
        Some((self.to_addr(p.address), p.memory_size))
    }

    /// Whether its code can run on `arch`.
    pub(super) fn fits(&self, arch: Arch) -> bool {
        let machine = elf::Machine(self.headers.machine);
        match arch {
            Arch::X86_64 => machine == elf::EM_X86_64,
            Arch::X86 => machine == elf::EM_386,
            Arch::Aarch64 => machine == elf::EM_AARCH64,
            Arch::Arm => machine == elf::EM_ARM,
            Arch::Other => true,
        }
    }
}

/// Size of a page for rounding segments: the smallest of the supported systems; a larger real one changes nothing but
/// the last partial page.
const PAGE: u64 = 4096;

const fn page_down(at: u64) -> u64 {
    at & !PAGE.wrapping_sub(1)
}

const fn page_up(at: u64) -> u64 {
    page_down(at.saturating_add(PAGE.wrapping_sub(1)))
}

/// Runtime address minus SVMA of an image whose file offset 0 lies at `base`.
pub(super) fn slide_of(headers: &Headers, base: Addr) -> Option<u64> {
    let first = headers.loads().filter(|p| page_down(p.offset) == 0).min_by_key(|p| p.address)?;
    let slide = base.0.wrapping_sub(first.address.wrapping_sub(first.offset));
    // An executable that is linked to an address runs at that address and nowhere else.
    (headers.kind != elf::ET_EXEC.0 || slide == 0).then_some(slide)
}

/// Runtime end of the last loadable segment, in whole pages.
fn span_end(headers: &Headers, slide: u64) -> u64 {
    let end = headers.loads().map(|p| page_up(p.address.saturating_add(p.memory_size))).max().unwrap_or(0);
    end.wrapping_add(slide)
}

/// The offset in a mapping's file and the address that a segment's first byte has, in whole pages.
pub(super) const fn first_page(p: &ProgramHeader, slide: u64) -> (u64, Addr) {
    (page_down(p.offset), Addr(page_down(p.address.wrapping_add(slide))))
}

/// The head of a file as it would be in memory: for images whose first page is not in the source.
pub(super) fn head_of_file(bytes: &[u8]) -> Option<Headers> {
    let most = LIMIT_HEAD.min(bytes.len().to_u64()).to_usize();
    Headers::parse(bytes.get(..most)?).ok().flatten()
}
