//! The floors' protocol: a request says how long its reply shall be, and the reply is as
//! many bytes. Frames are as long as Corelane's own for the same keys and values, so that
//! the kernel does the same work; the server does next to none.
//!
//! | bytes | request | reply |
//! | --- | --- | --- |
//! | 0–3 | bytes of the request, u32 little-endian | bytes of the reply |
//! | 4–7 | bytes of the reply | id |
//! | 8–11 | id | 0 |
//! | 12–15 | 0 | 0 |
//! | then | key, value | zeros |

use super::{Answer, Codec, CodecError, Greeting, Opening, Reply, ReplyOrder};

/// Bytes of the header in both directions.
pub const HEADER_BYTES: usize = 16;

/// Longest reply.
pub const REPLY_BYTES_MAX: usize = HEADER_BYTES + corelane_protocol::limits::VALUE_BYTES_MAX;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Fixed {
    /// Bytes of a value, which a read is answered by.
    pub value_bytes: usize,
}

/// What the server needs to know of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Bytes of the whole request.
    pub request_bytes: usize,
    /// Bytes of the whole reply.
    pub reply_bytes: usize,
    /// The request's id.
    pub id: u32,
}

/// Reads the header at the start of the input; nothing while the request is incomplete.
///
/// # Errors
/// The lengths are impossible.
pub fn asked(input: &[u8]) -> Result<Option<Asked>, CodecError> {
    let Some(header) = input.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let [r0, r1, r2, r3, a0, a1, a2, a3, i0, i1, i2, i3, ..] = *header;
    let request_bytes = u32::from_le_bytes([r0, r1, r2, r3]) as usize;
    let reply_bytes = u32::from_le_bytes([a0, a1, a2, a3]) as usize;
    if request_bytes < HEADER_BYTES || !(HEADER_BYTES..=REPLY_BYTES_MAX).contains(&reply_bytes) {
        return Err(error("a request with impossible lengths"));
    }
    let asked = Asked { request_bytes, reply_bytes, id: u32::from_le_bytes([i0, i1, i2, i3]) };
    Ok((input.len() >= request_bytes).then_some(asked))
}

/// Appends the reply to a request.
pub fn answer(asked: &Asked, output: &mut Vec<u8>) {
    let start = output.len();
    output.resize(start + asked.reply_bytes, 0);
    output[start..start + 4].copy_from_slice(&(asked.reply_bytes as u32).to_le_bytes());
    output[start + 4..start + 8].copy_from_slice(&asked.id.to_le_bytes());
}

fn error(reason: &str) -> CodecError {
    CodecError { protocol: "the floors' protocol", reason: reason.to_owned() }
}

fn request(id: u32, parts: [&[u8]; 2], reply_bytes: usize, output: &mut Vec<u8>) {
    let request_bytes = HEADER_BYTES + parts[0].len() + parts[1].len();
    output.extend_from_slice(&(request_bytes as u32).to_le_bytes());
    output.extend_from_slice(&(reply_bytes as u32).to_le_bytes());
    output.extend_from_slice(&id.to_le_bytes());
    output.extend_from_slice(&[0; 4]);
    output.extend_from_slice(parts[0]);
    output.extend_from_slice(parts[1]);
}

impl Codec for Fixed {
    const ORDER: ReplyOrder = ReplyOrder::ById;

    fn open(&mut self, _: Opening<'_>, _: &mut Vec<u8>) {}

    fn opened(&mut self, _: &[u8]) -> Result<Option<(Greeting, usize)>, CodecError> {
        Ok(Some((Greeting::default(), 0)))
    }

    fn get(&mut self, id: u32, key: &[u8], output: &mut Vec<u8>) {
        request(id, [key, b""], HEADER_BYTES + self.value_bytes, output);
    }

    fn set(&mut self, id: u32, key: &[u8], value: &[u8], output: &mut Vec<u8>) {
        request(id, [key, value], HEADER_BYTES, output);
    }

    fn reply<'i>(&mut self, input: &'i [u8]) -> Result<Option<Reply<'i>>, CodecError> {
        let Some(header) = input.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let [l0, l1, l2, l3, i0, i1, i2, i3, ..] = *header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if !(HEADER_BYTES..=REPLY_BYTES_MAX).contains(&length) {
            return Err(error("a reply with an impossible length"));
        }
        let id = u32::from_le_bytes([i0, i1, i2, i3]);
        let reply = Reply { id: Some(id), answer: Answer::Unchecked, length };
        Ok((input.len() >= length).then_some(reply))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_as_long_as_asked() {
        let mut codec = Fixed { value_bytes: 64 };
        let mut requests = Vec::new();
        codec.get(7, b"key", &mut requests);
        let get_bytes = requests.len();
        codec.set(8, b"key", b"value", &mut requests);
        let get = asked(&requests).unwrap().unwrap();
        assert_eq!(get, Asked { request_bytes: get_bytes, reply_bytes: 80, id: 7 });
        let set = asked(&requests[get_bytes..]).unwrap().unwrap();
        assert_eq!((set.request_bytes, set.reply_bytes, set.id), (24, 16, 8));
        assert_eq!(asked(&requests[..get_bytes - 1]), Ok(None));

        let mut replies = Vec::new();
        answer(&get, &mut replies);
        answer(&set, &mut replies);
        assert_eq!(codec.reply(&replies[..79]), Ok(None));
        let first = codec.reply(&replies).unwrap().unwrap();
        assert_eq!((first.id, first.length), (Some(7), 80));
        let second = codec.reply(&replies[80..]).unwrap().unwrap();
        assert_eq!((second.id, second.length), (Some(8), 16));
        assert!(codec.reply(&[0; 16]).is_err());
        assert!(asked(&[0; 16]).is_err());
    }
}
