//! From what the user named to a target or a snapshot.

use crate::args::{SourceArgs, SymbolArgs, TakeArgs, Threads};
use crate::failure::Failure;
use capture::{Plan, Profile, ThreadChoice};
use debuginfo::{Cache, Locator};
use evidence::Target;
use platform::input::{Input, Kind, Options};
use platform::{elfcore, minidump};
use snapshot_format::Snapshot;
use snapshot_format::schema::{Attribute, Doubt};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How a live process is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    /// For how long it may be stopped.
    pub budget: Option<Duration>,
    /// A copy of it is read instead.
    pub fork: bool,
    /// Only what threads and frames need is recorded, no list of open files, no sums of resident memory: both take time
    /// in proportion to the process, and a backtrace as text shows neither.
    pub brief: bool,
}

/// What the user named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A live process, and how it may be held.
    Pid(u64, Hold),
    /// A file.
    Path(PathBuf),
    /// Standard input.
    Stdin,
    /// A kernel's log.
    Log(PathBuf),
}

impl Name {
    /// From `--pid N` or a path; clap has made sure that it is exactly one of them.
    pub fn from_args(args: &SourceArgs) -> Self {
        if let Some(log) = &args.log {
            return Self::Log(log.clone());
        }
        match (args.pid, &args.source) {
            (Some(pid), _) => Self::Pid(pid, Hold::default()),
            (None, Some(path)) => Self::from_path(path),
            (None, None) => Self::Stdin,
        }
    }

    /// From `--pid N`, or else from the first of `words`; and the words that remain.
    pub fn from_words(pid: Option<u64>, words: &[String]) -> Option<(Self, &[String])> {
        match pid {
            Some(pid) => Some((Self::Pid(pid, Hold::default()), words)),
            None => words.split_first().map(|(first, rest)| (Self::from_path(Path::new(first)), rest)),
        }
    }

    /// For messages.
    pub fn describe(&self) -> String {
        match self {
            Self::Pid(pid, _) => format!("process {pid}"),
            Self::Path(path) | Self::Log(path) => path.display().to_string(),
            Self::Stdin => "standard input".to_owned(),
        }
    }

    fn from_path(path: &Path) -> Self {
        if path == Path::new("-") { Self::Stdin } else { Self::Path(path.to_owned()) }
    }
}

/// What to take of each thread.
pub fn plan(take: &TakeArgs, variables: bool) -> Plan {
    Plan {
        threads: match take.threads {
            Threads::All => ThreadChoice::All,
            Threads::Faulting => ThreadChoice::Faulting,
        },
        variables: variables && !take.no_variables,
        globals: take.global.clone(),
        ..Plan::default()
    }
}

/// Where to look for the files of `target`.
pub fn locator(symbols: &SymbolArgs, target: &dyn Target) -> Locator {
    let servers = std::env::var("DEBUGINFOD_URLS").unwrap_or_default();
    Locator {
        executable: symbols.exe.clone(),
        kernel: symbols.kernel.clone(),
        sysroot: symbols.sysroot.clone(),
        symbols: symbols.symbols.clone(),
        debuginfod: if symbols.debuginfod {
            servers.split_whitespace().map(str::to_owned).collect()
        } else {
            Vec::new()
        },
        symbol_servers: symbols.symbol_server.clone(),
        cache: symbols.cache_dir.clone(),
        index: if symbols.no_cache {
            None
        } else {
            symbols.cache_dir.clone().or_else(Cache::users_folder).map(|folder| Cache::new(&folder))
        },
        root: target.identity().root.clone(),
        ..Locator::default()
    }
}

/// What a target was used for, and what that cost it.
pub struct Used<R> {
    /// What the user of the target returned.
    pub result: R,
    /// How long a live process stood still, microseconds.
    pub stop_time_us: Option<u64>,
    /// It was let go because its time was up, before all was read.
    pub out_of_time: bool,
}

