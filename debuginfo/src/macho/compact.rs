//! Compact unwind information (`__TEXT,__unwind_info`): for an address, one number that describes the frame.
//!
//! Source: `<mach-o/compact_unwind_encoding.h>` (LLVM's libunwind and Apple's libunwind have it). It describes the frame of
//! a function's body; `unwind` carries it out, and works out by itself what holds in prologues and epilogues.

use evidence::ToUsize;
use evidence::bytes::{Endian, u16_at, u32_at};

/// Most common encodings: their index has 8 bits, of which they take the lower 127.
const LIMIT_COMMON: u32 = 127;

const MODE: u32 = 0x0f00_0000;

/// What describes the code from `start` (inclusive) to `end`, both from the image's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "described above")]
pub struct Entry {
    pub start: u32,
    pub end: u32,
    pub encoding: u32,
}

/// The frame of a function's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Nothing is said.
    Unknown,
    /// The call frame information in `__eh_frame` describes it.
    Dwarf,
    /// x86-64 with a frame pointer: the caller's rbp and the return address lie where rbp points; registers (0: none)
    /// lie upwards from so many bytes below.
    FramePointer {
        /// How far below rbp the first one lies, bytes.
        below: u32,
        /// Their DWARF numbers, 0 for a place that is not used, from the lowest address on.
        saved: [u16; 5],
    },
    /// x86-64 without frame pointer.
    Frameless {
        /// How large the stack is, with the return address.
        size: StackSize,
        /// DWARF numbers of the saved registers, which lie below the return address, from the lowest address on; 0
        /// behind the last one.
        saved: [u16; 6],
    },
    /// AArch64 with a frame pointer: pairs of registers lie downwards from it.
    Record {
        /// The first register of each pair that was saved (19 to 27), in the order in which they lie.
        pairs: [u16; 5],
    },
    /// AArch64 without: the return address is in the link register, the stack pointer was moved by so many bytes.
    Leaf {
        /// Bytes.
        size: u32,
        /// As in `Record`; they lie downwards from the end of the frame.
        pairs: [u16; 5],
    },
}

/// Where the size of an x86-64 frame without frame pointer is stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackSize {
    /// Here, in bytes.
    Stated(u32),
    /// In the function's `sub rsp, imm32`: the number is so many bytes behind the function's start, and so many bytes are
    /// pushed besides.
    InCode {
        /// Distance of the number from the function's start.
        at: u32,
        /// Bytes to be added to the number.
        pushed: u32,
    },
}

/// The entry of a function by an offset from the image's header; `Ok(None)` when none covers it.
///
/// # Errors
/// When the table is damaged there.
pub fn find(data: &[u8], endian: Endian, offset: u32) -> Result<Option<Entry>, &'static str> {
    let damaged = "its compact unwind information is damaged";
    let table = Table { data, endian };
    if table.word(0).ok_or(damaged)? != 1 {
        return Err("its compact unwind information is of an unknown version");
    }
    table.find(offset).ok_or(damaged)
}

struct Table<'d> {
    data: &'d [u8],
    endian: Endian,
}

