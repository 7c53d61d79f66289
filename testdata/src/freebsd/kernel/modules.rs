//! The kernel linker's files of a made kernel, and a module loaded as the kernel does it.

use super::{Builder, Layout, MODULE, TEXT};

/// What is kept of a module that was loaded.
pub(super) struct Loaded {
    /// Bytes from its first section to the end of its last one.
    pub size: u64,
    /// Where its functions are.
    pub functions: Vec<(String, u64)>,
    symbols: Vec<u8>,
    strings: Vec<u8>,
}

fn number(bytes: &[u8], at: u64, size: usize) -> u64 {
    bytes[at as usize..at as usize + size].iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

/// Puts the sections of a relocatable file of amd64 where `link_elf_load_file` of `sys/kern/link_elf_obj.c` does.
pub(super) fn load(b: &mut Builder, file: &[u8]) -> Loaded {
    let (base, headers) = (b.port.at(MODULE), number(file, 40, 8));
    let count = number(file, 60, 2);
    let header = |n: u64, at: u64, size: usize| number(file, headers + n * 64 + at, size);
    let mut next = base;
    let mut places = vec![0; count as usize];
    for n in 0..count {
        let (kind, flags, size) = (header(n, 4, 4), header(n, 8, 8), header(n, 32, 8));
        let align = header(n, 48, 8).max(1);
        if size == 0 || flags & 2 == 0 || ![1, 8, 14, 15, 0x7000_0001].contains(&kind) {
            continue;
        }
        next = next.next_multiple_of(align);
        places[n as usize] = next;
        let offset = header(n, 24, 8) as usize;
        let bytes = if kind == 8 { vec![0; size as usize] } else { file[offset..offset + size as usize].to_vec() };
        b.memory.write(next, &bytes);
        next += size;
    }
    let table = (0..count).find(|n| header(*n, 4, 4) == 2).expect("a symbol table");
    let part = |n: u64| {
        let start = header(n, 24, 8) as usize;
        file[start..start + header(n, 32, 8) as usize].to_vec()
    };
    let (mut symbols, strings) = (part(table), part(header(table, 40, 4)));
    let mut functions = Vec::new();
    for symbol in symbols.chunks_exact_mut(24) {
        let (name, section) = (number(symbol, 0, 4) as usize, number(symbol, 6, 2) as usize);
        let Some(place) = places.get(section).filter(|p| **p != 0) else { continue };
        let value = number(symbol, 8, 8) + place;
        symbol[8..16].copy_from_slice(&value.to_le_bytes());
        let name: Vec<u8> = strings[name..].iter().copied().take_while(|c| *c != 0).collect();
        if symbol[4] & 0xf == 2 {
            functions.push((String::from_utf8(name).unwrap(), value));
        }
    }
    Loaded { size: next - base, functions, symbols, strings }
}

/// The list: the kernel itself, and `zfs.ko`.
pub(super) fn modules(b: &mut Builder, l: &Layout, loaded: Option<&Loaded>) {
    let kernel = b.heap(256);
    let zfs = b.heap(512);
    let size = loaded.map_or(0x50_0000, |l| l.size);
    for (at, name, path, address, size, next) in [
        (kernel, "kernel", "/boot/kernel/kernel", b.port.at(TEXT), 0x200_0000, zfs),
        (zfs, "zfs.ko", "/boot/kernel/zfs.ko", b.port.at(MODULE), size, 0),
    ] {
        let (name, path) = (b.string(name), b.string(path));
        b.word(at + l.kld_filename, name);
        b.word(at + l.kld_pathname, path);
        b.word(at + l.kld_address, address);
        b.word(at + l.kld_size, size);
        b.word(at + l.kld_next, next);
    }
    if let Some(loaded) = loaded {
        // struct elf_file goes on behind struct linker_file.
        let (symbols, strings) = (b.heap(loaded.symbols.len() as u64), b.heap(loaded.strings.len() as u64));
        b.memory.write(symbols, &loaded.symbols);
        b.memory.write(strings, &loaded.strings);
        let count = loaded.symbols.len() as u64 / 24;
        for (n, word) in [symbols, count, strings, loaded.strings.len() as u64].into_iter().enumerate() {
            b.word(zfs + 304 + n as u64 * 8, word);
        }
    }
    b.pointer("linker_files", kernel);
}
