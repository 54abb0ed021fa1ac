//! The frames that only cores exchange: what is encoded is what is decoded, and nobody else
//! can send them.

mod support;

use corelane_protocol::wire::*;
use corelane_protocol::*;
use proptest::prelude::*;
use support::{Parts, parts};

/// A request of every kind that wire version 1 has not.
fn request<'a>(parts: &'a Parts, list: &'a mut Vec<u8>) -> Request<'a> {
    let (key, value) = (&parts.key[..], &parts.value[..]);
    let ttl = parts.ttl();
    let replace = if parts.choices[3] & 1 == 0 { Replace::No } else { Replace::Yes };
    let cursor = WalkCursor(parts.numbers[1]);
    let to_space = Space::new(parts.choices[2] % Space::COUNT).unwrap();
    match parts.form % 21 {
        0 => Request::Set(Set {
            key,
            value,
            user_flags: parts.numbers[2] as u32,
            ttl,
            condition: match parts.choices[2] % 5 {
                0 => SetCondition::Always,
                1 => SetCondition::Absent,
                2 => SetCondition::VersionIs(Version(parts.numbers[1])),
                3 => SetCondition::NewerThan(Version(parts.numbers[1])),
                _ => SetCondition::ValueIs(parts.text.as_bytes()),
            },
            old: OldValue::Return,
        }),
        1 => Request::Touch {
            key,
            ttl,
            condition: match parts.choices[2] % 5 {
                0 => ExpireCondition::IfNone,
                1 => ExpireCondition::IfSome,
                2 => ExpireCondition::IfLater,
                3 => ExpireCondition::IfEarlier,
                _ => ExpireCondition::IfSomeAndEarlier,
            },
        },
        2 => Request::Extend { key, value, side: Side::Prepend, absent: Absent::Create { ttl } },
        3 => Request::GetAndDelete { key },
        4 => {
            Request::GetRange { key, start: parts.numbers[0] as i64, end: parts.numbers[1] as i64 }
        }
        5 => Request::SetRange { key, offset: parts.numbers[0], value },
        6 => Request::Length { key },
        7 => Request::CountFloat { key, delta: value },
        8 => Request::Describe {
            key,
            value: [WithValue::No, WithValue::Counted, WithValue::Yes]
                [usize::from(parts.choices[2] % 3)],
            touch: (parts.choices[3] & 1 == 0).then_some(ttl),
        },
        9 => Request::Scan {
            cursor,
            count: parts.numbers[2] as u32,
            pattern: (parts.choices[2] & 1 == 0).then_some(value),
        },
        10 => Request::RandomKey,
        11 => Request::CountKeys { slot: (parts.choices[2] & 1 == 0).then_some(parts.small[1]) },
        12 => Request::KeysInSlot { slot: parts.small[1], count: parts.numbers[2] as u32 },
        13 => Request::Copy { from: key, to: value, to_space, replace },
        14 => Request::Rename { from: key, to: value, replace },
        15 => {
            parts.keys.iter().for_each(|key| Pairs::push(list, key, value));
            Request::SetMany(SetMany { pairs: Pairs::from_encoded(list), ttl, replace })
        }
        16 => {
            let version = (parts.choices[2] & 1 == 0).then_some(Version(parts.numbers[1]));
            Watches::push(list, &Watch { space: to_space, key, version });
            let watches = Watches::from_encoded(list);
            Request::Atomic(Atomic { slot: parts.small[1], watches, frames: value })
        }
        17 => Request::CountAndDescribe {
            count: Count {
                key,
                delta: parts.numbers[0],
                direction: if parts.choices[2] & 1 == 0 {
                    Direction::Increment
                } else {
                    Direction::Decrement
                },
                arithmetic: if parts.choices[2] & 2 == 0 {
                    Arithmetic::Signed
                } else {
                    Arithmetic::Unsigned64
                },
                initial: (parts.choices[2] & 4 == 0).then_some(parts.numbers[2]),
                ttl,
            },
            version: (parts.choices[3] & 2 == 0).then_some(Version(parts.numbers[1])),
            touch: (parts.choices[3] & 1 == 0).then_some(ttl),
        },
        18 => {
            let version = Version(parts.numbers[0]);
            Request::ExtendIf { key, value, side: Side::Append, version }
        }
        19 => Request::FlushSpace { cursor },
        20 => Request::Watch { key },
        _ => {
            let close = parts.choices[2] & 1 == 0;
            let errand = if close { ClientErrand::Close } else { ClientErrand::List };
            Request::Clients { errand, filter: value }
        }
    }
}

