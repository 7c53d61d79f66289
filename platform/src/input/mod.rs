//! Opening an input, whatever it lies in: a file, a stream, a compressed file or stream.
//!
//! Input: a path, or a reader. Output: an [`Input`], which can be read at any offset, and its [`Kind`], told from its
//! content and never from its name. What cannot be read at any offset (pipes, compressed files) is first written into
//! an unlinked temporary file in which runs of zeros are holes. It does not parse what it opens.

mod compress;
mod sniff;
mod source;
mod spool;

pub use compress::Compression;
pub use sniff::{Kind, Magic};
pub use source::Source;

use crate::Error;
use evidence::Doubt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// How many first bytes tell a compression.
const HEAD: usize = 16;

/// How inputs are opened.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where streams and unpacked files are kept while they are read. The default is `TMPDIR`, then `/var/tmp` (`/tmp`
    /// is memory on many systems, and cores are larger than that), then the system's own choice.
    pub spool_folder: Option<PathBuf>,
    /// How many bytes of the disk a stream or an unpacked file may take; zeros take none. What comes after the limit is
    /// absent as truncated. The default is no limit but the disk's.
    pub spool_limit: Option<u64>,
    /// Formats that the caller knows, recognised before all others.
    pub magics: Vec<Magic>,
}

/// An opened input.
#[derive(Debug)]
pub struct Input {
    source: Source,
    kind: Kind,
    packed: Vec<Compression>,
    doubts: Vec<Doubt>,
}

/// How many layers of compression are taken off. Two are seen in practice (a compressed core in a compressed upload);
/// more would be an attack.
const LIMIT_LAYERS: usize = 3;
/// What messages call standard input.
const STANDARD_INPUT: &str = "standard input";

impl Input {
    /// Opens the file at `path`; `-` is standard input. Compressed ones are unpacked.
    ///
    /// # Errors
    /// When the file cannot be opened or read, is a folder, or when the disk has no room for an unpacked copy.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_with(path, &Options::default())
    }

    /// Opens the file at `path` in a chosen way.
    ///
    /// # Errors
    /// As [`Input::open`].
    pub fn open_with(path: &Path, options: &Options) -> Result<Self, Error> {
        if path == Path::new("-") {
            let name = Path::new(STANDARD_INPUT);
            return match standard_input_file() {
                Some(file) => Self::from_file(file, name, options),
                None => Self::from_stream_with(std::io::stdin().lock(), name, options),
            };
        }
        // Opening a pipe waits for its writer, as every program does.
        let file = File::open(path).map_err(|e| Error::io(path, "open it", e))?;
        Self::from_file(file, path, options)
    }

    /// Reads a stream from its start to its end, unpacked; `name` is for messages.
    ///
    /// # Errors
    /// When reading fails at once, or when the disk has no room for a copy.
    pub fn from_stream(stream: impl Read, name: &Path) -> Result<Self, Error> {
        Self::from_stream_with(stream, name, &Options::default())
    }

    /// Reads a stream in a chosen way.
    ///
    /// # Errors
    /// As [`Input::from_stream`].
    pub fn from_stream_with(mut stream: impl Read, name: &Path, options: &Options) -> Result<Self, Error> {
        let mut head = [0; HEAD];
        let (got, ended) = spool::fill(&mut stream, &mut head);
        if let (0, Some(Err(e))) = (got, ended) {
            return Err(Error::io(name, "read it", e));
        }
        let head = head.get(..got).unwrap_or_default();
        let mut doubts = Vec::new();
        // What is packed is unpacked on the way: one copy, not two.
        let layer = Compression::of(head).filter(|_| options.magics.is_empty());
        let source = spool::spool(head.chain(stream), layer, name, options, &mut doubts)?;
        Self::unpack(source, layer.into_iter().collect(), options, doubts)
    }

    fn from_file(mut file: File, path: &Path, options: &Options) -> Result<Self, Error> {
        let about = file.metadata().map_err(|e| Error::io(path, "look at it", e))?;
        let kind = about.file_type();
        if kind.is_dir() {
            return Err(Error::format(path, 0, "a file", "a directory; name the file in it"));
        }
        if kind.is_file() {
            return Self::unpack(Source::new(file, about.len(), path), Vec::new(), options, Vec::new());
        }
        // Block devices have a length that only seeking tells; pipes, sockets and terminals cannot seek.
        match file.seek(SeekFrom::End(0)) {
            Ok(len) if len > 0 => Self::unpack(Source::new(file, len, path), Vec::new(), options, Vec::new()),
            _ => Self::from_stream_with(file, path, options),
        }
    }

    /// Takes compression off, layer by layer, and looks at what is left.
    fn unpack(
        mut source: Source,
        mut packed: Vec<Compression>,
        options: &Options,
        mut doubts: Vec<Doubt>,
    ) -> Result<Self, Error> {
        loop {
            let head = source.bytes(0, HEAD);
            let known_to_caller = options.magics.iter().any(|m| m.matches(&source));
            let layer = Compression::of(&head).filter(|_| !known_to_caller && packed.len() < LIMIT_LAYERS);
            let Some(layer) = layer else { break };
            source = spool::unpacked(&source, layer, options, &mut doubts)?;
            packed.push(layer);
        }
        let kind = sniff::sniff(&source, &options.magics);
        Ok(Self { source, kind, packed, doubts })
    }

    /// What it is, by its unpacked content.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The unpacked bytes.
    #[must_use]
    pub const fn source(&self) -> &Source {
        &self.source
    }

    /// How it was packed, outermost first.
    #[must_use]
    pub fn packed(&self) -> &[Compression] {
        &self.packed
    }

    /// What went wrong on the way: a compressed file that ends too early, a limit that was reached.
    #[must_use]
    pub fn doubts(&self) -> &[Doubt] {
        &self.doubts
    }

    /// Its name, for messages.
    #[must_use]
    pub fn name(&self) -> &Path {
        self.source.path()
    }

    /// How many bytes it has, unpacked.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.source.len()
    }

    /// Reads the longest prefix of `into` that there is at `offset`; see [`Source::read`].
    ///
    /// # Errors
    /// None today: what cannot be read ends the prefix.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<usize> {
        Ok(self.source.read(offset, into))
    }
}

/// Standard input as a file, when it is one (`postfault bt - < core`) and nothing was read from it yet.
#[cfg(unix)]
fn standard_input_file() -> Option<File> {
    use std::os::fd::AsFd;
    let mut file = File::from(std::io::stdin().as_fd().try_clone_to_owned().ok()?);
    let about = file.metadata().ok()?;
    (about.is_file() && file.stream_position().ok()? == 0).then_some(file)
}

#[cfg(not(unix))]
fn standard_input_file() -> Option<File> {
    None
}

#[cfg(test)]
mod tests;
