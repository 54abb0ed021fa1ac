//! `vectors/v1.json`, which was computed by other means, against this codec in both directions.

use std::collections::BTreeSet;

use corelane_protocol::wire::*;
use corelane_protocol::*;
use serde_json::Value as Json;

fn vectors(list: &str) -> Vec<Json> {
    let mut all: Json = serde_json::from_str(include_str!("../vectors/v1.json")).unwrap();
    assert_eq!(all["protocol_version"], limits::VERSION);
    serde_json::from_value(all[list].take()).unwrap()
}

fn name(vector: &Json) -> &str {
    vector["name"].as_str().unwrap()
}

fn bytes_of(json: &Json) -> Vec<u8> {
    let hex = json.as_str().unwrap();
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digits).collect()
}

/// A number of 64 bits is a decimal string.
fn long(json: &Json) -> u64 {
    json.as_str().unwrap().parse().unwrap()
}

fn short<N: TryFrom<u64>>(json: &Json) -> N {
    json.as_u64().and_then(|number| N::try_from(number).ok()).unwrap()
}

fn optional<'j, T>(json: &'j Json, read: impl Fn(&'j Json) -> T) -> Option<T> {
    if json.is_null() { None } else { Some(read(json)) }
}

fn is_set(json: &Json) -> bool {
    json.as_bool().unwrap_or(false)
}

fn status_of(json: &Json) -> Status {
    let name = json.as_str().unwrap();
    *Status::ALL.iter().find(|status| format!("{status:?}") == name).expect(name)
}

/// The key of an object that names its form: the one that is no field of the head.
fn form_of(message: &Json) -> (&str, &Json) {
    const HEAD: [&str; 7] =
        ["id", "epoch", "no_reply", "want_version", "deadline_us", "part", "stand_in"];
    let mut forms =
        message.as_object().unwrap().iter().filter(|(field, _)| !HEAD.contains(&field.as_str()));
    let (form, fields) = forms.next().unwrap();
    assert!(forms.next().is_none(), "{message}");
    (form, fields)
}

fn request_head(message: &Json) -> RequestHead {
    RequestHead {
        id: RequestId(short(&message["id"])),
        epoch: ShortEpoch(optional(&message["epoch"], short).unwrap_or(0)),
        answer: if is_set(&message["no_reply"]) { Answer::Never } else { Answer::Always },
        want_version: if is_set(&message["want_version"]) {
            WantVersion::Yes
        } else {
            WantVersion::No
        },
        deadline: optional(&message["deadline_us"], long).map(MonotonicUs),
        part: optional(&message["part"], short),
        stand_in: if is_set(&message["stand_in"]) { StandIn::Yes } else { StandIn::No },
        space: Space::default(),
    }
}

fn ttl(json: &Json) -> Ttl {
    match json {
        Json::Null => Ttl::Default,
        Json::String(word) if word == "never" => Ttl::Never,
        Json::String(word) if word == "keep" => Ttl::Keep,
        _ => Ttl::After {
            ms: long(&json["ms"]),
            jitter: if is_set(&json["spread"]) { Jitter::Spread } else { Jitter::Exact },
        },
    }
}

/// What a request borrows from.
#[derive(Default)]
struct Store {
    key: Vec<u8>,
    value: Vec<u8>,
    keys: Vec<u8>,
}

