//! Streams and compressed files become sparse temporary files that no folder names.

use super::{Compression, Options, Source};
use crate::Error;
use evidence::{Doubt, ToU64};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes per read, and so the memory that spooling takes.
const CHUNK: usize = 1 << 20;
/// Zeros are left out in units of this many bytes: the block of the usual file systems.
const BLOCK: usize = 4096;
const ZEROS: [u8; BLOCK] = [0; BLOCK];
/// How long an unpacked file may become, holes included: no file system in use keeps a longer file, and a stream that
/// never ends has to end here. In zeros, this much comes out of some 8 GiB of gzip.
const LIMIT_LENGTH: u64 = 8 << 40;

/// Copies a stream to its end, unpacked if it is packed.
pub(super) fn spool(
    stream: impl Read,
    layer: Option<Compression>,
    path: &Path,
    options: &Options,
    doubts: &mut Vec<Doubt>,
) -> Result<Source, Error> {
    match layer {
        None => copy(stream, path, "the stream", options, doubts),
        Some(layer) => {
            let reader = layer.reader(BufReader::with_capacity(CHUNK, stream));
            copy(reader.map_err(|e| Error::io(path, "unpack it", e))?, path, layer.word(), options, doubts)
        }
    }
}

/// Copies what is packed in `source`.
pub(super) fn unpacked(
    source: &Source,
    layer: Compression,
    options: &Options,
    doubts: &mut Vec<Doubt>,
) -> Result<Source, Error> {
    let packed = BufReader::with_capacity(CHUNK, Sequential { source: source.clone(), at: 0 });
    let reader = layer.reader(packed).map_err(|e| Error::io(source.path(), "unpack it", e))?;
    copy(reader, source.path(), layer.word(), options, doubts)
}

struct Sequential {
    source: Source,
    at: u64,
}

impl Read for Sequential {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let got = self.source.read(self.at, into);
        self.at = self.at.saturating_add(got.to_u64());
        Ok(got)
    }
}

fn folder(options: &Options) -> PathBuf {
    let named = std::env::var_os("TMPDIR").filter(|v| !v.is_empty()).map(PathBuf::from);
    let large = || Some(PathBuf::from("/var/tmp")).filter(|p| p.is_dir());
    options.spool_folder.clone().or(named).or_else(large).unwrap_or_else(std::env::temp_dir)
}

/// What to say when the temporary file cannot take more.
fn cannot_write(folder: &Path, error: io::Error) -> Error {
    let doing = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "keep the unpacked input here: the disk is full; set TMPDIR to a folder with more room, or unpack it yourself"
        }
        io::ErrorKind::FileTooLarge => {
            "keep the unpacked input here: the file-size limit is reached (ulimit -f); raise it, or unpack it yourself"
        }
        _ => "keep the unpacked input here (set TMPDIR to a folder that can)",
    };
    Error::io(folder, doing, error)
}

fn copy(
    mut from: impl Read,
    path: &Path,
    what: &str,
    options: &Options,
    doubts: &mut Vec<Doubt>,
) -> Result<Source, Error> {
    let folder = folder(options);
    let file = tempfile::tempfile_in(&folder).map_err(|e| cannot_write(&folder, e))?;
    let mut writer = Sparse { file: &file, at: 0, written: 0 };
    let mut buffer = vec![0; CHUNK];
    let room = options.spool_limit.unwrap_or(u64::MAX);
    loop {
        // Whole chunks, so that runs of zeros are seen whatever the sizes are in which a pipe gives its bytes.
        let (got, ended) = fill(&mut from, &mut buffer);
        writer.put(buffer.get(..got).unwrap_or_default()).map_err(|e| cannot_write(&folder, e))?;
        match ended {
            None => {}
            Some(Ok(())) => break,
            Some(Err(e)) if writer.at == 0 => return Err(Error::io(path, "unpack it", e)),
            Some(Err(e)) => {
                doubts.push(Doubt::new(
                    "input",
                    format!("{what} breaks off after {} unpacked bytes ({e}); what came before is used", writer.at),
                ));
                break;
            }
        }
        if writer.written > room || writer.at > LIMIT_LENGTH {
            doubts.push(Doubt::new(
                "input",
                format!(
                    "{what} was read up to {} unpacked bytes, of which {} are not zero; the limit is {}, and the rest is \
                     treated as cut off",
                    writer.at,
                    writer.written,
                    room.min(LIMIT_LENGTH)
                ),
            ));
            break;
        }
    }
    let len = writer.at;
    file.set_len(len).map_err(|e| cannot_write(&folder, e))?;
    Ok(Source::new(file, len, path))
}

/// Reads until `buffer` is full, or says how the stream ended.
pub(super) fn fill(from: &mut impl Read, buffer: &mut [u8]) -> (usize, Option<io::Result<()>>) {
    let mut done = 0_usize;
    while let Some(rest) = buffer.get_mut(done..).filter(|r| !r.is_empty()) {
        match from.read(rest) {
            Ok(0) => return (done, Some(Ok(()))),
            Ok(n) => done = done.saturating_add(n),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return (done, Some(Err(e))),
        }
    }
    (done, None)
}

/// Writes only what is not zero.
struct Sparse<'f> {
    file: &'f File,
    at: u64,
    written: u64,
}

impl Sparse<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut start = 0_usize;
        let mut run = 0_usize;
        for block in bytes.chunks(BLOCK) {
            if ZEROS.get(..block.len()) == Some(block) {
                self.write(bytes, start, run)?;
                start = start.saturating_add(run).saturating_add(block.len());
                run = 0;
            } else {
                run = run.saturating_add(block.len());
            }
        }
        self.write(bytes, start, run)?;
        self.at = self.at.saturating_add(bytes.len().to_u64());
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], start: usize, len: usize) -> io::Result<()> {
        if let Some(run) = bytes.get(start..start.saturating_add(len)).filter(|r| !r.is_empty()) {
            self.file.write_all_at(run, self.at.saturating_add(start.to_u64()))?;
            self.written = self.written.saturating_add(len.to_u64());
        }
        Ok(())
    }
}
