//! The bytes of a minidump in the making: header, directory, and everything that 32-bit offsets point at.

use std::io;

/// Room for the directory.
const STREAMS: usize = 24;
const DIRECTORY: usize = 32;
const START: usize = DIRECTORY + STREAMS * 12;

/// Everything but the bytes of memory, which follow it.
#[derive(Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    streams: Vec<(u32, u32, u32)>,
    /// Where offsets of memory bytes are to be written: (position, offset among the bytes, 64-bit).
    memory: Vec<(usize, u64, bool)>,
}

impl Buffer {
    pub fn len(&self) -> usize {
        START + self.bytes.len()
    }

    fn rva(&self) -> u32 {
        // `finish` refuses what is larger.
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    /// `MINIDUMP_LOCATION_DESCRIPTOR`: size and offset.
    pub fn place(&mut self, (size, rva): (u32, u32)) {
        self.u32(size);
        self.u32(rva);
    }

    /// The 32-bit offset of a byte of memory.
    pub fn memory_rva(&mut self, offset: u64) {
        self.memory.push((self.bytes.len(), offset, false));
        self.u32(0);
    }

    /// The 64-bit offset of all bytes of memory.
    pub fn memory_base(&mut self) {
        self.memory.push((self.bytes.len(), 0, true));
        self.u64(0);
    }

    fn align(&mut self, to: usize) {
        self.bytes.resize(self.len().next_multiple_of(to) - START, 0);
    }

    /// Bytes by themselves: their size and offset.
    pub fn blob(&mut self, bytes: &[u8]) -> (u32, u32) {
        self.align(16);
        let place = (u32::try_from(bytes.len()).unwrap_or(u32::MAX), self.rva());
        self.bytes(bytes);
        place
    }

    /// `MINIDUMP_STRING`: its size in bytes without the end, UTF-16, and a zero.
    pub fn utf16(&mut self, text: &str) -> u32 {
        self.align(4);
        let rva = self.rva();
        let units: Vec<u16> = text.encode_utf16().collect();
        self.u32(u32::try_from(units.len() * 2).unwrap_or(u32::MAX));
        units.iter().chain(&[0]).for_each(|unit| self.u16(*unit));
        rva
    }

    /// `MinidumpUTF8String` of Crashpad: its size in bytes without the end, UTF-8, and a zero.
    pub fn utf8(&mut self, text: &str) -> u32 {
        self.align(4);
        let rva = self.rva();
        self.u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.bytes(text.as_bytes());
        self.bytes(&[0]);
        rva
    }

    /// A stream, and its entry in the directory.
    pub fn stream(&mut self, kind: u32, write: impl FnOnce(&mut Self)) {
        self.align(8);
        let (rva, before) = (self.rva(), self.bytes.len());
        write(self);
        let size = u32::try_from(self.bytes.len() - before).unwrap_or(u32::MAX);
        self.streams.push((kind, size, rva));
    }

    /// All of it; the bytes of memory come right behind.
    pub fn finish(mut self, taken_at_ns: Option<u64>) -> io::Result<Vec<u8>> {
        self.align(16);
        let base = self.len() as u64;
        if base >= u64::from(u32::MAX) || self.streams.len() > STREAMS {
            return Err(io::Error::other(format!(
                "threads, modules and texts take {base} bytes; a minidump can hold 4 GiB of them"
            )));
        }
        for (at, offset, wide) in std::mem::take(&mut self.memory) {
            let value = base.saturating_add(offset);
            if wide {
                self.bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            } else {
                let value =
                    u32::try_from(value).map_err(|_| io::Error::other("memory beyond 4 GiB in the older list"))?;
                self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
        }
        let mut head = Self::default();
        head.bytes(b"MDMP");
        head.u32(0xa793);
        head.u32(self.streams.len() as u32);
        head.u32(DIRECTORY as u32);
        head.u32(0); // checksum
        head.u32(taken_at_ns.and_then(|ns| u32::try_from(ns / 1_000_000_000).ok()).unwrap_or(0));
        head.u64(0); // flags: MiniDumpNormal
        for (kind, size, rva) in &self.streams {
            head.u32(*kind);
            head.u32(*size);
            head.u32(*rva);
        }
        head.bytes.resize(START, 0);
        head.bytes.append(&mut self.bytes);
        Ok(head.bytes)
    }
}
