//! Programs with as much debug information as asked, for measurements.
//!
//! A few C++ units full of templates are generated and compiled; then each object file is copied many times, with a
//! token of fixed length in its names replaced by the copy's number. The copies are distinct units with distinct
//! functions, at the price of a file copy. Built once and kept in `target/workloads/`, or where `POSTFAULT_WORKLOADS`
//! says.

use crate::fixtures::workspace;
use crate::victims::{VictimError, cache, tool, tool_version};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How much debug information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Four units: a file of some 16 MB with g++ 12.
    Small,
    /// Fourteen times that.
    Medium,
    /// A hundred and forty times the small one.
    Big,
}

impl Size {
    /// The number of copied units.
    #[must_use]
    pub const fn units(self) -> usize {
        match self {
            Self::Small => 4,
            Self::Medium => 56,
            Self::Big => 560,
        }
    }

    /// The name of its executable.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Small => "workload-small",
            Self::Medium => "workload-medium",
            Self::Big => "workload-big",
        }
    }
}

/// Distinct sources; every further unit is a stamped copy of one of them.
const TEMPLATES: usize = 4;
/// Record types of one source: sets the size of a unit.
const RECORDS: usize = 8;
/// What stands for the copy's number in names. Its length is the length of every replacement.
const TOKEN: &str = "unit_QZXQZ";

/// The source of one template unit: containers, algorithms, virtual calls, lambdas and variants over its own types.
#[must_use]
pub fn source(template: usize) -> String {
    let mut s = String::from(
        "#include \"walk.h\"\n#include <algorithm>\n#include <functional>\n#include <map>\n#include <memory>\n\
         #include <numeric>\n#include <optional>\n#include <set>\n#include <string>\n#include <unordered_map>\n\
         #include <variant>\n#include <vector>\n",
    );
    let _ = write!(
        s,
        "namespace {TOKEN} {{\nstruct Shape {{ virtual ~Shape() = default; virtual long area() const = 0; }};\n"
    );
    for r in 0..RECORDS {
        let fields = (r * 5 + template * 3) % 7 + 2;
        let _ = writeln!(s, "struct Record{r} : Shape {{\n  std::string name; std::vector<int> parts;");
        for f in 0..fields {
            let _ = writeln!(s, "  long field{f} = {};", f * 11 + r);
        }
        let _ = write!(
            s,
            "  long area() const override {{ return field0 * field1 + (long)parts.size(); }}\n\
             \x20 bool operator<(const Record{r} &o) const {{ return field1 < o.field1; }}\n}};\n\
             template <class T> long total{r}(const T &all) {{\n  long sum = 0;\n\
             \x20 for (const auto &one : all) sum += one.area();\n  return sum;\n}}\n\
             __attribute__((noinline)) int step{r}(Walk *walk, int depth) {{\n\
             \x20 std::vector<Record{r}> list(3);\n  std::map<std::string, Record{r}> byName;\n\
             \x20 std::unordered_map<int, std::shared_ptr<Record{r}>> byId;\n\
             \x20 std::variant<int, Record{r}, std::string> either = Record{r}();\n\
             \x20 std::optional<Record{r}> perhaps = list[1];\n  std::set<Record{r}> sorted(list.begin(), list.end());\n\
             \x20 for (auto &one : list) {{ one.name = \"r{r}\"; one.parts.assign(2, depth); byName[one.name] = one; \
             byId[depth] = std::make_shared<Record{r}>(one); }}\n\
             \x20 std::sort(list.begin(), list.end(), [depth](const auto &a, const auto &b) {{ return a.field0 + depth < b.field0; }});\n\
             \x20 std::function<long(const Record{r} &)> measure = [&](const Record{r} &one) {{ return one.area() + total{r}(list); }};\n\
             \x20 long sum = std::accumulate(list.begin(), list.end(), 0L, [&](long at, const Record{r} &one) {{ return at + measure(one); }});\n\
             \x20 keep(&either); keep(&perhaps); keep(&sorted); keep(&sum);\n\
             \x20 auto go = [&](int further) {{ int result = next_step(walk, further); keep(&byName); return result; }};\n\
             \x20 int result = go(depth + 1);\n  keep(&byId);\n  return result + (int)sum;\n}}\n"
        );
    }
    let _ = writeln!(
        s,
        "}}\nextern \"C\" int {TOKEN}_enter(Walk *walk, int depth) {{\n  switch ((depth + walk->seed) % {RECORDS}) {{"
    );
    for r in 0..RECORDS {
        let _ = writeln!(s, "    case {r}: return {TOKEN}::step{r}(walk, depth);");
    }
    s.push_str("  }\n  return 0;\n}\n");
    s
}

fn stamp(object: &[u8], number: usize) -> Vec<u8> {
    let with = format!("unit_{number:05}");
    let mut copy = object.to_vec();
    let mut at = 0;
    while let Some(found) = copy[at..].windows(TOKEN.len()).position(|w| w == TOKEN.as_bytes()) {
        at += found;
        copy[at..at + TOKEN.len()].copy_from_slice(with.as_bytes());
        at += TOKEN.len();
    }
    copy
}

