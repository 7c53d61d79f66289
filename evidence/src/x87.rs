//! The state of the x87 unit and of MXCSR, as an FXSAVE area holds it.

use crate::Vectors;
use crate::bytes::{Endian, slice_at, u8_at, u16_at, u32_at, u64_at};

/// The x87 environment and stack, and MXCSR.
///
/// Source: Intel SDM volume 1, tables 10-2 and 13-1 (the legacy region of FXSAVE64 and XSAVE).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct X87 {
    /// FCW, the control word.
    pub control: u16,
    /// FSW, the status word.
    pub status: u16,
    /// FTW in the abridged form: bit n is set when physical register n is in use.
    pub tag: u8,
    /// FOP, the last instruction's opcode, 11 bits.
    pub opcode: u16,
    /// FIP: the last instruction's address, 64 bits; of 32-bit programs the offset in bits 0-31, the selector above.
    pub instruction: u64,
    /// FDP: the last operand's address, in the same form.
    pub data: u64,
    /// MXCSR.
    pub mxcsr: u32,
    /// The bits of MXCSR that this processor knows.
    pub mxcsr_mask: u32,
    /// ST(0) to ST(7), 80 bits each, little-endian; MM0 to MM7 are their lower 64 bits.
    pub stack: [[u8; 10]; 8],
}

impl X87 {
    /// Out of an FXSAVE area (or the legacy region of an XSAVE area), little-endian; `None` when it is cut.
    #[must_use]
    pub fn from_fxsave(area: &[u8]) -> Option<Self> {
        let e = Endian::Little;
        let mut stack = [[0; 10]; 8];
        for (register, slot) in stack.iter_mut().zip(slice_at(area, 32, 128)?.chunks_exact(16)) {
            register.copy_from_slice(slot.get(..10)?);
        }
        Some(Self {
            control: u16_at(area, 0, e)?,
            status: u16_at(area, 2, e)?,
            tag: u8_at(area, 4)?,
            opcode: u16_at(area, 6, e)?,
            instruction: u64_at(area, 8, e)?,
            data: u64_at(area, 16, e)?,
            mxcsr: u32_at(area, 24, e)?,
            mxcsr_mask: u32_at(area, 28, e)?,
            stack,
        })
    }

    /// The FXSAVE area that holds this and the SSE registers: the first 8 or 16 of `vectors`, 16 bytes each.
    #[must_use]
    pub fn to_fxsave(&self, vectors: &Vectors) -> [u8; 512] {
        let mut area = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| {
            let end = at.saturating_add(bytes.len());
            if let Some(field) = area.get_mut(at..end) {
                field.copy_from_slice(bytes);
            }
        };
        put(0, &self.control.to_le_bytes());
        put(2, &self.status.to_le_bytes());
        put(4, &[self.tag]);
        put(6, &self.opcode.to_le_bytes());
        put(8, &self.instruction.to_le_bytes());
        put(16, &self.data.to_le_bytes());
        put(24, &self.mxcsr.to_le_bytes());
        put(28, &self.mxcsr_mask.to_le_bytes());
        for (at, register) in (32..).step_by(16).zip(&self.stack) {
            put(at, register);
        }
        let rows = vectors.bytes.chunks_exact(vectors.width.max(16)).filter_map(|r| r.get(..16));
        for (at, register) in (160..).step_by(16).zip(rows.take(16)) {
            put(at, register);
        }
        area
    }

    /// A field of the environment by the name that debuggers give it: `fctrl`, `fstat`, `ftag` (abridged), `fop`,
    /// `fip` and `fdp` (64 bits), their halves `fioff`, `fiseg`, `fooff`, `foseg`, and `mxcsr`, `mxcsrmask`.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<u64> {
        let low = |n: u64| n & 0xffff_ffff;
        Some(match name {
            "fctrl" => self.control.into(),
            "fstat" => self.status.into(),
            "ftag" => self.tag.into(),
            "fop" => self.opcode.into(),
            "fip" => self.instruction,
            "fioff" => low(self.instruction),
            "fiseg" => low(self.instruction >> 32),
            "fdp" => self.data,
            "fooff" => low(self.data),
            "foseg" => low(self.data >> 32),
            "mxcsr" => self.mxcsr.into(),
            "mxcsrmask" => self.mxcsr_mask.into(),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_fxsave_puts_them() {
        let area: Vec<u8> = (0..160_u8).collect();
        let x87 = X87::from_fxsave(&area).unwrap();
        let expected = [
            ("fctrl", 0x0100),
            ("fstat", 0x0302),
            ("ftag", 0x04),
            ("fop", 0x0706),
            ("fip", 0x0f0e_0d0c_0b0a_0908),
            ("fioff", 0x0b0a_0908),
            ("fiseg", 0x0f0e_0d0c),
            ("fdp", 0x1716_1514_1312_1110),
            ("fooff", 0x1312_1110),
            ("foseg", 0x1716_1514),
            ("mxcsr", 0x1b1a_1918),
            ("mxcsrmask", 0x1f1e_1d1c),
        ];
        for (name, value) in expected {
            assert_eq!(x87.field(name), Some(value), "{name}");
        }
        assert_eq!(x87.field("rip"), None);
        assert_eq!(x87.stack[1], [48, 49, 50, 51, 52, 53, 54, 55, 56, 57]);
        assert_eq!(X87::from_fxsave(&area[..159]), None);
    }
}
