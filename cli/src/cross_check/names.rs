//! When two spellings of a function or of a file mean the same.
//!
//! gdb leaves out parameters, eu-stack prints bare or demangled names, lldb adds return types, linkers and compilers
//! append suffixes to clones. Nothing here looks at anything but the spelling.

/// How two names relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameMatch {
    /// The same after normalisation.
    Same,
    /// The same last component in another style (bare, without namespace, with underscores, another template spelling).
    Style,
    /// Different functions.
    Different,
}

/// Functions that a compiler gives another symbol than the name in the source. The language of Rust has one function with
/// the attribute `#[panic_handler]`; rustc names its symbol `rust_begin_unwind`, and DWARF keeps the name that the
/// standard library gives it.
const RENAMED: [(&str, &str); 2] = [
    ("__rustc::rust_begin_unwind", "std::panicking::panic_handler"),
    ("rust_begin_unwind", "std::panicking::panic_handler"),
];

/// Compares names; each side may give more than one spelling (readable and linkage name).
#[must_use]
pub fn compare(ours: &[&str], peer: &str) -> NameMatch {
    let peer_canonical = canonical(peer);
    let ours: Vec<String> = ours.iter().map(|o| canonical(o)).collect();
    if ours.contains(&peer_canonical) {
        return NameMatch::Same;
    }
    let peer_base = style_key(&peer_canonical);
    if !peer_base.is_empty() && ours.iter().any(|o| style_key(o) == peer_base) {
        return NameMatch::Style;
    }
    NameMatch::Different
}

/// The name demangled, without clone suffixes, symbol versions, hashes, ABI tags, parameters, qualifiers and return
/// type; the anonymous namespace in one spelling; no spaces that do not separate words.
#[must_use]
pub fn canonical(name: &str) -> String {
    let name = name.strip_prefix("::").unwrap_or(name);
    let decoded = decode_rust(name);
    let (name, rust) = demangle(strip_clone(&decoded));
    let name = strip_clone(&name).replace("[abi:cxx11]", "").replace("(anonymous namespace)", "{anonymous}");
    let name = name.replace("::<", "<").replace("{{", "{").replace("}}", "}").replace("(anonymous struct)", "{struct}");
    let name = name.strip_prefix("::").unwrap_or(&name);
    let name = &without_crate_hashes(strip_hash(name));
    if let Some((_, written)) = RENAMED.iter().find(|(symbol, _)| *symbol == name) {
        return (*written).to_string();
    }
    if rust || name.starts_with('<') {
        return squeeze(name);
    }
    squeeze(without_return_type(without_parameters(name)))
}

fn demangle(name: &str) -> (String, bool) {
    if (name.starts_with("_R") || (name.starts_with("_ZN") && looks_hashed(name)))
        && let Ok(rust) = rustc_demangle::try_demangle(name)
    {
        return (format!("{rust:#}"), true);
    }
    if name.starts_with("_Z")
        && let Ok(symbol) = cpp_demangle::Symbol::new(name)
        && let Ok(text) = symbol.demangle()
    {
        return (text, false);
    }
    (name.to_string(), false)
}

/// Undoes what Rust's older mangling does to punctuation, for tools that demangle only its C++ half:
/// `_$LT$u32$u20$as$u20$core..iter..Sum$GT$::sum`.
fn decode_rust(name: &str) -> String {
    if name.starts_with("_ZN") || !(name.contains("$u7b$") || name.contains("$LT$") || name.contains("$u20$")) {
        return name.to_string();
    }
    let mut text = name.replace("_$", "$").replace("..", "::");
    for (code, plain) in [
        ("$LT$", "<"),
        ("$GT$", ">"),
        ("$LP$", "("),
        ("$RP$", ")"),
        ("$RF$", "&"),
        ("$BP$", "*"),
        ("$SP$", "@"),
        ("$C$", ","),
        ("$u20$", " "),
        ("$u22$", "\""),
        ("$u27$", "'"),
        ("$u2b$", "+"),
        ("$u3b$", ";"),
        ("$u5b$", "["),
        ("$u5d$", "]"),
        ("$u7b$", "{"),
        ("$u7d$", "}"),
        ("$u7e$", "~"),
    ] {
        text = text.replace(code, plain);
    }
    text
}

