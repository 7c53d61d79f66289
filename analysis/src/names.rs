//! Function names brought into one form, so that two builds of one program give the same ones.
//!
//! What changes between builds, compilers and machines without the function being another one is taken out: parameter
//! lists, return types, clone suffixes, hashes, inline namespaces, the processor variant of a string function.

/// Longest name looked at, bytes: the longest symbols of template libraries have a few thousand; beyond it only time
/// would be lost.
const LIMIT_NAME: usize = 8192;

/// A function name in normal form.
#[must_use]
pub fn normalise(name: &str) -> String {
    let text = cut(name);
    let text = drop_version(text);
    let mut text = drop_clones(text).to_owned();
    for (from, to) in REPLACED {
        if text.contains(from) {
            text = text.replace(from, to);
        }
    }
    let text = drop_brackets(&text);
    let text = numbered_braces(&text);
    let text = drop_rust_hash(&text);
    let text = drop_parameters(text);
    let text = drop_return_type(&text);
    let text = tidy(text);
    processor_variant(&text)
}

/// A function name without its parameters, for sentences.
pub(crate) fn without_parameters(name: &str) -> String {
    drop_parameters(cut(name)).trim().to_owned()
}

/// Spellings of one thing by different compilers and demanglers.
const REPLACED: [(&str, &str); 16] = [
    ("(anonymous namespace)", "{anon}"),
    ("{anonymous}", "{anon}"),
    ("`anonymous namespace'", "{anon}"),
    ("'anonymous namespace'", "{anon}"),
    ("_GLOBAL__N_1", "{anon}"),
    ("{{closure}}", "{closure}"),
    ("{{impl}}", "{impl}"),
    ("::__cxx11::", "::"),
    ("::__1::", "::"),
    ("::__ndk1::", "::"),
    ("> >", ">>"),
    ("> >", ">>"),
    (" >", ">"),
    (", ", ","),
    ("std::basic_string<char,std::char_traits<char>,std::allocator<char>>", "std::string"),
    ("decltype(nullptr)", "std::nullptr_t"),
];

/// The first [`LIMIT_NAME`] bytes, at a character's edge.
fn cut(name: &str) -> &str {
    if name.len() <= LIMIT_NAME {
        return name;
    }
    let end = (0..=LIMIT_NAME).rev().find(|n| name.is_char_boundary(*n)).unwrap_or(0);
    name.get(..end).unwrap_or("")
}

/// `memcpy@@GLIBC_2.14` and `foo@plt` without what follows the sign.
fn drop_version(name: &str) -> &str {
    match name.find('@') {
        Some(at) if at > 0 => name.get(..at).unwrap_or(name),
        _ => name,
    }
}

const CLONES: [&str; 12] = [
    "isra",
    "part",
    "constprop",
    "cold",
    "lto_priv",
    "llvm",
    "localalias",
    "clone",
    "resolver",
    "simdclone",
    "warm",
    "__uniq",
];

/// Without the suffixes that optimisers give to copies of a function, written `.isra.0` or ` [clone .isra.0]`.
fn drop_clones(name: &str) -> &str {
    let mut text = name.find(" [clone ").and_then(|at| name.get(..at)).unwrap_or(name);
    let mut kept = text;
    while let Some((head, tail)) = text.rsplit_once('.') {
        let number = !tail.is_empty() && tail.bytes().all(|b| b.is_ascii_digit());
        if !number && !CLONES.contains(&tail) || head.is_empty() {
            break;
        }
        text = head;
        // A number alone may belong to the name (`main.func1.2` of Go); it goes only with the word before it.
        if !number {
            kept = text;
        }
    }
    kept
}

/// Without ABI tags (`[abi:cxx11]`) and Rust's crate disambiguators (`core[8f3a...]`).
fn drop_brackets(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((head, tail)) = rest.split_once('[') {
        out.push_str(head);
        match tail.split_once(']') {
            Some((inside, after))
                if inside.starts_with("abi:")
                    || (inside.len() >= 8 && inside.bytes().all(|b| b.is_ascii_hexdigit())) =>
            {
                rest = after;
            }
            _ => {
                out.push('[');
                rest = tail;
            }
        }
    }
    out.push_str(rest);
    out
}

