//! Lines of a kernel's log, and the small pieces they are made of.

use snapshot_format::Snapshot;

/// Log lines looked at, from the end. The largest ring buffers in use hold some 60,000.
const LIMIT_LINES: usize = 100_000;
/// Longest line looked at, bytes: a printk record holds at most 1 KiB, a console line joins a few of them.
const LIMIT_LINE: usize = 4096;

/// `name+0x5/0x30 [module]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Symbol {
    pub(crate) function: String,
    pub(crate) offset: u64,
    pub(crate) module: Option<String>,
}

impl Symbol {
    /// `name+0x5 [module]`.
    pub(crate) fn label(&self) -> String {
        match &self.module {
            Some(module) => format!("{}+{:#x} [{module}]", self.function, self.offset),
            None => format!("{}+{:#x}", self.function, self.offset),
        }
    }
}

/// The log's lines without prefixes, oldest first, with the event's message at the end when the log lacks it.
pub(crate) fn lines(snapshot: &Snapshot) -> Vec<&str> {
    let skip = snapshot.log.len().saturating_sub(LIMIT_LINES);
    let log = snapshot.log.iter().skip(skip).flat_map(|row| row.text.lines()).map(line);
    let mut lines: Vec<&str> = log.collect();
    let message = snapshot.event.as_ref().and_then(|e| e.message.as_deref()).unwrap_or_default();
    for said in message.lines().map(line).filter(|m| !m.is_empty()) {
        if !lines.iter().any(|l| l.contains(said)) {
            lines.push(said);
        }
    }
    lines
}

fn line(text: &str) -> &str {
    let end = (0..=text.len().min(LIMIT_LINE)).rev().find(|n| text.is_char_boundary(*n)).unwrap_or(0);
    text.get(..end).unwrap_or_default().trim_end()
}

/// A hexadecimal number with or without `0x`, up to the first other character.
pub(crate) fn hex_at(text: &str) -> Option<u64> {
    let text = text.trim_start();
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
    u64::from_str_radix(digits.get(..end)?, 16).ok()
}

/// A decimal number, up to the first other character.
pub(crate) fn number_at(text: &str) -> Option<u64> {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

/// What follows `word` in `text`.
pub(crate) fn after<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    text.find(word).and_then(|at| text.get(at.checked_add(word.len())?..))
}

/// `name+0x5/0x30 [module]`, alone or at the start of `text`.
pub(crate) fn symbol(text: &str) -> Option<Symbol> {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (function, place) = text.get(..end)?.rsplit_once('+')?;
    let offset = place.split('/').next()?.strip_prefix("0x")?;
    let offset = u64::from_str_radix(offset, 16).ok()?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$' | '@' | ':' | '<' | '>');
    if function.is_empty() || !function.chars().all(legal) || function.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let rest = text.get(end..).unwrap_or_default().trim_start();
    // The module, and since 5.19 its build-id after a space: `[lkfault 0123ab..]`.
    let module = rest.strip_prefix('[').and_then(|r| r.split_once(']')).map(|(inside, _)| inside);
    let module = module.and_then(|m| m.split_whitespace().next()).map(|m| m.split('(').next().unwrap_or(m).to_owned());
    Some(Symbol { function: function.to_owned(), offset, module })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols() {
        let found = symbol(" lkf_level3+0x5/0x30 [lkfault]").unwrap();
        assert_eq!(
            (found.function.as_str(), found.offset, found.module.as_deref()),
            ("lkf_level3", 5, Some("lkfault"))
        );
        let found = symbol("__list_del_entry_valid.cold+0x37/0x5f").unwrap();
        assert_eq!((found.function.as_str(), found.module), ("__list_del_entry_valid.cold", None));
        assert_eq!(symbol("f+0x1/0x2 [mod 0123abcd]").unwrap().module.as_deref(), Some("mod"));
        assert!(symbol("0x47b7a0").is_none() && symbol("a + b").is_none() && symbol("").is_none());
    }
}
