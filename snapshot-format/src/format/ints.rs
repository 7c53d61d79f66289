//! Integer streams: how the present values of a numeric column are laid out.

use std::collections::BTreeMap;

use super::varint::{Cursor, put, size, unzigzag, zigzag};
use crate::convert::{ToU64, ToUsize};

/// LEB128 numbers.
pub(crate) const VARINT: u8 = 1;
/// A width, then numbers of that width.
pub(crate) const FIXED: u8 = 2;
/// A width, then all lowest bytes, all second bytes, and so on.
pub(crate) const PLANES: u8 = 3;
/// Distinct values, then indices.
pub(crate) const DICTIONARY: u8 = 4;
/// Differences to the value a stride earlier.
pub(crate) const DELTA: u8 = 5;
/// Values and how often each is repeated.
pub(crate) const RUNS: u8 = 6;

/// Strides that [`best_stride`] tries. Registers of one frame form groups of up to 34 (aarch64).
const LIMIT_STRIDE: usize = 40;

/// Values that [`best_stride`] looks at.
const STRIDE_SAMPLE: usize = 4096;

/// Every layout worth trying, by encoding number.
pub(crate) fn candidates(values: &[u64]) -> Vec<(u8, Vec<u8>)> {
    let mut out = vec![(VARINT, varints(values)), (FIXED, fixed(values))];
    if values.len() > 2 {
        out.push((PLANES, planes(values)));
        out.push((DELTA, delta(values, best_stride(values))));
        out.extend(dictionary(values).map(|bytes| (DICTIONARY, bytes)));
        out.extend(runs(values).map(|bytes| (RUNS, bytes)));
    }
    out
}

fn varints(values: &[u64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(values.len());
    values.iter().for_each(|value| put(&mut out, *value));
    out
}

fn width(values: &[u64]) -> u8 {
    let all = values.iter().fold(1, |all, value| all | value);
    let bits = u64::BITS.saturating_sub(all.leading_zeros());
    u8::try_from(bits.div_ceil(8)).unwrap_or(8)
}

fn fixed(values: &[u64]) -> Vec<u8> {
    let width = width(values);
    let mut out = vec![width];
    for value in values {
        out.extend(value.to_le_bytes().into_iter().take(width.into()));
    }
    out
}

fn planes(values: &[u64]) -> Vec<u8> {
    let width = width(values);
    let mut out = vec![width];
    for plane in 0..usize::from(width) {
        out.extend(values.iter().filter_map(|value| value.to_le_bytes().get(plane).copied()));
    }
    out
}

fn differences(values: &[u64], stride: usize) -> impl Iterator<Item = u64> + '_ {
    let earlier = std::iter::repeat_n(&0, stride).chain(values);
    values.iter().zip(earlier).map(|(value, earlier)| zigzag(value.wrapping_sub(*earlier).cast_signed()))
}

/// The stride whose differences are shortest; the smallest of equals.
fn best_stride(values: &[u64]) -> usize {
    let sample = values.get(..STRIDE_SAMPLE).unwrap_or(values);
    let cost =
        |stride: &usize| -> u64 { differences(sample, *stride).map(|difference| u64::from(size(difference))).sum() };
    (1..=LIMIT_STRIDE.min(values.len())).min_by_key(cost).unwrap_or(1)
}

fn delta(values: &[u64], stride: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(values.len());
    put(&mut out, stride.to_u64());
    differences(values, stride).for_each(|difference| put(&mut out, difference));
    out
}

fn dictionary(values: &[u64]) -> Option<Vec<u8>> {
    let mut distinct: BTreeMap<u64, u64> = values.iter().map(|value| (*value, 0)).collect();
    if distinct.len() > values.len() / 2 {
        return None;
    }
    let mut out = Vec::new();
    put(&mut out, distinct.len().to_u64());
    let mut last = 0u64;
    for (index, (value, slot)) in distinct.iter_mut().enumerate() {
        *slot = index.to_u64();
        put(&mut out, value.wrapping_sub(last));
        last = *value;
    }
    let indices: Vec<u64> = values.iter().filter_map(|value| distinct.get(value).copied()).collect();
    out.extend(fixed(&indices));
    Some(out)
}

fn runs(values: &[u64]) -> Option<Vec<u8>> {
    let runs: Vec<&[u64]> = values.chunk_by(|a, b| a == b).collect();
    if runs.len() > values.len() / 2 {
        return None;
    }
    let mut out = Vec::new();
    put(&mut out, runs.len().to_u64());
    runs.iter().filter_map(|run| run.first()).for_each(|value| put(&mut out, *value));
    runs.iter().for_each(|run| put(&mut out, run.len().to_u64()));
    Some(out)
}

