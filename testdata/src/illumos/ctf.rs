//! Containers of CTF, version 2, as illumos's modules carry them.

use super::layouts::{Kind, Layout};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use std::collections::HashMap;
use std::io::Write as _;

const INTEGER: u16 = 1;
const POINTER: u16 = 3;
const ARRAY: u16 = 4;
const STRUCT: u16 = 6;
/// Ids of a container that has a parent begin here.
const CHILD: u16 = 0x8000;

struct Writer<'e> {
    types: Vec<u8>,
    strings: Vec<u8>,
    /// Names that begin with one of these go to the symbol table's strings.
    external: Option<(&'e [&'e str], &'e mut Vec<u8>)>,
    next: u16,
    made: HashMap<(u16, u64), u16>,
}

impl Writer<'_> {
    fn name(&mut self, name: &str) -> u32 {
        if let Some((_, table)) = self.external.as_mut().filter(|(begin, _)| begin.iter().any(|b| name.starts_with(b)))
        {
            let at = table.len() as u32;
            table.extend(name.as_bytes());
            table.push(0);
            return at | 1 << 31;
        }
        let at = self.strings.len() as u32;
        self.strings.extend(name.as_bytes());
        self.strings.push(0);
        at
    }

    fn record(&mut self, name: &str, kind: u16, members: usize, size: u16) -> u16 {
        let name = if name.is_empty() { 0 } else { self.name(name) };
        self.types.extend(name.to_le_bytes());
        self.types.extend((kind << 11 | 1 << 10 | members as u16).to_le_bytes());
        self.types.extend(size.to_le_bytes());
        self.next += 1;
        self.next - 1
    }

    fn integer(&mut self, bytes: u64) -> u16 {
        if let Some(id) = self.made.get(&(INTEGER, bytes)) {
            return *id;
        }
        let name = ["", "unsigned char", "unsigned short", "", "unsigned int", "", "", "", "unsigned long"];
        let id = self.record(name[bytes as usize], INTEGER, 0, bytes as u16);
        self.types.extend((bytes as u32 * 8).to_le_bytes());
        self.made.insert((INTEGER, bytes), id);
        id
    }

    /// `CTF_INT_SIGNED`.
    fn signed(&mut self, bytes: u64) -> u16 {
        let id = self.record("signed", INTEGER, 0, bytes as u16);
        self.types.extend(((1_u32 << 24) | (bytes as u32 * 8)).to_le_bytes());
        id
    }

    fn array(&mut self, element: u16, count: u64) -> u16 {
        let index = self.integer(8);
        let id = self.record("", ARRAY, 0, 0);
        self.types.extend(element.to_le_bytes());
        self.types.extend(index.to_le_bytes());
        self.types.extend((count as u32).to_le_bytes());
        id
    }

    fn kind(&mut self, kind: Kind, structures: &HashMap<&str, u16>) -> u16 {
        match kind {
            Kind::Int(bytes) => self.integer(bytes),
            Kind::Signed(bytes) => self.signed(bytes),
            Kind::Pointer => {
                if let Some(id) = self.made.get(&(POINTER, 0)) {
                    return *id;
                }
                let target = self.integer(1);
                let id = self.record("", POINTER, 0, target);
                self.made.insert((POINTER, 0), id);
                id
            }
            Kind::Text(count) => {
                let element = self.integer(1);
                self.array(element, count)
            }
            Kind::Longs(count) => {
                let element = self.integer(8);
                self.array(element, count)
            }
            Kind::Inner(name) => structures[name],
            Kind::Many(name, count) => self.array(structures[name], count),
        }
    }
}

/// The structures of genunix, or those of unix over genunix as its parent.
#[must_use]
pub fn container(layout: &Layout, of_unix: bool, compressed: bool) -> Vec<u8> {
    container_with(layout, of_unix, compressed, None)
}

/// The same, with the names that begin with one of these in the symbol table's strings, to which they are added.
#[must_use]
pub fn container_with(
    layout: &Layout,
    of_unix: bool,
    compressed: bool,
    external: Option<(&[&str], &mut Vec<u8>)>,
) -> Vec<u8> {
    let next = if of_unix { CHILD + 1 } else { 1 };
    let mut w = Writer { types: Vec::new(), strings: vec![0], external, next, made: HashMap::new() };
    let mut ids = HashMap::new();
    let parent = if of_unix { w.name("genunix") } else { 0 };
    for (name, structure) in layout.structures.iter().filter(|(_, s)| s.of_unix == of_unix) {
        let kinds: Vec<u16> = structure.members.iter().map(|(.., kind)| w.kind(*kind, &ids)).collect();
        let id = w.record(name, STRUCT, structure.members.len(), structure.size as u16);
        for ((member, offset, _), kind) in structure.members.iter().zip(kinds) {
            let member = w.name(member);
            w.types.extend(member.to_le_bytes());
            w.types.extend(kind.to_le_bytes());
            w.types.extend((*offset as u16 * 8).to_le_bytes());
        }
        ids.insert(*name, id);
    }
    let mut out = vec![0xf1, 0xcf, 2, u8::from(compressed)];
    let types = w.types.len() as u32;
    for word in [0, parent, 0, 0, 0, 0, types, w.strings.len() as u32] {
        out.extend(word.to_le_bytes());
    }
    let body: Vec<u8> = w.types.into_iter().chain(w.strings).collect();
    if compressed {
        let mut encoder = ZlibEncoder::new(&mut out, Compression::default());
        encoder.write_all(&body).expect("memory does not fail");
        encoder.finish().expect("memory does not fail");
    } else {
        out.extend(body);
    }
    out
}
