//! Decimal numbers with a fraction, computed as Redis does on x86-64: in the extended format
//! of 64 significant bits (IEEE 754-1985 "double extended"), rounded to the nearest, ties to
//! even, and written with 17 decimals less the zeros at the end.

use std::cmp::Ordering;

/// Longest text that is read as a number, in bytes: with this, and the limit on exponents,
/// reading one is bounded work.
const TEXT_BYTES_MAX: usize = 256;
/// Exponents of ten beyond which a number is infinite, or zero.
const EXPONENT_MAX: i32 = 4_950;
/// Decimals that are written.
const DECIMALS: u32 = 17;
/// The largest exponent of two of a finite number.
const BINARY_EXPONENT_MAX: i32 = 16_383 - 63;
/// The least exponent of two of a number that is not rounded to zero: that is refused, as what
/// is too large is.
const BINARY_EXPONENT_MIN: i32 = -16_445 - 63;
/// Exponents are read up to here; all beyond are too large, or too small.
const EXPONENT_READ_MAX: i32 = 1 << 20;

/// A number: `significand` · 2^`exponent`, the significand's highest bit set unless it is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    negative: bool,
    significand: u64,
    exponent: i32,
}

/// The result is not a finite number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotFinite;

/// A text that is no finite number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoDecimal {
    /// It is no number at all, or beyond what the format holds.
    NotANumber,
    /// It says that it is infinite.
    Infinite,
}

impl Decimal {
    pub(crate) const ZERO: Decimal = Decimal { negative: false, significand: 0, exponent: 0 };

