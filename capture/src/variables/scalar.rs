//! Numbers, characters, truth values and enumerations.

use super::build::Builder;
use super::{Variable, float, text};
use debuginfo::eval::{Missing, Place};
use debuginfo::types::{Enumeration, Kind, Language, Type, TypeId};
use evidence::{Arch, ToUsize};
use snapshot_format::schema::Value;
use std::fmt::Write as _;

/// What a base type is shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// A number with a sign.
    Signed,
    /// A number without.
    Unsigned,
    /// `char` and its kin, with the prefix of its literals.
    Character {
        /// Whether it has a sign.
        signed: bool,
        /// `L`, `u`, `U` or nothing.
        prefix: &'static str,
    },
    /// A truth value.
    Bool,
    /// A floating-point number.
    Float,
    /// Two floating-point numbers.
    Complex,
    /// Something not known here.
    Other,
}

impl Sort {
    /// `typedefs` are the names the type goes by on the way from the variable.
    pub(super) fn of(ty: &Type, encoding: gimli::DwAte, typedefs: &[&str]) -> Self {
        let size = ty.size.unwrap_or(0);
        let named = |name| typedefs.contains(&name) || ty.name.as_deref() == Some(name);
        match encoding {
            gimli::DW_ATE_boolean => Self::Bool,
            gimli::DW_ATE_float => Self::Float,
            gimli::DW_ATE_complex_float => Self::Complex,
            gimli::DW_ATE_UTF | gimli::DW_ATE_ASCII | gimli::DW_ATE_UCS => {
                let prefix = match (size, ty.language) {
                    (_, Language::Rust) => "",
                    (1, _) => "u8",
                    (2, _) => "u",
                    _ => "U",
                };
                Self::Character { signed: false, prefix }
            }
            gimli::DW_ATE_signed_char if size == 1 => Self::Character { signed: true, prefix: "" },
            gimli::DW_ATE_unsigned_char if size == 1 => Self::Character { signed: false, prefix: "" },
            gimli::DW_ATE_signed | gimli::DW_ATE_unsigned if ty.language != Language::Rust => {
                let signed = encoding == gimli::DW_ATE_signed;
                if named("wchar_t") {
                    Self::Character { signed, prefix: "L" }
                } else if named("char16_t") {
                    Self::Character { signed, prefix: "u" }
                } else if named("char32_t") {
                    Self::Character { signed, prefix: "U" }
                } else if signed {
                    Self::Signed
                } else {
                    Self::Unsigned
                }
            }
            gimli::DW_ATE_signed | gimli::DW_ATE_signed_char => Self::Signed,
            gimli::DW_ATE_unsigned | gimli::DW_ATE_unsigned_char | gimli::DW_ATE_address => Self::Unsigned,
            _ => Self::Other,
        }
    }
}

/// `bits` bits as a number with a sign.
pub(super) fn sign_extended(raw: u128, bits: u64) -> i128 {
    let Some(shift) = 128_u64.checked_sub(bits).and_then(|s| u32::try_from(s).ok()).filter(|s| *s < 128) else {
        return 0;
    };
    raw.wrapping_shl(shift).cast_signed().wrapping_shr(shift)
}

/// A number as a value: text where 64 bits do not hold it.
pub(super) fn integer(number: i128, signed: bool) -> Value {
    if signed {
        i64::try_from(number).map_or_else(|_| Value::Text(number.to_string()), Value::Signed)
    } else {
        u64::try_from(number).map_or_else(|_| Value::Text(number.cast_unsigned().to_string()), Value::Unsigned)
    }
}

