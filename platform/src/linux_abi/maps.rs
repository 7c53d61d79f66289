//! `/proc/PID/maps` as mappings: a pure function over bytes.

use evidence::{Addr, Mapping, Protection};
use std::collections::HashSet;
use std::sync::Arc;

/// How many mappings are kept: four times the kernel's default limit (`vm.max_map_count`), and at most 50 MB of ours.
const LIMIT_MAPPINGS: usize = 262_144;

/// Reads `maps`. Also says what was left out, where a line was not understood or the list was too long.
///
/// The kernel writes a newline in a path as `\012` and marks files that were unlinked with ` (deleted)`; a file whose name
/// really ends so cannot be told apart.
#[must_use]
pub fn parse(bytes: &[u8]) -> (Vec<Mapping>, Vec<String>) {
    let (mut mappings, mut problems) = (Vec::<Mapping>::new(), Vec::new());
    let mut names: HashSet<Arc<str>> = HashSet::new();
    for (number, line) in bytes.split(|b| *b == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        if mappings.len() >= LIMIT_MAPPINGS {
            problems.push(format!("more than {LIMIT_MAPPINGS} mappings: the rest, from line {number} on, is left out"));
            break;
        }
        let parsed = one(line, &mut names);
        match parsed {
            Some(mapping) if mappings.last().is_none_or(|m| m.range.end <= mapping.range.start) => {
                mappings.push(mapping);
            }
            _ if problems.len() < 8 => problems.push(format!(
                "line {number} is no mapping behind the one before: {:?}",
                String::from_utf8_lossy(line.get(..line.len().min(100)).unwrap_or_default())
            )),
            _ => {}
        }
    }
    (mappings, problems)
}

fn one(line: &[u8], names: &mut HashSet<Arc<str>>) -> Option<Mapping> {
    // "start-end perms offset major:minor inode", then blanks, then the path, which may hold blanks.
    let mut rest = line;
    let mut field = || -> Option<&str> {
        let start = rest.iter().position(|b| *b != b' ')?;
        let tail = rest.get(start..)?;
        let end = tail.iter().position(|b| *b == b' ').unwrap_or(tail.len());
        rest = tail.get(end..)?;
        std::str::from_utf8(tail.get(..end)?).ok()
    };
    let (start, end) = field()?.split_once('-')?;
    let (start, end) = (hex(start)?, hex(end)?);
    let permissions = field()?.as_bytes();
    let file_offset = hex(field()?)?;
    let (major, minor) = field()?.split_once(':')?;
    let device = device(u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
    let inode: u64 = field()?.parse().ok()?;
    let blank = rest.iter().position(|b| *b != b' ').unwrap_or(rest.len());
    let (path, deleted) = path(rest.get(blank..)?, names);
    let flag = |n: usize, letter: u8| permissions.get(n) == Some(&letter);
    (start < end).then(|| Mapping {
        range: Addr(start)..Addr(end),
        protection: Some(Protection { read: flag(0, b'r'), write: flag(1, b'w'), execute: flag(2, b'x') }),
        shared: Some(flag(3, b's')),
        file_offset: if inode == 0 { 0 } else { file_offset },
        path,
        deleted,
        file_id: (inode != 0).then_some((device, inode)),
        open: Vec::new(),
    })
}

fn path(raw: &[u8], names: &mut HashSet<Arc<str>>) -> (Option<Arc<str>>, bool) {
    let text = String::from_utf8_lossy(raw);
    let (text, deleted) = match text.strip_suffix(" (deleted)") {
        Some(text) => (text, true),
        None => (&*text, false),
    };
    // The kernel's own names never end in a blank; other writers' copies do.
    let text = if text.starts_with('[') { text.trim_end() } else { text };
    if text.is_empty() {
        return (None, deleted);
    }
    let text = text.replace("\\012", "\n");
    let name = match names.get(text.as_str()) {
        Some(name) => name.clone(),
        None => {
            let name: Arc<str> = text.into();
            names.insert(name.clone());
            name
        }
    };
    (Some(name), deleted)
}

/// A device's number as `stat` gives it (glibc's `makedev`).
fn device(major: u32, minor: u32) -> u64 {
    let (major, minor) = (u64::from(major), u64::from(minor));
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & !0xff) << 12) | ((major & !0xfff) << 32)
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAPS: &[u8] = b"55b483b30000-55b483b32000 r--p 00001000 fe:00 247030                     /usr/bin/a b\n\
        55b483b32000-55b483b33000 rwxs 00000000 00:05 99                         /dev/zero (deleted)\n\
        7f0000000000-7f0000001000 ---p 00000000 00:00 0 \n\
        7fff00000000-7fff00004000 r--p 00000000 00:00 0                          [vvar]\n\
        7fff00004000-7fff00005000 r-xp 00000000 00:00 0                          [vdso]\n\
        ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";

    #[test]
    fn a_map() {
        let (mappings, problems) = parse(MAPS);
        assert_eq!((mappings.len(), problems.len()), (6, 0));
        let first = &mappings[0];
        assert_eq!(first.path.as_deref(), Some("/usr/bin/a b"));
        assert_eq!((first.file_offset, first.file_id), (0x1000, Some((0xfe00, 247_030))));
        let second = &mappings[1];
        assert_eq!((second.path.as_deref(), second.deleted, second.shared), (Some("/dev/zero"), true, Some(true)));
        assert_eq!(mappings[2].protection, Some(Protection::default()));
        assert_eq!(mappings[2].path, None);
    }

    #[test]
    fn lines_out_of_order_are_said() {
        let (mappings, problems) = parse(b"2000-3000 r--p 0 0:0 0\n1000-2000 r--p 0 0:0 0\nnonsense\n");
        assert_eq!((mappings.len(), problems.len()), (1, 2));
    }

    #[test]
    fn a_newline_in_a_path() {
        let (mappings, _) = parse(b"1000-2000 r--p 00000000 00:05 9    /a\\012b\n");
        assert_eq!(mappings[0].path.as_deref(), Some("/a\nb"));
    }

    proptest! {
        #[test]
        fn garbage_is_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..400), text in "[0-9a-f]{1,6}-[0-9a-f]{1,18} [rwxps-]{0,5} [0-9a-f]{0,9} [0-9a-f]{1,9}:[0-9a-f]{1,3} [0-9]{0,22}.{0,20}\n?") {
            let _ = parse(&bytes);
            let _ = parse(text.as_bytes());
        }
    }
}
