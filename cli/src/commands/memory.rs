//! `postfault memory`: bytes of the target.

use crate::args::MemoryArgs;
use crate::failure::{Failure, Outcome};
use crate::{output, source};
use debuginfo::Modules;
use debuginfo::images::Backed;
use evidence::{Absent, Addr, Doubts, Memory, Paged, PhysAddr, Target, ToU64 as _};
use std::io::{self, Write};

/// Bytes per line of a hex dump.
const LINE: usize = 16;
/// Bytes read at a time: a dump of gigabytes runs in constant memory.
const PIECE: u64 = 1 << 16;

/// Reads the longest available prefix at an address, and says why it ends.
type ReadAt<'r> = &'r dyn Fn(u64, &mut [u8]) -> (usize, Option<Absent>);

/// One piece of an answer.
enum Piece<'b> {
    Bytes(u64, &'b [u8]),
    Missing(u64, u64, Absent),
}

/// Reads and prints.
pub fn run(args: &MemoryArgs) -> Result<Outcome, Failure> {
    let usage = || Failure::Usage("memory wants a source (or --pid N), an address and a length".to_owned());
    let (name, rest) = source::Name::from_words(args.pid, &args.what).ok_or_else(usage)?;
    let [address, length] = rest else { return Err(usage()) };
    let (address, length) = (number(address)?, number(length)?);
    let end = address
        .checked_add(length)
        .ok_or_else(|| Failure::Usage(format!("{length} bytes from {address:#x} reach past the last address")))?;
    let mut missing = false;
    source::with_target(&name, &args.symbols, |target, release| {
        let (doubts, paged) = (Doubts::new(), Paged::new(target.memory()));
        // What a core leaves out because it is in a file is read from that file, if it is the very same.
        let modules = match target.machine() {
            Some(_) => Modules::default(),
            None => Modules::outline(target, &paged, &source::locator(&args.symbols, target), &doubts),
        };
        let memory = Backed::new(&paged, &modules);
        let result = space(target, &memory, &args.space, |read| {
            let print = |out: &mut dyn Write| -> io::Result<()> {
                walk(address, end, read, &mut |piece| {
                    missing |= matches!(piece, Piece::Missing(..));
                    if args.raw { raw(out, &piece) } else { dump(out, &piece) }
                })
            };
            if args.raw { output::raw(print) } else { output::text(print) }
        });
        release();
        result
    })?
    .result?;
    if missing && args.raw {
        eprintln!("postfault: the output ends at the first missing byte; without --raw the reason is shown");
    }
    Ok(if missing { Outcome::Different } else { Outcome::Complete })
}

/// Hands a reader of the chosen address space to `then`.
fn space(
    target: &dyn Target,
    memory: &dyn Memory,
    space: &str,
    then: impl FnOnce(ReadAt<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let machine = || {
        target
            .machine()
            .ok_or_else(|| Failure::Usage(format!("--space {space} needs a whole machine; this source is one process")))
    };
    match space {
        "kernel" => then(&|at, into| memory.read(Addr(at), into)),
        "physical" => {
            let machine = machine()?;
            then(&|at, into| machine.read_physical(PhysAddr(at), into))
        }
        root => {
            let root = number(root)?;
            let memory: Box<dyn Memory + '_> = machine()?
                .space(PhysAddr(root))
                .map_err(|why| Failure::new(format!("page table at {root:#x}: {why}")))?;
            then(&|at, into| memory.read(Addr(at), into))
        }
    }
}

/// Reads `address..end`, telling bytes from holes, page by page behind a hole.
fn walk(address: u64, end: u64, read: ReadAt<'_>, each: &mut dyn FnMut(Piece<'_>) -> io::Result<()>) -> io::Result<()> {
    let mut at = address;
    let mut buffer = vec![0; usize::try_from(PIECE.min(end - address)).unwrap_or(0)];
    let mut hole: Option<(u64, Absent)> = None;
    while at < end {
        let want = usize::try_from((end - at).min(PIECE)).unwrap_or(buffer.len());
        let (got, stop) = read(at, &mut buffer[..want]);
        if got > 0 {
            if let Some((from, why)) = hole.take() {
                each(Piece::Missing(from, at, why))?;
            }
            each(Piece::Bytes(at, &buffer[..got]))?;
            at += got.to_u64();
        }
        if let Some(why) = stop.filter(|_| got < want) {
            match hole {
                Some((_, reason)) if reason == why => {}
                Some((from, reason)) => {
                    each(Piece::Missing(from, at, reason))?;
                    hole = Some((at, why));
                }
                None => hole = Some((at, why)),
            }
            at = at.saturating_add(1).checked_next_multiple_of(4096).unwrap_or(end).min(end);
        }
    }
    hole.map_or(Ok(()), |(from, why)| each(Piece::Missing(from, end, why)))
}

fn dump(out: &mut dyn Write, piece: &Piece<'_>) -> io::Result<()> {
    match piece {
        Piece::Missing(from, to, why) => writeln!(out, "{from:#018x}  {} bytes: {why}", to - from),
        Piece::Bytes(at, bytes) => {
            for (n, line) in bytes.chunks(LINE).enumerate() {
                write!(out, "{:#018x} ", at + (n * LINE).to_u64())?;
                for column in 0..LINE {
                    let gap = if column == LINE / 2 { " " } else { "" };
                    match line.get(column) {
                        Some(b) => write!(out, "{gap} {b:02x}")?,
                        None => write!(out, "{gap}   ")?,
                    }
                }
                let text: String = line
                    .iter()
                    .map(|b| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '.' })
                    .collect();
                writeln!(out, "  |{text}|")?;
            }
            Ok(())
        }
    }
}

/// The bytes as they are; the first missing one ends the output, so that no byte stands at a wrong offset.
fn raw(out: &mut dyn Write, piece: &Piece<'_>) -> io::Result<()> {
    match piece {
        Piece::Bytes(_, bytes) => out.write_all(bytes),
        Piece::Missing(..) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn number(text: &str) -> Result<u64, Failure> {
    let digits = text.replace('_', "");
    let parsed = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    parsed.map_err(|_| Failure::Usage(format!("`{text}` is not a number (0x for hexadecimal)")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_told_with_their_reasons() {
        let read = |at: u64, into: &mut [u8]| {
            if at < 0x1008 {
                let n = usize::try_from(0x1008 - at).unwrap().min(into.len());
                into[..n].fill(b'A');
                (n, (n < into.len()).then_some(Absent::Filtered))
            } else if at < 0x2000 {
                (0, Some(Absent::Filtered))
            } else {
                (0, Some(Absent::Unmapped))
            }
        };
        let mut out = Vec::new();
        walk(0x1000, 0x3000, &read, &mut |p| dump(&mut out, &p)).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "0x0000000000001000  41 41 41 41 41 41 41 41                           |AAAAAAAA|\n\
             0x0000000000001008  4088 bytes: left out of the dump\n\
             0x0000000000002000  4096 bytes: not mapped\n"
        );
    }
}
