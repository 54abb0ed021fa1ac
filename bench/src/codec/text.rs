//! What the protocols made of lines have in common: lines that end in CR LF, and decimal
//! numbers in them.

/// Longest line of a reply. Values are no lines; what servers say when they refuse is.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Longest value that a reply may announce.
pub(super) const VALUE_BYTES_MAX: usize = corelane_protocol::limits::VALUE_BYTES_MAX;

/// The first line of the input without its end, and where the next begins; nothing while
/// it is incomplete.
///
/// # Errors
/// It does not end, or not in CR LF.
pub(super) fn line(input: &[u8]) -> Result<Option<(&[u8], usize)>, &'static str> {
    match input.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') {
        Some(end) => match input[..end].split_last() {
            Some((b'\r', line)) => Ok(Some((line, end + 1))),
            _ => Err("a line that does not end in CR LF"),
        },
        None if input.len() < LINE_BYTES_MAX => Ok(None),
        None => Err("a line without end"),
    }
}

/// A value of that many bytes and the CR LF after it, from the start of the input; nothing
/// while they are incomplete.
///
/// # Errors
/// Something else follows the value.
pub(super) fn value(input: &[u8], bytes: usize) -> Result<Option<&[u8]>, &'static str> {
    let Some((value, after)) = input.split_at_checked(bytes) else { return Ok(None) };
    match after {
        [b'\r', b'\n', ..] => Ok(Some(value)),
        [] | [b'\r'] => Ok(None),
        _ => Err("a value that is not as long as it said"),
    }
}

/// A number without sign, of a value's length.
pub(super) fn length(text: &[u8]) -> Option<usize> {
    let bytes: usize = std::str::from_utf8(text).ok()?.parse().ok()?;
    (bytes <= VALUE_BYTES_MAX && text.first() != Some(&b'+')).then_some(bytes)
}

/// Appends a number in decimal digits.
pub(super) fn push_number(mut number: usize, output: &mut Vec<u8>) {
    // As many digits as 2^64 has.
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    output.extend_from_slice(&digits[start..]);
}

/// A reply is read once it is whole, whatever follows it, and never before.
#[cfg(test)]
pub(super) fn check_reply(codec: &mut impl super::Codec, bytes: &str, expected: super::Answer<'_>) {
    let bytes = bytes.as_bytes();
    for end in 0..bytes.len() {
        assert_eq!(codec.reply(&bytes[..end]), Ok(None), "{end} bytes");
    }
    let reply = super::Reply { id: None, answer: expected, length: bytes.len() };
    assert_eq!(codec.reply(bytes), Ok(Some(reply.clone())));
    assert_eq!(codec.reply(&[bytes, bytes].concat()), Ok(Some(reply)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_and_read() {
        for number in [0, 1, 9, 10, 99, 100, 65_536, VALUE_BYTES_MAX] {
            let mut output = Vec::new();
            push_number(number, &mut output);
            assert_eq!(output, number.to_string().as_bytes());
            assert_eq!(length(&output), Some(number));
        }
        let mut output = Vec::new();
        push_number(usize::MAX, &mut output);
        assert_eq!(output, usize::MAX.to_string().as_bytes());
        for wrong in ["", "-1", "+1", "1 ", "x", "99999999999", "99999999999999999999999"] {
            assert_eq!(length(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn lines_end_in_both() {
        assert_eq!(line(b"+OK\r\nmore"), Ok(Some((&b"+OK"[..], 5))));
        assert_eq!(line(b"\r\n"), Ok(Some((&b""[..], 2))));
        for incomplete in ["", "+OK", "+OK\r"] {
            assert_eq!(line(incomplete.as_bytes()), Ok(None));
        }
        assert!(line(b"+OK\n").is_err());
        assert!(line(b"\n").is_err());
        assert!(line(&vec![b'x'; LINE_BYTES_MAX]).is_err());
    }
}
