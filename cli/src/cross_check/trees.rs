//! When two values are the same: part by part, as each side took the value apart.
//!
//! gdb's script gives what a value is made of, and what a pretty-printer for its type shows; ours is made of members, or
//! shows what a container holds. What is compared are numbers, addresses, names of enumerators, texts and counts, never
//! how they are written. Where one side has less, the reason is given for that part.

use super::names::{NameMatch, compare as compare_names};
pub use super::parts::{Contents, OurScalar, OurValue, PeerMember, PeerValue};
use super::reason::Reason;
use super::shown::{self, as_text, first_number, integers, stated_count};
use super::values::{Leaf, leaves};

/// Deepest part compared. Both sides stop long before.
const LIMIT_DEPTH: usize = 64;

/// A part that is not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unequal {
    /// Where in the value, empty for all of it.
    pub at: String,
    /// Why.
    pub reason: Reason,
    /// What we say.
    pub ours: String,
    /// What gdb says.
    pub peer: String,
}

/// The parts of two values side by side.
#[derive(Debug, Default)]
pub struct Compared<'s> {
    /// How many numbers, addresses and texts are the same.
    pub same: u64,
    /// What is not.
    pub unequal: Vec<Unequal>,
    /// What gdb shows of registers that called functions need not keep: the innermost frame's contents.
    stale: &'s [(String, u128)],
}

/// Compares; `stale` are registers whose values of the innermost frame gdb shows in this one.
#[must_use]
pub fn compare<'s>(ours: &OurValue, peer: &PeerValue, stale: &'s [(String, u128)]) -> Compared<'s> {
    let mut compared = Compared { stale, ..Compared::default() };
    compared.value("", ours, peer, 0);
    compared
}