fn reply<'a>(parts: &'a Parts, list: &'a mut Vec<u8>) -> Reply<'a> {
    let description = Description {
        value_bytes: parts.numbers[0],
        memory_bytes: parts.numbers[1],
        user_flags: parts.numbers[2] as u32,
        remaining: match parts.choices[1] & 1 {
            0 => Remaining::Never,
            _ => Remaining::Ms(parts.numbers[1]),
        },
        version: (parts.choices[1] & 2 == 0).then_some(Version(parts.numbers[2])),
        uses: parts.choices[0],
        is_integer: parts.choices[1] & 4 == 0,
    };
    match parts.form % 3 {
        0 => Reply::Described {
            description,
            value: (parts.choices[2] & 1 == 0).then_some(&parts.value),
        },
        1 => {
            parts.keys.iter().for_each(|key| KeyList::push(list, key));
            let keys = KeyList::from_encoded(list);
            Reply::Keys(KeyPage { next: WalkCursor(parts.numbers[0]), keys })
        }
        _ => Reply::Key { key: &parts.key, among: parts.numbers[0] },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn wider_requests(parts in parts()) {
        let mut list = Vec::new();
        let request = request(&parts, &mut list);
        let space = Space::new(parts.choices[1] % Space::COUNT).unwrap();
        let head = RequestHead { space, ..parts.request_head(&request) };
        let mut bytes = Vec::new();
        between_cores::encode_request(&head, &request, &mut bytes).unwrap();
        prop_assert_eq!(
            decode_request(&bytes, &DecodeLimits::BETWEEN_CORES),
            Decoded::Complete { frame: RequestFrame { head, request }, consumed: bytes.len() }
        );
        prop_assert_eq!(
            encode_request(&head, &request, &mut Vec::new()),
            Err(EncodeError::BetweenCores)
        );
        let from_a_client = decode_request(&bytes, &DecodeLimits::default());
        let refused = matches!(
            from_a_client,
            Decoded::Rejected { refusal: Refusal::UnknownOpcode(_), .. }
        );
        prop_assert!(refused, "{:?}", from_a_client);
    }

    #[test]
    fn spaces_of_other_requests(parts in parts()) {
        let mut keys = Vec::new();
        let request = parts.request(&mut keys);
        let space = Space::new(1 + parts.choices[1] % (Space::COUNT - 1)).unwrap();
        let head = RequestHead { space, ..parts.request_head(&request) };
        let mut bytes = Vec::new();
        between_cores::encode_request(&head, &request, &mut bytes).unwrap();
        prop_assert_eq!(
            decode_request(&bytes, &DecodeLimits::BETWEEN_CORES),
            Decoded::Complete { frame: RequestFrame { head, request }, consumed: bytes.len() }
        );
        let from_a_client = decode_request(&bytes, &DecodeLimits::default());
        prop_assert!(matches!(from_a_client, Decoded::Rejected { .. }), "{:?}", from_a_client);
    }

    #[test]
    fn wider_replies(parts in parts()) {
        let mut list = Vec::new();
        let (head, reply) = (parts.reply_head(), reply(&parts, &mut list));
        let mut bytes = Vec::new();
        encode_reply(&head, &reply, &mut bytes);
        prop_assert_eq!(
            between_cores::decode_reply(&bytes),
            ReplyDecoded::Complete { frame: ReplyFrame { head, reply }, consumed: bytes.len() }
        );
        let at_a_client = decode_reply(&bytes, FRAME_BYTES_MAX);
        prop_assert!(matches!(at_a_client, ReplyDecoded::Fatal(ReplyError::UnknownKind(_))));
    }

    #[test]
    fn other_replies(parts in parts()) {
        let (mut ranges, mut bytes) = (Vec::new(), Vec::new());
        encode_reply(&parts.reply_head(), &parts.reply(&mut ranges), &mut bytes);
        prop_assert_eq!(
            between_cores::decode_reply(&bytes),
            decode_reply(&bytes, FRAME_BYTES_MAX)
        );
    }

    /// Other cores are trusted to be whole; still nothing that they send is read past its end.
    #[test]
    fn cut_short(parts in parts(), cut in any::<u16>()) {
        let mut list = Vec::new();
        let mut bytes = Vec::new();
        encode_reply(&parts.reply_head(), &reply(&parts, &mut list), &mut bytes);
        let cut = usize::from(cut) % bytes.len();
        let waits =
            matches!(between_cores::decode_reply(&bytes[..cut]), ReplyDecoded::Incomplete { .. });
        prop_assert!(waits);
    }
}
