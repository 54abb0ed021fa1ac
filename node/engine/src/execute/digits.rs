//! Whole numbers as text.

/// The decimal text of a number, without allocating.
pub(super) struct Digits {
    text: [u8; 20],
    start: usize,
}

impl Digits {
    pub(super) fn unsigned(mut number: u64) -> Digits {
        let mut digits = Digits { text: [0; 20], start: 20 };
        loop {
            digits.start -= 1;
            digits.text[digits.start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return digits;
            }
        }
    }

    pub(super) fn signed(number: i64) -> Digits {
        let mut digits = Digits::unsigned(number.unsigned_abs());
        if number < 0 {
            digits.start -= 1;
            digits.text[digits.start] = b'-';
        }
        digits
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.text[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_reach_both_ends() {
        for number in [i64::MIN, -10, -1, 0, 7, 1_000, i64::MAX] {
            assert_eq!(Digits::signed(number).bytes(), number.to_string().as_bytes());
        }
        assert_eq!(Digits::unsigned(u64::MAX).bytes(), u64::MAX.to_string().as_bytes());
    }
}
