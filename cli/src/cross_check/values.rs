//! When two renderings of a value say the same.
//!
//! Every tool has its own style (`{x = 1, y = 2}`, `(x = 1, y = 2)`, `Point { x: 1, y: 2 }`), so that the leaves are
//! compared: numbers, names and texts, in order, without types, field names, addresses of references and punctuation.

use std::iter::Peekable;
use std::str::Chars;

/// What is left of a value without its style.
#[derive(Clone, Debug, PartialEq)]
pub enum Leaf {
    /// A whole number; hexadecimal and decimal are the same.
    Integer(i128),
    /// A number that is not whole.
    Real(f64),
    /// Text in quotes, escapes resolved as far as they are common.
    Text(String),
    /// A word outside of quotes: an enumerator, `true`, the name of a function.
    Word(String),
}

/// Whether the two renderings have the same leaves; where one of them was cut off (`...`), as far as it goes.
#[must_use]
pub fn agree(ours: &str, peer: &str) -> bool {
    if ours.trim() == peer.trim() {
        return true;
    }
    // A reference may be shown as its place, as what it refers to, or as both.
    if let Some((place, _)) = peer.strip_prefix('@').and_then(|p| p.split_once(": "))
        && leaves(place) == leaves(ours)
    {
        return true;
    }
    let cut = ours.contains("...") || peer.contains("...");
    same_leaves(&leaves(ours), &leaves(peer), cut)
}

/// Leaf by leaf; a text that one side shows after a pointer, and the other does not, is what the pointer leads to.
fn same_leaves(ours: &[Leaf], peer: &[Leaf], cut: bool) -> bool {
    let (mut a, mut b) = (ours.iter().peekable(), peer.iter().peekable());
    let mut after_number = false;
    loop {
        match (a.peek(), b.peek()) {
            (None, None) => return true,
            (Some(x), Some(y)) if same(x, y) => {
                after_number = matches!(x, Leaf::Integer(_));
                a.next();
                b.next();
            }
            (_, Some(Leaf::Text(_))) if after_number => {
                after_number = false;
                b.next();
            }
            (Some(Leaf::Text(_)), _) if after_number => {
                after_number = false;
                a.next();
            }
            (None, Some(_)) | (Some(_), None) => return cut,
            _ => return false,
        }
    }
}

fn same(a: &Leaf, b: &Leaf) -> bool {
    match (a, b) {
        (Leaf::Real(x), Leaf::Real(y)) => close(*x, *y),
        (Leaf::Integer(i), Leaf::Real(r)) | (Leaf::Real(r), Leaf::Integer(i)) => {
            i.to_string().parse::<f64>().is_ok_and(|i| close(i, *r))
        }
        (Leaf::Integer(i), Leaf::Word(w)) | (Leaf::Word(w), Leaf::Integer(i)) => {
            matches!((i, w.as_str()), (1, "true") | (0, "false" | "nullptr" | "null"))
        }
        (Leaf::Word(a), Leaf::Word(b)) => {
            let last = |w: &str| w.rsplit("::").next().unwrap_or_default().to_string();
            a == b || last(a) == last(b)
        }
        // An array of characters ends at its first NUL for some, at its last byte for others.
        (Leaf::Text(a), Leaf::Text(b)) => a.trim_end_matches('\0') == b.trim_end_matches('\0'),
        (a, b) => a == b,
    }
}

/// Equal, or printed with fewer digits by one of the two.
fn close(x: f64, y: f64) -> bool {
    x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= x.abs().max(y.abs()) * 1e-6
}

/// The leaves of a rendering.
#[must_use]
pub fn leaves(text: &str) -> Vec<Leaf> {
    let mut list: Vec<Leaf> = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => list.push(Leaf::Text(quoted(&mut chars, '"'))),
            '\'' => {
                let character = quoted(&mut chars, '\'');
                // gdb prints `120 'x'`: the number is the value, the character explains it.
                if !matches!(list.last(), Some(Leaf::Integer(n)) if explains(*n, &character)) {
                    list.push(character_value(&character));
                }
            }
            // `<symbol+4>`, `<incomplete sequence>`: explanations of the value before; `@0x7ff..:` a reference's place.
            '<' => explanation(&mut chars, list.last_mut()),
            // `@0x7ff..: value` is a reference and what it refers to; without the value the place is all there is.
            '@' => {
                let place = number('0', &mut chars);
                if chars.next_if_eq(&':').is_none() {
                    list.push(place);
                }
            }
            '(' if is_cast(&chars) => skip_to(&mut chars, '(', ')'),
            c if c.is_ascii_digit() || (c == '-' && chars.peek().is_some_and(|n| n.is_ascii_digit())) => {
                list.push(number(c, &mut chars));
            }
            c if c.is_alphabetic() || c == '_' || c == '$' => {
                if let Some(word) = word(c, &mut chars) {
                    list.push(word);
                }
            }
            _ => {}
        }
    }
    list
}

