//! `.gnu_debugdata`: a symbol table for functions that are not exported, as an xz-compressed ELF file in a section
//! ("MiniDebugInfo", gdb manual 18.4).

use super::ElfFile;
use crate::Error;
use evidence::ToU64;
use std::io::Read as _;

/// Largest decompressed contents: symbol tables of some megabytes for the largest programs.
const LIMIT_MINI: u64 = 256 << 20;
/// Memory the xz decoder may use; `xz -9` needs 65 MiB.
const LIMIT_DECODER: u64 = 128 << 20;

impl ElfFile {
    /// The ELF file in `.gnu_debugdata`, if there is one.
    ///
    /// # Errors
    /// The section is damaged.
    pub fn mini_debug_info(&self) -> Result<Option<Self>, Error> {
        let Some(section) = self.section(".gnu_debugdata") else { return Ok(None) };
        let Some(stream) = self.data_of(section)? else { return Ok(None) };
        let bad = |found: String| Error::Format {
            path: self.path().to_owned(),
            offset: section.file_offset(),
            expected: "an xz stream in .gnu_debugdata",
            found,
        };
        let decoder = liblzma::stream::Stream::new_stream_decoder(LIMIT_DECODER, 0).map_err(|e| bad(e.to_string()))?;
        let mut bytes = Vec::new();
        liblzma::read::XzDecoder::new_stream(stream, decoder)
            .take(LIMIT_MINI.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|e| bad(e.to_string()))?;
        if bytes.len().to_u64() > LIMIT_MINI {
            return Err(bad(format!("more than {LIMIT_MINI} bytes")));
        }
        Self::from_bytes(&format!("{}[.gnu_debugdata]", self.path().display()), bytes).map(Some)
    }
}
