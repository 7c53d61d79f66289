//! Compares our trees with gdb's, leaf by leaf.

use capture::variables::Variable;
use serde_json::Value as Json;
use snapshot_format::schema::{Value, VariableKind};

/// The result of comparing one program.
pub struct Comparison {
    what: String,
    equal: usize,
    excused: usize,
    failures: Vec<String>,
}

impl Comparison {
    pub fn new(what: &str) -> Self {
        Self { what: what.to_owned(), equal: 0, excused: 0, failures: Vec::new() }
    }

    pub fn fail(&mut self, why: String) {
        self.failures.push(why);
    }

    /// Panics when anything differs, or when fewer than `least` values were compared.
    pub fn finish(self, least: usize) {
        println!("{}: {} values equal, {} excused", self.what, self.equal, self.excused);
        assert!(self.failures.is_empty(), "{}:\n{}", self.what, self.failures.join("\n"));
        assert!(self.equal >= least, "{}: only {} values were compared", self.what, self.equal);
    }

    /// Compares all variables of frame `n` of gdb's `frames`.
    pub fn frame(&mut self, label: &str, ours: &[Variable], frames: &[Json], n: usize) {
        let theirs = frames[n]["variables"].as_array().unwrap();
        let mut taken = vec![false; ours.len()];
        for their in theirs {
            let name = their["name"].as_str().unwrap();
            let kind = if their["argument"] == true { VariableKind::Parameter } else { VariableKind::Local };
            // Names repeat in nested blocks and so do lines in expanded macros; our order is gdb's, innermost first.
            let found = ours.iter().enumerate().position(|(n, v)| {
                !taken[n] && v.name == name && v.kind == kind && v.line == their["line"].as_u64().filter(|l| *l > 0)
            });
            let Some(n) = found else {
                self.fail(format!("{label}: {name} (line {}) is missing", their["line"]));
                continue;
            };
            taken[n] = true;
            let mut trial = Self::new("");
            trial.value(&format!("{label}: {name}"), &ours[n], their);
            if !trial.failures.is_empty()
                && let Some(proof) = contradiction(label, name, frames)
            {
                trial = Self::new("");
                trial.value(&format!("{label}: {name} (by {})", proof["name"]), &ours[n], proof);
                trial.excused += std::mem::take(&mut trial.equal);
            }
            self.equal += trial.equal;
            self.excused += trial.excused;
            self.failures.append(&mut trial.failures);
        }
        for (n, v) in ours.iter().enumerate().filter(|(n, _)| !taken[*n]) {
            self.fail(format!("{label}: {} (line {:?}, number {n}) is not in gdb's list", v.name, v.line));
        }
    }

    fn value(&mut self, at: &str, our: &Variable, their: &Json) {
        if their["type"].as_str() != Some(&our.type_name) && !same_type(&our.type_name, their["type"].as_str().unwrap())
        {
            self.fail(format!("{at}: type {:?}, gdb has {}", our.type_name, their["type"]));
        }
        if let Some(absent) = their["absent"].as_str() {
            if absent.contains("generic pointer") && our.value == Value::Pointer(0) {
                self.excused += 1;
                return;
            }
            match &our.absent {
                Some(_) => self.equal += 1,
                // A pointee that does not exist is shown by its parts.
                None if !our.children.is_empty() && our.children.iter().all(|c| c.absent.is_some()) => self.equal += 1,
                None => self.fail(format!("{at}: {:?}, gdb says {absent}", our.value)),
            }
            return;
        }
        if let Some(absent) = &our.absent {
            match absent.as_str() {
                // gdb takes what a location does not describe for zeros.
                "optimised-out" if their["text"] == "<synthetic pointer>" => self.excused += 1,
                "cycle" | "unknown-length" => self.excused += 1,
                "register-not-recovered" if is_overwritten_by_calls(our.why.as_deref().unwrap_or("")) => {
                    self.excused += 1;
                }
                _ => {
                    self.fail(format!("{at}: absent {absent} ({}), gdb has {their}", our.why.as_deref().unwrap_or("")))
                }
            }
            return;
        }
        if let Some(fields) = their["fields"].as_array() {
            return self.fields(at, our, fields);
        }
        if let Some(elements) = their["elements"].as_array() {
            return self.elements(at, our, elements, their["count"].as_u64().unwrap());
        }
        let equal = match &our.value {
            Value::Signed(n) => their["int"].as_str() == Some(&n.to_string()),
            Value::Unsigned(n) => their["int"].as_str() == Some(&n.to_string()),
            Value::Bool(b) => their["int"].as_str() == Some(if *b { "1" } else { "0" }),
            Value::Pointer(p) => their["int"].as_str() == Some(&p.to_string()),
            // A `float` of gdb's has 9 digits, which say the number exactly when read as a `float`.
            Value::Float(f) => their["float"]
                .as_str()
                .is_some_and(|t| t.parse() == Ok(*f) || t.parse::<f32>().is_ok_and(|t| f64::from(t) == *f)),
            Value::Text(text) => self.text(text, their),
            Value::None => false,
        };
        if !equal {
            self.fail(format!("{at}: {:?}, gdb has {their}", our.value));
            return;
        }
        self.equal += 1;
        if let (Some(pointee), Some(child)) = (their.get("pointee"), our.children.iter().find(|c| c.name == "*")) {
            self.value(&format!("*{at}"), child, pointee);
        }
    }