    /// Reads `[+-]digits[.digits][e[+-]digits]`, the same in hexadecimal after `0x` (with `p`
    /// before an exponent of two), and `inf` or `infinity` in any case: what C's `strtold` reads
    /// that is not "not a number".
    pub(crate) fn parse(text: &[u8]) -> Result<Decimal, NoDecimal> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(NoDecimal::NotANumber);
        }
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        if [&b"inf"[..], b"infinity"].iter().any(|name| rest.eq_ignore_ascii_case(name)) {
            return Err(NoDecimal::Infinite);
        }
        let magnitude = match rest {
            [b'0', b'x' | b'X', rest @ ..] => Decimal::parse_hexadecimal(rest),
            _ => Decimal::parse_decimal(rest),
        };
        let number = magnitude.ok_or(NoDecimal::NotANumber)?;
        Ok(Decimal { negative, ..number })
    }

    /// Reads digits to the base of 16, the exponent to the base of 2.
    fn parse_hexadecimal(mut rest: &[u8]) -> Option<Decimal> {
        let mut digits = Big::default();
        let (mut count, mut exponent, mut fraction) = (0, 0_i32, false);
        while let Some((&byte, tail)) = rest.split_first() {
            match byte {
                b'.' if !fraction => fraction = true,
                b'p' | b'P' if count > 0 => {
                    exponent = exponent.checked_add(exponent_of(tail)?)?;
                    break;
                }
                _ => {
                    digits.multiply_add(16, char::from(byte).to_digit(16)?);
                    count += 1;
                    exponent -= 4 * i32::from(fraction);
                }
            }
            rest = tail;
        }
        if count == 0 {
            return None;
        }
        if digits.is_zero() {
            return Some(Decimal::ZERO);
        }
        digits.rounded(exponent, false).filter(Decimal::is_in_range)
    }

    fn parse_decimal(mut rest: &[u8]) -> Option<Decimal> {
        let mut digits = Big::default();
        let (mut count, mut scale, mut fraction) = (0, 0_i32, false);
        while let Some((&byte, tail)) = rest.split_first() {
            match byte {
                b'0'..=b'9' => {
                    digits.multiply_add(10, u32::from(byte - b'0'));
                    count += 1;
                    scale -= i32::from(fraction);
                }
                b'.' if !fraction => fraction = true,
                b'e' | b'E' if count > 0 => {
                    scale = scale.checked_add(exponent_of(tail)?)?;
                    rest = &[];
                    break;
                }
                _ => return None,
            }
            rest = tail;
        }
        debug_assert!(rest.is_empty());
        if count > 0 && digits.is_zero() {
            return Some(Decimal::ZERO);
        }
        if count == 0 || !(-EXPONENT_MAX - TEXT_BYTES_MAX as i32..=EXPONENT_MAX).contains(&scale) {
            return None;
        }
        let magnitude = if scale >= 0 {
            (0..scale).for_each(|_| digits.multiply_add(10, 0));
            digits.rounded(0, false)
        } else {
            quotient(digits, scale.unsigned_abs())
        };
        magnitude.filter(Decimal::is_in_range)
    }

    fn is_in_range(&self) -> bool {
        (BINARY_EXPONENT_MIN..=BINARY_EXPONENT_MAX).contains(&self.exponent)
    }

    /// The sum, rounded.
    pub(crate) fn add(self, other: Decimal) -> Result<Decimal, NotFinite> {
        let (large, small) = if self.compare_magnitude(&other) == Ordering::Less {
            (other, self)
        } else {
            (self, other)
        };
        if small.significand == 0 {
            return Ok(large);
        }
        // 63 bits below the larger one's lowest hold all that can matter, but for whether
        // anything is lost below them.
        let distance = (large.exponent - small.exponent) as u32;
        let a = u128::from(large.significand) << 63;
        let b = u128::from(small.significand) << 63;
        let shift = distance.min(127);
        let (shifted, lost) = (b >> shift, b & ((1 << shift) - 1) != 0);
        let sum = match large.negative == small.negative {
            true => a + shifted,
            // What is lost below is borrowed from above.
            false => a - shifted - u128::from(lost),
        };
        if sum == 0 {
            return Ok(Decimal::ZERO);
        }
        let zeros = sum.leading_zeros();
        let number = round(sum << zeros, lost, large.exponent - 63 - zeros as i32 + 64);
        if number.exponent > BINARY_EXPONENT_MAX {
            return Err(NotFinite);
        }
        Ok(Decimal { negative: large.negative, ..number })
    }

    fn compare_magnitude(&self, other: &Decimal) -> Ordering {
        match (self.significand, other.significand) {
            (0, 0) => Ordering::Equal,
            (0, _) => Ordering::Less,
            (_, 0) => Ordering::Greater,
            _ => (self.exponent, self.significand).cmp(&(other.exponent, other.significand)),
        }
    }

    /// Appends the number with at most 17 decimals and no zeros at their end.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        // Scaled by 10^17 and rounded to a whole number, ties to even.
        let mut scaled = Big::from(self.significand);
        (0..DECIMALS).for_each(|_| scaled.multiply_add(10, 0));
        if self.exponent >= 0 {
            scaled.shift_left(self.exponent.unsigned_abs());
        } else {
            scaled.shift_right_rounding(self.exponent.unsigned_abs());
        }
        let mut digits = scaled.into_digits();
        while digits.len() <= DECIMALS as usize {
            digits.insert(0, b'0');
        }
        let (whole, fraction) = digits.split_at(digits.len() - DECIMALS as usize);
        let kept = fraction.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
        if self.negative && !(whole == b"0" && kept == 0) {
            out.push(b'-');
        }
        out.extend_from_slice(whole);
        if kept > 0 {
            out.push(b'.');
            out.extend_from_slice(&fraction[..kept]);
        }
    }
}

fn exponent_of(text: &[u8]) -> Option<i32> {
    let (sign, digits) = match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        _ => (1, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0_i32, |number, digit| {
        number.saturating_mul(10).saturating_add(i32::from(digit - b'0'))
    });
    Some(sign * number.min(EXPONENT_READ_MAX))
}

/// Rounds a significand of 128 bits, the highest set, to 64. `exponent` is that of the upper
/// half's lowest bit; `lost` says that something was cut off below.
fn round(bits: u128, lost: bool, exponent: i32) -> Decimal {
    let (upper, lower) = ((bits >> 64) as u64, bits as u64);
    let half = 1 << 63;
    let up = match lower.cmp(&half) {
        Ordering::Less => false,
        Ordering::Equal if !lost => upper & 1 == 1,
        Ordering::Equal | Ordering::Greater => true,
    };
    let (significand, exponent) = match upper.checked_add(u64::from(up)) {
        Some(significand) => (significand, exponent),
        None => (half, exponent + 1),
    };
    Decimal { negative: false, significand, exponent }
}

/// `digits` / 10^`power`, rounded.
fn quotient(mut digits: Big, power: u32) -> Option<Decimal> {
    let mut divisor = Big::from(1);
    (0..power).for_each(|_| divisor.multiply_add(10, 0));
    // So that the quotient has between 128 and 129 bits.
    let shift = 128 + i64::from(divisor.bits()) - i64::from(digits.bits());
    if shift >= 0 {
        digits.shift_left(shift as u32);
    } else {
        divisor.shift_left((-shift) as u32);
    }
    let (quotient, lost) = digits.divide(divisor, 129);
    quotient.rounded(-(shift as i32), lost)
}