impl Builder<'_, '_, '_> {
    /// Names of the typedefs from `id` on.
    pub(super) fn typedefs(&self, id: Option<TypeId>) -> Vec<&str> {
        let mut names = Vec::new();
        let mut here = id;
        while let (Some(at), true) = (here, names.len() < debuginfo::types::LIMIT_ALIASES) {
            let ty = self.types().get(at);
            here = match ty.kind {
                Kind::Typedef { target } => {
                    names.push(ty.name.as_deref().unwrap_or(""));
                    target
                }
                Kind::Qualified { target, .. } => {
                    names.push("");
                    target
                }
                _ => None,
            };
        }
        names
    }

    /// Reads a number type; `bits` is (start, count) for a bit field.
    pub(super) fn base(
        &mut self,
        into: &mut Variable,
        ty: &Type,
        sort: Sort,
        place: &Place,
        bits: Option<(u64, u64)>,
    ) -> Result<(), Missing> {
        let size = ty.size.unwrap_or(0);
        let (start, count) = bits.unwrap_or((0, size.saturating_mul(8)));
        self.spend(size)?;
        // Rust's `()`.
        if count == 0 {
            into.value = Value::Text(ty.name.as_deref().unwrap_or("()").to_owned());
            return Ok(());
        }
        if sort == Sort::Complex {
            into.value = self.complex(ty, place, size)?;
            return Ok(());
        }
        let raw = place.read_bits(self.memory(), start, count)?;
        let signed = sign_extended(raw, count);
        let unsigned = raw.cast_signed();
        into.value = match sort {
            Sort::Signed => integer(signed, true),
            Sort::Unsigned => integer(unsigned, false),
            Sort::Bool => match raw {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => integer(unsigned, false),
            },
            Sort::Character { signed: with_sign, prefix } => {
                let number = if with_sign { signed } else { unsigned };
                Value::Text(text::character(number, size.to_usize(), prefix))
            }
            Sort::Float => float::value(raw, self.format(ty, size)?),
            Sort::Complex | Sort::Other => {
                return Err(Missing::DebugInfo(format!(
                    "numbers of the kind of `{}` are not known here",
                    ty.name.as_deref().unwrap_or("?")
                )));
            }
        };
        Ok(())
    }

    fn format(&self, ty: &Type, size: u64) -> Result<float::Format, Missing> {
        let x86 = matches!(self.arch(), Arch::X86_64 | Arch::X86);
        float::Format::of(size, ty.name.as_deref().unwrap_or(""), x86)
            .ok_or_else(|| Missing::DebugInfo(format!("floating-point numbers of {size} bytes are not known here")))
    }

    fn complex(&self, ty: &Type, place: &Place, size: u64) -> Result<Value, Missing> {
        let half = size / 2;
        let format = self.format(ty, half)?;
        let bits = half.saturating_mul(8);
        let real = place.read_bits(self.memory(), 0, bits)?;
        let imaginary = place.read_bits(self.memory(), bits, bits)?;
        Ok(Value::Text(format!("{} + {}i", float::text(real, format), float::text(imaginary, format))))
    }

    /// Reads an enumeration.
    pub(super) fn enumeration(
        &mut self,
        into: &mut Variable,
        ty: &Type,
        e: &Enumeration,
        place: &Place,
        bits: Option<(u64, u64)>,
    ) -> Result<(), Missing> {
        let size = self.types().size(Some(ty.id)).unwrap_or(0);
        let (start, count) = bits.unwrap_or((0, size.saturating_mul(8)));
        self.spend(size)?;
        let raw = place.read_bits(self.memory(), start, count)?;
        let underlying = self.types().resolved(e.underlying).map(|t| &t.kind);
        let signed = match underlying {
            Some(Kind::Base { encoding }) => {
                matches!(*encoding, gimli::DW_ATE_signed | gimli::DW_ATE_signed_char)
            }
            _ => e.signed,
        };
        let number = if signed { sign_extended(raw, count) } else { raw.cast_signed() };
        into.value = named(e, number, raw, count).map_or_else(|| integer(number, signed), Value::Text);
        Ok(())
    }
}

/// The enumerator's name, or for flags those of all its parts, as gdb writes them.
fn named(e: &Enumeration, number: i128, raw: u128, bits: u64) -> Option<String> {
    let mask = 1_u128.checked_shl(u32::try_from(bits).unwrap_or(128)).map_or(u128::MAX, |m| m.wrapping_sub(1));
    if let Some((name, _)) = e.enumerators.iter().find(|(_, v)| *v == number || v.cast_unsigned() & mask == raw) {
        return Some(name.to_string());
    }
    if !e.flags {
        return None;
    }
    let mut left = raw;
    let mut out = String::new();
    for (name, value) in &e.enumerators {
        let value = value.cast_unsigned();
        if value != 0 && left & value != 0 {
            out.push_str(if out.is_empty() { "(" } else { " | " });
            out.push_str(name);
            left &= !value;
        }
    }
    if left != 0 {
        out.push_str(if out.is_empty() { "(" } else { " | " });
        let _ = write!(out, "unknown: {left:#x}");
    }
    if out.is_empty() {
        return Some("0".into());
    }
    out.push(')');
    Some(out)
}
