//! The symbol table that a kernel puts into its dump: `.symtab`, `.strtab`, `.shstrtab`, every symbol absolute.

/// An ELF file of these symbols: name, address, size, whether it is a function.
#[must_use]
pub fn table(symbols: &[(String, u64, u64, bool)]) -> Vec<u8> {
    let mut strings = vec![0];
    let mut entries = vec![0; 24];
    for (name, at, size, function) in symbols {
        entries.extend((strings.len() as u32).to_le_bytes());
        // Global; STT_FUNC or STT_OBJECT; SHN_ABS.
        entries.extend([1 << 4 | if *function { 2 } else { 1 }, 0]);
        entries.extend(0xfff1_u16.to_le_bytes());
        entries.extend(at.to_le_bytes());
        entries.extend(size.to_le_bytes());
        strings.extend(name.as_bytes());
        strings.push(0);
    }
    let names = b"\0.symtab\0.strtab\0.shstrtab\0".to_vec();
    let mut file = vec![0; 64];
    let mut headers = vec![0; 64];
    // (name, type, contents, link, entry size)
    for (name, kind, bytes, link, entry) in
        [(1_u32, 2_u32, &entries, 2_u32, 24_u64), (9, 3, &strings, 0, 0), (17, 3, &names, 0, 0)]
    {
        file.resize(file.len().next_multiple_of(8), 0);
        for word in [name, kind] {
            headers.extend(word.to_le_bytes());
        }
        for long in [0, 0, file.len() as u64, bytes.len() as u64] {
            headers.extend(long.to_le_bytes());
        }
        for word in [link, 1] {
            headers.extend(word.to_le_bytes());
        }
        for long in [8, entry] {
            headers.extend(long.to_le_bytes());
        }
        file.extend(bytes.iter());
    }
    file.resize(file.len().next_multiple_of(8), 0);
    let at = file.len() as u64;
    file.extend(headers);
    let mut head = b"\x7fELF\x02\x01\x01".to_vec();
    head.resize(16, 0);
    for half in [2_u16, 62] {
        head.extend(half.to_le_bytes());
    }
    head.extend(1_u32.to_le_bytes());
    for long in [0, 0, at] {
        head.extend(long.to_le_bytes());
    }
    head.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 0, 64, 4, 3] {
        head.extend(half.to_le_bytes());
    }
    file[..64].copy_from_slice(&head);
    file
}