impl Compared<'_> {
    /// The disagreement, or else the first part of which one side has less.
    #[must_use]
    pub fn worst(&self) -> Option<&Unequal> {
        self.unequal.iter().find(|u| !u.reason.is_peer_limit()).or_else(|| self.unequal.first())
    }

    fn equal(&mut self) {
        self.same = self.same.saturating_add(1);
    }

    fn push(&mut self, at: &str, reason: Reason, ours: &OurValue, peer: &PeerValue) {
        self.unequal.push(Unequal {
            at: at.to_owned(),
            reason,
            ours: shown::ours(ours, 3),
            peer: shown::peer(peer, 3),
        });
    }

    fn check(&mut self, same: bool, at: &str, ours: &OurValue, peer: &PeerValue) {
        if same { self.equal() } else { self.push(at, Reason::ValueDiffers, ours, peer) }
    }

    fn value(&mut self, at: &str, ours: &OurValue, peer: &PeerValue, depth: usize) {
        if peer.cut || depth >= LIMIT_DEPTH {
            return;
        }
        if let Some(why) = &peer.absent {
            let parts_absent = !ours.parts.is_empty() && ours.parts.iter().all(|(_, p)| p.absent.is_some());
            // `void *` and pointers to it have nothing to show.
            let generic = why.contains("generic pointer") && ours.scalar == OurScalar::Pointer(0);
            if ours.absent.is_some() || parts_absent || generic {
                self.equal();
            } else if !is_empty(ours) {
                self.push(at, Reason::PeerLostValue, ours, peer);
            }
            return;
        }
        if let Some(why) = ours.absent.as_deref() {
            match why {
                // It is compared where it is shown.
                "cycle" => {}
                "limit" => self.push(at, Reason::OursLimit, ours, peer),
                "incomplete-type" if is_opaque(peer) => {}
                // Nobody says how long it is; gdb takes one element for all.
                "unknown-length" if peer.count.is_some_and(|count| count <= 1) => {}
                "register-not-recovered" if self.is_stale(peer) => {
                    self.push(at, Reason::PeerStaleRegister, ours, peer);
                }
                // gdb takes what no piece describes for zeros.
                "optimised-out" if peer.pieced && peer.pointer.as_deref() == Some("0") => {
                    self.push(at, Reason::PeerLostValue, ours, peer);
                }
                // gdb's word for a pointer to a variable that lies nowhere, whose value it has lost as well.
                _ if peer.text.as_deref() == Some("<synthetic pointer>") => {
                    self.push(at, Reason::PeerLostValue, ours, peer);
                }
                _ => self.push(at, Reason::OursLostValue, ours, peer),
            }
            return;
        }
        if let Some(members) = &peer.members {
            self.structure(at, ours, peer, members, depth);
        } else if peer.elements.is_some() || peer.bytes.is_some() {
            self.array(at, ours, peer, depth);
        } else if peer.pointer.is_some() {
            self.pointer(at, ours, peer, depth);
        } else {
            self.scalar(at, ours, peer);
        }
    }

    fn structure(&mut self, at: &str, ours: &OurValue, peer: &PeerValue, members: &[PeerMember], depth: usize) {
        let deeper = depth.saturating_add(1);
        if is_made_of(ours, members) {
            for (n, member) in members.iter().enumerate() {
                let path = format!("{at}.{}", member.name);
                match ours.parts.get(n) {
                    Some((_, part)) => self.value(&path, part, &member.value, deeper),
                    None => break,
                }
            }
            return;
        }
        // One of Rust's alternatives: its name, and its fields as ours.
        if let OurScalar::Text(name) = &ours.scalar
            && let Some(chosen) = members.iter().find(|m| m.name == *name)
            && let Some(fields) = &chosen.value.members
            && (fields.len() == ours.parts.len() || ours.truncated)
        {
            self.equal();
            for (field, (part_name, part)) in fields.iter().zip(&ours.parts) {
                let path = format!("{at}.{name}.{}", field.name);
                if field.name == *part_name {
                    self.value(&path, part, &field.value, deeper);
                } else {
                    self.push(&path, Reason::ValueDiffers, part, &field.value);
                }
            }
            return;
        }
        if let Some(contents) = peer.contents.as_ref().filter(|c| c.failed.is_none()) {
            return self.contents(at, ours, peer, contents, deeper);
        }
        // A wrapper around one value, which we show as that value.
        let mut parts = members.iter().map(|m| &m.value).filter(|v| !has_nothing(v, 0));
        match (parts.next(), parts.next()) {
            (Some(inner), None) => return self.value(at, ours, inner, deeper),
            // `std::array<int, 0>`.
            (None, _) if ours.parts.is_empty() => return self.equal(),
            _ => {}
        }
        // `Box<str>`, for which no printer is registered.
        if let (OurScalar::Text(text), Some(bytes)) = (&ours.scalar, counted_text(members)) {
            return self.check(same_text(text, &bytes, ours.truncated), at, ours, peer);
        }
        let reason = if is_of_library(&peer.type_name) { Reason::PeerRawStructure } else { Reason::ValueDiffers };
        self.push(at, reason, ours, peer);
    }

    /// What a container holds, on both sides.
    fn contents(&mut self, at: &str, ours: &OurValue, peer: &PeerValue, contents: &Contents, depth: usize) {
        let none = Vec::new();
        let children = contents.children.as_ref().unwrap_or(&none);
        if ours.parts.is_empty()
            && children.is_empty()
            && let (OurScalar::Text(text), Some(bytes)) = (&ours.scalar, contents.string.as_deref().and_then(unhex))
            && contents.text.is_none()
        {
            return self.check(same_text(text, &bytes, ours.truncated), at, ours, peer);
        }
        let elements = ours.parts.iter().all(|(name, _)| name.starts_with('['))
            && !ours.parts.iter().any(|(name, _)| name == "[contained value]");
        // A pointer that owns, or a value in a wrapper.
        if let (Some(only), true) = (children.first(), !elements || ours.parts.is_empty())
            && !matches!(&ours.scalar, OurScalar::Text(text) if stated_count(text).is_some() || text.starts_with("index "))
            && ours.parts.iter().all(|(name, _)| matches!(name.as_str(), "*" | "use_count" | "weak_count"))
            && children.len() == 1
        {
            let counts = ours.parts.iter().filter(|(name, _)| name != "*").map(|(_, part)| &part.scalar);
            let theirs: Vec<i128> = contents.text.as_deref().map(count_words).unwrap_or_default();
            for (count, their) in counts.zip(theirs) {
                self.check(*count == OurScalar::Integer(their), at, ours, peer);
            }
            let mut bare = ours.clone();
            bare.parts.retain(|(name, _)| name == "*");
            return self.value(at, &bare, &only.value, depth);
        }
        // A pointer that counts its owners: what it leads to, and the counts.
        if matches!(ours.scalar, OurScalar::Pointer(_)) && !children.is_empty() {
            for (name, part) in &ours.parts {
                let theirs = children.iter().find(|c| c.name == *name || (name == "*" && c.name == "value"));
                if let Some(theirs) = theirs {
                    self.value(&format!("{at}.{name}"), part, &theirs.value, depth);
                }
            }
            return;
        }
        // What is in a cell, beside what the cell counts.
        if !elements && !children.is_empty() {
            for (name, part) in &ours.parts {
                match children.iter().find(|c| c.name == *name) {
                    Some(theirs) => self.value(&format!("{at}.{name}"), part, &theirs.value, depth),
                    None => self.push(&format!("{at}.{name}"), Reason::ValueDiffers, part, peer),
                }
            }
            return;
        }
        self.counted(at, ours, peer, contents, children);
        for (n, (name, part)) in ours.parts.iter().enumerate() {
            let path = format!("{at}{name}");
            let (key, value) = if contents.map {
                let first = n.saturating_mul(2);
                (children.get(first), children.get(first.saturating_add(1)))
            } else {
                (None, children.get(n))
            };
            if let Some(key) = key {
                self.key(&path, name, part, &key.value);
            }
            let pair = (part.parts.len() == 2).then(|| part.parts.iter().find(|(name, _)| name == "second")).flatten();
            match (value, pair.filter(|_| key.is_some())) {
                (Some(value), Some((_, second))) => self.value(&path, second, &value.value, depth),
                (Some(value), None) => self.value(&path, part, &value.value, depth),
                (None, _) => self.push(&path, Reason::ValueDiffers, part, peer),
            }
        }
    }

    /// The numbers of elements: as many as each side says, and as many as are there.
    fn counted(&mut self, at: &str, ours: &OurValue, peer: &PeerValue, contents: &Contents, children: &[PeerMember]) {
        let theirs = if contents.map { children.len() / 2 } else { children.len() };
        let whole = !ours.truncated && !contents.cut;
        let said = match (&ours.scalar, contents.text.as_deref().and_then(stated_count)) {
            (OurScalar::Text(text), Some(theirs)) => stated_count(text).is_none_or(|ours| ours == theirs),
            _ => true,
        };
        self.check(said && (!whole || theirs == ours.parts.len()), at, ours, peer);
    }

    /// The key of an entry of ours, which is its name, or the first of a pair.
    fn key(&mut self, at: &str, name: &str, part: &OurValue, key: &PeerValue) {
        if let (2, Some((_, first))) = (part.parts.len(), part.parts.iter().find(|(name, _)| name == "first")) {
            return self.value(at, first, key, 0);
        }
        if key.contents.as_ref().is_some_and(|c| c.failed.is_some()) {
            return self.push(at, Reason::PeerRawStructure, part, key);
        }
        let name = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
        let said = leaves(name);
        let same = match (said.first(), key_text(key), &key.integer) {
            (Some(Leaf::Text(text)), Some(bytes), _) => {
                text.chars().map(u32::from).eq(bytes.iter().map(|b| u32::from(*b)))
            }
            (Some(Leaf::Integer(n)), _, Some(integer)) => n.to_string() == *integer,
            (Some(Leaf::Word(word)), _, _) => key.text.as_deref() == Some(word),
            _ => false,
        };
        self.check(same, at, part, key);
    }

    fn array(&mut self, at: &str, ours: &OurValue, peer: &PeerValue, depth: usize) {
        let count = peer.count.unwrap_or(0);
        if let OurScalar::Text(text) = &ours.scalar {
            let bytes = match (&peer.bytes, &peer.elements) {
                (Some(bytes), _) => unhex(bytes),
                (None, Some(elements)) => wide_text(elements),
                (None, None) => None,
            };
            let cut = ours.truncated || bytes.as_ref().is_some_and(|b| u64::try_from(b.len()).is_ok_and(|n| n < count));
            let same = bytes.is_some_and(|bytes| {
                let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at.saturating_add(1));
                same_text(text, bytes.get(..end).unwrap_or_default(), cut) || same_text(text, &bytes, cut)
            });
            return self.check(same, at, ours, peer);
        }
        let shown = u64::try_from(ours.parts.len()).unwrap_or(u64::MAX);
        self.check(shown == count || (ours.truncated && shown < count), at, ours, peer);
        if let Some(bytes) = peer.bytes.as_deref().and_then(unhex) {
            for ((_, part), byte) in ours.parts.iter().zip(bytes) {
                let same = match &part.scalar {
                    OurScalar::Integer(n) => n & 0xff == i128::from(byte),
                    OurScalar::Text(text) => first_number(text).is_some_and(|n| n & 0xff == i128::from(byte)),
                    _ => false,
                };
                self.check(same, at, part, peer);
            }
            return;
        }
        for (n, ((_, part), element)) in ours.parts.iter().zip(peer.elements.iter().flatten()).enumerate() {
            self.value(&format!("{at}[{n}]"), part, element, depth.saturating_add(1));
        }
    }

    fn pointer(&mut self, at: &str, ours: &OurValue, peer: &PeerValue, depth: usize) {
        let address = peer.pointer.as_deref().and_then(|p| p.parse::<u64>().ok());
        if let (Some(counted), true) = (
            peer.pointee.as_ref().and_then(|p| p.members.as_ref()),
            ours.parts.iter().any(|(name, _)| name == "strong"),
        ) {
            return self.counted_pointer(at, ours, counted, depth);
        }
        let synthetic = |text: Option<&str>| text == Some("<synthetic pointer>");
        let same = match &ours.scalar {
            OurScalar::Text(text) if synthetic(peer.text.as_deref()) || synthetic(Some(text)) => {
                synthetic(peer.text.as_deref()) && synthetic(Some(text))
            }
            _ => self.leads_to(address, ours, peer),
        };
        self.check(same, at, ours, peer);
        if let (Some(pointee), Some((_, part))) = (&peer.pointee, ours.parts.iter().find(|(name, _)| name == "*"))
            && same
        {
            self.value(&format!("*{at}"), part, pointee, depth.saturating_add(1));
        }
    }

    /// `Rc` and `Arc`, of which gdb shows the pointer to counts and value, and we the pointer to the value.
    fn counted_pointer(&mut self, at: &str, ours: &OurValue, members: &[PeerMember], depth: usize) {
        let deeper = depth.saturating_add(1);
        for (name, part) in &ours.parts {
            let named = |wanted: &str| members.iter().find(|m| m.name == wanted).map(|m| &m.value);
            let path = format!("{at}.{name}");
            match (name.as_str(), named(name).and_then(|m| only_number(m, 0))) {
                ("*", _) => match named("data").or_else(|| named("value")) {
                    Some(value) => self.value(&path, part, value, deeper),
                    None => self.check(false, &path, part, &PeerValue::default()),
                },
                (_, Some(count)) => {
                    // All owners together hold one weak reference.
                    let count = if name == "weak" { count.saturating_sub(1) } else { count };
                    self.check(part.scalar == OurScalar::Integer(count), &path, part, &PeerValue::default());
                }
                (_, None) => self.check(false, &path, part, &PeerValue::default()),
            }
        }
    }

    fn leads_to(&self, address: Option<u64>, ours: &OurValue, peer: &PeerValue) -> bool {
        match &ours.scalar {
            OurScalar::Pointer(p) => address == Some(*p),
            OurScalar::Text(text) => address.is_some_and(|address| points(text, address, ours, peer)),
            _ => false,
        }
    }

    fn scalar(&mut self, at: &str, ours: &OurValue, peer: &PeerValue) {
        // Rust's `()`, wherever gdb takes it from.
        if peer.size == 0 && peer.integer.is_some() {
            return self.equal();
        }
        let same = match &ours.scalar {
            OurScalar::Integer(n) => peer.integer.as_deref() == Some(&n.to_string()),
            OurScalar::Pointer(n) => peer.integer.as_deref() == Some(&n.to_string()),
            // A `float` of gdb's has 9 digits, which say the number exactly when read as a `float`.
            OurScalar::Real(r) => peer.float.as_deref().is_some_and(|text| {
                let text = text.split('(').next().unwrap_or(text);
                text.parse::<f64>().is_ok_and(|t| t == *r || (t.is_nan() && r.is_nan()))
                    || text.parse::<f32>().is_ok_and(|t| f64::from(t) == *r)
            }),
            OurScalar::Text(text) => same_word(text, peer),
            OurScalar::None => is_empty(ours) && peer.size == 0,
        };
        self.check(same, at, ours, peer);
    }

    /// Whether every number of gdb's is what a register has in the innermost frame that called functions need not keep.
    fn is_stale(&self, peer: &PeerValue) -> bool {
        let parts = peer.members.iter().flatten().map(|m| &m.value).chain(peer.elements.iter().flatten());
        let mut parts = parts.peekable();
        if parts.peek().is_some() {
            return parts.all(|part| self.is_stale(part));
        }
        let Some(number) = peer.integer.as_ref().or(peer.pointer.as_ref()).and_then(|n| n.parse::<i128>().ok()) else {
            return false;
        };
        let bits = u32::try_from(peer.size.saturating_mul(8)).unwrap_or(0);
        let mask = 1_u128.checked_shl(bits).map_or(u128::MAX, |m| m.wrapping_sub(1));
        bits > 0 && self.stale.iter().any(|(_, value)| value & mask == number.cast_unsigned() & mask)
    }
}

