//! Floating-point numbers of every width that compilers give, exactly.

use snapshot_format::schema::Value;

/// How a floating-point number is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// IEEE 754 binary16.
    Half,
    /// bfloat16.
    Brain,
    /// IEEE 754 binary32.
    Single,
    /// IEEE 754 binary64.
    Double,
    /// x87's 80 bits, with a stored leading 1, in 10, 12 or 16 bytes.
    X87,
    /// IEEE 754 binary128.
    Quad,
}

impl Format {
    /// The format of a type of `size` bytes called `name`; on x86, `long double` is x87's.
    pub(super) fn of(size: u64, name: &str, x86: bool) -> Option<Self> {
        Some(match size {
            2 if name.contains("bf16") => Self::Brain,
            2 => Self::Half,
            4 => Self::Single,
            8 => Self::Double,
            10 | 12 => Self::X87,
            16 if name.contains("128") || !x86 => Self::Quad,
            16 => Self::X87,
            _ => return None,
        })
    }

    /// Bits of exponent and of fraction, and the significant decimal digits that gdb prints.
    const fn widths(self) -> (u32, u32, usize) {
        match self {
            Self::Half => (5, 10, 5),
            Self::Brain => (8, 7, 4),
            Self::Single => (8, 23, 9),
            Self::Double => (11, 52, 17),
            Self::X87 => (15, 63, 21),
            Self::Quad => (15, 112, 36),
        }
    }
}

/// The number as a value: [`Value::Float`] when a double holds it exactly, else its text.
pub(super) fn value(bits: u128, format: Format) -> Value {
    match format {
        Format::Single => {
            let single = f32::from_bits(u32::try_from(bits & 0xffff_ffff).unwrap_or(0));
            if single.is_finite() {
                return Value::Float(f64::from(single));
            }
        }
        Format::Double => {
            let double = f64::from_bits(u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0));
            if double.is_finite() {
                return Value::Float(double);
            }
        }
        _ => {}
    }
    let text = text(bits, format);
    // A decimal text that a double gives back digit by digit loses nothing.
    match text.parse::<f64>() {
        Ok(double) if double.is_finite() && exact(bits, format) => Value::Float(double),
        _ => Value::Text(text),
    }
}

/// Sign, significand with its leading 1, and power of two, for finite numbers.
fn parts(bits: u128, format: Format) -> (bool, u128, i32, u128, u128) {
    let (exponent_bits, fraction_bits, _) = format.widths();
    let explicit = u32::from(format == Format::X87);
    let sign_at = exponent_bits.saturating_add(fraction_bits).saturating_add(explicit);
    let sign = bits.wrapping_shr(sign_at) & 1 == 1;
    let mask = |n: u32| 1_u128.wrapping_shl(n).wrapping_sub(1);
    let exponent = bits.wrapping_shr(fraction_bits.saturating_add(explicit)) & mask(exponent_bits);
    let fraction = bits & mask(fraction_bits);
    let significand = if explicit == 1 {
        bits & mask(64)
    } else if exponent == 0 {
        fraction
    } else {
        fraction | 1_u128.wrapping_shl(fraction_bits)
    };
    let bias = i32::try_from(mask(exponent_bits.saturating_sub(1))).unwrap_or(0);
    let power = i32::try_from(exponent.max(1)).unwrap_or(0).saturating_sub(bias);
    let power = power.saturating_sub(i32::try_from(fraction_bits).unwrap_or(0));
    (sign, significand, power, exponent, fraction)
}

/// Whether a double can hold the number: at most 53 significant bits, in the range of normal doubles.
fn exact(bits: u128, format: Format) -> bool {
    let (_, significand, power, ..) = parts(bits, format);
    if significand == 0 {
        return true;
    }
    let zeros = significand.trailing_zeros();
    let width = 128_u32.saturating_sub(significand.leading_zeros()).saturating_sub(zeros);
    let low = power.saturating_add(i32::try_from(zeros).unwrap_or(0));
    width <= 53 && low >= -1022 && low.saturating_add(i32::try_from(width).unwrap_or(0)) <= 1023
}

/// The number as C's `%g` writes it with as many digits as the format can tell apart; gdb's words for what is not
/// finite.
pub(super) fn text(bits: u128, format: Format) -> String {
    let (exponent_bits, _, digits) = format.widths();
    let (sign, significand, power, exponent, fraction) = parts(bits, format);
    let sign = if sign { "-" } else { "" };
    if exponent == 1_u128.wrapping_shl(exponent_bits).wrapping_sub(1) {
        return if fraction == 0 { format!("{sign}inf") } else { format!("{sign}nan({:#x})", nan(bits, format)) };
    }
    if significand == 0 {
        return format!("{sign}0");
    }
    let (decimal, point) = decimal_digits(significand, power);
    let (decimal, point) = rounded(decimal, point, digits);
    format!("{sign}{}", general(&decimal, point, digits))
}

/// gdb prints the whole stored significand of an x87 NaN, the fraction of others.
fn nan(bits: u128, format: Format) -> u128 {
    let (_, _, _, _, fraction) = parts(bits, format);
    if format == Format::X87 { bits & u128::from(u64::MAX) } else { fraction }
}

