//! Part of a source, as a source of its own; and a source as a stream.

use crate::source::ReadAt;
use evidence::{ToU64, ToUsize};
use std::io;
use std::sync::Arc;

/// `size` bytes from `start` on.
pub(super) struct Window {
    pub inner: Arc<dyn ReadAt>,
    pub start: u64,
    pub size: u64,
}

impl ReadAt for Window {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let n = into.len().min(self.size.saturating_sub(offset).to_usize());
        let Some(part) = into.get_mut(..n) else { return Ok(0) };
        self.inner.read_at(self.start.saturating_add(offset), part)
    }

    /// The bytes that there are: what the inner source does not hold does not count.
    fn size(&self) -> u64 {
        self.size.min(self.inner.size().saturating_sub(self.start))
    }
}

/// Reads a source from its start to its end.
pub(super) struct Stream {
    pub inner: Arc<dyn ReadAt>,
    pub at: u64,
}

impl io::Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read_at(self.at, into)?;
        self.at = self.at.saturating_add(n.to_u64());
        Ok(n)
    }
}

/// The blocks of 512 bytes in reverse order: how the kernel writes a text dump, from the end of the device on.
pub(super) struct Reversed(pub Arc<dyn ReadAt>);

const BLOCK: u64 = 512;

impl ReadAt for Reversed {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0_usize;
        while done < into.len() {
            let here = offset.saturating_add(done.to_u64());
            let skip = here & (BLOCK.wrapping_sub(1));
            let from_end = here.wrapping_sub(skip).saturating_add(BLOCK);
            let Some(block) = self.size().checked_sub(from_end) else { break };
            let Some(rest) = into.get_mut(done..) else { break };
            let n = rest.len().min(BLOCK.wrapping_sub(skip).to_usize());
            let Some(part) = rest.get_mut(..n) else { break };
            let got = self.0.read_at(block.saturating_add(skip), part)?;
            done = done.saturating_add(got);
            if got < n {
                break;
            }
        }
        Ok(done)
    }

    fn size(&self) -> u64 {
        self.0.size() & !(BLOCK.wrapping_sub(1))
    }
}