/// `<symbol+4>`; `<incomplete sequence \303>` is the end of the text before, the bytes of half a character.
fn explanation(chars: &mut Peekable<Chars<'_>>, last: Option<&mut Leaf>) {
    const INCOMPLETE: &str = "incomplete sequence ";
    let rest: String = chars.clone().take_while(|c| *c != '>').collect();
    if let (Some(bytes), Some(Leaf::Text(text))) = (rest.strip_prefix(INCOMPLETE), last) {
        text.push_str(&quoted(&mut bytes.chars().peekable(), '"'));
    }
    skip_to(chars, '<', '>');
}

fn explains(number: i128, character: &str) -> bool {
    character.chars().count() != 1 || character.chars().next().is_some_and(|c| i128::from(u32::from(c)) == number)
}

fn character_value(character: &str) -> Leaf {
    let mut chars = character.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) => Leaf::Integer(i128::from(u32::from(c))),
        _ => Leaf::Text(character.to_string()),
    }
}

/// `(type *) 0x..`: the parenthesis is a cast when what it holds ends in `*`, `&` or `)` and an address follows.
fn is_cast(chars: &Peekable<Chars<'_>>) -> bool {
    let mut ahead = chars.clone();
    let (mut depth, mut last) = (1_u32, ' ');
    for c in ahead.by_ref() {
        match c {
            '(' => depth = depth.saturating_add(1),
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            break;
        }
        last = c;
    }
    let rest: String = ahead.take(4).collect();
    matches!(last, '*' | '&' | ')') && (rest.trim_start().starts_with("0x") || rest.trim_start().starts_with('@'))
}

fn skip_to(chars: &mut Peekable<Chars<'_>>, open: char, close: char) {
    let mut depth = 1_u32;
    for c in chars.by_ref() {
        if c == open {
            depth = depth.saturating_add(1);
        } else if c == close {
            depth = depth.saturating_sub(1);
        }
        if depth == 0 {
            return;
        }
    }
}

/// The rest of a quoted text.
fn quoted(chars: &mut Peekable<Chars<'_>>, quote: char) -> String {
    let mut text = String::new();
    while let Some(c) = chars.next() {
        match c {
            c if c == quote => break,
            '\\' => match chars.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some('r') => text.push('\r'),
                Some('b') => text.push('\u{8}'),
                Some('x') => {
                    let mut value = 0_u32;
                    for _ in 0..2 {
                        let Some(next) = chars.next_if(char::is_ascii_hexdigit) else { break };
                        value = value.saturating_mul(16).saturating_add(next.to_digit(16).unwrap_or(0));
                    }
                    text.extend(char::from_u32(value));
                }
                Some(digit @ '0'..='7') => {
                    let mut value = digit.to_digit(8).unwrap_or(0);
                    for _ in 0..2 {
                        let Some(next) = chars.next_if(|c| c.is_digit(8)) else { break };
                        value = value.saturating_mul(8).saturating_add(next.to_digit(8).unwrap_or(0));
                    }
                    text.extend(char::from_u32(value));
                }
                Some(other) => text.push(other),
                None => break,
            },
            // Escapes are bytes, so that all of the text is: gdb escapes what its character set does not have.
            c => text.extend(c.encode_utf8(&mut [0; 4]).bytes().map(char::from)),
        }
    }
    text
}

