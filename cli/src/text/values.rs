//! Values on one line.

use super::printable;
use crate::view::View;
use snapshot_format::schema::{Value, Variable};

/// Longest rendering of one variable on a line, in characters.
const LINE: usize = 160;
/// Longest line of several variables.
const SHORT_LINE: usize = 100;
/// Deepest nesting shown on one line.
const DEPTH: usize = 4;

/// `name = value`.
#[must_use]
pub fn assignment(view: &View<'_>, row: u32) -> String {
    let Some(v) = view.variable(row) else { return String::new() };
    format!("{} = {}", printable(&v.name), shorten(value(view, row, DEPTH)))
}

/// Several variables on one line, absent ones left out.
#[must_use]
pub fn line(view: &View<'_>, rows: &[u32]) -> String {
    let present = rows.iter().filter(|r| view.variable(**r).is_some_and(|v| v.absent.is_none()));
    let mut line = String::new();
    for row in present {
        let Some(v) = view.variable(*row) else { continue };
        let text = format!("{} = {}", printable(&v.name), value(view, *row, 2));
        if !line.is_empty() {
            if line.chars().count() + text.chars().count() > SHORT_LINE {
                line.push_str(", …");
                break;
            }
            line.push_str(", ");
        }
        line.extend(text.chars().take(SHORT_LINE));
    }
    line
}

fn shorten(text: String) -> String {
    if text.chars().count() <= LINE {
        return text;
    }
    let mut cut: String = text.chars().take(LINE - 1).collect();
    cut.push('…');
    cut
}

/// A value with its parts, braces around structures and brackets around elements.
#[must_use]
pub fn value(view: &View<'_>, row: u32, depth: usize) -> String {
    let Some(v) = view.variable(row) else { return String::new() };
    if let Some(why) = &v.absent {
        return format!("<{}>", printable(why));
    }
    let own = scalar(v);
    let children = view.children(row);
    if children.is_empty() {
        return if own.is_empty() { if v.truncated { "{...}".into() } else { "{}".into() } } else { own };
    }
    if depth == 0 {
        return if own.is_empty() { "{...}".into() } else { own };
    }
    let pointee = |row: &u32| view.variable(*row).is_some_and(|c| &*c.name == "*");
    if let ([only], false) = (children, own.is_empty())
        && pointee(only)
    {
        return format!("{own} -> {}", value(view, *only, depth - 1));
    }
    let elements = children.iter().all(|c| view.variable(*c).is_some_and(|c| c.name.starts_with('[')));
    let mut parts: Vec<String> = Vec::new();
    let mut used = 0;
    for child in children {
        let Some(c) = view.variable(*child) else { continue };
        let text = value(view, *child, depth - 1);
        let plain_index = elements && c.name.trim_matches(['[', ']']).parse() == Ok(parts.len());
        let part = if plain_index { text } else { format!("{} = {text}", printable(&c.name)) };
        used += part.len();
        parts.push(part);
        if used > LINE * 2 {
            parts.push("...".into());
            break;
        }
    }
    if v.truncated {
        parts.push("...".into());
    }
    let body = parts.join(", ");
    let body = if elements { format!("[{body}]") } else { format!("{{{body}}}") };
    if own.is_empty() { body } else { format!("{own} {body}") }
}

/// A value without its parts.
#[must_use]
pub fn scalar(v: &Variable) -> String {
    match &v.value {
        Value::None => String::new(),
        Value::Signed(n) => n.to_string(),
        Value::Unsigned(n) => n.to_string(),
        Value::Float(n) => n.to_string(),
        Value::Bool(b) => b.to_string(),
        Value::Pointer(p) => format!("{p:#x}"),
        Value::Text(t) if is_string(&v.type_name) => {
            format!("\"{}\"{}", printable(t).replace('"', "\\\""), if v.truncated { "..." } else { "" })
        }
        Value::Text(t) => printable(t) + if v.truncated { "..." } else { "" },
    }
}

/// Whether the text of a value of this type is a string's contents, and not a rendering.
fn is_string(type_name: &str) -> bool {
    let bare = type_name.trim_start_matches("const ").trim_end_matches([' ', '&']);
    ["std::string", "std::__cxx11::basic_string<", "std::basic_string<", "std::__1::basic_string<", "std::string_view"]
        .iter()
        .any(|known| bare.starts_with(known))
        || ["basic_string_view<"].iter().any(|known| bare.contains(known))
        || matches!(bare, "alloc::string::String" | "&str" | "&mut str" | "str")
}
