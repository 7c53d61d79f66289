//! Program databases of Windows: functions, lines, inlined calls and public symbols; no types, no variables.
//!
//! Everything is looked up when it is asked for: of a database of a gigabyte, the directory, the table of pieces and the
//! parts of the object files that addresses lie in are read. Layout: LLVM's PDB documentation and Microsoft's
//! `microsoft-pdb`.

mod dbi;
mod inlines;
mod msf;
mod names;
mod object;
mod publics;

use crate::Error;
use crate::dwarf::SourceFrame;
use crate::map::FileBytes;
use dbi::Dbi;
use evidence::Svma;
use evidence::bytes::{Endian, c_str_at, u32_at};
use msf::Msf;
use object::{Line, Object};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

/// Most bytes of object files' parts that are kept at a time.
const LIMIT_KEPT: usize = 64 << 20;
/// Longest path of a source file.
const LIMIT_PATH: usize = 4096;

/// A program database.
#[derive(Debug)]
pub struct PdbFile {
    path: PathBuf,
    bytes: FileBytes,
    msf: Msf,
    guid: [u8; 16],
    age: u32,
    /// The stream with the names of source files.
    names: Option<u32>,
    dbi: OnceLock<Option<Dbi>>,
    objects: Mutex<Objects>,
}

#[derive(Debug, Default)]
struct Objects {
    known: HashMap<u16, Option<Arc<Object>>>,
    bytes: usize,
}

/// GUID and age as Breakpad and symbol stores write them.
pub(crate) fn debug_id(guid: &[u8], age: u32) -> String {
    let guid = crate::locate::breakpad_id(guid);
    format!("{}{age:X}", guid.get(..32).unwrap_or(&guid))
}

impl PdbFile {
    /// Maps the file at `path` and reads its identity.
    ///
    /// # Errors
    /// The file cannot be opened, or is no program database.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let bad = |offset, found: &str| Error::Format {
            path: path.to_owned(),
            offset,
            expected: "a program database (MSF 7.00)",
            found: found.to_owned(),
        };
        let file = File::open(path).map_err(io)?;
        let meta = file.metadata().map_err(io)?;
        if !meta.is_file() || meta.len() == 0 {
            return Err(bad(0, if meta.is_file() { "an empty file" } else { "no regular file" }));
        }
        let bytes = FileBytes::map(&file).map_err(io)?;
        let msf = Msf::read(&bytes).map_err(|(offset, found)| bad(offset, found))?;
        // The identity: version, signature, age, GUID; then the names of streams.
        let info = msf.stream(&bytes, 1).and_then(|s| s.whole()).unwrap_or_default();
        let guid = info.get(12..28).and_then(|g| <[u8; 16]>::try_from(g).ok());
        let (Some(guid), Some(age)) = (guid, u32_at(&info, 8, Endian::Little)) else {
            return Err(bad(0, "no stream with an identity"));
        };
        let names = dbi::names_stream(&info);
        // What an image names is the age of the stream with its code, which tools that change types leave alone.
        let age = msf.stream(&bytes, 3).and_then(|s| s.word(8)).unwrap_or(age);
        drop(info);
        Ok(Self {
            path: path.to_owned(),
            bytes,
            msf,
            guid,
            age,
            names,
            dbi: OnceLock::new(),
            objects: Mutex::default(),
        })
    }

    /// Where it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// GUID and age, as Breakpad writes them.
    #[must_use]
    pub fn id(&self) -> String {
        debug_id(&self.guid, self.age)
    }

    fn any_dbi(&self) -> Option<&Dbi> {
        self.dbi.get_or_init(|| Dbi::read(&self.msf, &self.bytes)).as_ref()
    }

    fn dbi(&self) -> Option<&Dbi> {
        self.any_dbi().filter(|d| !d.rearranged)
    }

    /// Whether its image was rearranged after linking (OMAP): its addresses are those before, and it answers nothing.
    #[must_use]
    pub fn is_rearranged(&self) -> bool {
        self.any_dbi().is_some_and(|d| d.rearranged)
    }

    /// Whether an RVA lies in a section of code; `None` in no section.
    #[must_use]
    pub fn is_code(&self, rva: u64) -> Option<bool> {
        self.dbi()?.is_code(u32::try_from(rva).ok()?)
    }

    /// The part of an object file. Parts are kept up to a limit, then all are dropped.
    fn object(&self, number: u16, dbi: &Dbi) -> Option<Arc<Object>> {
        if let Ok(objects) = self.objects.lock()
            && let Some(known) = objects.known.get(&number)
        {
            return known.clone();
        }
        let read = || {
            let part = dbi.modules.get(usize::from(number))?;
            let stream = self.msf.stream(&self.bytes, part.stream?.into())?;
            Object::read(stream.whole()?.into_owned().into(), part, dbi).map(Arc::new)
        };
        let object = read();
        if let Ok(mut objects) = self.objects.lock() {
            let size = object.as_ref().map_or(0, |o| o.size());
            if objects.bytes.saturating_add(size) > LIMIT_KEPT {
                *objects = Objects::default();
            }
            objects.bytes = objects.bytes.saturating_add(size);
            objects.known.insert(number, object.clone());
        }
        object
    }

    /// What the code at an RVA is: inlined calls innermost first, the physical function last; a public symbol where
    /// nothing else is known; empty when nothing is.
    #[must_use]
    pub fn resolve(&self, rva: u32) -> Vec<SourceFrame> {
        let Some(dbi) = self.dbi() else { return Vec::new() };
        let frames = self.function(rva, dbi);
        if !frames.is_empty() {
            return frames;
        }
        let public = publics::at(&self.msf, &self.bytes, dbi, rva);
        let frame = public.map(|public| SourceFrame {
            function: Some(public.name.as_str().into()),
            linkage_name: Some(public.name.as_str().into()),
            function_start: Some(Svma(public.rva.into())),
            ..SourceFrame::default()
        });
        frame.into_iter().collect()
    }

    fn function(&self, rva: u32, dbi: &Dbi) -> Vec<SourceFrame> {
        let object = dbi.piece(rva).and_then(|(_, number)| self.object(number, dbi));
        let Some(object) = object else { return Vec::new() };
        let Some(function) = object.function_at(rva) else { return Vec::new() };
        let mut frames = vec![SourceFrame {
            function: Some(object.name(function).into()).filter(|n: &Arc<str>| !n.is_empty()),
            function_start: Some(Svma(function.start.into())),
            ..self.at_line(&object, object.line(rva, dbi))
        }];
        for call in object.inlined(function, rva) {
            frames.push(SourceFrame {
                function: names::function(&self.msf, &self.bytes, call.function).map(Into::into),
                function_start: Some(Svma(function.start.into())),
                inline: true,
                ..self.at_line(&object, call.line)
            });
        }
        frames.reverse();
        frames
    }

    fn at_line(&self, object: &Object, line: Option<Line>) -> SourceFrame {
        let Some(line) = line else { return SourceFrame::default() };
        let name = || {
            let at = usize::try_from(object.file_name(line.file)?).ok()?.checked_add(12)?;
            let stream = self.msf.stream(&self.bytes, self.names?)?;
            let length = stream.size().checked_sub(at)?.min(LIMIT_PATH);
            c_str_at(&stream.bytes(at, length)?, 0)
        };
        SourceFrame {
            file: name().map(Into::into),
            line: Some(line.line).filter(|n| *n > 0),
            column: line.column.map(Into::into),
            ..SourceFrame::default()
        }
    }
}