fn failed(what: &'static str, path: &Path) -> impl Fn(std::io::Error) -> VictimError {
    move |source| VictimError::Io { what, path: path.to_owned(), source }
}

/// The executable of that size, linked with further flags; built when it is not there yet.
///
/// It takes `wait|die THREADS DEPTH [CLOCK-FILE [MAPPINGS [RESERVED-MIB [RESIDENT-MIB]]]]`, prints `ready` when every thread is at
/// the end of its walk, and waits there or dies by SIGSEGV. The clock file's first eight bytes are the longest gap, in nanoseconds, between two
/// looks of a thread at the clock; writing 1 to the second eight begins anew.
///
/// # Errors
/// What the compiler or linker said, or a file that could not be written.
pub fn build(size: Size, flags: &[&str]) -> Result<PathBuf, VictimError> {
    let own = workspace().join("testdata/workload");
    let mut hasher = DefaultHasher::new();
    (0..TEMPLATES).for_each(|t| source(t).hash(&mut hasher));
    (include_str!("../workload/target.cc"), include_str!("../workload/walk.h"), flags).hash(&mut hasher);
    tool_version("g++")?.hash(&mut hasher);
    let kept =
        std::env::var_os("POSTFAULT_WORKLOADS").map_or_else(|| cache().with_file_name("workloads"), PathBuf::from);
    let home = kept.join(format!("{:016x}", hasher.finish()));
    let program = home.join(size.name());
    if program.is_file() {
        return Ok(program);
    }
    std::fs::create_dir_all(&home).map_err(failed("cannot create", &home))?;
    let include = format!("-I{}", own.display());
    let compile = ["-std=c++17", "-g", "-O1", "-fno-plt", include.as_str(), "-c", "-o"];
    let mut objects = Vec::new();
    for t in 0..TEMPLATES {
        let (text, object) = (home.join(format!("t{t}.cc")), home.join(format!("t{t}.o")));
        if !object.is_file() {
            std::fs::write(&text, source(t)).map_err(failed("cannot write", &text))?;
            let mut args = compile.to_vec();
            let (part, text) = (format!("t{t}.part"), text.display().to_string());
            args.extend([part.as_str(), text.as_str()]);
            tool(&home, "g++", &args)?;
            std::fs::rename(home.join(part), &object).map_err(failed("cannot rename to", &object))?;
        }
        objects.push(std::fs::read(&object).map_err(failed("cannot read", &object))?);
    }
    let copies =
        tempfile::Builder::new().prefix("copies-").tempdir_in(&home).map_err(failed("cannot create in", &home))?;
    let mut table = String::from("#include \"walk.h\"\n");
    let mut list = String::new();
    for n in 0..size.units() {
        let path = copies.path().join(format!("u{n}.o"));
        let object = objects.get(n % TEMPLATES).map_or(&[][..], Vec::as_slice);
        std::fs::write(&path, stamp(object, n)).map_err(failed("cannot write", &path))?;
        let _ = writeln!(table, "extern \"C\" Step unit_{n:05}_enter;");
        let _ = writeln!(list, "{}", path.display());
    }
    table.push_str("extern Step *const all_steps[] = {");
    for n in 0..size.units() {
        let _ = write!(table, "unit_{n:05}_enter,");
    }
    let _ = writeln!(table, "}};\nextern const int step_count = {};", size.units());
    let table_source = copies.path().join("table.cc");
    std::fs::write(&table_source, table).map_err(failed("cannot write", &table_source))?;
    for (from, to) in [(table_source, "table.o"), (own.join("target.cc"), "target.o")] {
        let mut args = compile.to_vec();
        let (from, to) = (from.display().to_string(), copies.path().join(to).display().to_string());
        args.extend([to.as_str(), from.as_str()]);
        tool(copies.path(), "g++", &args)?;
        let _ = writeln!(list, "{to}");
    }
    let response = copies.path().join("objects");
    std::fs::write(&response, list).map_err(failed("cannot write", &response))?;
    let part = copies.path().join(size.name());
    let (out, response) = (part.display().to_string(), format!("@{}", response.display()));
    let mut args = vec!["-Wl,--build-id=sha1", "-o", &out, &response, "-pthread"];
    // mold links hundreds of large units in seconds; the default linker does the same in minutes.
    if Command::new("mold").arg("--version").output().is_ok_and(|o| o.status.success()) {
        args.push("-fuse-ld=mold");
    }
    args.extend(flags);
    tool(copies.path(), "g++", &args)?;
    std::fs::rename(&part, &program).map_err(failed("cannot rename to", &program))?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_differs_from_its_template_in_the_token_only() {
        let object = format!("\0{TOKEN}\0x{TOKEN}_enter\0");
        assert_eq!(stamp(object.as_bytes(), 42), b"\0unit_00042\0xunit_00042_enter\0");
    }

    #[test]
    fn sources_differ() {
        assert_ne!(source(0), source(1));
        assert!(source(0).contains(TOKEN));
    }
}
