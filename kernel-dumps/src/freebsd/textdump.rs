//! Text dumps: what the kernel debugger's scripts wrote instead of memory.
//!
//! Source: `sys/ddb/db_textdump.c`. A ustar archive with `ddb.txt`, `config.txt`, `msgbuf.txt`, `panic.txt` and
//! `version.txt`; on the device its blocks of 512 bytes stand in reverse order, because the kernel starts at the end.

use crate::source::{ReadAt, exact};
use evidence::bytes::{c_str_at, slice_at};
use evidence::{Doubt, ToU64, ToUsize};

const BLOCK: u64 = 512;
/// Most members: the kernel writes five.
const LIMIT_MEMBERS: usize = 64;
/// Largest member kept: the debugger's output is bounded by a buffer of 128 MiB at most.
const LIMIT_MEMBER: u64 = 256 << 20;
/// The members that tell a text dump from other archives.
const NAMES: [&str; 5] = ["ddb.txt", "config.txt", "msgbuf.txt", "panic.txt", "version.txt"];

/// A member of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its contents; shorter than promised when the archive is cut off.
    pub body: Vec<u8>,
}

/// A header of the archive: name, and bytes of the member.
fn member(block: &[u8]) -> Option<(String, u64)> {
    if slice_at(block, 257, 5)? != b"ustar" {
        return None;
    }
    let number = |at, len| {
        let text = c_str_at(slice_at(block, at, len)?, 0)?;
        u64::from_str_radix(text.trim_matches([' ', '\0']), 8).ok()
    };
    let (before, after) = (slice_at(block, 0, 148)?, slice_at(block, 156, 356)?);
    let sum = before.iter().chain(after).fold(8 * 32_u64, |sum, b| sum.wrapping_add(u64::from(*b)));
    if number(148, 8)? != sum {
        return None;
    }
    Some((c_str_at(slice_at(block, 0, 100)?, 0)?, number(124, 12)?))
}

/// Whether a source in the archive's own order is a text dump.
pub(super) fn is_textdump(source: &dyn ReadAt) -> bool {
    let first = exact(source, 0, BLOCK.to_usize()).and_then(|b| member(&b));
    first.is_some_and(|(name, _)| NAMES.contains(&name.as_str()))
}

/// The members of the archive.
pub(super) fn read(source: &dyn ReadAt, doubts: &mut Vec<Doubt>) -> Vec<Member> {
    let mut members = Vec::new();
    let mut at = 0_u64;
    while let Some(block) = exact(source, at, BLOCK.to_usize()) {
        if block.iter().all(|b| *b == 0) {
            return members;
        }
        let Some((name, size)) = member(&block) else {
            doubts.push(Doubt::new("textdump", format!("what stands at {at:#x} of the archive is no member")));
            return members;
        };
        if members.len() >= LIMIT_MEMBERS {
            doubts.push(Doubt::new("textdump", format!("only the first {LIMIT_MEMBERS} members are read")));
            return members;
        }
        at = at.saturating_add(BLOCK);
        let there = source.size().saturating_sub(at).min(size).min(LIMIT_MEMBER);
        if there < size {
            doubts.push(Doubt::new("textdump", format!("{name}: {there} of its {size} bytes are kept or there")));
        }
        members.push(Member { name, body: exact(source, at, there.to_usize()).unwrap_or_default() });
        at = at.saturating_add(size.div_ceil(BLOCK).saturating_mul(BLOCK));
    }
    if at < source.size() || source.size().checked_rem(BLOCK) != Some(0) || !members.is_empty() {
        doubts.push(Doubt::new("textdump", "the archive has no end: it is cut off"));
    }
    debug_assert!(members.len().to_u64() <= LIMIT_MEMBERS.to_u64());
    members
}
