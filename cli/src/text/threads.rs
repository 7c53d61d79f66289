//! Backtraces.

use super::fold::{Stretch, fold};
use super::{ALARM, DIM, FUNCTION, HEADING, PLACE, plural, printable, thousands, values};
use crate::view::View;
use snapshot_format::schema::{Frame, Thread, Trust};
use std::collections::HashMap;
use std::io::{self, Write};

/// How variables are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locals {
    /// Not at all.
    Hidden,
    /// The first ones behind each frame.
    OnOneLine,
    /// All, one on each line below the frame.
    Below,
}

/// What to show of each thread.
#[derive(Clone, Copy, Debug)]
pub struct Show {
    /// Variables of each frame.
    pub locals: Locals,
    /// Print runs of repeating frames once.
    pub fold: bool,
    /// At most so many lines per stack.
    pub most: usize,
}

/// Writes all threads; those with the same stack are written once, unless their variables are wanted.
pub fn all(out: &mut dyn Write, view: &View<'_>, show: Show) -> io::Result<()> {
    let mut sharing: HashMap<u64, Vec<&Thread>> = HashMap::new();
    for t in &view.snapshot.threads {
        if let Some(first) = view.same_stack_as(t) {
            sharing.entry(first).or_default().push(t);
        }
    }
    for t in &view.snapshot.threads {
        if view.same_stack_as(t).is_some() && show.locals != Locals::Below {
            continue;
        }
        heading(out, t)?;
        if let Some(others) = sharing.get(&t.id).filter(|_| show.locals != Locals::Below) {
            let names: Vec<String> = others.iter().take(8).map(|o| o.id.to_string()).collect();
            let rest = others.len().saturating_sub(names.len());
            let rest = if rest > 0 { format!(" and {} more", thousands(rest as u64)) } else { String::new() };
            let word = plural(others.len(), "thread", "threads");
            writeln!(out, "  the same stack: {word} {}{rest}", names.join(", "))?;
        }
        stack(out, view, t, show)?;
        writeln!(out)?;
    }
    Ok(())
}

/// `thread 4711 "server"  faulting`.
pub fn heading(out: &mut dyn Write, t: &Thread) -> io::Result<()> {
    // A task that ran when the kernel died has its CPU's registers; only a CPU without a task is called by its number.
    let what = match (t.context.as_str(), t.process) {
        ("cpu", None) => "cpu",
        ("cpu" | "task", _) => "task",
        _ => "thread",
    };
    write!(out, "{HEADING}{what} {}{HEADING:#}", t.id)?;
    if let Some(name) = &t.name {
        write!(out, " \"{}\"", printable(name))?;
    }
    if t.faulting {
        write!(out, "  {ALARM}faulting{ALARM:#}")?;
    }
    if let Some(state) = &t.state {
        write!(out, "  {}", printable(state))?;
    }
    if let Some(channel) = &t.wait_channel {
        write!(out, " in {}", printable(channel))?;
    }
    if let (Some(cpu), "cpu", "task") = (t.cpu, t.context.as_str(), what) {
        write!(out, "  on CPU {cpu}")?;
    }
    writeln!(out)
}

/// The frames of one thread.
pub fn stack(out: &mut dyn Write, view: &View<'_>, t: &Thread, show: Show) -> io::Result<()> {
    let frames = view.frames(t);
    let stretches = if show.fold { fold(frames) } else { (0..frames.len()).map(Stretch::Frame).collect() };
    for (line, stretch) in stretches.iter().enumerate() {
        if line >= show.most {
            writeln!(out, "  ...  {} more frames", thousands((stretches.len() - line) as u64))?;
            break;
        }
        match stretch {
            Stretch::Frame(index) => {
                frame(out, view, *index, &frames[*index])?;
                let number = u32::try_from(*index).unwrap_or(u32::MAX);
                let rows = view.variables(Some(t.id), Some(number));
                match show.locals {
                    Locals::Hidden => {}
                    Locals::Below => {
                        for row in rows {
                            writeln!(out, "          {}", values::assignment(view, *row))?;
                        }
                    }
                    Locals::OnOneLine => {
                        let line = values::line(view, rows);
                        if !line.is_empty() {
                            writeln!(out, "      {DIM}{line}{DIM:#}")?;
                        }
                    }
                }
            }
            Stretch::Folded { first, count, period } => {
                let rounds = thousands((count / period) as u64);
                let what = if *period == 1 { "this call".to_owned() } else { format!("these {period} calls") };
                writeln!(
                    out,
                    "{DIM}  ...  #{first} to #{}: {what} {rounds} more {}{DIM:#}",
                    first + count - 1,
                    plural(count / period, "time", "times")
                )?;
            }
        }
    }
    if let Some(why) = &t.truncated {
        writeln!(out, "  {DIM}(stack incomplete: {}){DIM:#}", printable(why))?;
    }
    Ok(())
}

fn frame(out: &mut dyn Write, view: &View<'_>, index: usize, f: &Frame) -> io::Result<()> {
    write!(out, "  {:<3} ", format!("#{index}"))?;
    if f.inline {
        write!(out, "{DIM}{:<18}{DIM:#} ", "[inlined]")?;
    } else if view.knows_addresses() {
        write!(out, "{DIM}{:#018x}{DIM:#} ", f.pc)?;
    }
    match &f.function {
        Some(name) => write!(out, "{FUNCTION}{}{FUNCTION:#}", printable(name))?,
        None => write!(out, "??")?,
    }
    if let (None, Some(offset), Some(_)) = (&f.file, f.offset, &f.function) {
        write!(out, "+{offset:#x}")?;
    }
    if f.signal_frame {
        // What a kernel's unwind table calls so is the entry of an exception, an interrupt or a system call.
        let what = if f.trust == Trust::Orc { "interrupted" } else { "signal handler called" };
        write!(out, " <{what}>")?;
    }
    if let Some(file) = &f.file {
        write!(out, " at {PLACE}{}", printable(file))?;
        if let Some(line) = f.line {
            write!(out, ":{line}")?;
        }
        if let Some(column) = f.column {
            write!(out, ":{column}")?;
        }
        write!(out, "{PLACE:#}")?;
    } else if let Some(module) = view.module(f) {
        write!(out, " in {PLACE}{}{PLACE:#}", printable(&module.path))?;
        if let (None, Some(offset)) = (&f.function, f.module_offset) {
            write!(out, "+{offset:#x}")?;
        }
    }
    match f.trust {
        Trust::FramePointer => write!(out, "  {DIM}(by frame pointer){DIM:#}")?,
        Trust::ShadowStack => write!(out, "  {DIM}(by shadow stack){DIM:#}")?,
        Trust::Scan => write!(out, "  {DIM}(found by scanning){DIM:#}")?,
        _ => {}
    }
    if f.suspect {
        write!(out, "  {ALARM}?{ALARM:#}")?;
    }
    writeln!(out)
}