fn request<'a>(form: &str, fields: &Json, store: &'a mut Store) -> Request<'a> {
    let version = |json: &Json| Version(long(json));
    store.key = optional(&fields["key"], bytes_of).unwrap_or_default();
    store.value = optional(&fields["value"], bytes_of).unwrap_or_default();
    let condition = &fields["condition"];
    for elsewhere in [&condition["value_is"], &fields["token"]] {
        if let Some(value) = optional(elsewhere, bytes_of) {
            store.value = value;
        }
    }
    let (key, value) = (&store.key[..], &store.value[..]);
    let ttl = ttl(&fields["ttl"]);
    match form {
        "hello" => Request::Hello(Hello {
            version: short(&fields["version"]),
            core: optional(&fields["core"], short),
            token: value,
        }),
        "ping" => Request::Ping,
        "stats" => Request::Stats,
        "topology" => Request::Topology { held_epoch: long(&fields["held_epoch"]) },
        "flush" => Request::Flush { delay_ms: short(&fields["delay_ms"]) },
        "get" => Request::Get { key, least_version: optional(&fields["least_version"], version) },
        "multi_get" => {
            let keys: Vec<Vec<u8>> =
                fields["keys"].as_array().unwrap().iter().map(bytes_of).collect();
            let keys = keys.iter().map(Vec::as_slice);
            Request::MultiGet(Keys::encode(keys, &mut store.keys).unwrap())
        }
        "get_and_touch" => Request::GetAndTouch { key, ttl },
        "exists" => Request::Exists { key },
        "ttl_of" => Request::TtlOf { key },
        "get_or_ask" => Request::GetOrAsk { key },
        "get_left" => Request::GetLeft { key },
        "flush_slot" => Request::FlushSlot { key },
        "set" => Request::Set(Set {
            key,
            value,
            user_flags: optional(&fields["user_flags"], short).unwrap_or(0),
            ttl,
            condition: match condition {
                Json::Null => SetCondition::Always,
                _ if is_set(&condition["absent"]) => SetCondition::Absent,
                _ if is_set(&condition["present"]) => SetCondition::Present,
                _ if is_set(&condition["untouched"]) => SetCondition::Untouched,
                _ => match optional(&condition["version_is"], version) {
                    Some(version) => SetCondition::VersionIs(version),
                    None => SetCondition::NewerThan(version(&condition["newer_than"])),
                },
            },
            old: OldValue::Omit,
        }),
        "delete" => Request::Delete {
            key,
            condition: match condition {
                Json::Null => DeleteCondition::Always,
                _ => match optional(&condition["version_is"], version) {
                    Some(version) => DeleteCondition::VersionIs(version),
                    None => DeleteCondition::ValueIs(value),
                },
            },
        },
        "touch" => Request::Touch { key, ttl, condition: ExpireCondition::Always },
        "count" => Request::Count(Count {
            key,
            delta: long(&fields["delta"]),
            direction: match fields["direction"].as_str().unwrap() {
                "increment" => Direction::Increment,
                "decrement" => Direction::Decrement,
                other => panic!("{other}"),
            },
            arithmetic: match fields["arithmetic"].as_str().unwrap() {
                "signed" => Arithmetic::Signed,
                "unsigned64" => Arithmetic::Unsigned64,
                other => panic!("{other}"),
            },
            initial: optional(&fields["initial"], long),
            ttl,
        }),
        "append" => Request::Extend { key, value, side: Side::Append, absent: Absent::Miss },
        "prepend" => Request::Extend { key, value, side: Side::Prepend, absent: Absent::Miss },
        other => panic!("{other}"),
    }
}

#[test]
fn requests() {
    let mut opcodes = BTreeSet::new();
    for vector in vectors("requests") {
        let bytes = bytes_of(&vector["bytes"]);
        let (form, fields) = form_of(&vector["request"]);
        let mut store = Store::default();
        let request = request(form, fields, &mut store);
        let head = request_head(&vector["request"]);
        assert_eq!(
            decode_request(&bytes, &DecodeLimits::default()),
            Decoded::Complete { frame: RequestFrame { head, request }, consumed: bytes.len() },
            "{}",
            name(&vector)
        );
        if vector["canonical"] != false {
            let mut again = Vec::new();
            encode_request(&head, &request, &mut again).unwrap();
            assert_eq!(again, bytes, "{}", name(&vector));
        }
        opcodes.insert(bytes[1]);
    }
    let all: BTreeSet<u8> = Opcode::ALL.iter().map(|opcode| *opcode as u8).collect();
    assert_eq!(opcodes, all, "every opcode has a vector");
}

#[test]
fn malformed_requests() {
    let mut statuses = BTreeSet::new();
    for vector in vectors("malformed_requests") {
        let bytes = bytes_of(&vector["bytes"]);
        let outcome = &vector["outcome"];
        match decode_request(&bytes, &DecodeLimits::default()) {
            Decoded::Complete { .. } => panic!("{}: taken for whole", name(&vector)),
            Decoded::Incomplete { needed } => {
                assert_eq!(outcome["incomplete"]["needed"], needed, "{}", name(&vector));
            }
            Decoded::Rejected { head, refusal, frame_bytes } => {
                let expected = &outcome["rejected"];
                assert_eq!(status_of(&expected["status"]), refusal.status(), "{}", name(&vector));
                assert_eq!(expected["id"], head.id.0, "{}", name(&vector));
                assert_eq!(expected["frame_bytes"], frame_bytes, "{}", name(&vector));
                let answered = head.answer == Answer::Always;
                assert_eq!(expected["answered"], answered, "{}", name(&vector));
                assert!(!refusal.message().is_empty());
                statuses.insert(refusal.status() as u8);
            }
            Decoded::Fatal { id, refusal } => {
                let expected = &outcome["fatal"];
                assert_eq!(status_of(&expected["status"]), refusal.status(), "{}", name(&vector));
                assert_eq!(expected["id"], id.0, "{}", name(&vector));
                statuses.insert(refusal.status() as u8);
            }
        }
    }
    assert_eq!(statuses.len(), 6, "every status of a refusal has a vector");
}