/// Opens the target and hands it to `then`, with a function that lets a live process go (returning does so, too).
pub fn with_target<R>(
    name: &Name,
    symbols: &SymbolArgs,
    then: impl FnOnce(&dyn Target, &mut dyn FnMut()) -> R,
) -> Result<Used<R>, Failure> {
    let input = match name {
        Name::Pid(pid, hold) => return live(*pid, *hold, then),
        Name::Path(path) => Input::open(path).map_err(Failure::new)?,
        Name::Log(path) => {
            return Err(Failure::new(format!(
                "{}: a log has no memory and no images; `bt --log` and `capture --log` say what it tells",
                path.display()
            )));
        }
        Name::Stdin => Input::open(Path::new("-")).map_err(Failure::new)?,
    };
    let path = input.name().to_owned();
    let freebsd =
        kernel_dumps::freebsd::sibling_key(&path).is_some() || kernel_dumps::freebsd::recognise(&InputBytes(&input));
    let result = if freebsd {
        let options = kernel_dumps::freebsd::Options { key: symbols.key.clone(), unpack: Some(&unpack) };
        let dump = kernel_dumps::freebsd::FreeBsdDump::from_source(&path, Box::new(DumpBytes(input)), &options);
        then(&dump.map_err(Failure::new)?, &mut || {})
    } else if input.kind().is_kernel_dump() {
        let dump = kernel_dump(input, symbols)?;
        then(&*dump, &mut || {})
    } else if matches!(input.kind(), Kind::Minidump | Kind::Microdump) {
        let dump = minidump::from_input(input, &Options::default()).map_err(Failure::new)?;
        then(&dump, &mut || {})
    } else if input.kind() == Kind::Unknown {
        return Err(Failure::new(format!(
            "{}: at offset 0x0: expected a core, a kernel dump, a minidump or a snapshot, found a file of a format not \
             known here; a kernel's console or log is read with --log",
            path.display()
        )));
    } else {
        let core = elfcore::from_input(input, &Options::default()).map_err(Failure::new)?;
        then(&core, &mut || {})
    };
    Ok(Used { result, stop_time_us: None, out_of_time: false })
}

/// Opens a kernel dump of any system.
fn kernel_dump(input: Input, symbols: &SymbolArgs) -> Result<Box<dyn Target>, Failure> {
    let path = input.name().to_owned();
    if !symbols.part.is_empty() {
        let mut parts: Vec<(PathBuf, Box<dyn kernel_dumps::ReadAt>)> = vec![(path, Box::new(DumpBytes(input)))];
        for part in &symbols.part {
            let input = Input::open(part).map_err(Failure::new)?;
            parts.push((part.clone(), Box::new(DumpBytes(input))));
        }
        return Ok(Box::new(kernel_dumps::linux::LinuxDump::from_parts(parts).map_err(Failure::new)?));
    }
    Ok(match input.kind() {
        Kind::IllumosDump => Box::new(illumos_dump(input, symbols.key.as_deref())?),
        _ => Box::new(
            kernel_dumps::linux::LinuxDump::from_source(&path, Box::new(DumpBytes(input))).map_err(Failure::new)?,
        ),
    })
}

/// Opens an illumos kernel dump.
pub fn illumos_dump(input: Input, key: Option<&Path>) -> Result<kernel_dumps::illumos::IllumosDump, Failure> {
    let read = |p: &Path| std::fs::read(p).map_err(|e| Failure::new(format!("{}: {e}", p.display())));
    let options = kernel_dumps::Options { key: key.map(read).transpose()? };
    let path = input.name().to_owned();
    kernel_dumps::illumos::IllumosDump::from_source(&path, Box::new(DumpBytes(input)), &options).map_err(Failure::new)
}

/// Unpacks what is compressed inside of a dump.
fn unpack(stream: Box<dyn Read + Send>) -> Result<kernel_dumps::freebsd::Unpacked, String> {
    let input = Input::from_stream(stream, Path::new("the compressed dump")).map_err(|e| e.to_string())?;
    let doubts = input.doubts().to_vec();
    Ok(kernel_dumps::freebsd::Unpacked { source: Box::new(DumpBytes(input)), doubts })
}

/// The bytes of an input, as the kernel dump readers want them.
struct DumpBytes(Input);

/// The same, of an input that is still to be told.
struct InputBytes<'i>(&'i Input);

impl kernel_dumps::ReadAt for InputBytes<'_> {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<usize> {
        self.0.read_at(offset, into)
    }
    fn size(&self) -> u64 {
        self.0.size()
    }
}

impl kernel_dumps::ReadAt for DumpBytes {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<usize> {
        self.0.read_at(offset, into)
    }
    fn size(&self) -> u64 {
        self.0.size()
    }
}

#[cfg(any(target_os = "linux", target_os = "illumos", target_os = "freebsd"))]
fn live<R>(pid: u64, hold: Hold, then: impl FnOnce(&dyn Target, &mut dyn FnMut()) -> R) -> Result<Used<R>, Failure> {
    use platform::live::{Options, attach};
    #[cfg(target_os = "linux")]
    let options = Options {
        stop_budget: hold.budget,
        fork: hold.fork,
        open_files: !hold.brief,
        resident: !hold.brief,
        prepare: !hold.brief,
        ..Options::default()
    };
    #[cfg(not(target_os = "linux"))]
    let options = Options { stop_budget: hold.budget, ..Options::default() };
    if hold.fork && !cfg!(target_os = "linux") {
        return Err(Failure::new(format!("process {pid}: --fork is for Linux; try again without it")));
    }
    let stop = attach(pid, &options).map_err(Failure::new)?;
    let target = stop.shared();
    let mut stop = Some(stop);
    let mut released = None;
    let mut release = || {
        if let Some(stop) = stop.take() {
            released = Some(stop.release());
        }
    };
    let result = then(&*target, &mut release);
    release();
    let stop_time_us = released.as_ref().map(|r| r.stopped_for_us);
    Ok(Used { result, stop_time_us, out_of_time: released.is_some_and(|r| r.out_of_time) })
}

