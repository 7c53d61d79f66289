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

/// A line of a console, of syslog or of journald without what comes before the kernel's own words, and its time in
/// nanoseconds since the start.
pub(crate) fn without_prefix(text: &str) -> (Option<u64>, Option<u8>, &str) {
    let mut rest = text.trim_end_matches('\r');
    let mut level = None;
    if let Some((number, tail)) = rest.strip_prefix('<').and_then(|t| t.split_once('>'))
        && let Ok(priority) = number.parse::<u16>()
    {
        level = u8::try_from(priority & 7).ok();
        rest = tail;
    }
    // syslog and journald: `Nov 23 07:00:00 host kernel: `.
    if let Some((head, tail)) = rest.split_once("kernel: ")
        && !head.contains('[')
    {
        rest = tail;
    }
    let mut time = None;
    if let Some((stamp, tail)) = rest.trim_start().strip_prefix('[').and_then(|t| t.split_once(']'))
        && let Some(ns) = nanoseconds(stamp.trim())
    {
        time = Some(ns);
        rest = tail;
        // CONFIG_PRINTK_CALLER: `[  T117]`, `[   C1]`.
        if let Some((caller, tail)) = rest.strip_prefix('[').and_then(|t| t.split_once(']'))
            && caller.trim_start().starts_with(['T', 'C'])
        {
            rest = tail;
        }
        rest = rest.strip_prefix(' ').unwrap_or(rest);
    }
    (time, level, rest)
}

/// `8.855583` in nanoseconds.
fn nanoseconds(stamp: &str) -> Option<u64> {
    let (seconds, fraction) = stamp.split_once('.')?;
    let digits = fraction.len();
    if digits > 9 || fraction.is_empty() {
        return None;
    }
    let scale = 10_u64.checked_pow(u32::try_from(9_usize.checked_sub(digits)?).ok()?)?;
    let part = fraction.parse::<u64>().ok()?.checked_mul(scale)?;
    seconds.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(part)
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
    fn prefixes_of_all_sorts() {
        let text = "BUG: it";
        for (line, time) in [
            ("[    8.855583] BUG: it", Some(8_855_583_000)),
            ("[    8.855583][  T117] BUG: it", Some(8_855_583_000)),
            ("<4>[12.5] BUG: it", Some(12_500_000_000)),
            ("Nov 23 07:00:00 host kernel: [    1.000001] BUG: it\r", Some(1_000_001_000)),
            ("Nov 23 07:00:00 host kernel: BUG: it", None),
            ("BUG: it", None),
        ] {
            let (found, _, rest) = without_prefix(line);
            assert_eq!((found, rest), (time, text), "{line}");
        }
        assert_eq!(without_prefix("<3>x"), (None, Some(3), "x"));
        assert_eq!(without_prefix(" [<ffffffff81000000>] f+0x1/0x2").2, " [<ffffffff81000000>] f+0x1/0x2");
    }

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
