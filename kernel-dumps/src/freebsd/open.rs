//! From a file to a dump: layer by layer, the device, the cipher, the compression, the format.

use super::device::{self, Found};
use super::encrypted::KeyRecord;
use super::header::{Compression, DumpHeader, Magic};
use super::info::{self, Info};
use super::root::Root;
use super::window::{Reversed, Stream, Window};
use super::{FreeBsdDump, Options, full, minidump, notes, textdump};
use crate::Error;
use crate::machine::{Pages, Physical, Space};
use crate::source::{FileSource, ReadAt, exact};
use evidence::{Absent, Arch, Attribute, Doubt, Event, Gaps, Identity, Note, Origin, Os, ToUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a source is, when it is something of FreeBSD's kernel.
#[must_use]
pub fn recognise(source: &dyn ReadAt) -> bool {
    let head = exact(source, 0, source.size().min(64).to_usize()).unwrap_or_default();
    minidump::is_minidump(&head) || device::is_device(source) || full::is_full(source) || textdump::is_textdump(source)
}

/// The `key.N` beside `vmcore_encrypted.N`, which says that the file is an encrypted dump: nothing in it does.
#[must_use]
pub fn sibling_key(dump: &Path) -> Option<PathBuf> {
    let encrypted = dump.file_name()?.to_str()?.starts_with("vmcore_encrypted.");
    info::beside(dump, "key").filter(|_| encrypted)
}

/// Compressed streams are told by their first bytes: gzip, Zstandard.
fn is_packed(source: &dyn ReadAt) -> bool {
    exact(source, 0, 4).is_some_and(|h| h.starts_with(&[0x1f, 0x8b]) || h == [0x28, 0xb5, 0x2f, 0xfd])
}

/// What was found on the way to the dump's own format.
struct Peeled {
    source: Arc<dyn ReadAt>,
    header: Option<DumpHeader>,
    attributes: Vec<Attribute>,
    doubts: Vec<Doubt>,
    /// The cipher that was taken off.
    cipher: Option<&'static str>,
}

impl Peeled {
    fn attribute(&mut self, key: &str, value: impl Into<Box<str>>) {
        self.attributes.push(Attribute { key: format!("dump.{key}").into(), thread: None, value: value.into() });
    }
}

/// Physical memory of which nothing was kept.
struct Nothing;

impl Physical for Nothing {
    fn page_size(&self) -> u64 {
        4096
    }
    fn page(&self, _: u64) -> Result<Vec<u8>, Absent> {
        Err(Absent::Filtered)
    }
    fn runs(&self) -> Vec<std::ops::Range<u64>> {
        Vec::new()
    }
}

impl FreeBsdDump {
    /// Opens the dump at `path`.
    ///
    /// # Errors
    /// The file cannot be read, is no FreeBSD dump, or is encrypted and the key is missing or wrong.
    pub fn open(path: &Path, options: &Options<'_>) -> Result<Self, Error> {
        let source = FileSource::open(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        Self::from_source(path, Box::new(source), options)
    }

    /// Opens a dump that is not a file, or not as it is; `path` is for messages, and where `info.N` and `key.N` are.
    ///
    /// # Errors
    /// As [`FreeBsdDump::open`].
    pub fn from_source(path: &Path, source: Box<dyn ReadAt>, options: &Options<'_>) -> Result<Self, Error> {
        let mut peeled = Peeled {
            source: Arc::from(source),
            header: None,
            attributes: Vec::new(),
            doubts: Vec::new(),
            cipher: None,
        };
        peel_device(path, &mut peeled, options)?;
        if peeled.header.is_none()
            && let Some(key) = sibling_key(path).filter(|_| !recognise(&*peeled.source))
        {
            let raw = std::fs::read(&key).map_err(|source| Error::Io { path: key.clone(), source })?;
            decrypt(path, &mut peeled, &raw, options)?;
        }
        if let Some(cipher) = peeled.cipher.filter(|_| !is_packed(&*peeled.source) && !recognise(&*peeled.source)) {
            let why = "what the key decrypts is no dump: is this the private key for this dump?".to_owned();
            return Err(Error::Encrypted { path: path.to_owned(), cipher, why });
        }
        if is_packed(&*peeled.source) {
            unpack(path, &mut peeled, options)?;
        }
        let info = Info::beside(path).map(|(_, info)| info);
        let mut dump = by_format(path, &mut peeled)?;
        dump.describe(peeled, info);
        Ok(dump)
    }

    fn of(physical: Box<dyn Physical>, arch: Arch) -> Self {
        let pages = Arc::new(Pages::new(physical));
        let kernel = Space { pages: pages.clone(), tables: Err(Absent::Filtered), extents: Vec::new() };
        Self {
            identity: Identity::new(Origin::KernelDump, Os::FreeBsd, arch),
            pages,
            kernel,
            root: None,
            cpus: 0,
            notes: Vec::new(),
            attributes: Vec::new(),
            mappings: Vec::new(),
            event: None,
            gaps: Gaps::default(),
            header: None,
            info: None,
        }
    }

    fn note(&mut self, owner: impl Into<Box<str>>, body: Vec<u8>) {
        self.notes.push(Note { owner: owner.into(), kind: 0, thread: None, body: body.into() });
    }

    /// What the record and `info.N` say: the record first.
    fn describe(&mut self, peeled: Peeled, info: Option<Info>) {
        self.gaps.doubts.extend(peeled.doubts);
        self.attributes.extend(peeled.attributes);
        let line = |name| info.as_ref().and_then(|i| i.get(name)).map(str::to_owned);
        let header = peeled.header.as_ref();
        let text = |own: Option<&String>, name| own.filter(|t| !t.is_empty()).cloned().or_else(|| line(name));
        let host = text(header.map(|h| &h.host), "Hostname");
        let version = text(header.map(|h| &h.version_string), "Version String");
        let panic = text(header.map(|h| &h.panic_string), "Panic String");
        self.identity.host = host.map(Into::into);
        self.identity.command = Some("kernel".into());
        self.identity.taken_at_ns = header.filter(|h| h.time > 0).and_then(|h| h.time.checked_mul(1_000_000_000));
        if let Some(version) = &version {
            // "FreeBSD 14.1-RELEASE releng/14.1-n267679 GENERIC": the second word is the release.
            self.identity.release = version.split_whitespace().nth(1).map(Into::into);
            let value = version.trim().to_owned().into();
            self.attributes.push(Attribute { key: "kernel.version".into(), thread: None, value });
        }
        for (name, value) in info.iter().flat_map(|i| &i.lines) {
            let key = format!("info.{}", name.to_lowercase().replace(' ', "_")).into();
            self.attributes.push(Attribute { key, thread: None, value: value.as_str().into() });
        }
        if let Some(message) = panic {
            self.event = Some(Event { message: Some(message.trim_end().into()), ..Event::default() });
        }
        if let Some(header) = peeled.header {
            self.note(notes::RECORD, header.raw.to_vec());
            self.header = Some(header);
        }
        self.info = info;
    }
}

fn peel_device(path: &Path, peeled: &mut Peeled, options: &Options<'_>) -> Result<(), Error> {
    let Some(found) = device::find(&*peeled.source) else { return Ok(()) };
    let key = device::key(&*peeled.source, &found);
    let Found { header, start, size, doubts, .. } = found;
    peeled.doubts.extend(doubts);
    if size == 0 {
        let found = "a record that speaks of more bytes than lie before it, or of none".to_owned();
        return Err(Error::Format { path: path.to_owned(), offset: start, expected: "a dump", found });
    }
    peeled.source = Arc::new(Window { inner: peeled.source.clone(), start, size });
    peeled.attribute("offset", format!("{start:#x}"));
    peeled.attribute("architecture", header.architecture.clone());
    peeled.attribute("header_version", header.version.to_string());
    if let Some(raw) = key {
        decrypt(path, peeled, &raw, options)?;
    }
    if header.magic == Magic::Text {
        peeled.source = Arc::new(Reversed(peeled.source.clone()));
    }
    match header.compression {
        Compression::None => {}
        Compression::Gzip => peeled.attribute("compression", "gzip"),
        Compression::Zstd => peeled.attribute("compression", "zstd"),
        Compression::Other(n) => {
            let what = format!("a dump compressed in way {n} (1 is gzip, 2 is Zstandard)");
            return Err(Error::Unsupported { path: path.to_owned(), what });
        }
    }
    peeled.header = Some(header);
    Ok(())
}

fn decrypt(path: &Path, peeled: &mut Peeled, raw: &[u8], options: &Options<'_>) -> Result<(), Error> {
    let Some(record) = KeyRecord::parse(raw) else {
        let what = "an encrypted dump whose key record has an unknown form".to_owned();
        return Err(Error::Unsupported { path: path.to_owned(), what });
    };
    let cipher = record.cipher.name();
    let refused = |why: String| Error::Encrypted { path: path.to_owned(), cipher, why };
    let Some(private) = &options.key else {
        return Err(refused("give the RSA private key with --key FILE".to_owned()));
    };
    peeled.source = record.open(peeled.source.clone(), private).map_err(refused)?;
    peeled.cipher = Some(cipher);
    peeled.attribute("encryption", cipher);
    Ok(())
}

fn unpack(path: &Path, peeled: &mut Peeled, options: &Options<'_>) -> Result<(), Error> {
    let failed = |found: String| Error::Format {
        path: path.to_owned(),
        offset: 0,
        expected: "a compressed dump that can be unpacked",
        found,
    };
    let Some(unpack) = options.unpack else {
        return Err(failed("nobody was named who unpacks".to_owned()));
    };
    let unpacked = unpack(Box::new(Stream { inner: peeled.source.clone(), at: 0 })).map_err(failed)?;
    peeled.doubts.extend(unpacked.doubts);
    peeled.source = Arc::from(unpacked.source);
    Ok(())
}

fn by_format(path: &Path, peeled: &mut Peeled) -> Result<FreeBsdDump, Error> {
    let source = peeled.source.clone();
    let head = exact(&*source, 0, source.size().min(64).to_usize()).unwrap_or_default();
    if minidump::is_minidump(&head) {
        let dump = minidump::open(path, source)?;
        let header = dump.header;
        peeled.doubts.extend(dump.doubts);
        let name = match header.arch {
            Arch::X86_64 => "amd64",
            Arch::Aarch64 => "arm64",
            _ => "i386",
        };
        peeled.attribute("format", format!("minidump {name} version {}", header.version));
        let mut opened = FreeBsdDump::of(dump.physical, header.arch);
        opened.kernel.tables = Ok(dump.tables);
        opened.gaps.truncated_at = dump.truncated_at;
        opened.note(notes::MINIDUMP, header.raw);
        opened.note(notes::MESSAGES, dump.messages);
        return Ok(opened);
    }
    if full::is_full(&*source) {
        let mut dump = full::Full::open(path, source)?;
        peeled.doubts.append(&mut dump.doubts);
        peeled.attribute("format", "full");
        let (arch, truncated_at) = (dump.arch, dump.truncated_at);
        let mut opened = FreeBsdDump::of(Box::new(dump), arch);
        opened.gaps.truncated_at = truncated_at;
        opened.root = Root::find(arch, &opened.pages);
        match opened.root {
            Some(root) => opened.kernel.tables = Ok(root.tables()),
            None => {
                let why = "the kernel's page tables were not found: only physical memory can be read";
                peeled.doubts.push(Doubt::new("paging", why));
            }
        }
        return Ok(opened);
    }
    if textdump::is_textdump(&*source) || peeled.header.as_ref().is_some_and(|h| h.magic == Magic::Text) {
        let members = textdump::read(&*source, &mut peeled.doubts);
        peeled.attribute("format", "text dump");
        let arch = match peeled.header.as_ref().map(|h| h.architecture.as_str()) {
            Some("amd64") => Arch::X86_64,
            Some("arm64") => Arch::Aarch64,
            Some("i386") => Arch::X86,
            _ => Arch::Other,
        };
        let mut opened = FreeBsdDump::of(Box::new(Nothing), arch);
        for member in members {
            opened.note(format!("{}{}", notes::TEXT, member.name), member.body);
        }
        return Ok(opened);
    }
    Err(Error::Format {
        path: path.to_owned(),
        offset: 0,
        expected: "a FreeBSD kernel dump (a minidump, a full ELF dump, a text dump, or one on its device)",
        found: format!("{:02x?}", head.get(..8).unwrap_or_default()),
    })
}