impl Table<'_> {
    fn word(&self, at: usize) -> Option<u32> {
        u32_at(self.data, at, self.endian)
    }

    fn half(&self, at: usize) -> Option<usize> {
        u16_at(self.data, at, self.endian).map(usize::from)
    }

    /// The number of the last entry whose start, as `start` gives it, is not behind `offset`.
    fn search(count: usize, offset: u32, start: impl Fn(usize) -> Option<u32>) -> Option<Option<usize>> {
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low.midpoint(high);
            if start(middle)? <= offset {
                low = middle.checked_add(1)?;
            } else {
                high = middle;
            }
        }
        Some(low.checked_sub(1))
    }

    fn find(&self, offset: u32) -> Option<Option<Entry>> {
        let (index, count) = (self.word(20)?.to_usize(), self.word(24)?.to_usize());
        let entry = |n: usize| n.checked_mul(12)?.checked_add(index);
        // The last one only says where the code ends.
        let Some(found) = Self::search(count, offset, |n| self.word(entry(n)?))? else { return Some(None) };
        let page = self.word(entry(found)?.checked_add(4)?)?.to_usize();
        let next = found.checked_add(1)?;
        if page == 0 || next >= count {
            return Some(None);
        }
        let (base, end) = (self.word(entry(found)?)?, self.word(entry(next)?)?);
        let entries = page.checked_add(self.half(page.checked_add(4)?)?)?;
        let count = self.half(page.checked_add(6)?)?;
        match self.word(page)? {
            2 => {
                let entry = |n: usize| n.checked_mul(8)?.checked_add(entries);
                let Some(found) = Self::search(count, offset, |n| self.word(entry(n)?))? else { return Some(None) };
                let next = found.checked_add(1).filter(|next| *next < count);
                Some(Some(Entry {
                    start: self.word(entry(found)?)?,
                    end: next.map_or(Some(end), |next| self.word(entry(next)?))?,
                    encoding: self.word(entry(found)?.checked_add(4)?)?,
                }))
            }
            3 => {
                let packed = |n: usize| self.word(n.checked_mul(4)?.checked_add(entries)?);
                let start = |n: usize| base.checked_add(packed(n)? & 0xff_ffff);
                let Some(found) = Self::search(count, offset, start)? else { return Some(None) };
                let next = found.checked_add(1).filter(|next| *next < count);
                let encoding = self.encoding(packed(found)? >> 24, page)?;
                Some(Some(Entry { start: start(found)?, end: next.map_or(Some(end), start)?, encoding }))
            }
            _ => None,
        }
    }

    /// An encoding by its index: those of all pages come first, then the page's own.
    fn encoding(&self, index: u32, page: usize) -> Option<u32> {
        let (common, count) = (self.word(4)?, self.word(8)?.min(LIMIT_COMMON));
        if index < count {
            return self.word(common.checked_add(index.checked_mul(4)?)?.to_usize());
        }
        let own = index.checked_sub(count)?.to_usize();
        if own >= self.half(page.checked_add(10)?)? {
            return None;
        }
        let list = page.checked_add(self.half(page.checked_add(8)?)?)?;
        self.word(list.checked_add(own.checked_mul(4)?)?)
    }
}

/// The registers of x86-64 that an encoding can name, by their numbers there: rbx, r12 to r15, rbp.
const fn saved(number: u32) -> u16 {
    match number {
        1 => 3,
        2 => 12,
        3 => 13,
        4 => 14,
        5 => 15,
        6 => 6,
        _ => 0,
    }
}

/// Describes x86-64 code.
#[must_use]
pub fn x86_64(encoding: u32) -> Frame {
    let field = |shift: u32, bits: u32| encoding.wrapping_shr(shift) & 1_u32.wrapping_shl(bits).wrapping_sub(1);
    match encoding & MODE {
        0x0100_0000 => {
            let mut registers = [0; 5];
            for (slot, shift) in registers.iter_mut().zip([0, 3, 6, 9, 12]) {
                // The frame pointer is saved by itself: neither its number nor the one behind it can be here.
                if field(shift, 3) > 5 {
                    return Frame::Unknown;
                }
                *slot = saved(field(shift, 3));
            }
            Frame::FramePointer { below: field(16, 8).wrapping_mul(8), saved: registers }
        }
        mode @ (0x0200_0000 | 0x0300_0000) => {
            let (count, permutation) = (field(10, 3), field(0, 10));
            let Some(saved) = permuted(count, permutation) else { return Frame::Unknown };
            let size = if mode == 0x0200_0000 {
                StackSize::Stated(field(16, 8).wrapping_mul(8))
            } else {
                StackSize::InCode { at: field(16, 8), pushed: field(13, 3).wrapping_mul(8) }
            };
            Frame::Frameless { size, saved }
        }
        0x0400_0000 => Frame::Dwarf,
        _ => Frame::Unknown,
    }
}

