//! Machines that carry out a program instruction by instruction, for comparing frames at each of them with the calls
//! that were really made.

pub mod arm64;
pub mod x64;

use evidence::{Absent, Addr, Extent, Memory, Register};

/// Where the image lies.
pub const IMAGE: u64 = 0x1_4000_0000;
const STACK: u64 = 0x7ff0_0000;
const STACK_SIZE: usize = 0x4_0000;

/// A stack and an image.
pub struct Ram {
    stack: Vec<u8>,
    pub image: Vec<u8>,
    /// Whether the dump has nothing of the image.
    pub hide_image: bool,
}

impl Ram {
    pub fn new(image: Vec<u8>) -> Self {
        Self { stack: vec![0; STACK_SIZE], image, hide_image: false }
    }

    /// Overwrites a byte of the image.
    pub fn damage(&mut self, at: usize, value: u8) {
        self.image[at] = value;
    }

    pub fn place(&mut self, at: u64, size: usize) -> &mut [u8] {
        if at >= IMAGE {
            let at = (at - IMAGE) as usize;
            return &mut self.image[at..at + size];
        }
        let at = at.checked_sub(STACK).unwrap_or_else(|| panic!("nothing is at {at:#x}")) as usize;
        &mut self.stack[at..at + size]
    }
}

impl Memory for Ram {
    fn read(&self, at: Addr, into: &mut [u8]) -> (usize, Option<Absent>) {
        let image = if self.hide_image { &[][..] } else { &self.image };
        for (start, bytes) in [(STACK, &self.stack[..]), (IMAGE, image)] {
            let Some(rest) = at.0.checked_sub(start).and_then(|o| bytes.get(o as usize..)) else { continue };
            let n = rest.len().min(into.len());
            if n > 0 || into.is_empty() {
                into[..n].copy_from_slice(&rest[..n]);
                return (n, (n < into.len()).then_some(Absent::Unmapped));
            }
        }
        (0, Some(Absent::Filtered))
    }
    fn extents(&self) -> &[Extent] {
        &[]
    }
}

/// A call, or an interruption, that has not returned.
pub struct Call {
    pub pc: u64,
    pub interrupted: bool,
    /// What the caller's registers will be.
    pub registers: Vec<(Register, u64)>,
}