/// `{closure#3}`, `{lambda(int)#1}`, `$_0` and `'lambda'(int)` without their numbers and parameters, which change when
/// another closure is written above.
fn numbered_braces(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((head, tail)) = rest.split_once('{') {
        out.push_str(head);
        let end = tail.find(['(', '#', '}', ':']).unwrap_or(tail.len());
        let word = tail.get(..end).unwrap_or("");
        let word = if word == "lambda" || word == "unnamed_lambda" { "closure" } else { word };
        out.push('{');
        out.push_str(word);
        out.push('}');
        rest = closing(tail).and_then(|at| tail.get(at..)).unwrap_or("");
    }
    out.push_str(rest);
    let mut out = out.replace("'lambda'", "{closure}");
    while let Some(at) = out.find("$_") {
        let digits = out.get(at..).unwrap_or("").bytes().skip(2).take_while(u8::is_ascii_digit).count();
        out.replace_range(at..at.saturating_add(2).saturating_add(digits), "{closure}");
    }
    out
}

/// The byte after the brace that closes one already open.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1_u32;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth = depth.saturating_add(1),
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return Some(at.saturating_add(1));
        }
    }
    None
}

/// Without the `::h0123456789abcdef` of Rust's legacy mangling.
fn drop_rust_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((head, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => head,
        _ => name,
    }
}

/// Without everything in round brackets; the call operator keeps its pair.
fn drop_parameters(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut depth = 0_u32;
    let mut skip = 0_u32;
    for (at, c) in name.char_indices() {
        if skip > 0 {
            skip = skip.saturating_sub(1);
            continue;
        }
        match c {
            '(' if depth == 0 && out.ends_with("operator") && name.get(at..).is_some_and(|t| t.starts_with("()")) => {
                out.push_str("()");
                skip = 1;
            }
            '(' => depth = depth.saturating_add(1),
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 => out.push(c),
            _ => {}
        }
    }
    out
}

/// Without the return type that demanglers put before template functions.
fn drop_return_type(name: &str) -> String {
    let trimmed = trim_qualifiers(name);
    let mut depth = 0_i32;
    let mut last = 0_usize;
    let mut before = ' ';
    let mut chars = trimmed.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let word = trimmed.get(at..).unwrap_or("");
        if c == 'o' && word.starts_with("operator") && !before.is_alphanumeric() && before != '_' && depth == 0 {
            // The rest is an operator's own spelling, spaces and angle brackets included.
            break;
        }
        match c {
            '<' => depth = depth.saturating_add(1),
            '>' if before != '-' => depth = depth.saturating_sub(1),
            ' ' if depth == 0 && chars.peek().is_some_and(|(_, next)| *next != ' ') => last = at.saturating_add(1),
            _ => {}
        }
        before = c;
    }
    trimmed.get(last..).unwrap_or(trimmed).to_owned()
}

fn trim_qualifiers(name: &str) -> &str {
    let mut text = name.trim();
    loop {
        let mut shorter = text;
        for suffix in [" const", " volatile", " noexcept", " &&", " &"] {
            shorter = shorter.strip_suffix(suffix).unwrap_or(shorter);
        }
        if shorter.len() == text.len() {
            return text;
        }
        text = shorter.trim_end();
    }
}

/// Without the suffixes of integer template arguments (`3ul`) and with single spaces.
fn tidy(name: String) -> String {
    let mut out = String::with_capacity(name.len());
    let mut digits = false;
    let mut word = false;
    for c in name.chars() {
        let suffix = digits && matches!(c, 'u' | 'l' | 'U' | 'L');
        if suffix || (c == ' ' && out.ends_with(' ')) {
            continue;
        }
        if matches!(c, '>' | ',') && out.ends_with(' ') {
            out.pop();
        }
        digits = c.is_ascii_digit() && (digits || !word);
        word = c.is_alphanumeric() || c == '_';
        out.push(c);
    }
    out.trim().to_owned()
}

const VARIANT_FAMILIES: [&str; 8] = ["mem", "str", "stp", "wcs", "wmem", "rawmem", "bcmp", "bzero"];
const VARIANTS: [&str; 14] = [
    "_avx",
    "_evex",
    "_sse",
    "_ssse",
    "_erms",
    "_unaligned",
    "_generic",
    "_thunderx",
    "_falkor",
    "_simd",
    "_mte",
    "_a64fx",
    "_sve",
    "_mops",
];

