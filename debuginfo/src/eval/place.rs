//! Where a value lies, and reading it from there.

use super::Missing;
use crate::dwarf::Scope;
use evidence::{Addr, Memory, ToU64, ToUsize};
use std::sync::Arc;

/// Where a value lies: at an address, or in pieces.
#[derive(Clone, Debug)]
pub enum Place {
    /// In the target's memory from this address on.
    Memory(u64),
    /// In parts.
    Pieces {
        /// The parts, lowest-addressed (least significant) first.
        list: Arc<[Piece]>,
        /// How many bits of the first parts belong to something before this value.
        start: u64,
    },
}

/// A part of a value.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Its size; `u64::MAX` for all of the value.
    pub bits: u64,
    /// How many bits of the source come before it.
    pub skip: u64,
    /// Where its bits are.
    pub source: Source,
}

/// Where the bits of a piece are.
#[derive(Clone, Debug)]
pub enum Source {
    /// In the target's memory.
    Memory(u64),
    /// Here: a register's contents, a computed value, a constant.
    Bytes(Arc<[u8]>),
    /// It is a pointer to a variable that lies nowhere, but whose value is known.
    ImplicitPointer {
        /// The variable's DIE.
        at: Scope,
        /// Bytes into the variable.
        offset: i64,
    },
    /// Nowhere.
    Missing(Missing),
}

impl Place {
    /// The place `bytes` further on.
    #[must_use]
    pub fn at(&self, bytes: u64) -> Self {
        match self {
            Self::Memory(address) => Self::Memory(address.wrapping_add(bytes)),
            Self::Pieces { list, start } => {
                Self::Pieces { list: Arc::clone(list), start: start.saturating_add(bytes.saturating_mul(8)) }
            }
        }
    }

    /// Its address, when it lies in memory.
    #[must_use]
    pub fn address(&self) -> Option<u64> {
        match self {
            Self::Memory(address) => Some(*address),
            Self::Pieces { .. } => None,
        }
    }

    /// The piece that bit `at` lies in, and the bit's number in it.
    fn piece(&self, at: u64) -> Option<(&Piece, u64)> {
        let Self::Pieces { list, start } = self else { return None };
        let mut at = start.checked_add(at)?;
        for piece in list.iter() {
            if at < piece.bits {
                return Some((piece, at));
            }
            at = at.checked_sub(piece.bits)?;
        }
        None
    }

    /// The variable that the pointer stored here points to, when it is an implicit pointer.
    #[must_use]
    pub fn implicit_pointer(&self) -> Option<(Scope, i64)> {
        match self.piece(0)? {
            (Piece { source: Source::ImplicitPointer { at, offset }, .. }, 0) => Some((*at, *offset)),
            _ => None,
        }
    }

    /// Reads `len` bytes.
    ///
    /// # Errors
    /// Why the first unknown byte is unknown.
    pub fn read(&self, memory: &dyn Memory, len: usize) -> Result<Vec<u8>, Missing> {
        let mut out = vec![0; len];
        if let Self::Memory(address) = self {
            memory.read_exact(Addr(*address), &mut out).map_err(Missing::Memory)?;
            return Ok(out);
        }
        for (n, byte) in out.iter_mut().enumerate() {
            let value = self.bits(memory, n.to_u64().saturating_mul(8), 8)?;
            *byte = u8::try_from(value & 0xff).unwrap_or(0);
        }
        Ok(out)
    }

    /// Reads `count` bits (at most 128) from bit `start` on, least significant first.
    ///
    /// # Errors
    /// Why the first unknown bit is unknown.
    pub fn read_bits(&self, memory: &dyn Memory, start: u64, count: u64) -> Result<u128, Missing> {
        if count > 128 {
            return Err(Missing::DebugInfo(format!("a number of {count} bits")));
        }
        let mut value = 0_u128;
        let mut done = 0_u64;
        while done < count {
            let at = start.saturating_add(done);
            // Up to the next byte boundary of the value, so that memory is read byte by byte.
            let step = 8_u64.saturating_sub(at % 8).min(count.saturating_sub(done));
            let bits = self.bits(memory, at, step)?;
            value |= u128::from(bits).wrapping_shl(u32::try_from(done).unwrap_or(0));
            done = done.saturating_add(step);
        }
        Ok(value)
    }