/// All decimal digits of `significand * 2^power`, and how many of them stand before the point.
fn decimal_digits(significand: u128, power: i32) -> (Vec<u8>, i32) {
    // Little-endian digits in base 10^9. The largest numbers (16,384 bits) need some 560 of them, the smallest, whose
    // fraction is kept as `significand * 5^n / 10^n`, some 1,300.
    const BASE: u64 = 1_000_000_000;
    let mut number: Vec<u64> = Vec::new();
    let mut rest = significand;
    while rest > 0 {
        number.push(u64::try_from(rest.checked_rem(u128::from(BASE)).unwrap_or(0)).unwrap_or(0));
        rest = rest.checked_div(u128::from(BASE)).unwrap_or(0);
    }
    let (factor, times) = if power >= 0 { (2, power) } else { (5, power.saturating_neg()) };
    for _ in 0..times {
        let mut carry = 0_u64;
        for digit in &mut number {
            let product = digit.saturating_mul(factor).saturating_add(carry);
            *digit = product % BASE;
            carry = product / BASE;
        }
        if carry > 0 {
            number.push(carry);
        }
    }
    let mut digits = Vec::new();
    for (n, group) in number.iter().rev().enumerate() {
        let text = if n == 0 { format!("{group}") } else { format!("{group:09}") };
        digits.extend(text.bytes().map(|b| b.wrapping_sub(b'0')));
    }
    let whole = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    (digits, if power >= 0 { whole } else { whole.saturating_sub(times) })
}

/// The first `digits` of a number, rounded half to even, without trailing zeros.
fn rounded(mut all: Vec<u8>, mut point: i32, digits: usize) -> (Vec<u8>, i32) {
    if all.len() > digits {
        let rest = all.split_off(digits);
        let (first, others) = rest.split_first().map_or((0, &[][..]), |(f, o)| (*f, o));
        let half = first == 5 && others.iter().all(|d| *d == 0);
        let odd = all.last().is_some_and(|d| d % 2 == 1);
        if first > 5 || (first == 5 && !half) || (half && odd) {
            let mut carried = true;
            for digit in all.iter_mut().rev() {
                if *digit == 9 {
                    *digit = 0;
                } else {
                    *digit = digit.saturating_add(1);
                    carried = false;
                    break;
                }
            }
            if carried {
                all.insert(0, 1);
                point = point.saturating_add(1);
            }
        }
    }
    while all.last() == Some(&0) {
        all.pop();
    }
    (all, point)
}

/// C's `%g`: with an exponent when that is below -4 or not below the number of digits.
fn general(decimal: &[u8], point: i32, digits: usize) -> String {
    let text: String = decimal.iter().map(|d| char::from(d.wrapping_add(b'0'))).collect();
    let exponent = point.saturating_sub(1);
    let most = i32::try_from(digits).unwrap_or(i32::MAX);
    if exponent < -4 || exponent >= most {
        let (first, rest) = text.split_at_checked(1).unwrap_or((&text, ""));
        let dot = if rest.is_empty() { "" } else { "." };
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{first}{dot}{rest}e{sign}{:02}", exponent.unsigned_abs());
    }
    let Ok(whole) = usize::try_from(point) else {
        return format!("0.{}{text}", "0".repeat(point.unsigned_abs().try_into().unwrap_or(0)));
    };
    match text.split_at_checked(whole) {
        Some(("", rest)) => format!("0.{rest}"),
        Some((all, "")) => all.to_owned(),
        Some((head, tail)) => format!("{head}.{tail}"),
        None => format!("{text}{}", "0".repeat(whole.saturating_sub(text.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn double(v: f64) -> String {
        text(u128::from(v.to_bits()), Format::Double)
    }

    #[test]
    fn doubles_as_printf_writes_them() {
        assert_eq!(double(0.1), "0.10000000000000001");
        assert_eq!(double(1e-310), "9.9999999999999694e-311");
        assert_eq!(double(100.0), "100");
        assert_eq!(double(-0.0), "-0");
        assert_eq!(double(1e300), "1.0000000000000001e+300");
        assert_eq!(double(0.00012), "0.00012");
        assert_eq!(double(f64::INFINITY), "inf");
        assert_eq!(double(f64::NAN), "nan(0x8000000000000)");
        assert_eq!(text(u128::from(0.1_f32.to_bits()), Format::Single), "0.100000001");
    }

    #[test]
    fn x87_and_quad() {
        // 2.718281828459045235L
        assert_eq!(text(0x4000_adf8_5458_a2bb_4a9b, Format::X87), "2.71828182845904523543");
        assert_eq!(value(0x3fff_8000_0000_0000_0000, Format::X87), Value::Float(1.0));
        assert_eq!(value(0x4000_adf8_5458_a2bb_4a9b, Format::X87), Value::Text("2.71828182845904523543".into()));
        assert_eq!(text(0x3fff_u128 << 112, Format::Quad), "1");
        assert_eq!(text(0x3c00, Format::Half), "1");
        assert_eq!(text(0x3f80, Format::Brain), "1");
    }
}