/// Whether ours shows exactly these members.
fn is_made_of(ours: &OurValue, members: &[PeerMember]) -> bool {
    if ours.scalar != OurScalar::None || (ours.parts.len() != members.len() && !ours.truncated) {
        return false;
    }
    ours.parts.iter().zip(members).all(|((name, _), member)| match member.name.as_str() {
        "" => name == "<anonymous>",
        theirs if member.base => {
            let bare = |text: &str| text.replace(' ', "");
            name.strip_prefix('<').and_then(|n| n.strip_suffix('>')).map(bare) == Some(bare(theirs))
        }
        theirs => name == theirs,
    })
}

/// Nothing is said about it, and nothing of it is shown.
fn is_empty(ours: &OurValue) -> bool {
    ours.scalar == OurScalar::None && ours.parts.is_empty() && !ours.truncated
}

/// A type that is only declared has no members and, for gdb, no size.
fn is_opaque(peer: &PeerValue) -> bool {
    peer.members.as_ref().is_none_or(Vec::is_empty) && peer.size <= 1
}

/// The text that an address and a count of bytes mean.
fn counted_text(members: &[PeerMember]) -> Option<Vec<u8>> {
    let named = |name| members.iter().find(|m| m.name == name).map(|m| &m.value);
    let length: usize = named("length")?.integer.as_deref()?.parse().ok()?;
    let bytes = named("data_ptr")?.string.as_deref().and_then(unhex)?;
    bytes.get(..length).map(<[u8]>::to_vec)
}

