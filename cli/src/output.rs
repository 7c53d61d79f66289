//! Standard output with or without colour, and files that appear whole or not at all.

use crate::failure::Failure;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Applies `--color` to both streams.
pub fn set_color(choice: clap::ColorChoice) {
    let choice = match choice {
        clap::ColorChoice::Auto => anstream::ColorChoice::Auto,
        clap::ColorChoice::Always => anstream::ColorChoice::Always,
        clap::ColorChoice::Never => anstream::ColorChoice::Never,
    };
    choice.write_global();
}

/// Runs `write` on standard output, styled text allowed.
pub fn text(write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<(), Failure> {
    let mut out = BufWriter::new(anstream::stdout().lock());
    write(&mut out)?;
    out.flush()?;
    Ok(())
}

/// Runs `write` on standard output as it is.
pub fn data(write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<(), Failure> {
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    write(&mut out)?;
    out.flush()?;
    Ok(())
}

/// As [`data`], but output that `write` ends early with `UnexpectedEof` counts as written.
pub fn raw(write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<(), Failure> {
    data(|out| match write(out) {
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(()),
        result => result,
    })
}

/// Writes a file under a temporary name in the same directory, and renames it when it is complete.
///
/// An existing file is left alone unless `replace` is set.
pub fn file<T>(
    path: &Path,
    replace: bool,
    write: impl FnOnce(&mut dyn Write) -> Result<T, String>,
) -> Result<T, Failure> {
    let fail = |e: &dyn std::fmt::Display| Failure::new(format!("{}: {e}", path.display()));
    if !replace && path.symlink_metadata().is_ok() {
        return Err(fail(
            &"the file exists and was left as it is: choose another name with -o, or replace it with --force",
        ));
    }
    let directory = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut temporary = tempfile::Builder::new()
        .prefix(".postfault-")
        .tempfile_in(directory)
        .map_err(|e| Failure::new(format!("{}: cannot create a file: {e}", directory.display())))?;
    let mut buffered = BufWriter::with_capacity(1 << 16, &mut temporary);
    let result = write(&mut buffered).map_err(|e| fail(&e))?;
    buffered.flush().map_err(|e| fail(&e))?;
    drop(buffered);
    temporary.as_file().sync_all().map_err(|e| fail(&e))?;
    if replace {
        temporary.persist(path).map_err(|e| fail(&e.error))?;
    } else {
        temporary.persist_noclobber(path).map_err(|e| fail(&e.error))?;
    }
    Ok(result)
}
