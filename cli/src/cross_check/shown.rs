//! Values of a comparison on one line, and what is read out of texts about values.

use super::trees::{OurScalar, OurValue, PeerValue};
use std::fmt::Write as _;

/// Most parts of one value in a report.
const LIMIT_PARTS: usize = 16;

/// A value of ours.
#[must_use]
pub fn ours(value: &OurValue, depth: usize) -> String {
    if let Some(why) = &value.absent {
        return format!("<{why}>");
    }
    let own = match &value.scalar {
        OurScalar::None => String::new(),
        OurScalar::Integer(n) => n.to_string(),
        OurScalar::Real(r) => r.to_string(),
        OurScalar::Pointer(p) => format!("{p:#x}"),
        OurScalar::Text(text) => format!("`{text}`"),
    };
    if value.parts.is_empty() || depth == 0 {
        return if own.is_empty() { "{}".to_owned() } else { own };
    }
    let parts = value.parts.iter().map(|(name, part)| format!("{name} = {}", ours(part, depth.saturating_sub(1))));
    format!("{own}{{{}}}", list(parts, value.truncated))
}

/// A value of gdb's.
#[must_use]
pub fn peer(value: &PeerValue, depth: usize) -> String {
    if let Some(why) = &value.absent {
        return format!("<{why}>");
    }
    let hexadecimal = |digits: &String| digits.parse::<u64>().map_or_else(|_| digits.clone(), |n| format!("{n:#x}"));
    let own = value.text.clone().or_else(|| value.float.clone()).or_else(|| value.integer.clone());
    let mut text = own.or_else(|| value.pointer.as_ref().map(hexadecimal)).unwrap_or_default();
    if depth == 0 {
        return if text.is_empty() { "{...}".to_owned() } else { text };
    }
    let less = depth.saturating_sub(1);
    if let Some(bytes) = &value.bytes {
        let _ = write!(text, "bytes {}", bytes.chars().take(64).collect::<String>());
    }
    if let Some(members) = &value.members {
        let parts = members.iter().map(|m| format!("{} = {}", m.name, peer(&m.value, less)));
        let _ = write!(text, "{{{}}}", list(parts, false));
    }
    if let Some(elements) = &value.elements {
        let _ = write!(text, "[{}]", list(elements.iter().map(|e| peer(e, less)), false));
    }
    if let Some(contents) = &value.contents {
        let _ = write!(text, " shown as {}", contents.text.as_deref().unwrap_or_default());
        let parts = contents.children.iter().flatten().map(|m| format!("{} = {}", m.name, peer(&m.value, less)));
        let _ = write!(text, "{{{}}}", list(parts, contents.cut));
    }
    text
}

fn list(parts: impl Iterator<Item = String>, cut: bool) -> String {
    let mut parts: Vec<String> = parts.take(LIMIT_PARTS.saturating_add(1)).collect();
    if cut || parts.len() > LIMIT_PARTS {
        parts.truncate(LIMIT_PARTS);
        parts.push("...".to_owned());
    }
    parts.join(", ")
}

/// Bytes as our texts show them: UTF-8 as it is; a byte that is none becomes `\xNN`, and a backslash beside it is doubled.
#[must_use]
pub fn as_text(raw: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(raw) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(raw.len());
    for chunk in raw.utf8_chunks() {
        out.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// The whole numbers in a text, in order.
pub fn integers(text: &str) -> impl Iterator<Item = i128> + '_ {
    text.split(|c: char| !c.is_ascii_digit() && c != '-').filter_map(|word| word.parse().ok())
}

/// The first whole number in a text.
#[must_use]
pub fn first_number(text: &str) -> Option<i128> {
    integers(text).next()
}

/// How many elements a line about a container says that there are: `std::vector of length 2, capacity 4`,
/// `HashMap(size=1)`, `std::map with 3 elements`.
#[must_use]
pub fn stated_count(text: &str) -> Option<i128> {
    let (_, rest) = ["(size=", " of length ", " with "].iter().find_map(|mark| text.split_once(mark))?;
    first_number(rest)
}
