//! `postfault capture`: the main job.

use crate::args::{Capture, Memory, Redact};
use crate::failure::{Failure, Outcome};
use crate::text::{summary, thousands};
use crate::view::View;
use crate::{json, output, source, text};
use capture::{KeepMemory, Profile};
use snapshot_format::Snapshot;
use snapshot_format::schema::{Attachment, Attribute};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Largest file `--attach` takes: a snapshot stays a thing one can mail.
const LIMIT_ATTACHMENT: u64 = 64 << 20;

/// Captures, writes, and prints the one-screen report.
pub fn run(args: &Capture, verbose: u8) -> Result<Outcome, Failure> {
    let begun = Instant::now();
    let mut name = source::Name::from_args(&args.source);
    if let source::Name::Pid(_, hold) = &mut name {
        hold.budget = args.stop_budget.map(Duration::from_millis);
        hold.fork = args.fork;
    }
    // What can fail for reasons of the command line does so before a process is stopped.
    let attachments = args.attach.iter().map(|p| attachment(p)).collect::<Result<Vec<_>, _>>()?;
    let mut plan = source::plan(&args.take, true);
    plan.keep_memory = match args.memory {
        Memory::Stacks => KeepMemory::Stacks,
        Memory::Reachable => KeepMemory::Reachable,
        Memory::Full => KeepMemory::Full,
    };
    let progress = crate::progress::Spinner::start(&format!("capturing {}", name.describe()));
    let profile = match args.redact {
        Redact::None => Profile::None,
        Redact::Secrets => Profile::Secrets,
        Redact::Stacks => Profile::Stacks,
    };
    let mut snapshot = source::redacted(&name, &args.symbols, &plan, profile)?;
    progress.finish();
    snapshot.attachments.extend(attachments);
    for (key, value) in &args.kv {
        snapshot.attributes.push(Attribute { key: format!("user.{key}"), thread: None, value: value.clone() });
    }
    let path = args.output.clone().unwrap_or_else(|| default_name(&snapshot));
    let written = output::file(&path, args.force, |out| snapshot.write_to(out).map_err(|e| e.to_string()))?;
    let view = View::new(&snapshot);
    if args.output_args.json {
        output::data(|out| json::write(&view, out))?;
        eprintln!("written {}", path.display());
    } else {
        output::text(|out| {
            summary::write(out, &view)?;
            write!(out, "written   {}  {}", path.display(), text::size(written.bytes))?;
            if let Some(ratio) = source_size(&name).and_then(|s| s.checked_div(written.bytes)).filter(|r| *r > 1) {
                write!(out, "  (1/{} of the source)", thousands(ratio))?;
            }
            if verbose > 0 {
                write!(out, "  in {:.2} s", begun.elapsed().as_secs_f64())?;
            }
            writeln!(out)
        })?;
    }
    Ok(super::outcome(&snapshot, &args.output_args))
}

fn attachment(path: &Path) -> Result<Attachment, Failure> {
    let fail = |e: &dyn std::fmt::Display| Failure::new(format!("--attach {}: {e}", path.display()));
    let file = std::fs::File::open(path).map_err(|e| fail(&e))?;
    let mut body = Vec::new();
    file.take(LIMIT_ATTACHMENT + 1).read_to_end(&mut body).map_err(|e| fail(&e))?;
    if body.len() as u64 > LIMIT_ATTACHMENT {
        return Err(fail(&format!("larger than {}", text::size(LIMIT_ATTACHMENT))));
    }
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Attachment { name, body })
}

fn source_size(name: &source::Name) -> Option<u64> {
    match name {
        source::Name::Path(path) => path.metadata().ok().map(|m| m.len()),
        _ => None,
    }
}

/// `COMMAND.PID.TIME.pfsnap` in the current directory, the command reduced to harmless characters.
fn default_name(s: &Snapshot) -> PathBuf {
    let command = s.identity.command.as_deref().unwrap_or("unknown");
    let command: String = command
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+') { c } else { '_' })
        .take(64)
        .collect();
    let pid = s.identity.pid.map_or_else(|| "0".to_owned(), |p| p.to_string());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let taken = s.identity.taken_at_ns.map_or(now, |ns| ns / 1_000_000_000);
    PathBuf::from(format!("{command}.{pid}.{}.pfsnap", utc(taken)))
}

/// `20261122T091502`: seconds since the epoch as a UTC date (civil-from-days, proleptic Gregorian calendar).
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(utc(0), "19700101T000000");
        assert_eq!(utc(951_782_400), "20000229T000000");
        assert_eq!(utc(1_795_425_302), "20261123T091502");
    }

    #[test]
    fn the_default_name_cannot_leave_the_directory() {
        let mut s = Snapshot::default();
        s.identity.command = Some("../../etc/x y".to_owned());
        s.identity.pid = Some(7);
        s.identity.taken_at_ns = Some(0);
        assert_eq!(default_name(&s), Path::new("______etc_x_y.7.19700101T000000.pfsnap"));
    }
}