#[cfg(not(any(target_os = "linux", target_os = "illumos", target_os = "freebsd")))]
fn live<R>(pid: u64, _hold: Hold, _then: impl FnOnce(&dyn Target, &mut dyn FnMut()) -> R) -> Result<Used<R>, Failure> {
    Err(Failure::new(format!("process {pid}: attaching to live processes is not built for this system")))
}

/// The snapshot of any source: read if it is one, captured and analysed if not.
pub fn snapshot(name: &Name, symbols: &SymbolArgs, plan: &Plan) -> Result<Snapshot, Failure> {
    redacted(name, symbols, plan, Profile::None)
}

/// [`snapshot`], without what `profile` hides.
pub fn redacted(name: &Name, symbols: &SymbolArgs, plan: &Plan, profile: Profile) -> Result<Snapshot, Failure> {
    if let Name::Log(path) = name {
        let mut snapshot = log(path)?;
        capture::redact(&mut snapshot, profile);
        analysis::analyse(&mut snapshot);
        return Ok(snapshot);
    }
    if let Name::Path(path) = name
        && is_snapshot(path)?
    {
        let mut snapshot = read_snapshot(path)?;
        if profile != Profile::None {
            capture::redact(&mut snapshot, profile);
            // What was concluded from what is hidden now is hidden as well.
            analysis::analyse(&mut snapshot);
        }
        return Ok(snapshot);
    }
    if let Name::Path(path) = name
        && let Some(mut snapshot) = crate::export::minidump::embedded(path)?
    {
        if profile != Profile::None {
            capture::redact(&mut snapshot, profile);
            analysis::analyse(&mut snapshot);
        }
        return Ok(snapshot);
    }
    let used = with_target(name, symbols, |target, release| {
        capture::capture(target, &locator(symbols, target), plan, release)
    })?;
    let mut snapshot = used.result;
    let mut attribute = |key: &str, value: String| {
        snapshot.attributes.push(Attribute { key: key.to_owned(), thread: None, value });
    };
    attribute("capture.version", env!("CARGO_PKG_VERSION").to_owned());
    if used.out_of_time {
        snapshot.doubts.push(Doubt {
            what: "stop-budget".to_owned(),
            address: None,
            why: "the process was let go when its time was up; what was not read by then is absent as released"
                .to_owned(),
        });
    }
    if let Some(us) = used.stop_time_us {
        attribute("capture.stop_time_us", us.to_string());
    }
    capture::redact(&mut snapshot, profile);
    analysis::analyse(&mut snapshot);
    Ok(snapshot)
}

/// Largest log that is read: a console that was captured for months.
const LIMIT_LOG: u64 = 256 << 20;

/// A kernel's log as a snapshot.
fn log(path: &Path) -> Result<Snapshot, Failure> {
    let fail = |e: std::io::Error| Failure::new(format!("{}: {e}", path.display()));
    let mut bytes = Vec::new();
    let read: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(fail)?)
    };
    read.take(LIMIT_LOG).read_to_end(&mut bytes).map_err(fail)?;
    let mut snapshot = analysis::snapshot_of_log(&String::from_utf8_lossy(&bytes));
    if snapshot.threads.is_empty() {
        snapshot.doubts.push(Doubt {
            what: "log".to_owned(),
            address: None,
            why: "no report of a kernel's death or complaint was recognised in it".to_owned(),
        });
    }
    Ok(snapshot)
}

fn is_snapshot(path: &Path) -> Result<bool, Failure> {
    let fail = |e: std::io::Error| Failure::new(format!("{}: {e}", path.display()));
    let meta = path.metadata().map_err(fail)?;
    if meta.is_dir() {
        return Err(Failure::new(format!("{}: is a directory; name the file in it", path.display())));
    }
    let mut magic = [0; snapshot_format::MAGIC.len()];
    let mut file = std::fs::File::open(path).map_err(fail)?;
    let mut got = 0;
    while got < magic.len() {
        match file.read(&mut magic[got..]).map_err(fail)? {
            0 => break,
            n => got += n,
        }
    }
    Ok(magic == snapshot_format::MAGIC)
}

/// Reads a snapshot file; damage becomes doubts.
pub fn read_snapshot(path: &Path) -> Result<Snapshot, Failure> {
    let (mut snapshot, doubts) =
        Snapshot::read_path(path).map_err(|e| Failure::new(format!("{}: {e}", path.display())))?;
    snapshot.doubts.extend(doubts);
    Ok(snapshot)
}
