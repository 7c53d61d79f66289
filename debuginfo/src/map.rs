//! Files mapped read-only into our memory: the only unsafe code of this crate.

use std::fs::File;
use std::io;
use std::ops::Deref;

/// The page cache may hold a file in pieces of this size, aligned in the file. Linux 6.18 maps a whole piece when one byte
/// of it is read, where the mapping is aligned alike.
#[cfg(target_os = "linux")]
const PIECE: usize = 2 << 20;

/// The bytes of a whole file, mapped, or owned where there was no file (an image copied out of memory).
#[derive(Debug)]
pub(crate) enum FileBytes {
    Mapped(memmap2::Mmap),
    #[cfg(target_os = "linux")]
    Large(large::Map),
    Owned(Box<[u8]>),
}

impl FileBytes {
    /// Maps all of `file`.
    pub(crate) fn map(file: &File) -> io::Result<Self> {
        Self::map_up_to(file, usize::try_from(file.metadata()?.len()).map_err(|_| io::ErrorKind::FileTooLarge)?)
    }

    /// Maps the first `length` bytes of `file`, which may be more than it has yet: nobody may look at a byte before it
    /// is there.
    pub(crate) fn map_up_to(file: &File, length: usize) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        if let Some(map) = large::Map::new(file, length)? {
            return Ok(Self::Large(map));
        }
        // SAFETY: the mapping is read-only, and its bytes are only ever read as plain `u8` by code that accepts any
        // contents. A writer changing the file meanwhile can change what we read, which the parsers must survive in any
        // case; a writer truncating it makes reads raise SIGBUS, which ends this process without harm to others, as it
        // does for every debugger that maps symbol files.
        let map = unsafe { memmap2::MmapOptions::new().len(length).map(file)? };
        Ok(Self::Mapped(map))
    }

    /// Whether they come from a file.
    pub(crate) const fn is_mapped(&self) -> bool {
        !matches!(self, Self::Owned(_))
    }

    /// Lets go of the pages that hold `part` of the file, which come back from the file when it is read again: so that
    /// reading much of a large file here and there does not keep all of it in memory.
    pub(crate) fn release(&self, part: &[u8]) {
        let Some(offset) = part.as_ptr().addr().checked_sub(self.as_ptr().addr()) else { return };
        if part.is_empty() || offset.checked_add(part.len()).is_none_or(|end| end > self.len()) {
            return;
        }
        match self {
            Self::Mapped(map) => {
                // SAFETY: the mapping is read-only and backed by a file, and nobody writes to it: dropped pages read the
                // same again (as far as the file was not changed by others, for which see `map`).
                let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, part.len()) };
            }
            #[cfg(target_os = "linux")]
            Self::Large(map) => map.release(offset, part.len()),
            Self::Owned(_) => {}
        }
    }
}

impl Deref for FileBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            #[cfg(target_os = "linux")]
            Self::Large(map) => map.bytes(),
            Self::Owned(bytes) => bytes,
        }
    }
}

/// Large files, mapped so that reading one byte brings in 64 KB and not 2 MB: names of a file with gigabytes of debug
/// information lie each in a piece of its own.
#[cfg(target_os = "linux")]
mod large {
    use super::PIECE;
    use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
    use std::ffi::c_void;
    use std::fs::File;
    use std::io;
    use std::num::NonZeroUsize;
    use std::ptr::NonNull;

    /// Files below this size cannot make a process large.
    const LEAST: usize = 16 << 20;

    /// A mapping inside of a reservation that is larger than it.
    #[derive(Debug)]
    pub(crate) struct Map {
        reserved: NonNull<c_void>,
        room: usize,
        start: NonNull<u8>,
        length: usize,
    }

    // SAFETY: the mapping is read-only and belongs to this value alone; any thread may read it, and unmap it at the end.
    unsafe impl Send for Map {}
    // SAFETY: as above; nothing in it changes but for pages that are dropped and read the same again.
    unsafe impl Sync for Map {}

    impl Map {
        /// The first `length` bytes of a file; `None` where they are few.
        pub(super) fn new(file: &File, length: usize) -> io::Result<Option<Self>> {
            if length < LEAST {
                return Ok(None);
            }
            let room = length.checked_add(PIECE.saturating_mul(2)).and_then(NonZeroUsize::new);
            let Some((room, size)) = room.zip(NonZeroUsize::new(length)) else { return Ok(None) };
            let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
            // SAFETY: a new mapping at an address that the kernel chooses touches no memory of ours.
            let reserved = unsafe { mmap_anonymous(None, room, ProtFlags::PROT_NONE, flags)? };
            // Half a piece off: no piece of the file fits under one page table.
            let at = reserved.addr().get().next_multiple_of(PIECE).saturating_add(PIECE / 2);
            let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED;
            // SAFETY: `at` and `length` lie inside of the reservation, which is ours and holds nothing. The mapping is
            // read-only; what is said at `FileBytes::map` of files that change holds for it.
            let mapped = unsafe { mmap(NonZeroUsize::new(at), size, ProtFlags::PROT_READ, flags, file, 0) };
            match mapped {
                Ok(start) => Ok(Some(Self { reserved, room: room.get(), start: start.cast(), length })),
                Err(error) => {
                    // SAFETY: the reservation is ours, whole, and nobody has seen it.
                    let _ = unsafe { munmap(reserved, room.get()) };
                    Err(error.into())
                }
            }
        }

        pub(super) const fn bytes(&self) -> &[u8] {
            // SAFETY: the mapping is readable, that long, lives as long as `self`, and is never written by us.
            unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
        }

        /// Drops the pages of a part, which the caller has checked to lie inside.
        pub(super) fn release(&self, offset: usize, length: usize) {
            let page = offset & !4095;
            let end = offset.saturating_add(length).min(self.length);
            let Some(length) = end.checked_sub(page) else { return };
            // SAFETY: `page` lies inside of the mapping.
            let start = unsafe { self.start.add(page) };
            // SAFETY: the range lies inside of a read-only mapping of a file: dropped pages read the same again.
            let _ = unsafe { madvise(start.cast(), length, MmapAdvise::MADV_DONTNEED) };
        }
    }

    impl Drop for Map {
        fn drop(&mut self) {
            // SAFETY: nothing borrows the bytes any longer; the reservation with the mapping inside is ours, whole.
            let _ = unsafe { munmap(self.reserved, self.room) };
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::io::Write as _;

        #[test]
        fn a_large_file_reads_as_it_is_also_after_release() {
            let mut file = tempfile::tempfile().unwrap();
            let data: Vec<u8> =
                (0..LEAST + 12_345).map(|n| (n / 7).to_le_bytes()[0] ^ (n >> 16).to_le_bytes()[0]).collect();
            file.write_all(&data[..LEAST - 1]).unwrap();
            assert!(Map::new(&file, LEAST - 1).unwrap().is_none());
            file.write_all(&data[LEAST - 1..]).unwrap();
            let map = Map::new(&file, data.len()).unwrap().unwrap();
            assert!(map.bytes() == data);
            assert_ne!(map.start.addr().get() % PIECE, 0);
            for (offset, length) in [(0, data.len()), (5000, 10), (data.len() - 1, 1), (4096, PIECE)] {
                map.release(offset, length);
                assert!(map.bytes() == data);
            }
        }
    }
}
