//! Whole snapshots: to a stream and back.

use std::fs::File;
use std::io::{Cursor, Read, Seek, Write};
use std::path::Path;

use crate::error::Error;
use crate::reader::{ReadOptions, Reader};
use crate::schema::{Doubt, Snapshot};
use crate::writer::{Summary, WriteOptions, Writer};

impl Snapshot {
    /// Writes the snapshot in one pass; `out` may be a pipe.
    ///
    /// # Errors
    /// The output failed, or a value is longer than the format holds.
    pub fn write_to(&self, out: impl Write) -> Result<Summary, Error> {
        self.write_with(out, WriteOptions::default())
    }

    /// As [`write_to`](Self::write_to), with options. Tables are written in the order of [`TABLES`](crate::TABLES).
    ///
    /// # Errors
    /// As [`write_to`](Self::write_to).
    pub fn write_with(&self, out: impl Write, options: WriteOptions) -> Result<Summary, Error> {
        let mut writer = Writer::new(out, options)?;
        writer.rows(std::slice::from_ref(&self.identity))?;
        writer.rows(self.event.as_slice())?;
        self.fingerprint.iter().try_for_each(|fingerprint| writer.fingerprint(fingerprint))?;
        writer.rows(&self.findings)?;
        writer.rows(&self.evidence)?;
        writer.flush()?;
        writer.rows(&self.threads)?;
        writer.rows(&self.stacks)?;
        writer.rows(&self.modules)?;
        writer.flush()?;
        writer.rows(&self.frames)?;
        writer.flush()?;
        writer.rows(&self.doubts)?;
        writer.rows(&self.attributes)?;
        writer.flush()?;
        writer.rows(&self.registers)?;
        writer.flush()?;
        writer.rows(&self.variables)?;
        writer.flush()?;
        writer.rows(&self.mappings)?;
        writer.rows(&self.log)?;
        writer.rows(&self.files)?;
        writer.flush()?;
        writer.rows(&self.tasks)?;
        writer.flush()?;
        writer.rows(&self.notes)?;
        writer.flush()?;
        writer.rows(&self.attachments)?;
        writer.flush()?;
        writer.rows(&self.memory)?;
        writer.finish().map(|(_, summary)| summary)
    }

    /// Reads a snapshot, and what is missing or wrong in it.
    ///
    /// # Errors
    /// The source fails at its start, is no snapshot, or is one of an unknown version. Damage is no error.
    pub fn read_from(source: impl Read + Seek) -> Result<(Self, Vec<Doubt>), Error> {
        Self::read_with(source, &ReadOptions::default())
    }

    /// As [`read_from`](Self::read_from), from bytes in memory.
    ///
    /// # Errors
    /// As [`read_from`](Self::read_from).
    pub fn read_slice(bytes: &[u8]) -> Result<(Self, Vec<Doubt>), Error> {
        Self::read_from(Cursor::new(bytes))
    }

    /// As [`read_from`](Self::read_from), from a file.
    ///
    /// # Errors
    /// As [`read_from`](Self::read_from), or the file cannot be opened.
    pub fn read_path(path: &Path) -> Result<(Self, Vec<Doubt>), Error> {
        let file = File::open(path).map_err(|source| Error::Io { doing: "opening", offset: 0, source })?;
        Self::read_from(file)
    }

    /// Reads what the options ask for.
    ///
    /// # Errors
    /// As [`read_from`](Self::read_from).
    pub fn read_with(source: impl Read + Seek, options: &ReadOptions) -> Result<(Self, Vec<Doubt>), Error> {
        let mut reader = Reader::open(source)?;
        let snapshot = reader.snapshot(options);
        Ok((snapshot, reader.doubts()))
    }
}
