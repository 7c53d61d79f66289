//! `postfault convert`: an illumos dump as the two files that savecore makes of it.

use crate::args::Convert;
use crate::failure::{Failure, Outcome};
use crate::source;
use kernel_dumps::illumos::{IllumosDump, Lost, Place};
use platform::input::{Input, Kind};
use std::io::Write as _;
use std::path::Path;
use tempfile::NamedTempFile;

/// Files of one number that are tried before giving up.
const LIMIT_NUMBER: u64 = 1 << 20;

/// Converts.
pub fn run(args: &Convert) -> Result<Outcome, Failure> {
    let input = Input::open(&args.source).map_err(Failure::new)?;
    if input.kind() != Kind::IllumosDump {
        let what = input.kind().describe();
        return Err(Failure::new(format!(
            "{}: is {what}; convert makes unix.N and vmcore.N of an illumos dump",
            args.source.display()
        )));
    }
    let dump = source::illumos_dump(input, args.key.as_deref())?;
    if dump.place() == Place::Vmcore {
        return Err(Failure::new(format!("{}: is a vmcore already", args.source.display())));
    }
    let number = match args.number.or_else(|| number_of(&args.source)) {
        Some(number) => number,
        None => free_number(&args.output)?,
    };
    let path = |name: &str| args.output.join(format!("{name}.{number}"));
    let (unix, vmcore) = (path("unix"), path("vmcore"));
    for file in [&unix, &vmcore] {
        if file.symlink_metadata().is_ok() {
            return Err(exists(file));
        }
    }
    let (symbols, core) = (temporary(&args.output)?, temporary(&args.output)?);
    symbols.as_file().write_all(dump.ksyms()).map_err(|e| failed(&unix, &e))?;
    let lost = dump.write_vmcore(core.as_file()).map_err(|e| failed(&vmcore, &e))?;
    keep(symbols, &unix)?;
    keep(core, &vmcore)?;
    report(&dump, &lost, &unix, &vmcore);
    Ok(if lost.is_empty() { Outcome::Complete } else { Outcome::Different })
}

fn failed(file: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: {error}", file.display()))
}

fn exists(file: &Path) -> Failure {
    Failure::new(format!("{}: exists already, and is not replaced; choose another --number", file.display()))
}

fn temporary(folder: &Path) -> Result<NamedTempFile, Failure> {
    tempfile::Builder::new()
        .prefix(".postfault-")
        .tempfile_in(folder)
        .map_err(|e| Failure::new(format!("{}: {e}", folder.display())))
}

/// Gives a finished file its name, unless someone else took it in the meantime.
fn keep(file: NamedTempFile, name: &Path) -> Result<(), Failure> {
    file.as_file().sync_all().map_err(|e| Failure::new(format!("{}: {e}", name.display())))?;
    match file.persist_noclobber(name) {
        Ok(_) => Ok(()),
        Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => Err(exists(name)),
        Err(e) => Err(Failure::new(format!("{}: {}", name.display(), e.error))),
    }
}

/// The N of `vmdump.N`, whatever it is compressed by.
fn number_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.split('.').skip(1).find_map(|part| part.parse().ok())
}

/// The first number of which neither file is there.
fn free_number(folder: &Path) -> Result<u64, Failure> {
    let taken =
        |n: u64| ["unix", "vmcore"].iter().any(|name| folder.join(format!("{name}.{n}")).symlink_metadata().is_ok());
    (0..LIMIT_NUMBER)
        .find(|n| !taken(*n))
        .ok_or_else(|| Failure::new(format!("{}: no number is free", folder.display())))
}

fn report(dump: &IllumosDump, lost: &[Lost], unix: &Path, vmcore: &Path) {
    use evidence::Target as _;
    let doubts = dump.gaps().doubts.iter().filter(|d| d.what != "dump-pages");
    for doubt in doubts {
        anstream::eprintln!("postfault: {}", doubt.why);
    }
    for l in lost {
        let frames = l.frames.map_or_else(String::new, |(a, b)| format!(" (page frames {a:#x} to {b:#x})"));
        let last = l.pages.end.saturating_sub(1);
        anstream::eprintln!(
            "postfault: pages {} to {last}{frames} are lost, and read as zeros in the vmcore: {}",
            l.pages.start,
            l.why
        );
    }
    anstream::println!("{}", unix.display());
    anstream::println!("{}", vmcore.display());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_the_dumps_own() {
        assert_eq!(number_of(Path::new("/var/crash/vmdump.12")), Some(12));
        assert_eq!(number_of(Path::new("vmdump.3.zst")), Some(3));
        assert_eq!(number_of(Path::new("dump")), None);
    }
}
