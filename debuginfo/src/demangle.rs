//! Names as their authors wrote them.

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
    let parse = cpp_demangle::ParseOptions::default().recursion_limit(LIMIT_NESTING);
    let symbol = cpp_demangle::Symbol::new_with_options(name, &parse).ok()?;
    let options = cpp_demangle::DemangleOptions::new().no_return_type().recursion_limit(LIMIT_NESTING);
    symbol.structured_demangle(&mut text, &options).ok()?;
    Some(text.0)
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
mod tests {
    use super::*;

    #[test]
    fn both_manglings_and_neither() {
        assert_eq!(demangle("_Z3fooIiEvT_").as_deref(), Some("foo<int>(int)"));
        assert_eq!(demangle("_ZN2ns1KC4Ei").as_deref(), Some("ns::K::K(int)"));
        assert_eq!(demangle("_ZN4core3fmt5write17h0123456789abcdefE").as_deref(), Some("core::fmt::write"));
        assert_eq!(demangle("_RNvC1a4main").as_deref(), Some("a::main"));
        assert_eq!(demangle("main"), None);
    }

    #[test]
    fn short_names_for_long_ones_are_refused() {
        // Each nested template doubles what the substitution before it stands for.
        let mut name = String::from("_Z1fI1aIiiE");
        for n in 0..40 {
            let seq = if n == 0 { "S0_".to_owned() } else { "S1_".to_owned() };
            name.push_str(&format!("1bI{seq}{seq}E"));
        }
        name.push_str("EvT_");
        assert!(demangle(&name).is_none_or(|n| n.len() <= LIMIT_DEMANGLED));
        assert!(demangle(&format!("_Z{}i", "P".repeat(LIMIT_MANGLED))).is_none());
        assert!(demangle(&format!("_Z1f{}i", "P".repeat(10_000))).is_none());
    }
}
