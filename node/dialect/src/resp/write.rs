//! The forms of RESP2 and RESP3, written.

pub(crate) use crate::number::unsigned;

/// Which revision of the protocol a connection speaks; `HELLO` changes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Revision {
    /// RESP2, which every connection begins with.
    #[default]
    Two,
    /// RESP3.
    Three,
}

/// Appends a number in decimal.
pub(crate) fn decimal(number: i64, out: &mut Vec<u8>) {
    if number < 0 {
        out.push(b'-');
    }
    unsigned(number.unsigned_abs(), out);
}

fn line(kind: u8, number: u64, out: &mut Vec<u8>) {
    out.push(kind);
    unsigned(number, out);
    out.extend_from_slice(b"\r\n");
}

/// Appends a simple string, which has no line break in it.
pub(crate) fn simple(text: &str, out: &mut Vec<u8>) {
    out.push(b'+');
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends an error, prefix and words. What would break the line becomes a space, as in
/// Redis: a part of it may come from the client.
pub(crate) fn error(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'-');
    let breaks = |byte: u8| matches!(byte, b'\r' | b'\n');
    let end = text.iter().rposition(|&byte| !breaks(byte)).map_or(0, |last| last + 1);
    out.extend(text[..end].iter().map(|&byte| if breaks(byte) { b' ' } else { byte }));
    out.extend_from_slice(b"\r\n");
}

/// Appends an integer.
pub(crate) fn integer(number: i64, out: &mut Vec<u8>) {
    out.push(b':');
    decimal(number, out);
    out.extend_from_slice(b"\r\n");
}

/// Appends what comes before the bytes of a string.
pub(crate) fn bulk_header(length: usize, out: &mut Vec<u8>) {
    line(b'$', length as u64, out);
}

/// Appends a string.
pub(crate) fn bulk(bytes: &[u8], out: &mut Vec<u8>) {
    bulk_header(bytes.len(), out);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends a text that clients may show as it is (a verbatim string in RESP3).
pub(crate) fn verbatim(revision: Revision, text: &[u8], out: &mut Vec<u8>) {
    match revision {
        Revision::Two => bulk(text, out),
        Revision::Three => {
            line(b'=', text.len() as u64 + 4, out);
            out.extend_from_slice(b"txt:");
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Appends "there is none".
pub(crate) fn null(revision: Revision, out: &mut Vec<u8>) {
    out.extend_from_slice(match revision {
        Revision::Two => b"$-1\r\n",
        Revision::Three => b"_\r\n",
    });
}

/// Appends "there is none" where an array was to be expected.
pub(crate) fn null_array(revision: Revision, out: &mut Vec<u8>) {
    out.extend_from_slice(match revision {
        Revision::Two => b"*-1\r\n",
        Revision::Three => b"_\r\n",
    });
}

/// Appends what comes before the elements of an array.
pub(crate) fn array(length: usize, out: &mut Vec<u8>) {
    line(b'*', length as u64, out);
}

/// Appends what comes before the keys and values of a map: in RESP2 they are an array.
pub(crate) fn map(revision: Revision, pairs: usize, out: &mut Vec<u8>) {
    match revision {
        Revision::Two => array(2 * pairs, out),
        Revision::Three => line(b'%', pairs as u64, out),
    }
}

/// Appends what comes before the members of a set.
pub(crate) fn set(revision: Revision, length: usize, out: &mut Vec<u8>) {
    match revision {
        Revision::Two => array(length, out),
        Revision::Three => line(b'~', length as u64, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(write: impl Fn(&mut Vec<u8>), expected: &str) {
        let mut out = Vec::new();
        write(&mut out);
        assert_eq!(out.escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string());
    }

    #[test]
    fn every_form_is_as_the_protocol_has_it() {
        check(|out| simple("OK", out), "+OK\r\n");
        check(|out| error(b"ERR no\r\nbreaks\r\n", out), "-ERR no  breaks\r\n");
        check(|out| integer(i64::MIN, out), ":-9223372036854775808\r\n");
        check(|out| integer(0, out), ":0\r\n");
        check(|out| bulk(b"", out), "$0\r\n\r\n");
        check(|out| bulk(b"a\r\nb", out), "$4\r\na\r\nb\r\n");
        check(|out| verbatim(Revision::Two, b"text", out), "$4\r\ntext\r\n");
        check(|out| verbatim(Revision::Three, b"text", out), "=8\r\ntxt:text\r\n");
        check(|out| null(Revision::Two, out), "$-1\r\n");
        check(|out| null(Revision::Three, out), "_\r\n");
        check(|out| null_array(Revision::Two, out), "*-1\r\n");
        check(|out| null_array(Revision::Three, out), "_\r\n");
        check(|out| array(0, out), "*0\r\n");
        check(|out| map(Revision::Two, 3, out), "*6\r\n");
        check(|out| map(Revision::Three, 3, out), "%3\r\n");
        check(|out| set(Revision::Two, 3, out), "*3\r\n");
        check(|out| set(Revision::Three, 3, out), "~3\r\n");
    }
}
