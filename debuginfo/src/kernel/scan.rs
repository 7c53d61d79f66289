//! Finds a kernel's symbol table where nothing says where it lies: kernels before 6.0.
//!
//! The table's tokens contain all ten digits, one behind the other, as every kernel's names do. From there the other
//! parts follow by their order (`scripts/kallsyms.c`): numbers or addresses, base, count, names, markers, tokens, index
//! of tokens; each begins at a multiple of eight. Every step is checked against another part.

use super::kallsyms::{Places, length_at};
use evidence::bytes::{Endian, slice_at, u16_at, u32_at, u64_at};
use evidence::{Addr, Memory, ToU64, ToUsize};

/// How far behind its first symbol a kernel's image may reach.
const LIMIT_IMAGE: u64 = 256 << 20;
/// How far before its tokens the table may begin.
const LIMIT_TABLE: u64 = 64 << 20;
/// Bytes read at a time.
const CHUNK: usize = 1 << 20;
const PAGE: u64 = 4096;
/// How many places are tried as the count of symbols.
const LIMIT_TRIES: usize = 4096;
/// Fewest and most symbols of a kernel.
const COUNTS: std::ops::Range<u32> = 500..4 << 20;
/// The tokens of the digits, which are the codes 0x30 to 0x39.
const DIGITS: &[u8; 20] = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00";
const FIRST_DIGIT: usize = 0x30;
/// Longest distance from the first token to the digits.
const LIMIT_BEFORE: usize = 4096;
/// Every so many symbols there is a marker.
const MARKED: u32 = 256;

/// Bytes from `start` on; what is missing reads as zeros, which no check takes for a table.
fn region(memory: &dyn Memory, start: Addr, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut at = 0_usize;
    while let Some(rest) = bytes.get_mut(at..).filter(|r| !r.is_empty()) {
        let here = start.wrapping_add(at.to_u64());
        let (got, stop) = memory.read(here, rest);
        if stop.is_none() {
            break;
        }
        let next = here.wrapping_add(got.to_u64()).0 | (PAGE.wrapping_sub(1));
        at = next.wrapping_add(1).wrapping_sub(start.0).to_usize();
    }
    bytes
}

/// Where tokens and their index lie, by the digits at `digits` of `bytes`.
fn tokens(bytes: &[u8], digits: usize, endian: Endian) -> Option<(usize, usize)> {
    let near = digits.saturating_sub(LIMIT_BEFORE);
    let mut candidates = (near..digits).rev().filter(|at| at & 7 == 0).filter(|at| {
        let before = bytes.get(*at..digits).unwrap_or_default();
        before.first() != Some(&0) && before.iter().filter(|b| **b == 0).count() == FIRST_DIGIT
    });
    candidates.find_map(|first| Some((first, index_of(bytes, first, endian)?)))
}

/// Where the index of the tokens lies that begin at `first`.
fn index_of(bytes: &[u8], first: usize, endian: Endian) -> Option<usize> {
    let (mut at, mut starts) = (first, Vec::with_capacity(256));
    for _ in 0..256 {
        starts.push(at.checked_sub(first)?);
        let token = bytes.get(at..)?;
        at = at.checked_add(token.iter().position(|b| *b == 0)?)?.checked_add(1)?;
    }
    let index = at.checked_next_multiple_of(8)?;
    let fits = |(n, start): (usize, &usize)| {
        u16_at(bytes, index.saturating_add(n.saturating_mul(2)), endian).map(usize::from) == Some(*start)
    };
    starts.iter().enumerate().all(fits).then_some(index)
}