/// Legacy Rust mangling ends in `17h` and 16 hexadecimal digits, and `E`.
fn looks_hashed(name: &str) -> bool {
    name.split("17h").last().is_some_and(|tail| {
        tail.trim_end_matches('E').len() == 16 && tail.trim_end_matches('E').bytes().all(|b| b.is_ascii_hexdigit())
    })
}

/// Without `::h0123456789abcdef` at the end.
fn strip_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((head, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => head,
        _ => name,
    }
}

/// Without the crate's number in brackets, which the v0 mangling has and demanglers may print:
/// `__rustc[b7974e8690430dd9]::rust_begin_unwind`.
fn without_crate_hashes(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((head, tail)) = rest.split_once('[') {
        text.push_str(head);
        rest = match tail.split_once("]::") {
            Some((hash, after)) if hash.len() >= 12 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
                text.push_str("::");
                after
            }
            _ => {
                text.push('[');
                tail
            }
        };
    }
    text.push_str(rest);
    text
}

/// Without what linkers and compilers append: `.part.0`, `.constprop.0.isra.0`, `.cold`, `.llvm.123`, ` [clone .cold]`,
/// gdb's `[cold]` for a `.cold` without debug information, `@@GLIBC_2.34`, `@plt`.
fn strip_clone(name: &str) -> &str {
    let name = name.strip_suffix("[cold]").unwrap_or(name);
    let name = name.split_once(" [clone ").map_or(name, |(head, _)| head);
    let name = match name.split_once('@') {
        Some((head, _)) if !head.is_empty() => head,
        _ => name,
    };
    match name.find('.') {
        // A dot inside of a readable name (a file in a lambda's name, `...`) is no suffix.
        Some(at) if at > 0 && !name.contains(['(', '<', '{', ' ']) => name.get(..at).unwrap_or(name),
        _ => name,
    }
}

