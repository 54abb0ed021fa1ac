//! What a server answered, cut into lines, in the form in which the two are compared.

use std::collections::HashMap;
use std::fmt;

/// A line of an answer, and the value that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    words: Vec<Vec<u8>>,
    value: Option<Vec<u8>>,
}

impl fmt::Display for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for word in &self.words {
            write!(formatter, "{} ", word.escape_ascii())?;
        }
        match &self.value {
            Some(value) => write!(formatter, "| {}", value[..value.len().min(60)].escape_ascii()),
            None => Ok(()),
        }
    }
}

/// Cuts answers into lines, and notes the versions that they tell of keys.
///
/// Versions are taken as equal, and times to live that were given together and have the same
/// hundreds of seconds; so are a number and the same with the spaces that memcached leaves
/// after one that was longer, whether something was read before (which Corelane's policy
/// forgets), and the version strings.
pub(crate) fn lines(answer: &[u8], versions: &mut HashMap<Vec<u8>, Vec<u8>>) -> Vec<Line> {
    let mut rest = answer;
    let mut lines = Vec::new();
    while !rest.is_empty() {
        let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else {
            lines.push(Line { words: vec![rest.to_vec()], value: None });
            break;
        };
        let (line, after) = rest.split_at(end);
        rest = &after[2..];
        let mut words: Vec<Vec<u8>> =
            line.split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect();
        let length = match words[0].as_slice() {
            b"VALUE" => Some(3),
            b"VA" => Some(1),
            _ => None,
        };
        let length = length.map(|at| {
            let text = String::from_utf8(words[at].clone()).expect("a length");
            (at, text.parse::<usize>().expect("a length"))
        });
        let mut value = None;
        if let Some((at, length)) = length {
            let (bytes, after) = rest.split_at(length);
            rest = after.strip_prefix(b"\r\n").expect("a value ends with its line");
            let number = bytes.trim_ascii_end();
            let is_number = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
            let bytes = if is_number { number } else { bytes };
            words[at] = bytes.len().to_string().into_bytes();
            value = Some(bytes.to_vec());
        }
        even_out(&mut words, versions);
        lines.push(Line { words, value });
    }
    lines
}

fn even_out(words: &mut Vec<Vec<u8>>, versions: &mut HashMap<Vec<u8>, Vec<u8>>) {
    match words[0].as_slice() {
        b"VALUE" if words.len() == 5 => {
            let version = std::mem::replace(&mut words[4], b"VERSION".to_vec());
            versions.insert(words[1].clone(), version);
        }
        b"VERSION" => words.truncate(1),
        b"VA" | b"HD" | b"EX" | b"NS" | b"NF" | b"EN" => {
            let start = if words[0] == b"VA" { 2 } else { 1 };
            let key = words[start..].iter().find(|word| word.first() == Some(&b'k'));
            let key = key.map(|word| word[1..].to_vec());
            for word in &mut words[start..] {
                match word.as_slice() {
                    b"c0" => {}
                    [b'c', version @ ..] => {
                        if let Some(key) = &key {
                            versions.insert(key.clone(), version.to_vec());
                        }
                        *word = b"c-VERSION".to_vec();
                    }
                    [b'h', _] => *word = b"h".to_vec(),
                    [b't', digits @ ..] if digits != b"-1" => {
                        let seconds: u64 = str::from_utf8(digits)
                            .expect("digits")
                            .parse()
                            .expect("a time to live");
                        *word = format!("t-{}", seconds.div_ceil(100)).into_bytes();
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
}
