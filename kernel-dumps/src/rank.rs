//! A bitmap with constant-time rank: which descriptor belongs to a page.

use evidence::{ToU64, ToUsize};

/// Bits per counted block. One 32-bit count for 64 bytes of bitmap keeps the index at 1/16 of the bitmap's size.
const BLOCK_BITS: u64 = 512;
const BLOCK_BYTES: usize = 64;

/// A bitmap, least significant bit of each byte first.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rank {
    bits: Vec<u8>,
    before: Vec<u32>,
}

impl Rank {
    /// Counts the bits of `bits` once.
    #[must_use]
    pub fn new(bits: Vec<u8>) -> Self {
        let mut before = Vec::with_capacity(bits.len().div_ceil(BLOCK_BYTES));
        let mut sum = 0_u32;
        for block in bits.chunks(BLOCK_BYTES) {
            before.push(sum);
            sum = sum.saturating_add(block.iter().map(|b| b.count_ones()).sum());
        }
        Self { bits, before }
    }

    /// Number of bits.
    #[must_use]
    pub fn bits(&self) -> u64 {
        self.bits.len().to_u64().saturating_mul(8)
    }

    /// Whether bit `n` is set; `false` beyond the end.
    #[must_use]
    pub fn get(&self, n: u64) -> bool {
        let Some(byte) = self.bits.get((n >> 3).to_usize()) else { return false };
        byte >> (n & 7) & 1 == 1
    }

    /// How many bits below `n` are set.
    #[must_use]
    pub fn rank(&self, n: u64) -> u64 {
        let n = n.min(self.bits());
        let block = n.checked_div(BLOCK_BITS).unwrap_or(0).to_usize();
        let Some(base) = self.before.get(block) else {
            return self.bits.iter().map(|b| u64::from(b.count_ones())).sum();
        };
        let from = block.saturating_mul(BLOCK_BYTES);
        let whole = (n >> 3).to_usize();
        let full: u32 = self.bits.get(from..whole).unwrap_or_default().iter().map(|b| b.count_ones()).sum();
        let mask = 1_u8.checked_shl(u32::try_from(n & 7).unwrap_or(0)).unwrap_or(0).wrapping_sub(1);
        let rest = self.bits.get(whole).map_or(0, |b| (b & mask).count_ones());
        u64::from(*base).saturating_add(u64::from(full)).saturating_add(u64::from(rest))
    }

    /// Ranges of consecutive set bits, in order.
    pub fn runs(&self) -> impl Iterator<Item = std::ops::Range<u64>> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.next(at, true)?;
            let end = self.next(start, false).unwrap_or_else(|| self.bits());
            at = end;
            Some(start..end)
        })
    }

    fn next(&self, from: u64, value: bool) -> Option<u64> {
        let skip = if value { 0 } else { 0xff };
        let mut n = from;
        while n < self.bits() {
            if n & 7 == 0 && self.bits.get((n >> 3).to_usize()) == Some(&skip) {
                n = n.saturating_add(8);
                continue;
            }
            if self.get(n) == value {
                return Some(n);
            }
            n = n.saturating_add(1);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_counts_what_lies_before() {
        let bits: Vec<u8> = (0..1000_u32).map(|n| (n * 37 % 251) as u8).collect();
        let rank = Rank::new(bits.clone());
        let mut sum = 0;
        for n in 0..8000_u64 {
            assert_eq!(rank.rank(n), sum, "{n}");
            let bit = bits[(n / 8) as usize] >> (n % 8) & 1;
            assert_eq!(rank.get(n), bit == 1);
            sum += u64::from(bit);
        }
        assert_eq!(rank.rank(8000), sum);
        assert_eq!(rank.rank(u64::MAX), sum);
        assert!(!rank.get(8000));
    }

    #[test]
    fn runs_of_pages() {
        let rank = Rank::new(vec![0b0000_0110, 0xff, 0xff, 0b1000_0001, 0]);
        assert_eq!(rank.runs().collect::<Vec<_>>(), vec![1..3, 8..25, 31..32]);
    }
}