    /// Up to 8 bits that do not cross a byte boundary of the value.
    fn bits(&self, memory: &dyn Memory, at: u64, count: u64) -> Result<u64, Missing> {
        match self {
            Self::Memory(address) => bits_of_memory(memory, *address, at, count),
            Self::Pieces { .. } => {
                let mut value = 0_u64;
                let mut done = 0_u64;
                while done < count {
                    let Some((piece, inside)) = self.piece(at.saturating_add(done)) else {
                        // What a location does not describe lies nowhere.
                        return Err(Missing::OptimisedOut);
                    };
                    let left = count.saturating_sub(done);
                    let from = piece.skip.saturating_add(inside);
                    let step = left.min(piece.bits.saturating_sub(inside)).min(8_u64.saturating_sub(from % 8));
                    let bits = match &piece.source {
                        Source::Memory(address) => bits_of_memory(memory, *address, from, step)?,
                        Source::Bytes(bytes) => {
                            let byte = bytes.get((from / 8).to_usize()).ok_or_else(|| {
                                Missing::DebugInfo(format!("a value of more than the {} bytes there are", bytes.len()))
                            })?;
                            bits_of_byte(*byte, from, step)
                        }
                        Source::ImplicitPointer { .. } => {
                            return Err(Missing::OptimisedOut);
                        }
                        Source::Missing(why) => return Err(why.clone()),
                    };
                    value |= bits.wrapping_shl(u32::try_from(done).unwrap_or(0));
                    done = done.saturating_add(step);
                }
                Ok(value)
            }
        }
    }
}

fn bits_of_byte(byte: u8, from: u64, count: u64) -> u64 {
    let shift = u32::try_from(from % 8).unwrap_or(0);
    let mask = 1_u64.wrapping_shl(u32::try_from(count.min(8)).unwrap_or(0)).wrapping_sub(1);
    u64::from(byte).wrapping_shr(shift) & mask
}

fn bits_of_memory(memory: &dyn Memory, address: u64, from: u64, count: u64) -> Result<u64, Missing> {
    let mut byte = [0; 1];
    memory.read_exact(Addr(address.wrapping_add(from / 8)), &mut byte).map_err(Missing::Memory)?;
    let [byte] = byte;
    Ok(bits_of_byte(byte, from, count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use evidence::testing::FakeMemory;

    #[test]
    fn bits_of_memory_and_of_pieces_agree() {
        let memory = FakeMemory::new().with(Addr(0x1000), vec![0b1010_0101, 0x34, 0x12, 0xff]);
        let plain = Place::Memory(0x1000);
        assert_eq!(plain.read_bits(&memory, 0, 4), Ok(0b0101));
        assert_eq!(plain.read_bits(&memory, 5, 3), Ok(0b101));
        assert_eq!(plain.read_bits(&memory, 8, 16), Ok(0x1234));
        assert_eq!(plain.read_bits(&memory, 6, 6), Ok(0b010010));
        let pieces = Place::Pieces {
            list: Arc::from([
                Piece { bits: 12, skip: 4, source: Source::Memory(0x1000) },
                Piece { bits: 8, skip: 8, source: Source::Bytes(Arc::from([1, 2, 3])) },
                Piece { bits: 8, skip: 0, source: Source::Missing(Missing::OptimisedOut) },
            ]),
            start: 0,
        };
        assert_eq!(pieces.read_bits(&memory, 0, 12), Ok(0x34a));
        assert_eq!(pieces.read_bits(&memory, 12, 8), Ok(2));
        assert_eq!(pieces.read_bits(&memory, 12, 9), Err(Missing::OptimisedOut));
        assert_eq!(pieces.at(1).read_bits(&memory, 0, 4), Ok(0x3));
        assert_eq!(pieces.read_bits(&memory, 28, 1), Err(Missing::OptimisedOut));
    }
}