/// Whether `count` names begin at `names`, by the markers that follow them.
fn are_names(bytes: &[u8], names: usize, count: u32, endian: Endian) -> bool {
    let check = || {
        let (mut at, mut marks) = (names, Vec::new());
        for n in 0..count {
            if n.checked_rem(MARKED) == Some(0) {
                marks.push(at.checked_sub(names)?.to_u64());
            }
            let (length, skip) = length_at(bytes, at)?;
            // A name has its class and at least one character.
            if length == 0 {
                return None;
            }
            at = at.checked_add(skip)?.checked_add(length)?;
        }
        let markers = at.checked_next_multiple_of(8)?;
        let half = |n: usize| u32_at(bytes, markers.checked_add(n.checked_mul(4)?)?, endian).map(u64::from);
        let word = |n: usize| u64_at(bytes, markers.checked_add(n.checked_mul(8)?)?, endian);
        // Four bytes each since 4.20, eight before.
        let halves = marks.iter().enumerate().all(|(n, mark)| half(n) == Some(*mark));
        let words = || marks.iter().enumerate().all(|(n, mark)| word(n) == Some(*mark));
        Some(marks.len() > 1 && (halves || words()))
    };
    check().unwrap_or(false)
}

/// Looks through the kernel's image from its first symbol on. The places come in the order in which they should be
/// tried: with a base, then with addresses.
#[must_use]
pub fn find_kallsyms(memory: &dyn Memory, endian: Endian, first_symbol: Addr) -> Vec<Places> {
    let mut at = Addr(first_symbol.0 & !(PAGE.wrapping_sub(1)));
    let end = at.saturating_add(LIMIT_IMAGE);
    // The parts around the digits must be in the same piece.
    let overlap = CHUNK >> 3;
    while at < end {
        let bytes = region(memory, at, CHUNK);
        for found in memchr::memmem::find_iter(&bytes, DIGITS) {
            if let Some((table, index)) = tokens(&bytes, found, endian) {
                let (table, index) = (at.wrapping_add(table.to_u64()), at.wrapping_add(index.to_u64()));
                let places = before(memory, endian, first_symbol, table, index);
                if !places.is_empty() {
                    return places;
                }
            }
        }
        at = at.saturating_add(CHUNK.saturating_sub(overlap).to_u64());
    }
    Vec::new()
}

/// The parts before the tokens.
fn before(memory: &dyn Memory, endian: Endian, first_symbol: Addr, table: Addr, index: Addr) -> Vec<Places> {
    let start = table.0.saturating_sub(LIMIT_TABLE).max(first_symbol.0) & !7;
    let bytes = region(memory, Addr(start), table.0.saturating_sub(start).to_usize());
    let mut tries = 0_usize;
    for at in (0..bytes.len()).step_by(8).rev() {
        let Some(count) = slice_at(&bytes, at, 8).and_then(|word| u64_at(word, 0, endian)) else { continue };
        let Some(count) = u32::try_from(count).ok().filter(|n| COUNTS.contains(n)) else { continue };
        let names = at.saturating_add(8);
        // Each name takes three bytes or more.
        if count.to_usize().saturating_mul(3) > bytes.len().saturating_sub(names) {
            continue;
        }
        if are_names(&bytes, names, count, endian) {
            let place = |at: usize| Addr(start.wrapping_add(at.to_u64()));
            let common = Places {
                count: place(at),
                names: place(names),
                token_table: table,
                token_index: index,
                ..Places::default()
            };
            let numbers = count.to_usize().saturating_mul(4).saturating_add(7) & !7;
            let relative = at.checked_sub(8).and_then(|base| Some((base, base.checked_sub(numbers)?)));
            let relative = relative.map(|(base, offsets)| Places {
                offsets: Some(place(offsets)),
                relative_base: Some(place(base)),
                ..common
            });
            let absolute = at.checked_sub(count.to_usize().saturating_mul(8));
            let absolute = absolute.map(|addresses| Places { addresses: Some(place(addresses)), ..common });
            return relative.into_iter().chain(absolute).collect();
        }
        tries = tries.saturating_add(1);
        if tries > LIMIT_TRIES {
            break;
        }
    }
    Vec::new()
}