/// The `count` values of a stream; an error names what is wrong with it.
pub(crate) fn decode(encoding: u8, at: &mut Cursor<'_>, count: usize) -> Result<Vec<u64>, &'static str> {
    let values = match encoding {
        VARINT => take_varints(at, count),
        FIXED => take_fixed(at, count),
        PLANES => take_planes(at, count),
        DICTIONARY => take_dictionary(at, count),
        DELTA => take_delta(at, count),
        RUNS => take_runs(at, count),
        _ => return Err("has an unknown encoding"),
    };
    values.ok_or("ends too early or contradicts itself")
}

pub(crate) fn take_varints(at: &mut Cursor<'_>, count: usize) -> Option<Vec<u64>> {
    if count > at.rest().len() {
        return None;
    }
    (0..count).map(|_| at.varint()).collect()
}

fn take_width(at: &mut Cursor<'_>) -> Option<usize> {
    at.byte().map(usize::from).filter(|width| (1..=8).contains(width))
}

fn take_fixed(at: &mut Cursor<'_>, count: usize) -> Option<Vec<u64>> {
    let width = take_width(at)?;
    let bytes = at.take(count.checked_mul(width)?)?;
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |value, byte| (value << 8) | u64::from(*byte));
    Some(bytes.chunks_exact(width).map(number).collect())
}

fn take_planes(at: &mut Cursor<'_>, count: usize) -> Option<Vec<u64>> {
    let width = take_width(at)?;
    let bytes = at.take(count.checked_mul(width)?)?;
    let mut values = vec![0u64; count];
    for (plane, shift) in bytes.chunks_exact(count.max(1)).zip((0..64u32).step_by(8)) {
        for (value, byte) in values.iter_mut().zip(plane) {
            *value |= u64::from(*byte).checked_shl(shift)?;
        }
    }
    Some(values)
}

fn take_dictionary(at: &mut Cursor<'_>, count: usize) -> Option<Vec<u64>> {
    let distinct = at.varint()?.to_usize();
    if distinct > count {
        return None;
    }
    let mut last = 0u64;
    let mut entries = take_varints(at, distinct)?;
    for entry in &mut entries {
        last = last.wrapping_add(*entry);
        *entry = last;
    }
    let mut values = take_fixed(at, count)?;
    for value in &mut values {
        *value = *entries.get(value.to_usize())?;
    }
    Some(values)
}

fn take_delta(at: &mut Cursor<'_>, count: usize) -> Option<Vec<u64>> {
    let stride = at.varint()?.to_usize();
    let mut values = take_varints(at, count)?;
    if stride == 0 {
        return None;
    }
    for index in 0..count {
        let earlier = index.checked_sub(stride).and_then(|index| values.get(index)).copied().unwrap_or(0);
        let value = values.get_mut(index)?;
        *value = earlier.wrapping_add(unzigzag(*value).cast_unsigned());
    }
    Some(values)
}

fn take_runs(at: &mut Cursor<'_>, count: usize) -> Option<Vec<u64>> {
    let runs = at.varint()?.to_usize();
    if runs > count {
        return None;
    }
    let values = take_varints(at, runs)?;
    let lengths = take_varints(at, runs)?;
    let mut out = Vec::with_capacity(count);
    for (value, length) in values.iter().zip(lengths) {
        let end = out.len().checked_add(length.to_usize()).filter(|end| *end <= count)?;
        out.resize(end, *value);
    }
    (out.len() == count).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(values: &[u64]) {
        for (encoding, bytes) in candidates(values) {
            let mut at = Cursor::new(&bytes);
            assert_eq!(decode(encoding, &mut at, values.len()).as_deref(), Ok(values), "encoding {encoding}");
            assert!(at.is_empty());
        }
    }

    #[test]
    fn chosen_values_survive_every_encoding() {
        check(&[]);
        check(&[0]);
        check(&[u64::MAX, 0, u64::MAX, u64::MAX]);
        check(&(0..300).collect::<Vec<u64>>());
        check(&[7; 1000]);
        check(&(0..340).map(|i| ((i % 17) << 40) | (i / 17)).collect::<Vec<u64>>());
    }

    #[test]
    fn the_stride_of_a_period_is_found() {
        let values: Vec<u64> = (0..170u64).map(|i| (i % 17).wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        assert_eq!(best_stride(&values), 17);
    }

    proptest! {
        #[test]
        fn any_values_survive(values in proptest::collection::vec(prop_oneof![any::<u64>(), 0..4u64], 0..200)) {
            check(&values);
        }

        #[test]
        fn garbage_is_refused_or_read_without_harm(encoding in 0..8u8, bytes: Vec<u8>, count in 0..5000usize) {
            if let Ok(values) = decode(encoding, &mut Cursor::new(&bytes), count) {
                prop_assert_eq!(values.len(), count);
            }
        }
    }
}
