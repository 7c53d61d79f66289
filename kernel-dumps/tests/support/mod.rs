//! Inputs as the command line opens them.

use kernel_dumps::ReadAt;
use platform::input::Input;

/// An input, unpacked.
pub struct Bytes(pub Input);

impl ReadAt for Bytes {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<usize> {
        self.0.read_at(offset, into)
    }
    fn size(&self) -> u64 {
        self.0.size()
    }
}
