//! Names as their authors wrote them.
//!
//! C++ names are taken apart here, because what a function is called must be what gdb calls it, and the library for it
//! loses references and packs in template arguments; it still serves for names with parts that [`parse`] does not know.

mod expression;
mod node;
mod parse;
mod print;
mod tables;
mod types;

use std::fmt::{self, Write as _};

/// Longest mangled name taken apart. The longest seen in the wild (Boost.Spirit grammars) have some 20,000 bytes.
pub const LIMIT_MANGLED: usize = 1 << 15;

/// Longest demangled name. Substitutions let a short mangled name stand for an exponentially long one; nobody reads
/// more than this.
pub const LIMIT_DEMANGLED: usize = 1 << 17;

/// Deepest nesting of a mangled name: what fits a 2 MB thread stack without optimisation.
const LIMIT_NESTING: u32 = 128;

/// The demangled form of a C++ (Itanium) or Rust linkage name, with parameters, without a function's return type;
/// `None` when it is neither, or beyond the limits.
#[must_use]
pub fn demangle(name: &str) -> Option<String> {
    if name.len() > LIMIT_MANGLED {
        return None;
    }
    let mut text = Bounded(String::new());
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        write!(text, "{rust:#}").ok()?;
        return Some(text.0);
    }
    if !name.starts_with("_Z") {
        return None;
    }
    if let Some(text) = itanium(name, false) {
        return Some(text);
    }
    let parse = cpp_demangle::ParseOptions::default().recursion_limit(LIMIT_NESTING);
    let symbol = cpp_demangle::Symbol::new_with_options(name, &parse).ok()?;
    let options = cpp_demangle::DemangleOptions::new().no_return_type().recursion_limit(LIMIT_NESTING);
    symbol.structured_demangle(&mut text, &options).ok()?;
    Some(text.0)
}

/// The text of a C++ name; `None` when there is a part in it that is not known here.
fn itanium(name: &str, with_result: bool) -> Option<String> {
    let mangled = name.strip_prefix("_Z").filter(|m| m.is_ascii())?;
    let mut parser = parse::Parser::new(mangled);
    let root = parser.all()?;
    let mut printer = print::Printer {
        nodes: &parser.nodes,
        arguments: &parser.arguments,
        out: String::new(),
        limit: LIMIT_DEMANGLED,
        depth: 0,
        element: None,
    };
    printer.top(root, with_result)?;
    Some(printer.out)
}

struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        if self.0.len().saturating_add(s.len()) > LIMIT_DEMANGLED {
            return Err(fmt::Error);
        }
        self.0.push_str(s);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
