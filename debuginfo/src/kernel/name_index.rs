//! Rows of a large table by their names.
//!
//! A table that is searched a few dozen times is not worth sorting; this costs one pass over it.

use evidence::ToUsize;

/// No row.
const NONE: u32 = u32::MAX;
/// Most buckets, as a power of two; beyond it rows share them.
const LIMIT_BITS: u32 = 22;

/// Buckets of rows whose names have the same length, beginning and end. Names made to share all of these cost what a
/// search of the whole table costs, and no more.
#[derive(Debug, Default)]
pub(super) struct NameIndex {
    heads: Vec<u32>,
    /// For each row, the next one of its bucket.
    next: Vec<u32>,
}

impl NameIndex {
    /// Indexes `count` rows.
    pub(super) fn new<'n>(count: usize, name: impl Fn(usize) -> &'n [u8]) -> Self {
        let bits = usize::BITS.saturating_sub(count.leading_zeros()).min(LIMIT_BITS);
        let mut index = Self { heads: vec![NONE; 1_usize << bits], next: vec![NONE; count] };
        // From the last: so a bucket has its rows in the order of the table.
        for row in (0..count).rev() {
            let bucket = index.bucket(name(row));
            let Ok(number) = u32::try_from(row) else { continue };
            if let (Some(head), Some(next)) = (index.heads.get_mut(bucket), index.next.get_mut(row)) {
                *next = std::mem::replace(head, number);
            }
        }
        index
    }

    fn bucket(&self, name: &[u8]) -> usize {
        let word = |part: &[u8]| {
            let mut bytes = [0; 8];
            bytes.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
            u64::from_le_bytes(bytes)
        };
        let (first, last) = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
            (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
            _ => (word(name), 0),
        };
        let length = u64::try_from(name.len()).unwrap_or(u64::MAX);
        let mixed = first.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ last.rotate_left(32).wrapping_add(length);
        let mixed = mixed.wrapping_mul(0xd6e8_feb8_6659_fd93);
        (mixed >> 32).to_usize() & self.heads.len().saturating_sub(1)
    }

    /// Rows that may have that name, in the order of the table.
    pub(super) fn candidates(&self, name: &[u8]) -> impl Iterator<Item = usize> + '_ {
        let row = |number: u32| (number != NONE).then(|| number.to_usize());
        let head = self.heads.get(self.bucket(name)).copied().unwrap_or(NONE);
        std::iter::successors(row(head), move |at| row(*self.next.get(*at)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_in_their_order() {
        let names = ["b", "", "long_enough_name", "b", "long_enough_mame", "b"];
        let index = NameIndex::new(names.len(), |row| names[row].as_bytes());
        let rows = |name: &str| index.candidates(name.as_bytes()).filter(|row| names[*row] == name).collect::<Vec<_>>();
        assert_eq!(rows("b"), [0, 3, 5]);
        assert_eq!(rows("long_enough_name"), [2]);
        assert_eq!(rows(""), [1]);
        assert_eq!(rows("absent"), [0_usize; 0]);
        assert!(NameIndex::new(0, |_| b"").candidates(b"b").next().is_none());
    }

    #[test]
    fn most_rows_have_a_bucket_of_their_own() {
        let names: Vec<String> = (0..10_000).map(|n| format!("subsystem_function_{n}")).collect();
        let index = NameIndex::new(names.len(), |row| names[row].as_bytes());
        let looks: usize = names.iter().map(|name| index.candidates(name.as_bytes()).count()).sum();
        assert!(looks < 3 * names.len(), "{looks}");
    }
}