/// The number inside of wrappers of one member each.
fn only_number(peer: &PeerValue, depth: usize) -> Option<i128> {
    match &peer.members {
        Some(members) if members.len() == 1 && depth < LIMIT_DEPTH => {
            members.first().and_then(|m| only_number(&m.value, depth.saturating_add(1)))
        }
        Some(_) => None,
        None => peer.integer.as_deref()?.parse().ok(),
    }
}

/// Whether a value is a structure of structures without members.
fn has_nothing(peer: &PeerValue, depth: usize) -> bool {
    depth < LIMIT_DEPTH
        && (peer.members.as_ref().is_some_and(|m| m.iter().all(|m| has_nothing(&m.value, depth.saturating_add(1))))
            || peer.bytes.as_ref().is_some_and(String::is_empty)
            || peer.elements.as_ref().is_some_and(Vec::is_empty))
}

/// Whether a type belongs to a standard library.
fn is_of_library(type_name: &str) -> bool {
    let bare = type_name.trim_start_matches("const ").trim_start_matches("volatile ");
    ["std::", "alloc::", "core::", "hashbrown::"].iter().any(|l| bare.starts_with(l))
}

/// The use and weak counts in `std::shared_ptr<int> (use count 2, weak count 1)`.
fn count_words(text: &str) -> Vec<i128> {
    match text.rsplit_once(" (") {
        Some((_, counts)) => integers(counts).collect(),
        None => Vec::new(),
    }
}

