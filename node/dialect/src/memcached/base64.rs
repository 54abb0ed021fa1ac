//! Keys in Base64, as the meta commands' flag `b` has them (RFC 4648, section 4).

use super::limits::KEY_BYTES_MAX;

/// The value of a character, or one over 63 for what is none.
const fn value(character: u8) -> u8 {
    match character {
        b'A'..=b'Z' => character - b'A',
        b'a'..=b'z' => character - b'a' + 26,
        b'0'..=b'9' => character - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => 64,
    }
}

/// Decodes text that is whole, padded and has no bits left over, so that encoding gives it
/// back as it was. Text of no bytes is refused, as memcached does.
pub(super) fn decode<'b>(text: &[u8], buffer: &'b mut [u8; KEY_BYTES_MAX]) -> Option<&'b [u8]> {
    let (groups, []) = text.as_chunks::<4>() else { return None };
    let (last, whole) = groups.split_last()?;
    let mut length = 0;
    for &[a, b, c, d] in whole {
        length += group([a, b, c, d].map(value), 3, buffer.get_mut(length..length + 3)?)?;
    }
    let (padded, bytes) = match *last {
        [a, b, b'=', b'='] => ([a, b, b'A', b'A'], 1),
        [a, b, c, b'='] => ([a, b, c, b'A'], 2),
        whole => (whole, 3),
    };
    length += group(padded.map(value), bytes, buffer.get_mut(length..length + bytes)?)?;
    Some(&buffer[..length])
}

/// Writes the first bytes of a group of four; how many.
fn group(values: [u8; 4], bytes: usize, out: &mut [u8]) -> Option<usize> {
    if values.iter().any(|value| *value > 63) {
        return None;
    }
    let bits = values.iter().fold(0u32, |bits, value| bits << 6 | u32::from(*value));
    let [_, decoded @ ..] = bits.to_be_bytes();
    let (wanted, left) = decoded.split_at(bytes);
    out.copy_from_slice(wanted);
    left.iter().all(|byte| *byte == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&[u8]>) {
        let mut buffer = [0; KEY_BYTES_MAX];
        assert_eq!(decode(text.as_bytes(), &mut buffer), expected, "{text}");
    }

    #[test]
    fn the_vectors_of_the_rfc_decode() {
        check("Zg==", Some(b"f"));
        check("Zm8=", Some(b"fo"));
        check("Zm9v", Some(b"foo"));
        check("Zm9vYg==", Some(b"foob"));
        check("Zm9vYmE=", Some(b"fooba"));
        check("Zm9vYmFy", Some(b"foobar"));
        check("//79+w==", Some(&[0xFF, 0xFE, 0xFD, 0xFB]));
    }

    #[test]
    fn what_would_not_be_encoded_so_is_refused() {
        for wrong in
            ["", "Z", "Zg", "Zg=", "Zg===", "Zh==", "Zm9=", "====", "Z===", "Zg==Zg==", "Z-9v"]
        {
            check(wrong, None);
        }
    }

    #[test]
    fn a_key_may_be_as_long_as_any_other() {
        // 84 groups hold 252 bytes; without their last two they are the longest key.
        let longest = format!("{}AA==", "AAAA".repeat(83));
        check(&longest, Some(&[0; KEY_BYTES_MAX]));
        check(&"AAAA".repeat(84), None);
    }
}