/// One name for a string function, whichever processor it was written for, and glibc's internal aliases resolved.
fn processor_variant(name: &str) -> String {
    let name = name.strip_prefix("__GI_").unwrap_or(name);
    let bare = name.trim_start_matches('_');
    if VARIANT_FAMILIES.iter().any(|f| bare.starts_with(f))
        && let Some(at) = VARIANTS.iter().filter_map(|v| bare.find(v)).min()
    {
        let head = bare.get(..at).unwrap_or(bare);
        // glibc gives the code of a variant both names; which one a symbol table answers with is chance.
        return if head == "memcpy" { "memmove".to_owned() } else { head.to_owned() };
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: &str) {
        assert_eq!(normalise(input), expected, "{input}");
        assert_eq!(normalise(expected), expected, "not stable: {expected}");
    }

    #[test]
    fn one_function_has_one_name() {
        check("store_weight(Pod*, long)", "store_weight");
        check("main", "main");
        check("parse.isra.0", "parse");
        check("parse.constprop.3.isra.0", "parse");
        check("parse(char const*) [clone .part.0]", "parse");
        check("run.cold", "run");
        check("run.llvm.123456789", "run");
        check("main.func1.2", "main.func1.2");
        check("memcpy@@GLIBC_2.14", "memcpy");
        check("(anonymous namespace)::step(int)", "{anon}::step");
        check("{anonymous}::step", "{anon}::step");
        check("_GLOBAL__N_1::step", "{anon}::step");
        check("Name[abi:cxx11]() const", "Name");
        check("Pod::weight(int) const &", "Pod::weight");
    }

    #[test]
    fn templates_keep_their_arguments_in_one_spelling() {
        check("std::vector<int, std::allocator<int> >::at(unsigned long)", "std::vector<int,std::allocator<int>>::at");
        check("std::vector<int, std::allocator<int>>::at", "std::vector<int,std::allocator<int>>::at");
        check("int add<3ul, 4u>(int)", "add<3,4>");
        check(
            "void apply<std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> > >(int)",
            "apply<std::string>",
        );
        check("std::__1::sort<int*>(int*, int*)", "std::sort<int*>");
        check("std::function<void (int)>::operator()(int) const", "std::function<void>::operator()");
        check("u64_of(int)", "u64_of");
    }

    #[test]
    fn operators_are_names() {
        check("operator new(unsigned long)", "operator new");
        check("Pod::operator bool() const", "Pod::operator bool");
        check("bool operator<(Pod const&, Pod const&)", "operator<");
        check("std::ostream& operator<< <char>(std::ostream&, char)", "operator<< <char>");
        check("Pod::operator->() const", "Pod::operator->");
        check("cooperator(int)", "cooperator");
    }

    #[test]
    fn rust_names_lose_hashes() {
        check("core::panicking::panic_fmt::h0123456789abcdef", "core::panicking::panic_fmt");
        check("prog[8f3a0c1d2e3f4a5b]::run", "prog::run");
        check("prog::main::{{closure}}", "prog::main::{closure}");
        check("prog::main::{closure#2}", "prog::main::{closure}");
        check(
            "<alloc::vec::Vec<T> as core::ops::index::Index<I>>::index",
            "<alloc::vec::Vec<T> as core::ops::index::Index<I>>::index",
        );
        check("<prog::{impl#3}>::go", "<prog::{impl}>::go");
        check("foo()::{lambda(int)#1}::operator()(int) const", "foo::{closure}::operator()");
        check("foo()::$_12::operator()(int) const", "foo::{closure}::operator()");
    }

    #[test]
    fn string_functions_are_one_on_every_processor() {
        check("__memmove_avx_unaligned_erms", "memmove");
        check("__memmove_evex_unaligned_erms", "memmove");
        check("__strlen_avx2", "strlen");
        check("__strlen_sse2", "strlen");
        check("__memset_generic", "memset");
        check("__GI_raise", "raise");
        check("__memory_report", "__memory_report");
    }
}