    /// A text of ours against a number, an enumerator, a string or a symbol of gdb's.
    fn text(&self, text: &str, their: &Json) -> bool {
        if let Some(string) = their["string"].as_str() {
            return string.trim_end_matches("...") == text.trim_end_matches("...");
        }
        let shown = their["text"].as_str().or(their["float"].as_str()).unwrap_or("");
        if shown == text || shown.ends_with(text) || their["shown"] == text {
            return true;
        }
        // gdb writes the parameters of C++ functions, also where the program's symbol has none (`main`).
        if text.strip_suffix('>').is_some_and(|head| shown.strip_prefix(head).is_some_and(|t| t.starts_with('('))) {
            return true;
        }
        // Thunks have no name in any source: each demangler describes them in its own words.
        if shown.contains("thunk to") && text.contains("thunk") {
            return shown.split(' ').next() == text.split(' ').next();
        }
        // Numbers that 64 bits do not hold, and characters: gdb's octal escapes depend on its locale.
        let number = text.split(' ').next().unwrap_or("");
        their["int"].as_str().is_some_and(|int| int == number && (number == text || text.contains('\'')))
    }

    fn fields(&mut self, at: &str, our: &Variable, fields: &[Json]) {
        for (n, field) in fields.iter().enumerate() {
            let name = match field["name"].as_str() {
                Some(name) if field["base"] == true => format!("<{name}>"),
                Some(name) if !name.is_empty() => name.to_owned(),
                _ => "<anonymous>".to_owned(),
            };
            match our.children.get(n).filter(|c| c.name == name) {
                Some(child) => self.value(&format!("{at}.{name}"), child, field),
                None if our.truncated => self.excused += 1,
                None => self.fail(format!("{at}: member {name} is missing, there are {:?}", names(our))),
            }
        }
    }

    fn elements(&mut self, at: &str, our: &Variable, elements: &[Json], count: u64) {
        if let Value::Text(text) = &our.value {
            // An array of characters: the same characters, without the NULs at its end.
            let codes: Vec<i64> =
                elements.iter().map(|e| e["int"].as_str().and_then(|t| t.parse().ok()).unwrap_or(0)).collect();
            let wide = codes.iter().any(|c| *c > 255);
            let expected = if wide {
                codes.iter().map(|c| char::from_u32(*c as u32).unwrap_or('\u{fffd}')).collect::<String>()
            } else {
                String::from_utf8_lossy(&codes.iter().map(|c| *c as u8).collect::<Vec<u8>>()).into_owned()
            };
            let expected = expected.trim_end_matches('\0');
            let same = if count > 64 { text.starts_with(expected) } else { text == expected };
            if same || expected.contains('\u{fffd}') {
                self.equal += 1;
            } else {
                self.fail(format!("{at}: {text:?}, gdb has {expected:?}"));
            }
            return;
        }
        if our.children.len() as u64 != count && !our.truncated {
            self.fail(format!("{at}: {} elements, gdb has {count}", our.children.len()));
        }
        for (n, element) in elements.iter().enumerate() {
            match our.children.get(n) {
                Some(child) => self.value(&format!("{at}[{n}]"), child, element),
                None if our.truncated => self.excused += 1,
                None => self.fail(format!("{at}: element {n} is missing")),
            }
        }
    }
}

/// Where gdb 13 contradicts itself: the same number as it shows it elsewhere.
///
/// In an inlined frame it takes entry values from the frame that the code is inlined into, instead of that frame's
/// caller (`both`, `at`). It does not follow call sites of indirect calls (`main`).
fn contradiction<'j>(label: &str, name: &str, frames: &'j [Json]) -> Option<&'j Json> {
    let table: &[(&str, &str, &str, &[&str])] = &[
        (" both", "a", "pieces", &["pair", "first"]),
        (" both", "b", "pieces", &["pair", "second"]),
        ("::at(int) const", "i", "::operator()", &["i"]),
        (" main", "argc", "__libc_start_call_main", &["argc"]),
        (" main", "argv", "__libc_start_call_main", &["argv"]),
    ];
    let (_, _, function, path) = table.iter().find(|(f, v, ..)| label.ends_with(f) && *v == name)?;
    let frame = frames.iter().find(|f| f["function"].as_str().is_some_and(|f| f.contains(function)))?;
    let named = |list: &'j Json, name: &str| list.as_array()?.iter().find(|v| v["name"] == name);
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(named(&frame["variables"], first)?, |v, name| named(&v["fields"], name))
}

/// Registers that a call may overwrite in the System V ABI (x86-64). gdb shows the innermost frame's contents in outer
/// frames as well, and some compilers' location lists still name them after the call.
fn is_overwritten_by_calls(why: &str) -> bool {
    let number = why.strip_prefix("DWARF register ").and_then(|r| r.split(' ').next()).and_then(|n| n.parse().ok());
    matches!(number, Some(0_u16 | 1 | 2 | 4 | 5 | 8..=11 | 17..=32))
}

fn names(v: &Variable) -> Vec<&str> {
    v.children.iter().map(|c| c.name.as_str()).collect()
}

/// Spellings that differ and mean the same.
fn same_type(ours: &str, theirs: &str) -> bool {
    // gdb writes the bounds of arrays of run-time length that it knows at this moment.
    if ours.contains("[variable length]") {
        return true;
    }
    // An anonymous structure's contents.
    let ours = ours.replace(" {...}", "");
    let theirs = theirs.replace(" {...}", "");
    ours == theirs
}