/// A key that is a text.
fn key_text(key: &PeerValue) -> Option<Vec<u8>> {
    let contents = key.contents.as_ref().and_then(|c| c.string.as_deref());
    contents.or(key.string.as_deref()).and_then(unhex)
}

/// Whether a text of ours is these bytes, or their beginning.
fn same_text(text: &str, bytes: &[u8], cut: bool) -> bool {
    let theirs = as_text(bytes);
    text == theirs
        || (cut && theirs.starts_with(text.trim_end_matches('\u{fffd}')))
        || (cut && text.starts_with(&theirs))
}

/// Characters of two or four bytes as UTF-8.
fn wide_text(elements: &[PeerValue]) -> Option<Vec<u8>> {
    let numbers = elements.iter().map(|e| e.integer.as_deref()?.parse::<u32>().ok()).collect::<Option<Vec<u32>>>()?;
    let text: String = if elements.first().is_some_and(|e| e.size == 2) {
        let units = numbers.iter().map(|n| u16::try_from(*n).unwrap_or(0xfffd));
        char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    } else {
        numbers.iter().map(|n| char::from_u32(*n).unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    };
    Some(text.into_bytes())
}

/// `name+4` on both sides, the name in either's style.
fn same_symbol(ours: &str, peer: &str) -> bool {
    let split = |text: &str| match text.rsplit_once('+') {
        Some((name, offset)) if offset.parse::<u64>().is_ok() => (name.to_owned(), offset.to_owned()),
        _ => (text.to_owned(), String::new()),
    };
    let ((ours, offset), (peer, their_offset)) = (split(ours), split(peer));
    // Thunks have no name in any source: each demangler describes them in its own words.
    let thunks = ours.contains("thunk") && peer.contains("thunk");
    offset == their_offset && (thunks || compare_names(&[&ours], &peer) != NameMatch::Different)
}

/// An enumerator, a character, a long number, a member pointer.
fn same_word(text: &str, peer: &PeerValue) -> bool {
    let theirs = peer.text.as_deref().or(peer.float.as_deref()).unwrap_or_default();
    if theirs == text || theirs.ends_with(&format!("::{text}")) || text.ends_with(&format!("::{theirs}")) {
        return true;
    }
    // Numbers that 64 bits do not hold, and characters: gdb's escapes depend on its locale.
    let number = text.split(' ').next().unwrap_or_default();
    if let Some(integer) = &peer.integer {
        return integer == number && (number == text || text.contains('\''));
    }
    // Member pointers: gdb writes their type in front.
    if let (Some((_, mine)), Some((head, their))) = (text.split_once(" <"), theirs.split_once(" <")) {
        let (mine, their) = (mine.strip_suffix('>').unwrap_or(mine), their.strip_suffix('>').unwrap_or(their));
        return head.ends_with(number) && same_symbol(mine, their);
    }
    theirs.ends_with(text)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// `0x4010 "text"`, `0x401136 <function+4>`.
fn points(text: &str, address: u64, ours: &OurValue, peer: &PeerValue) -> bool {
    let (head, rest) = text.split_once(' ').unwrap_or((text, ""));
    let mine = head.strip_prefix("0x").and_then(|hex| u64::from_str_radix(hex, 16).ok());
    if mine != Some(address) {
        return false;
    }
    if let Some(symbol) = rest.strip_prefix('<').and_then(|r| r.strip_suffix('>')) {
        let theirs = peer.text.as_deref().and_then(|t| t.split_once(" <")).and_then(|(_, t)| t.strip_suffix('>'));
        return theirs.is_some_and(|theirs| same_symbol(symbol, theirs));
    }
    let quoted = rest.trim_end_matches("...");
    let cut = ours.truncated || quoted.len() < rest.len();
    match (leaves(quoted.trim_start_matches(['L', 'u', 'U', '8'])).first(), peer.string.as_deref().and_then(unhex)) {
        (Some(Leaf::Text(mine)), Some(theirs)) => {
            let mine: Vec<u8> = mine.chars().filter_map(|c| u8::try_from(u32::from(c)).ok()).collect();
            mine == theirs || (cut && theirs.starts_with(&mine))
        }
        (None, None) => true,
        _ => false,
    }
}
