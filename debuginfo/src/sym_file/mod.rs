//! Breakpad symbol files (`.sym`): names, lines, inlined calls and unwinding rules as text.
//!
//! Format: Breakpad's `docs/symbol_files.md`, and what its own reader and writers do beyond it. Files of gigabytes are
//! usual: the file is mapped, a record is found by bisection, and only its lines are read (`records`). Where a file is not
//! sorted, an index of the part in question is made (`order` finds that out).
//!
//! All addresses here are **relative**: runtime address minus the base of the module (where its lowest mapping
//! begins), that is SVMA minus the preferred base of the image. `debuginfo::images` converts.

mod cfi;
mod function;
mod index;
mod order;
mod postfix;
mod records;
mod search;
mod stack_win;
mod text;
mod write;

use crate::Error;
use crate::demangle::demangle;
use crate::dwarf::SourceFrame;
use crate::map::FileBytes;
pub use cfi::{CfiRules, Recovered, number as register_number};
use evidence::{Doubt, Doubts, Svma, ToU64, ToUsize};
pub use function::Function;
use index::Entry;
pub use postfix::{Machine, PostfixError};
use records::{FILES, FPO, FUNCTIONS, ORIGINS, PROGRAMS, PUBLICS, RULES, Records};
use search::Wanted;
pub use stack_win::{StackWin, WinKind};
use std::borrow::Cow;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use text::{Kind, line};
pub use write::{WriteError, Written, key_of, write};

/// Largest file read whole (because it is compressed): beyond it, it has to be decompressed on disk first.
const LIMIT_DECOMPRESSED: u64 = 2 << 30;
/// What writers put where a function has no name.
const OMITTED: &str = "<name omitted>";
/// How many lines may come before the `MODULE` record, and how many `INFO` records are read behind it.
const LIMIT_HEAD: usize = 256;

/// A symbol file.
#[derive(Debug)]
pub struct SymFile {
    path: PathBuf,
    bytes: FileBytes,
    os: String,
    arch: String,
    id: String,
    name: String,
    info: Vec<(String, String)>,
    records: Records,
    doubts: Doubts,
}

/// How much of a file is read to say what it does not know. All sizes are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Files up to here are indexed whole at the first question: it takes some milliseconds, and bisection saves nothing.
    pub whole: u64,
    /// Parts of larger files up to here are indexed, whether or not they are sorted.
    pub part: u64,
    /// In how many places a file is looked at, to see whether it is sorted.
    pub samples: u64,
    /// How far these are apart at least.
    pub apart: u64,
    /// How many times the size of a part is looked at for answers before it is indexed after all.
    pub rounds: u64,
}

impl Default for Effort {
    fn default() -> Self {
        Self { whole: 4 << 20, part: 256 << 10, samples: 1024, apart: 64 << 10, rounds: 1 }
    }
}

/// A `PUBLIC` record: a symbol of which only the start is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Public<'f> {
    /// Where it starts, relative to the module's base.
    pub start: u64,
    /// Bytes of parameters that its caller pushes on the stack (x86 Windows; 0 elsewhere).
    pub parameters: u64,
    /// Its name, as the file writes it.
    pub name: Cow<'f, str>,
    /// Several symbols have this address.
    pub multiple: bool,
}

