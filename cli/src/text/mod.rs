//! What a person sees.

pub mod fold;
pub mod kernel;
pub mod sections;
pub mod summary;
pub mod threads;
pub mod values;

use anstyle::{AnsiColor, Style};

/// Of headings.
pub const HEADING: Style = Style::new().bold();
/// Of function names.
pub const FUNCTION: Style = AnsiColor::Yellow.on_default();
/// Of file names and lines.
pub const PLACE: Style = AnsiColor::Green.on_default();
/// Of addresses and other things one skips over.
pub const DIM: Style = Style::new().dimmed();
/// Of what went wrong.
pub const ALARM: Style = AnsiColor::Red.on_default().bold();

/// A control-character-free copy: what a target says must not steer the reader's terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// `1,234,567`.
#[must_use]
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// `1.9 GB`, decimal units.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)];
    for (unit, scale) in UNITS {
        if bytes >= scale {
            let tenths = bytes / (scale / 10);
            return if tenths < 100 {
                format!("{}.{} {unit}", tenths / 10, tenths % 10)
            } else {
                format!("{} {unit}", tenths / 10)
            };
        }
    }
    format!("{bytes} bytes")
}

/// `thread`, or `threads` for any number but one.
#[must_use]
pub const fn plural<'w>(n: usize, one: &'w str, many: &'w str) -> &'w str {
    if n == 1 { one } else { many }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(size(999), "999 bytes");
        assert_eq!(size(1999), "1.9 kB");
        assert_eq!(size(184_000), "184 kB");
        assert_eq!(size(1_900_000_000), "1.9 GB");
    }

    #[test]
    fn targets_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[31mb\u{202e}"), "a\\u{1b}[31mb\\u{202e}");
    }
}
