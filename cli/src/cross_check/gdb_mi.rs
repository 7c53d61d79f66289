//! gdb's machine interface (GDB manual, "GDB/MI Output Syntax"), for a gdb that was built without Python.
//!
//! It does not say which frames are inlined; they are the ones with the same address as the frame after them, unless
//! that frame is of the same function (recursion). Nor does it say which frames are reconstructed tail calls; without
//! Python these are differences.

use super::{Input, Peer, PeerError, PeerFrame, PeerReport, PeerThread, PeerVariable, gdb, tool};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// How deep tuples and lists may nest. Answers to the commands used here nest four deep.
const LIMIT_DEPTH: u32 = 32;

/// A value of the machine interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mi {
    /// A C string.
    Text(String),
    /// `{a=..,b=..}`.
    Tuple(BTreeMap<String, Mi>),
    /// `[..]`; the names of `[frame={..},frame={..}]` are dropped.
    List(Vec<Mi>),
}

impl Mi {
    /// A field of a tuple.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Tuple(fields) => fields.get(name),
            _ => None,
        }
    }

    /// The text of a field of a tuple.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The members of a field that is a list.
    #[must_use]
    pub fn list(&self, name: &str) -> &[Self] {
        match self.get(name) {
            Some(Self::List(list)) => list,
            _ => &[],
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn eat(&mut self, what: char) -> bool {
        match self.rest.strip_prefix(what) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn value(&mut self, depth: u32) -> Option<Mi> {
        let depth = depth.checked_sub(1)?;
        if self.eat('"') {
            return self.text().map(Mi::Text);
        }
        if self.eat('{') {
            return self.fields('}', depth).map(Mi::Tuple);
        }
        if !self.eat('[') {
            return None;
        }
        let mut list = Vec::new();
        loop {
            if self.eat(']') {
                return Some(Mi::List(list));
            }
            self.eat(',');
            if !self.rest.starts_with(['"', '{', '[', ']']) {
                self.name()?;
            }
            if !self.rest.starts_with(']') {
                list.push(self.value(depth)?);
            }
        }
    }

    /// `name=` at the front.
    fn name(&mut self) -> Option<String> {
        let (name, rest) = self.rest.split_once('=')?;
        self.rest = rest;
        Some(name.to_string())
    }

    fn fields(&mut self, end: char, depth: u32) -> Option<BTreeMap<String, Mi>> {
        let mut fields = BTreeMap::new();
        loop {
            if self.eat(end) || (end == '\0' && self.rest.is_empty()) {
                return Some(fields);
            }
            self.eat(',');
            let name = self.name()?;
            fields.insert(name, self.value(depth)?);
        }
    }

    /// The rest of a C string after its opening quote.
    fn text(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = self.rest.get(at.checked_add(1)?..)?;
                    return Some(String::from_utf8_lossy(&bytes).into_owned());
                }
                '\\' => match chars.next()?.1 {
                    'n' => bytes.push(b'\n'),
                    't' => bytes.push(b'\t'),
                    'r' => bytes.push(b'\r'),
                    digit @ '0'..='7' => {
                        let (_, second) = chars.next()?;
                        let (_, third) = chars.next()?;
                        let octal = String::from_iter([digit, second, third]);
                        bytes.push(u8::from_str_radix(&octal, 8).ok()?);
                    }
                    other => bytes.extend(other.encode_utf8(&mut [0; 4]).bytes()),
                },
                c => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
        None
    }
}

/// The result record of a line: its token, its class (`done`, `error`) and its fields.
#[must_use]
pub fn result_record(line: &str) -> Option<(u64, &str, Mi)> {
    let (token, rest) = line.split_once('^')?;
    let token = token.parse().ok()?;
    let (class, rest) = rest.split_once(',').unwrap_or((rest, ""));
    let mut parser = Parser { rest };
    Some((token, class, Mi::Tuple(parser.fields('\0', LIMIT_DEPTH)?)))
}

/// A frame out of a `frame={..}` tuple; inlining is marked afterwards.
#[must_use]
pub fn frame(tuple: &Mi) -> Option<PeerFrame> {
    let pc = u64::from_str_radix(tuple.text("addr")?.strip_prefix("0x")?, 16).ok()?;
    Some(PeerFrame {
        pc,
        function: tuple.text("func").filter(|f| *f != "??").map(str::to_string),
        file: tuple.text("fullname").or_else(|| tuple.text("file")).map(str::to_string),
        line: tuple.text("line").and_then(|l| l.parse().ok()),
        ..PeerFrame::default()
    })
}

/// Marks the frames that are inlined into the next one.
fn mark_inlined(frames: &mut [PeerFrame]) {
    let next: Vec<(u64, Option<String>)> = frames.iter().skip(1).map(|f| (f.pc, f.function.clone())).collect();
    for (index, frame) in frames.iter_mut().enumerate() {
        let inline = next.get(index).is_some_and(|(pc, function)| *pc == frame.pc && *function != frame.function);
        frame.inline = Some(inline);
    }
}

fn ask(input: &Input, scratch: &Path, commands: &str) -> Result<Vec<(u64, Mi)>, PeerError> {
    let file = scratch.join("commands");
    tool::io("cannot write the commands for gdb", std::fs::write(&file, commands))?;
    let mut command = gdb::command(input);
    command.arg("--interpreter=mi2");
    gdb::subject(&mut command, input);
    let output = tool::run(Peer::Gdb, command, scratch, Some(&file), input.time_limit)?;
    let records: Vec<(u64, Mi)> = output
        .stdout
        .lines()
        .filter_map(result_record)
        .filter(|(_, class, _)| *class == "done")
        .map(|(token, _, fields)| (token, fields))
        .collect();
    if records.is_empty() {
        return Err(PeerError::Failed { peer: Peer::Gdb, why: output.summary() });
    }
    Ok(records)
}

/// Asks for everything in two runs: the threads, then the frames and variables of each.
pub(super) fn backtraces(input: &Input, version: String, scratch: &Path) -> Result<PeerReport, PeerError> {
    let records = ask(input, scratch, "1-thread-info\n2-gdb-exit\n")?;
    let mut names: Vec<(String, u64)> = Vec::new();
    for thread in records.iter().filter(|(token, _)| *token == 1).flat_map(|(_, fields)| fields.list("threads")) {
        if let (Some(number), Some(id)) = (thread.text("id"), thread.text("target-id").and_then(lwp)) {
            names.push((number.to_string(), id));
        }
    }
    let mut commands = String::new();
    let most = input.frames.saturating_sub(1);
    for (token, (number, _)) in (10_u64..).zip(&names) {
        let _ = writeln!(commands, "{token}-stack-list-frames --thread {number} --no-frame-filters 0 {most}");
    }
    commands.push_str("2-gdb-exit\n");
    let records = ask(input, scratch, &commands)?;
    let mut threads = Vec::new();
    for (token, (_, id)) in (10_u64..).zip(&names) {
        let listed = records.iter().filter(|(t, _)| *t == token).flat_map(|(_, fields)| fields.list("stack"));
        let mut frames: Vec<PeerFrame> = listed.filter_map(frame).collect();
        mark_inlined(&mut frames);
        threads.push(PeerThread { id: *id, frames, ended: None });
    }
    if input.variables {
        variables(input, scratch, &names, &mut threads)?;
    }
    threads.sort_by_key(|t| t.id);
    Ok(PeerReport { peer: Peer::Gdb, version, threads, facts: super::facts::Facts::default(), incomplete: None })
}

/// The LWP in gdb's description of a thread: `Thread 0x7f.. (LWP 12)`, `LWP 12`, `process 12`.
fn lwp(description: &str) -> Option<u64> {
    let after = description.split("LWP ").nth(1).or_else(|| description.split("process ").nth(1))?;
    after.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn variables(
    input: &Input,
    scratch: &Path,
    names: &[(String, u64)],
    threads: &mut [PeerThread],
) -> Result<(), PeerError> {
    let mut commands = String::from("1-gdb-set print elements 1000\n1-gdb-set print repeats unlimited\n");
    let mut token = 10_u64;
    for ((number, _), thread) in names.iter().zip(threads.iter()) {
        for (level, _) in thread.frames.iter().enumerate() {
            let _ = writeln!(
                commands,
                "{token}-stack-list-variables --thread {number} --frame {level} --no-frame-filters --all-values"
            );
            token = token.saturating_add(1);
        }
    }
    commands.push_str("2-gdb-exit\n");
    let records: BTreeMap<u64, Mi> = ask(input, scratch, &commands)?.into_iter().collect();
    let frames = threads.iter_mut().flat_map(|t| t.frames.iter_mut());
    for (token, frame) in (10_u64..).zip(frames) {
        let Some(record) = records.get(&token) else { continue };
        frame.variables = record.list("variables").iter().filter_map(variable).collect();
    }
    Ok(())
}

fn variable(tuple: &Mi) -> Option<PeerVariable> {
    // `x@entry` is the value that x had when the function was called; the others do not list it.
    let name = tuple.text("name").filter(|n| !n.ends_with("@entry"))?.to_string();
    let argument = tuple.text("arg").is_some();
    let value = tuple.text("value").unwrap_or_default().to_string();
    let absent = value.starts_with("<optimized out>") || value.starts_with("<error");
    let (value, absent) = if absent { (None, Some(value)) } else { (Some(value), None) };
    Some(PeerVariable { name, value, absent, argument, ..PeerVariable::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read() {
        let line = r#"10^done,stack=[frame={level="0",addr="0x10",func="f \"q\"",fullname="/a\303\251.c",line="7"},frame={level="1",addr="0x10",func="g"}]"#;
        let (token, class, fields) = result_record(line).unwrap();
        assert_eq!((token, class), (10, "done"));
        let mut frames: Vec<PeerFrame> = fields.list("stack").iter().filter_map(frame).collect();
        mark_inlined(&mut frames);
        assert_eq!(frames[0].function.as_deref(), Some("f \"q\""));
        assert_eq!(frames[0].file.as_deref(), Some("/aé.c"));
        assert_eq!((frames[0].inline, frames[1].inline), (Some(true), Some(false)));
        assert_eq!(result_record("2^exit").unwrap().1, "exit");
        assert_eq!(result_record("~\"text\""), None);
        assert_eq!(result_record("1^done,a=[[[[\"x\"]"), None);
    }

    #[test]
    fn nesting_has_a_limit() {
        let line = format!("1^done,a={}", "[".repeat(100_000));
        assert_eq!(result_record(&line), None);
    }

    #[test]
    fn thread_descriptions() {
        assert_eq!(lwp("Thread 0x7f931585c740 (LWP 18875)"), Some(18875));
        assert_eq!(lwp("LWP 12"), Some(12));
        assert_eq!(lwp("process 9"), Some(9));
        assert_eq!(lwp("nothing"), None);
    }
}