impl SymFile {
    /// Opens a symbol file; one compressed by gzip is decompressed into memory.
    ///
    /// # Errors
    /// When the system refuses, or when there is no `MODULE` record where it must be.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        if file.metadata().map_err(io)?.len() == 0 {
            return Err(no_module(path, "an empty file"));
        }
        let bytes = FileBytes::map(&file).map_err(io)?;
        if !bytes.starts_with(&[0x1f, 0x8b]) {
            return Self::new(path, bytes);
        }
        let mut text = Vec::new();
        let mut unpacked = flate2::read::MultiGzDecoder::new(&*bytes).take(LIMIT_DECOMPRESSED.saturating_add(1));
        unpacked.read_to_end(&mut text).map_err(io)?;
        if text.len().to_u64() > LIMIT_DECOMPRESSED {
            return Err(Error::Format {
                path: path.to_owned(),
                offset: 0,
                expected: "at most 2 GiB of text: decompress it on disk",
                found: "more".into(),
            });
        }
        Self::new(path, FileBytes::Owned(text.into()))
    }

    /// As [`SymFile::open`], of text that is already here; `path` is what messages call it.
    ///
    /// # Errors
    /// When there is no `MODULE` record where it must be.
    pub fn from_bytes(path: &Path, text: Vec<u8>) -> Result<Self, Error> {
        Self::new(path, FileBytes::Owned(text.into()))
    }

    /// Looks for records with this effort, instead of the usual one.
    #[must_use]
    pub fn with_effort(mut self, effort: Effort) -> Self {
        self.records = Records::new(effort);
        self
    }

    fn new(path: &Path, bytes: FileBytes) -> Result<Self, Error> {
        let mut file = Self {
            path: path.to_owned(),
            bytes,
            os: String::new(),
            arch: String::new(),
            id: String::new(),
            name: String::new(),
            info: Vec::new(),
            records: Records::default(),
            doubts: Doubts::new(),
        };
        let (mut at, mut found) = (0, false);
        for _ in 0..LIMIT_HEAD {
            let Some((text, next)) = line(&file.bytes, at) else { break };
            let lossy = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
            match text::kind(text) {
                (Kind::Module, mut fields) if !found => {
                    let mut word = || fields.word().map(lossy);
                    let (Some(os), Some(arch), Some(id)) = (word(), word(), word()) else { break };
                    (file.os, file.arch, file.id, file.name) = (os, arch, id, lossy(fields.rest()));
                    found = true;
                }
                (Kind::Info, mut fields) => {
                    if let Some(key) = fields.word().map(lossy) {
                        file.info.push((key, lossy(fields.rest())));
                    }
                }
                _ if found => break,
                _ => {}
            }
            at = next;
        }
        if !found {
            let start = file.bytes.get(..file.bytes.len().min(16)).unwrap_or_default();
            return Err(no_module(path, &format!("{:?}", String::from_utf8_lossy(start))));
        }
        Ok(file)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The operating system as the file names it: `Linux`, `windows`, `mac`, `Android`, ...
    #[must_use]
    pub fn os(&self) -> &str {
        &self.os
    }

    /// The architecture as the file names it: `x86_64`, `x86`, `arm64`, `arm`, ...
    #[must_use]
    pub fn arch(&self) -> &str {
        &self.arch
    }

    /// The debug identifier: 32 hexadecimal digits and the age.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The module's (debug file's) name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// An `INFO` record: `CODE_ID`, `GENERATOR`, `URL`.
    #[must_use]
    pub fn info(&self, key: &str) -> Option<&str> {
        self.info.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// What could not be read so far.
    #[must_use]
    pub fn doubts(&self) -> Vec<Doubt> {
        self.doubts.sorted()
    }

    /// The function that covers `at`.
    #[must_use]
    pub fn function_at(&self, at: u64) -> Option<Function<'_>> {
        function::function(self.line_of(self.find(FUNCTIONS, at)?)?)
    }

    /// The nearest `PUBLIC` symbol at or before `at`, unless a function begins behind it: then the symbol's code has
    /// ended there, wherever that was.
    #[must_use]
    pub fn public_at(&self, at: u64) -> Option<Public<'_>> {
        let nearest = |wanted| self.records.nearest(&self.bytes, wanted, at, &self.told());
        // Functions first: between them it may turn out that the file is not arranged in parts.
        let function = nearest(FUNCTIONS);
        let entry = nearest(PUBLICS)?;
        if function.is_some_and(|f| f.start >= entry.start) {
            return None;
        }
        let (Kind::Public, mut fields) = text::kind(self.line_of(entry)?) else { return None };
        let (multiple, start) = text::flagged(&mut fields)?;
        let parameters = fields.hex()?;
        Some(Public { start, parameters, name: String::from_utf8_lossy(fields.rest()), multiple })
    }

    /// What an address means: inlined calls innermost first, the function last; empty when the file does not know.
    /// `bias` is the SVMA of the module's base, for [`SourceFrame::function_start`].
    #[must_use]
    pub fn resolve(&self, at: u64, bias: u64) -> Vec<SourceFrame> {
        let start = |at: u64| Some(Svma(at.wrapping_add(bias)));
        let Some((entry, function)) = self.find(FUNCTIONS, at).and_then(|entry| {
            let function = function::function(self.line_of(entry)?)?;
            Some((entry, function))
        }) else {
            return self.public_at(at).map_or_else(Vec::new, |public| {
                vec![SourceFrame { function_start: start(public.start), ..named(&public.name) }]
            });
        };
        let known = function::at(&self.bytes, entry.at, at);
        if known.cut_off {
            self.doubts.push(Doubt::new(
                "sym-file",
                format!("{}: {}: more lines or inlined calls than are read", self.path.display(), function.name),
            ));
        }
        let mut frames = Vec::with_capacity(known.inlined.len().saturating_add(1));
        let mut place = known.place;
        for call in known.inlined.iter().rev() {
            let name = self.record(ORIGINS, call.origin).and_then(function::origin_name);
            let frame = name.as_deref().map(named).unwrap_or_default();
            frames.push(SourceFrame { inline: true, ..self.placed(frame, place) });
            place = Some(call.site);
        }
        frames.push(self.placed(named(&function.name), place));
        for frame in &mut frames {
            frame.function_start = start(function.range.start);
        }
        frames
    }

    /// The rules that recover the caller's registers at `at`.
    #[must_use]
    pub fn cfi_at(&self, at: u64) -> Option<CfiRules> {
        let entry = self.find(RULES, at)?;
        let rules = cfi::rules(&self.bytes, entry.at, entry.start..entry.end, at)?;
        if rules.cut_off {
            let why = format!("{}: STACK CFI at {at:#x}: more records or rules than are read", self.path.display());
            self.doubts.push(Doubt::new("sym-file", why));
        }
        Some(rules)
    }

    /// The Windows frame layout at `at`: a program if there is one, else the older form.
    #[must_use]
    pub fn stack_win_at(&self, at: u64) -> Option<StackWin> {
        stack_win::record(self.line_of(self.find(PROGRAMS, at).or_else(|| self.find(FPO, at))?)?)
    }

    /// A frame with its place; line 0 means that the compiler knew none.
    fn placed(&self, mut frame: SourceFrame, place: Option<function::Place>) -> SourceFrame {
        if let Some(place) = place.filter(|p| p.line != 0) {
            frame.line = Some(place.line);
            let name = place.file.and_then(|n| function::file_name(self.record(FILES, n)?));
            frame.file = name.map(|n| Arc::from(n.as_ref()));
        }
        frame
    }

    /// The line of a numbered record.
    fn record(&self, wanted: Wanted, number: u64) -> Option<&[u8]> {
        let entry = self.records.nearest(&self.bytes, wanted, number, &self.told())?;
        self.line_of(Some(entry).filter(|e| e.start == number)?)
    }

    /// The record that covers an address.
    fn find(&self, wanted: Wanted, at: u64) -> Option<Entry> {
        self.records.covering(&self.bytes, wanted, at, &self.told())
    }

    fn line_of(&self, entry: Entry) -> Option<&[u8]> {
        line(&self.bytes, entry.at.to_usize()).map(|(text, _)| text)
    }

    /// What to do with what is wrong in an index.
    fn told(&self) -> impl Fn(String) + '_ {
        |what| self.doubts.push(Doubt::new("sym-file", format!("{}: {what}", self.path.display())))
    }
}

/// A frame of which only the name is known. A name that is still mangled is taken apart.
fn named(name: &str) -> SourceFrame {
    let demangled = demangle(name);
    let linkage_name = demangled.is_some().then(|| name.into());
    let function: Arc<str> = demangled.map_or_else(|| name.into(), Arc::from);
    SourceFrame {
        function: Some(function).filter(|f| !f.is_empty() && &**f != OMITTED),
        linkage_name,
        ..SourceFrame::default()
    }
}

fn no_module(path: &Path, found: &str) -> Error {
    Error::Format { path: path.to_owned(), offset: 0, expected: "MODULE os arch id name", found: found.to_owned() }
}

#[cfg(test)]
mod tests;