/// The saved registers of a frame without frame pointer: their order is a permutation, numbered.
fn permuted(count: u32, mut permutation: u32) -> Option<[u16; 6]> {
    // How many permutations of the remaining registers there are for each choice.
    let weights: &[u32] = match count {
        0 => &[],
        1 => &[1],
        2 => &[5, 1],
        3 => &[20, 4, 1],
        4 => &[60, 12, 3, 1],
        5 => &[120, 24, 6, 2, 1],
        6 => &[120, 24, 6, 2, 1, 1],
        _ => return None,
    };
    let mut left: Vec<u32> = (1..=6).collect();
    let mut all = [0; 6];
    for (slot, weight) in all.iter_mut().zip(weights) {
        let choice = permutation.checked_div(*weight)?;
        permutation = permutation.checked_sub(choice.checked_mul(*weight)?)?;
        // Of six the last one is what is left.
        let choice = if left.len() == 1 { 0 } else { choice.to_usize() };
        if choice >= left.len() {
            return None;
        }
        *slot = saved(left.remove(choice));
    }
    Some(all)
}

/// Describes AArch64 code.
#[must_use]
pub fn aarch64(encoding: u32) -> Frame {
    let mut pairs = [0; 5];
    let named = [(1, 19), (2, 21), (4, 23), (8, 25), (16, 27)].into_iter().filter(|(bit, _)| encoding & bit != 0);
    for (slot, (_, first)) in pairs.iter_mut().zip(named) {
        *slot = first;
    }
    match encoding & MODE {
        0x0200_0000 => Frame::Leaf { size: (encoding >> 12 & 0xfff).wrapping_mul(16), pairs },
        0x0300_0000 => Frame::Dwarf,
        0x0400_0000 => Frame::Record { pairs },
        _ => Frame::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(all: &[u32]) -> Vec<u8> {
        all.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    /// One page of each kind, with a common encoding and one of the page's own.
    fn table() -> Vec<u8> {
        words(&[
            1,
            28,
            1,
            0,
            0,
            32,
            3,
            0x0100_0000, // header, common encoding
            0x1000,
            68,
            0,
            0x2000,
            100,
            0,
            0x3000,
            0,
            0, // index
            2,
            0x0003_0008,
            0x1000,
            0x11,
            0x1010,
            0x12,
            0x1800,
            0x13, // regular
            3,
            0x0002_0010,
            0x0001_000c,
            0x0400_0000,
            0x0000_0000,
            0x0100_0020, // compressed
        ])
    }

    #[test]
    fn pages_of_both_kinds() {
        let table = table();
        let at = |offset| find(&table, Endian::Little, offset);
        let entry = |start, end, encoding| Ok(Some(Entry { start, end, encoding }));
        assert_eq!(at(0xfff), Ok(None));
        assert_eq!(at(0x1000), entry(0x1000, 0x1010, 0x11));
        assert_eq!(at(0x17ff), entry(0x1010, 0x1800, 0x12));
        assert_eq!(at(0x1fff), entry(0x1800, 0x2000, 0x13));
        assert_eq!(at(0x2000), entry(0x2000, 0x2020, 0x0100_0000));
        assert_eq!(at(0x2020), entry(0x2020, 0x3000, 0x0400_0000));
        assert_eq!(at(0x3000), Ok(None));
        // Cut anywhere, it is damaged or ends; it never gives something else.
        for length in 0..table.len() {
            for offset in [0x1010, 0x2020] {
                let cut = find(&table[..length], Endian::Little, offset);
                assert!(cut.is_err() || cut == at(offset), "{length} {cut:?}");
            }
        }
    }

    #[test]
    fn permutations() {
        assert_eq!(permuted(0, 0), Some([0; 6]));
        assert_eq!(permuted(1, 5), Some([6, 0, 0, 0, 0, 0]));
        // The first of six, then of the five that are left: rbx, r12 / rbp, r15.
        assert_eq!(permuted(2, 0), Some([3, 12, 0, 0, 0, 0]));
        assert_eq!(permuted(2, 29), Some([6, 15, 0, 0, 0, 0]));
        assert_eq!(permuted(6, 719), Some([6, 15, 14, 13, 12, 3]));
        assert_eq!((permuted(2, 30), permuted(7, 0), permuted(6, 720)), (None, None, None));
        // All of them are different.
        for (count, most) in [(1, 6), (2, 30), (3, 120), (4, 360), (5, 720), (6, 720)] {
            let all: std::collections::HashSet<_> = (0..most).map(|p| permuted(count, p).unwrap()).collect();
            assert_eq!(all.len(), most as usize);
        }
    }
}
