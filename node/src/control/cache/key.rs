//! Keys in paths and queries, percent-encoded (RFC 3986, section 2.1).

use super::answer::Problem;
use corelane_protocol::limits::KEY_BYTES_MAX;

const BAD_ESCAPE: Problem = Problem::BadRequest("a % must be followed by two hexadecimal digits");

/// What a plus sign stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plus {
    /// Itself, as everywhere in a path.
    Itself,
    /// A space, as forms have it in a query.
    Space,
}

/// The bytes that a text stands for.
fn decode(text: &str, plus: Plus) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        bytes.push(match (first, plus) {
            (b'%', _) => {
                let digits = rest.split_at_checked(2).ok_or(BAD_ESCAPE)?;
                rest = digits.1;
                let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(BAD_ESCAPE);
                (digit(digits.0[0])? * 16 + digit(digits.0[1])?) as u8
            }
            (b'+', Plus::Space) => b' ',
            (byte, _) => byte,
        });
    }
    Ok(bytes)
}

fn checked(key: Vec<u8>) -> Result<Vec<u8>, Problem> {
    if key.len() > KEY_BYTES_MAX { Err(Problem::KeyTooLong) } else { Ok(key) }
}

/// The key that a path under `/cache/` names.
pub(super) fn of_path(path: &str) -> Result<Vec<u8>, Problem> {
    let text = path.strip_prefix("/cache/").expect("the route begins so");
    checked(decode(text, Plus::Itself)?)
}

/// The first value of a name in a query, still encoded.
pub(super) fn parameter<'q>(query: Option<&'q str>, name: &str) -> Option<&'q str> {
    query?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// The keys of a list in a query. Commas between keys stand for themselves, commas in keys
/// are encoded.
pub(super) fn list(text: &str) -> impl Iterator<Item = Result<Vec<u8>, Problem>> {
    text.split(',').map(|key| checked(decode(key, Plus::Space)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: Result<&[u8], Problem>) {
        assert_eq!(of_path(path), expected.map(<[u8]>::to_vec), "{path}");
    }

    #[test]
    fn a_path_stands_for_any_bytes() {
        check("/cache/plain", Ok(b"plain"));
        check("/cache/a/b", Ok(b"a/b"));
        check("/cache/a%2Fb+c%20d", Ok(b"a/b+c d"));
        check("/cache/%00%ff%FF", Ok(&[0, 255, 255]));
        check("/cache/%", Err(BAD_ESCAPE));
        check("/cache/%4", Err(BAD_ESCAPE));
        check("/cache/%4g", Err(BAD_ESCAPE));
        check("/cache/%+1", Err(BAD_ESCAPE));
        check(&format!("/cache/{}", "k".repeat(KEY_BYTES_MAX + 1)), Err(Problem::KeyTooLong));
    }

    #[test]
    fn a_list_is_parted_before_it_is_decoded() {
        let query = Some("x=1&keys=a,b%2Cc,,d+e&keys=f");
        let keys: Result<Vec<_>, _> = list(parameter(query, "keys").unwrap()).collect();
        assert_eq!(keys.unwrap(), [b"a".as_slice(), b"b,c", b"", b"d e"]);
        assert_eq!(parameter(query, "key"), None);
        assert_eq!(parameter(None, "keys"), None);
    }
}