/// A number whose first character was taken; gdb's `@0x..` comes here with its `0` still to be taken.
fn number(first: char, chars: &mut Peekable<Chars<'_>>) -> Leaf {
    let mut text = String::from(first);
    while let Some(c) = chars.peek().copied() {
        let exponent = matches!(c, '+' | '-') && text.ends_with(['e', 'E']) && !text.contains("0x");
        if !(c.is_ascii_alphanumeric() || c == '.' || c == '_' || exponent) {
            break;
        }
        text.push(c);
        chars.next();
    }
    let text = text.replace('_', "");
    let text = text.strip_prefix("00x").map_or(text.clone(), |hex| format!("0x{hex}"));
    let (sign, digits) = text.strip_prefix('-').map_or((1, text.as_str()), |rest| (-1, rest));
    let whole = match digits.strip_prefix("0x") {
        Some(hex) => u128::from_str_radix(hex, 16).ok().and_then(|n| i128::try_from(n).ok()),
        None => digits.parse::<i128>().ok(),
    };
    match whole {
        Some(n) => Leaf::Integer(n.saturating_mul(sign)),
        None => digits.parse::<f64>().map_or(Leaf::Word(text.clone()), |r| Leaf::Real(if sign < 0 { -r } else { r })),
    }
}

/// A word, unless it is the name of a field (`name = ..`, `name: ..`) or of a type (before `{`, `(` or `<`).
fn word(first: char, chars: &mut Peekable<Chars<'_>>) -> Option<Leaf> {
    let mut text = String::from(first);
    loop {
        while let Some(c) = chars.next_if(|c| c.is_alphanumeric() || matches!(c, '_' | '$')) {
            text.push(c);
        }
        let mut ahead = chars.clone();
        if ahead.next() == Some(':') && ahead.next() == Some(':') {
            chars.next();
            chars.next();
            text.push_str("::");
        } else {
            break;
        }
    }
    let mut ahead = chars.clone();
    while ahead.next_if_eq(&' ').is_some() {}
    match (ahead.next(), ahead.peek()) {
        (Some('='), next) if next != Some(&'=') => None,
        (Some(':' | '{'), _) => None,
        (Some('('), _) if text == "nan" => {
            chars.next();
            skip_to(chars, '(', ')');
            Some(Leaf::Real(f64::NAN))
        }
        _ if text == "nan" => Some(Leaf::Real(f64::NAN)),
        _ if text == "inf" => Some(Leaf::Real(f64::INFINITY)),
        _ => Some(Leaf::Word(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles_agree() {
        for (ours, peer) in [
            ("{x = 1, y = 2}", "{x = 1, y = 2}"),
            ("Point { x: 1, y: 2.5 }", "{x = 1, y = 2.5}"),
            ("0x10", "16"),
            ("0x7ffc5d84d440", "(request *) 0x7ffc5d84d440"),
            ("0x7ffc5d84d440", "@0x7ffc5d84d440"),
            ("0x55d4203d246 <handle>", "0x55d4203d246"),
            ("'x'", "120 'x'"),
            ("120", "120 'x'"),
            ("true", "1"),
            ("colour::BLUE", "BLUE"),
            ("\"a\\nb\"", "\"a\\nb\""),
            ("[1, 2, 3]", "{1, 2, 3}"),
            ("1.25", "1.25000001"),
            ("-3", "-3"),
            ("nan", "nan(0x400000)"),
            ("\"hello\"", "\"hello\\000\\000\""),
            ("\"\\0\\x80?\"", "\"\\000\\200?\""),
            ("{0x10, 0x20}", "{0x10 \"one\", 0x20 \"two\"}"),
            ("0x7ffc62", "@0x7ffc62: {a = 1}"),
            ("{a = 1}", "@0x7ffc62: {a = 1}"),
            ("\"UH\\xc3\"", "\"UH\", <incomplete sequence \\303>"),
            ("\"é\"", "\"\\303\\251\""),
        ] {
            assert!(agree(ours, peer), "{ours} | {peer}: {:?} {:?}", leaves(ours), leaves(peer));
        }
    }

    #[test]
    fn different_values_differ() {
        for (ours, peer) in [
            ("{x = 1, y = 2}", "{x = 1, y = 3}"),
            ("{1, 2}", "{1, 2, 3}"),
            ("\"a\"", "\"b\""),
            ("RED", "BLUE"),
            ("1.5", "1.6"),
            ("0x10", "0x11"),
            ("'x'", "121 'y'"),
            ("\"UH\"", "\"UH\", <incomplete sequence \\303>"),
        ] {
            assert!(!agree(ours, peer), "{ours} | {peer}");
        }
    }
}