/// What a reply borrows from.
#[derive(Default)]
struct ReplyStore {
    bytes: Vec<u8>,
    ranges: Vec<u8>,
}

fn reply<'a>(form: &str, fields: &'a Json, store: &'a mut ReplyStore) -> Reply<'a> {
    let version = || optional(&fields["version"], long).map(Version);
    match form {
        "done" => Reply::Done { version: version() },
        "value" => {
            store.bytes = bytes_of(&fields["bytes"]);
            Reply::Value(Value {
                bytes: &store.bytes,
                user_flags: optional(&fields["user_flags"], short).unwrap_or(0),
                version: version(),
            })
        }
        "number" => Reply::Number { number: long(&fields["number"]), version: version() },
        "remaining" => Reply::Remaining(match optional(&fields["ms"], long) {
            None => Remaining::Never,
            Some(ms) => Remaining::Ms(ms),
        }),
        "stats" => Reply::Stats {
            core: short(&fields["core"]),
            text: fields["text"].as_str().unwrap().as_bytes(),
        },
        "pong" => Reply::Pong { clock: MonotonicUs(long(&fields["clock_us"])) },
        "welcome" => {
            let ranges: Vec<(u16, u16)> =
                serde_json::from_value(fields["core_ranges"].clone()).unwrap();
            Welcome::encode_ranges(ranges, &mut store.ranges);
            Reply::Welcome(Welcome {
                version: short(&fields["version"]),
                core: short(&fields["core"]),
                cores: short(&fields["cores"]),
                key_bytes_max: short(&fields["key_bytes_max"]),
                value_bytes_max: short(&fields["value_bytes_max"]),
                clock: MonotonicUs(long(&fields["clock_us"])),
                node_name: fields["node_name"].as_str().unwrap().as_bytes(),
                core_ranges: &store.ranges,
            })
        }
        "end" => Reply::End,
        "redirect" => Reply::Redirect(Redirect {
            redirection: match fields["redirection"].as_str().unwrap() {
                "moved" => Redirection::Moved,
                "ask" => Redirection::Ask,
                other => panic!("{other}"),
            },
            slot: short(&fields["slot"]),
            epoch: long(&fields["epoch"]),
            address: fields["address"].as_str().unwrap(),
        }),
        "topology" => {
            store.bytes = bytes_of(&fields["table"]);
            Reply::Topology { table: &store.bytes }
        }
        "busy" => Reply::Busy { retry_after_us: short(&fields["retry_after_us"]) },
        "failed" => Reply::Failed {
            status: status_of(&fields["status"]),
            message: fields["message"].as_str().unwrap(),
        },
        other => panic!("{other}"),
    }
}

#[test]
fn replies() {
    let (mut kinds, mut statuses) = (BTreeSet::new(), BTreeSet::new());
    for vector in vectors("replies") {
        let bytes = bytes_of(&vector["bytes"]);
        let message = &vector["reply"];
        let (form, fields) = form_of(message);
        let mut store = ReplyStore::default();
        let reply = reply(form, fields, &mut store);
        let head = ReplyHead {
            id: RequestId(short(&message["id"])),
            epoch: ShortEpoch(optional(&message["epoch"], short).unwrap_or(0)),
            part: optional(&message["part"], short),
        };
        assert_eq!(
            decode_reply(&bytes, FRAME_BYTES_MAX),
            ReplyDecoded::Complete { frame: ReplyFrame { head, reply }, consumed: bytes.len() },
            "{}",
            name(&vector)
        );
        if vector["canonical"] != false {
            let mut again = Vec::new();
            encode_reply(&head, &reply, &mut again);
            assert_eq!(again, bytes, "{}", name(&vector));
        }
        statuses.insert(bytes[1]);
        kinds.insert(bytes[2] & 0x7F);
    }
    let all: BTreeSet<u8> = ReplyKind::ALL.iter().map(|kind| *kind as u8).collect();
    assert_eq!(kinds, all, "every kind has a vector");
    let all: BTreeSet<u8> = Status::ALL.iter().map(|status| *status as u8).collect();
    assert_eq!(statuses, all, "every status has a vector");
}

#[test]
fn malformed_replies() {
    for vector in vectors("malformed_replies") {
        let bytes = bytes_of(&vector["bytes"]);
        match decode_reply(&bytes, FRAME_BYTES_MAX - limits::HEADER_BYTES) {
            ReplyDecoded::Complete { .. } => panic!("{}: taken for whole", name(&vector)),
            ReplyDecoded::Incomplete { needed } => {
                assert_eq!(vector["outcome"]["incomplete"]["needed"], needed, "{}", name(&vector));
            }
            ReplyDecoded::Fatal(_) => assert_eq!(vector["outcome"], "fatal", "{}", name(&vector)),
        }
    }
}