/// A whole number of any length, its lowest 32 bits first, without zeros at the top.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Big(Vec<u32>);

impl From<u64> for Big {
    fn from(number: u64) -> Big {
        let mut big = Big(vec![number as u32, (number >> 32) as u32]);
        big.trim();
        big
    }
}

impl Big {
    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    fn bits(&self) -> u32 {
        self.0.last().map_or(0, |top| 32 * self.0.len() as u32 - top.leading_zeros())
    }

    fn bit(&self, at: u32) -> bool {
        self.0.get((at / 32) as usize).is_some_and(|limb| limb >> (at % 32) & 1 == 1)
    }

    fn multiply_add(&mut self, factor: u32, summand: u32) {
        let mut carry = u64::from(summand);
        for limb in &mut self.0 {
            carry += u64::from(*limb) * u64::from(factor);
            *limb = carry as u32;
            carry >>= 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    fn shift_left(&mut self, bits: u32) {
        if self.is_zero() {
            return;
        }
        let (limbs, bits) = ((bits / 32) as usize, bits % 32);
        let mut carry = 0;
        for limb in &mut self.0 {
            let wide = u64::from(*limb) << bits | carry;
            *limb = wide as u32;
            carry = wide >> 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
        self.0.splice(0..0, std::iter::repeat_n(0, limbs));
    }

    /// Shifts right and rounds to the nearest, ties to even.
    fn shift_right_rounding(&mut self, bits: u32) {
        let half = bits > 0 && self.bit(bits - 1);
        let below = bits > 0 && (0..bits - 1).any(|at| self.bit(at));
        let limbs = ((bits / 32) as usize).min(self.0.len());
        self.0.drain(..limbs);
        let bits = bits % 32;
        let mut carry = 0;
        for limb in self.0.iter_mut().rev() {
            let wide = (carry << 32 | u64::from(*limb)) >> bits;
            carry = u64::from(*limb) & ((1 << bits) - 1);
            *limb = wide as u32;
        }
        self.trim();
        if half && (below || self.bit(0)) {
            self.multiply_add(1, 1);
            if self.is_zero() {
                self.0.push(1);
            }
        }
    }

    /// The quotient, which has at most `bits` bits, and whether something is left over.
    fn divide(mut self, mut divisor: Big, bits: u32) -> (Big, bool) {
        let mut quotient = Big(vec![0; bits.div_ceil(32) as usize]);
        divisor.shift_left(bits - 1);
        for at in (0..bits).rev() {
            if self.compare(&divisor) != Ordering::Less {
                self.subtract(&divisor);
                quotient.0[(at / 32) as usize] |= 1 << (at % 32);
            }
            divisor.halve();
        }
        quotient.trim();
        (quotient, !self.is_zero())
    }

    fn compare(&self, other: &Big) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }

    /// Subtracts what is not larger.
    fn subtract(&mut self, other: &Big) {
        let mut borrow = 0;
        for (at, limb) in self.0.iter_mut().enumerate() {
            let take = u64::from(other.0.get(at).copied().unwrap_or(0)) + borrow;
            let (difference, under) = u64::from(*limb).overflowing_sub(take);
            *limb = difference as u32;
            borrow = u64::from(under);
        }
        debug_assert_eq!(borrow, 0);
        self.trim();
    }

    fn halve(&mut self) {
        let mut carry = 0;
        for limb in self.0.iter_mut().rev() {
            let low = *limb & 1;
            *limb = *limb >> 1 | carry << 31;
            carry = low;
        }
        self.trim();
    }

    /// The number times 2^`exponent`, rounded; `lost` says that it was cut off below.
    fn rounded(&self, exponent: i32, lost: bool) -> Option<Decimal> {
        let bits = self.bits();
        if bits == 0 {
            return None;
        }
        let mut top = 0_u128;
        for at in 0..128 {
            if at < bits && self.bit(bits - 1 - at) {
                top |= 1 << (127 - at);
            }
        }
        let lost = lost || (128..bits).any(|at| self.bit(bits - 1 - at));
        Some(round(top, lost, exponent + bits as i32 - 64))
    }

    fn into_digits(mut self) -> Vec<u8> {
        let mut digits = Vec::new();
        while !self.is_zero() {
            let mut rest = 0_u64;
            for limb in self.0.iter_mut().rev() {
                let wide = rest << 32 | u64::from(*limb);
                *limb = (wide / 1_000_000_000) as u32;
                rest = wide % 1_000_000_000;
            }
            self.trim();
            for _ in 0..9 {
                digits.push(b'0' + (rest % 10) as u8);
                rest /= 10;
            }
        }
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        digits.reverse();
        digits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    fn check(old: &str, delta: &str, expected: Option<&str>) {
        let parsed = |text: &str| Decimal::parse(text.as_bytes()).ok();
        let sum = parsed(old).zip(parsed(delta)).and_then(|(old, delta)| old.add(delta).ok()).map(
            |sum| {
                let mut text = Vec::new();
                sum.write(&mut text);
                String::from_utf8(text).unwrap()
            },
        );
        assert_eq!(sum.as_deref(), expected, "{old} + {delta}");
    }

    /// Expected values are redis-server 7.0's.
    #[test]
    fn sums_are_those_of_redis() {
        check("10.50", "0.1", Some("10.6"));
        check("10.6", "-5", Some("5.6"));
        check("5.0e3", "2.0e2", Some("5200"));
        check("0", "1.23456789012345678901234", Some("1.23456789012345679"));
        check("3", "1.000000000000000005", Some("4.00000000000000001"));
        check("1", "-1", Some("0"));
        check("-0.0", "0", Some("0"));
        check("1e17", "0.1", Some("100000000000000000.1015625"));
        check("0.1", "0.2", Some("0.3"));
        check("1e-20", "0", Some("0"));
        check("", "1", None);
        check(".", "1", None);
        check("1 ", "1", None);
        check("nan", "1", None);
        check("1e9999", "1", None);
        check(".5", "1.", Some("1.5"));
        check("1234.1", "0.1", Some("1234.19999999999999996"));
        check("98.7654321", "12345.678", Some("12444.44343209999999988"));
        check("123456.789", "0.001", Some("123456.78999999999999915"));
        check("1e30", "1", Some("1000000000000000000024696061952"));
        check("1e4932", "1e4932", None);
        check("10", "0x10", Some("26"));
        check("0X1.8p1", "-0x.8", Some("2.5"));
        check("0x1fffffffffffffffff", "0", Some("590295810358705651712"));
        check("0x1p-70", "1", Some("1"));
        check("0x1p-16445", "1", Some("1"));
        check("0x1p-16446", "1", None);
        check("1e-4950", "1", Some("1"));
        check("1e-5000", "1", None);
        check("0e-5000", "1", Some("1"));
        check("0x1p99999", "1", None);
        check("0x", "1", None);
        check("0x1p", "1", None);
        check("0x.p1", "1", None);
        check("inf", "1", None);
    }

    /// Numbers of few digits are exact in 64 bits or round to what f64 and hand computation
    /// with more digits agree on.
    #[test]
    fn quarters_add_up_exactly() {
        let mut random = StdRng::seed_from_u64(5);
        for _ in 0..20_000 {
            let (a, b) = (random.random::<i32>(), random.random::<i32>());
            let text = |quarters: i64| {
                let mut text = format!("{}", quarters as f64 / 4.0);
                if text == "-0" {
                    text = "0".to_owned();
                }
                text
            };
            check(
                &text(i64::from(a)),
                &text(i64::from(b)),
                Some(&text(i64::from(a) + i64::from(b))),
            );
        }
    }

    #[test]
    fn whole_numbers_survive() {
        let mut random = StdRng::seed_from_u64(6);
        for _ in 0..20_000 {
            let shift = random.random_range(0..64);
            let number = random.random::<u64>() >> shift;
            check(&number.to_string(), "0", Some(&number.to_string()));
        }
    }

    /// Texts of all forms neither panic nor take long.
    #[test]
    fn any_text_is_read_or_refused() {
        let mut random = StdRng::seed_from_u64(7);
        for _ in 0..2_000 {
            let length = random.random_range(0..40);
            let text: Vec<u8> =
                (0..length).map(|_| b"0123456789.eE+-xpaF"[random.random_range(0..19)]).collect();
            if let Ok(number) = Decimal::parse(&text) {
                let mut out = Vec::new();
                number.write(&mut out);
                let again = Decimal::parse(&out);
                assert!(again.is_ok() || out.len() > TEXT_BYTES_MAX);
            }
        }
    }
}
