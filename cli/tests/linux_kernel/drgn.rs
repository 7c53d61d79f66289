//! What drgn printed about a kernel dump: the crashed thread, every task with its stack, modules, log.

/// A frame. Assembly and symbols without DWARF are printed as `name+0x1/0x2`, which is cut off here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub name: String,
    pub file: Option<String>,
    pub line: Option<u64>,
    pub column: Option<u64>,
    pub module: Option<String>,
}

impl Frame {
    /// Whether file, line and column agree. The directory in which the kernel was built was replaced in drgn's text.
    pub fn same_place(&self, other: &Self) -> bool {
        let inside = |f: &Option<String>| {
            let file = f.as_deref()?;
            let cut = ["linux-source-6.1/", "linux-6.1.192/", "lkf/"].iter().find_map(|d| file.split_once(d));
            Some(cut.map_or(file, |(_, inside)| inside).to_owned())
        };
        inside(&self.file) == inside(&other.file) && (self.line, self.column) == (other.line, other.column)
    }
}

#[derive(Debug)]
pub struct Task {
    pub pid: u64,
    pub tgid: u64,
    pub comm: String,
    pub state: char,
    pub cpu: u64,
    pub frames: Vec<Frame>,
}

#[derive(Debug)]
pub struct Drgn {
    pub release: String,
    pub crashed: u64,
    pub tasks: Vec<Task>,
    /// Names and bases.
    pub modules: Vec<(String, String)>,
    pub log: Vec<String>,
}

/// `#3  name (file:line:column)`, `#3  name+0x1/0x2 (file:line)`, `#3  0x1234`.
fn frame(line: &str) -> Option<Frame> {
    let rest = line.strip_prefix('#')?.split_once(char::is_whitespace)?.1.trim_start();
    let (name, place) = match rest.split_once(" (") {
        Some((name, place)) => (name, place.strip_suffix(')')),
        None => (rest, None),
    };
    let mut frame = Frame {
        name: name.split("+0x").next()?.split('.').next()?.to_owned(),
        file: None,
        line: None,
        column: None,
        module: None,
    };
    if let Some(place) = place {
        let mut parts = place.split(':');
        frame.file = parts.next().map(str::to_owned);
        frame.line = parts.next().and_then(|n| n.parse().ok());
        frame.column = parts.next().and_then(|n| n.parse().ok());
    }
    Some(frame)
}

/// `-- pid 1 tgid 1 comm init state S cpu 0`; a name may hold spaces.
fn task(line: &str) -> Option<Task> {
    let rest = line.strip_prefix("-- pid ")?;
    let (pid, rest) = rest.split_once(" tgid ")?;
    let (tgid, rest) = rest.split_once(" comm ")?;
    let (rest, cpu) = rest.rsplit_once(" cpu ")?;
    let (comm, state) = rest.rsplit_once(" state ")?;
    Some(Task {
        pid: pid.parse().ok()?,
        tgid: tgid.parse().ok()?,
        comm: comm.to_owned(),
        state: state.chars().next()?,
        cpu: cpu.parse().ok()?,
        frames: Vec::new(),
    })
}

impl Drgn {
    pub fn parse(text: &str) -> Self {
        let mut out =
            Self { release: String::new(), crashed: 0, tasks: Vec::new(), modules: Vec::new(), log: Vec::new() };
        let mut section = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("== ") {
                let words: Vec<&str> = rest.split(' ').collect();
                section = match words.as_slice() {
                    ["kernel", release, ..] => {
                        out.release = (*release).to_owned();
                        ""
                    }
                    ["crashed", "thread", pid, ..] => {
                        out.crashed = pid.parse().unwrap();
                        "crashed"
                    }
                    ["tasks", count] => {
                        assert_eq!(count.parse(), Ok(out.tasks.len()));
                        ""
                    }
                    ["modules"] => "modules",
                    ["dmesg"] => "dmesg",
                    _ => "",
                };
            } else if section == "dmesg" {
                out.log.push(line.to_owned());
            } else if section == "modules" {
                let (name, base) = line.split_once(' ').unwrap();
                out.modules.push((name.to_owned(), base.to_owned()));
            } else if let Some(task) = task(line) {
                section = "tasks";
                out.tasks.push(task);
            } else if section == "tasks" {
                out.tasks.last_mut().unwrap().frames.extend(frame(line));
            }
        }
        while out.log.last().is_some_and(String::is_empty) {
            out.log.pop();
        }
        assert!(out.tasks.len() > 20 && out.log.len() > 100, "drgn's text was not understood");
        out
    }
}