/// The name up to its parameter list. Parentheses that belong to the name (`operator()`, `(lambda)`) stay.
fn without_parameters(name: &str) -> &str {
    let mut depth = 0_u32;
    let mut skip = 0_u32;
    for (at, c) in name.char_indices() {
        let head = name.get(..at).unwrap_or_default();
        let operator = is_operator(head);
        match c {
            _ if skip > 0 => skip = skip.saturating_sub(1),
            '(' if depth == 0
                && operator
                && head.ends_with("operator")
                && name.get(at..).is_some_and(|r| r.starts_with("()")) =>
            {
                skip = 1;
            }
            '(' if depth == 0 => return head.trim_end(),
            '<' | '>' if operator => {}
            '-' if !operator && name.get(at..).is_some_and(|r| r.starts_with("->")) => skip = 1,
            '<' | '(' | '{' | '[' => depth = depth.saturating_add(1),
            '>' | ')' | '}' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    name
}

/// Whether the text ends in `operator` or in `operator` and the beginning of a symbol that `<` and `>` can continue.
fn is_operator(head: &str) -> bool {
    let head = head.trim_end_matches(['<', '>', '-', '=']);
    let Some(before) = head.strip_suffix("operator") else { return false };
    !before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Without a return type in front, which demanglers print for templates.
fn without_return_type(name: &str) -> &str {
    let (mut depth, mut start) = (0_u32, 0_usize);
    for (at, c) in name.char_indices() {
        let head = name.get(..at).unwrap_or_default();
        match c {
            '<' | '>' if is_operator(head) => {}
            '<' | '(' | '{' | '[' => depth = depth.saturating_add(1),
            '>' | ')' | '}' | ']' => depth = depth.saturating_sub(1),
            ' ' if depth == 0 => {
                // `operator new`, `operator bool`: the space is part of the name, and so is all that follows.
                if is_operator(head) {
                    break;
                }
                start = at.saturating_add(1);
            }
            _ => {}
        }
    }
    name.get(start..).unwrap_or(name)
}

/// Without spaces, except between two words (`unsigned int`).
fn squeeze(name: &str) -> String {
    let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let mut text = String::with_capacity(name.len());
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        if c != ' ' || (word(text.chars().next_back()) && word(chars.peek().copied())) {
            text.push(c);
        }
    }
    text
}

/// What two styles of one name share: the last component; for closures, which have no name, how deep they are nested and
/// the one that they are in. The shim by which a vtable reaches a function has the function's name in DWARF.
fn style_key(canonical: &str) -> String {
    let canonical = canonical.replace("{vtable.shim}", "");
    let mut outer = canonical.as_str();
    let mut nested = String::new();
    while base(outer).starts_with("{closure") {
        let bare = without_arguments(outer);
        outer = bare.rfind("::{closure").and_then(|at| bare.get(..at)).unwrap_or_default();
        nested.push_str("::{closure}");
    }
    format!("{}{nested}", base(outer))
}

/// Without the template arguments at the end.
fn without_arguments(name: &str) -> &str {
    let mut depth = 0_u32;
    for (at, c) in name.char_indices().rev() {
        match c {
            '>' => depth = depth.saturating_add(1),
            '<' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return if c == '<' { name.get(..at).unwrap_or(name) } else { name };
        }
    }
    name
}

/// The last component without template arguments, leading underscores and glibc's internal prefix.
fn base(canonical: &str) -> &str {
    let mut depth = 0_u32;
    let (mut start, mut end) = (0_usize, canonical.len());
    let mut previous = ' ';
    for (at, c) in canonical.char_indices() {
        let operator = is_operator(canonical.get(..at).unwrap_or_default());
        match c {
            '<' | '>' if operator => {}
            '<' | '{' => {
                if depth == 0 && c == '<' && at > start {
                    end = at;
                }
                depth = depth.saturating_add(1);
            }
            '>' | '}' => depth = depth.saturating_sub(1),
            ':' if depth == 0 && previous == ':' => (start, end) = (at.saturating_add(1), canonical.len()),
            _ => {}
        }
        previous = c;
    }
    let name = canonical.get(start..end).unwrap_or(canonical);
    let bare = name.trim_start_matches('_');
    let bare = bare.strip_prefix("GI_").or_else(|| bare.strip_prefix("libc_")).unwrap_or(bare);
    bare.trim_start_matches('_')
}

/// Whether two spellings can name the same file: the components of one are the end of the other's, after `.` and `..`
/// were resolved.
#[must_use]
pub fn same_file(a: &str, b: &str) -> bool {
    let (a, b) = (components(a), components(b));
    let mut pairs = a.iter().rev().zip(b.iter().rev());
    !a.is_empty() && !b.is_empty() && pairs.all(|(x, y)| x == y)
}

fn components(path: &str) -> Vec<&str> {
    let mut list: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                list.pop();
            }
            part => list.push(part),
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_names() {
        for (name, expected) in [
            ("outer::v2::Matrix<int, 4>::operator()(int) const", "outer::v2::Matrix<int,4>::operator()"),
            (
                "outer::v2::Matrix<int, 4>::operator+=(outer::v2::Matrix<int, 4> const&)",
                "outer::v2::Matrix<int,4>::operator+=",
            ),
            ("(anonymous namespace)::Hidden::run((anonymous namespace)::Hidden, int&)", "{anonymous}::Hidden::run"),
            ("_ZNK5outer2v26MatrixIiLi4EE2atEi", "outer::v2::Matrix<int,4>::at"),
            ("int add<int>(int, int)", "add<int>"),
            ("operator new(unsigned long)", "operator new"),
            ("std::ostream& operator<< <char>(std::ostream&, char)", "operator<<<char>"),
            ("Foo::operator->() const", "Foo::operator->"),
            ("main::{lambda(int)#1}::operator()(int) const", "main::{lambda(int)#1}::operator()"),
            ("std::function<void (int)>::operator()(int) const", "std::function<void(int)>::operator()"),
            ("__pthread_kill_implementation.constprop.0", "__pthread_kill_implementation"),
            ("run() [clone .part.0]", "run"),
            ("_ZN3foo3barEv.cold", "foo::bar"),
            ("pthread_cond_wait@@GLIBC_2.3.2", "pthread_cond_wait"),
            ("core::panicking::panic_fmt::h0123456789abcdef", "core::panicking::panic_fmt"),
            ("_ZN4core9panicking9panic_fmt17h0123456789abcdefE", "core::panicking::panic_fmt"),
            ("<alloc::vec::Vec<T> as core::fmt::Debug>::fmt", "<alloc::vec::Vec<T>as core::fmt::Debug>::fmt"),
            ("std::string::size[abi:cxx11]() const", "std::string::size"),
            ("::finish()", "finish"),
            ("main", "main"),
        ] {
            assert_eq!(canonical(name), expected, "{name}");
        }
    }

    #[test]
    fn styles_and_differences() {
        assert_eq!(compare(&["(anonymous namespace)::Hidden::run(int)"], "run"), NameMatch::Style);
        assert_eq!(compare(&["__GI_raise"], "raise"), NameMatch::Style);
        assert_eq!(compare(&["f", "_Z1fv"], "f()"), NameMatch::Same);
        assert_eq!(compare(&["Matrix<int, 4>::operator()"], "operator()(int)"), NameMatch::Style);
        assert_eq!(compare(&["collections::text"], "collections::pointers"), NameMatch::Different);
        assert_eq!(compare(&["a::operator<"], "a::operator>"), NameMatch::Different);
        assert_eq!(compare(&["abort"], "gsignal"), NameMatch::Different);
        assert_eq!(compare(&["read"], "__libc_read"), NameMatch::Style);
        let sum = "_$LT$u32$u20$as$u20$core..iter..traits..accum..Sum$GT$::sum::hea973f2fe5a0d6f5";
        assert_eq!(compare(&["<u32 as core::iter::traits::accum::Sum>::sum"], sum), NameMatch::Same);
        let start = "std::rt::lang_start::_$u7b$$u7b$closure$u7d$$u7d$::h8f54c82dae3e7ddc";
        assert_eq!(compare(&["std::rt::lang_start::{{closure}}"], start), NameMatch::Same);
        assert_eq!(
            compare(&["std::rt::lang_start::{{closure}}"], "std::rt::lang_start::{closure#0}<()>"),
            NameMatch::Style
        );
        assert_eq!(
            compare(&["std::rt::main::{{closure}}"], "std::rt::lang_start::{closure#0}<()>"),
            NameMatch::Different
        );
        let fold = "core::map::map_fold::{closure#0}<&usize, rust_index::pick::{closure_env#0}, u32>";
        assert_eq!(compare(&["core::map::map_fold::{{closure}}"], fold), NameMatch::Style);
        let inner = "std::thread::spawn_unchecked::{closure#1}::{closure#0}<rust_abort::main::{closure_env#0}, u32>";
        assert_eq!(compare(&["std::thread::spawn_unchecked::{{closure}}::{{closure}}"], inner), NameMatch::Style);
        assert_eq!(compare(&["std::thread::spawn_unchecked::{{closure}}"], inner), NameMatch::Different);
        let shim = "core::ops::function::FnOnce::call_once{{vtable.shim}}";
        assert_eq!(
            compare(&[shim], "core::ops::function::FnOnce::call_once<a::{closure_env#1}, ()>"),
            NameMatch::Style
        );
        assert_eq!(
            compare(&[shim], "core::ops::function::FnMut::call_mut<a::{closure_env#1}, ()>"),
            NameMatch::Different
        );
        assert_eq!(compare(&["__rustc::rust_begin_unwind"], "std::panicking::panic_handler"), NameMatch::Same);
        assert_eq!(compare(&["__rustc::rust_begin_unwind"], "std::panicking::default_hook"), NameMatch::Different);
        let unwind = "std::panic::catch_unwind::<std::rt::lang_start_internal::{closure#0}, isize>";
        assert_eq!(compare(&[unwind], "std::panic::catch_unwind<a::{closure_env#0}, isize>"), NameMatch::Style);
    }

    #[test]
    fn files() {
        assert!(same_file("./nptl/../sysdeps/nptl/futex-internal.h", "sysdeps/nptl/futex-internal.h"));
        assert!(same_file("/build/x/../sysdeps/posix/raise.c", "../sysdeps/posix/raise.c"));
        assert!(!same_file("/a/b.c", "/a/c.c"));
        assert!(!same_file("", "/a/c.c"));
    }
}
