//! The kernel's file: an executable of either class with the sections that a kernel has.

use super::debug_info::Sections;
use super::kernel::{Builder, DATA, Port, RODATA, TEXT, VERSION};

/// Name, type, flags, address, contents, link, bytes of an entry.
type Section<'s> = (&'s str, u32, u64, u64, &'s [u8], u32, u64);

/// Appends numbers as wide as the class says.
struct Out {
    wide: bool,
    bytes: Vec<u8>,
}

impl Out {
    fn word(&mut self, n: u64) {
        self.bytes.extend(&n.to_le_bytes()[..if self.wide { 8 } else { 4 }]);
    }
    fn half(&mut self, n: u32) {
        self.bytes.extend(n.to_le_bytes());
    }
    fn short(&mut self, n: u16) {
        self.bytes.extend(n.to_le_bytes());
    }

    fn section(&mut self, name: u32, kind: u32, place: [u64; 4], link: u32, info: u32, entry: u64) {
        self.half(name);
        self.half(kind);
        place.iter().for_each(|n| self.word(*n));
        self.half(link);
        self.half(info);
        self.word(16);
        self.word(entry);
    }
}

/// Symbol table and strings.
fn symbols(b: &Builder) -> (Vec<u8>, Vec<u8>) {
    let wide = b.port.pointer() == 8;
    let mut out = Out { wide, bytes: vec![0; if wide { 24 } else { 16 }] };
    let mut strings = vec![0_u8];
    for (name, at, size, code) in &b.symbols {
        let section: u16 = match (code, *at) {
            (true, _) => 1,
            (_, at) if (b.port.at(RODATA)..b.port.at(DATA)).contains(&at) => 2,
            _ => 3,
        };
        let kind = if *code { 0x12 } else { 0x11 };
        out.half(strings.len() as u32);
        if wide {
            out.bytes.extend([kind, 0]);
            out.short(section);
        }
        out.word(*at);
        out.word(*size);
        if !wide {
            out.bytes.extend([kind, 0]);
            out.short(section);
        }
        strings.extend(name.as_bytes());
        strings.push(0);
    }
    (out.bytes, strings)
}

/// The file's bytes, with types when there are any, and with more sections.
pub(super) fn file(b: &Builder, types: Option<&[u8]>, more: &Sections) -> Vec<u8> {
    let wide = b.port.pointer() == 8;
    let (symbols, strings) = symbols(b);
    let mut data = vec![0_u8; 256];
    data[..VERSION.len()].copy_from_slice(VERSION.as_bytes());
    let code = vec![0x90_u8; 0x2000];
    let at = |address| b.port.at(address);
    let mut sections: Vec<Section<'_>> = vec![
        (".text", 1, 6, at(TEXT), &code, 0, 0),
        (".rodata", 1, 2, at(RODATA), &b.rodata, 0, 0),
        (".data", 1, 3, at(DATA), &data, 0, 0),
        (".symtab", 2, 0, 0, &symbols, 5, if wide { 24 } else { 16 }),
        (".strtab", 3, 0, 0, &strings, 0, 0),
    ];
    if let Some(types) = types {
        sections.push((".SUNW_ctf", 1, 0, 0, types, 4, 0));
    }
    sections.extend(more.iter().map(|(name, bytes)| (name.as_str(), 1, 0, 0, bytes.as_slice(), 0, 0)));
    let (header, entry, shdr) = if wide { (64_u16, 56_u16, 64_u16) } else { (52, 32, 40) };
    let mut names = vec![0_u8];
    let mut headers = Out { wide, bytes: vec![0; shdr.into()] };
    let mut body = Vec::new();
    let start = 0x1000_u64;
    let mut loads = Vec::new();
    for (name, kind, flags, address, contents, link, entry) in &sections {
        body.resize(body.len().next_multiple_of(0x1000), 0);
        let (offset, size) = (start + body.len() as u64, contents.len() as u64);
        if *address != 0 {
            loads.push((offset, *address, size, *flags));
        }
        let place = [*flags, *address, offset, size];
        headers.section(names.len() as u32, *kind, place, *link, u32::from(*kind == 2), *entry);
        names.extend(name.as_bytes());
        names.push(0);
        body.extend(*contents);
    }
    let (table, own_name) = (start + body.len() as u64, names.len() as u32);
    names.extend(b".shstrtab\0");
    let names_at = table + headers.bytes.len() as u64 + u64::from(shdr);
    headers.section(own_name, 3, [0, 0, names_at, names.len() as u64], 0, 0, 0);
    let count = sections.len() as u16 + 2;
    let mut out = Out { wide, bytes: b"\x7fELF\x02\x01\x01\x09\0\0\0\0\0\0\0\0".to_vec() };
    out.bytes[4] = if wide { 2 } else { 1 };
    out.short(2);
    out.short(match b.port {
        Port::Amd64 | Port::Amd64Old => 62,
        Port::Arm64 => 183,
        Port::I386 => 3,
    });
    out.half(1);
    for n in [at(TEXT) + 0x1000, header.into(), table] {
        out.word(n);
    }
    out.half(0);
    for n in [header, entry, loads.len() as u16, shdr, count, count - 1] {
        out.short(n);
    }
    for (offset, address, size, flags) in loads {
        let rights = 4_u32 | (flags as u32 & 1) << 1 | (flags as u32 & 4) >> 2;
        // The data segment goes on in memory, over what the file has nothing for.
        let memory = if address == at(DATA) { 0x20_0000 } else { size };
        out.half(1);
        if wide {
            out.half(rights);
        }
        for n in [offset, address, address, size, memory] {
            out.word(n);
        }
        if !wide {
            out.half(rights);
        }
        out.word(0x1000);
    }
    out.bytes.resize(start as usize, 0);
    out.bytes.extend(body);
    out.bytes.extend(headers.bytes);
    out.bytes.extend(names);
    out.bytes
}
