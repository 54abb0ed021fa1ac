//! Conversations in memcached's protocols, against a plain map that executes the requests.
//! What is expected was answered by memcached 1.6.18. Each conversation is also held byte by
//! byte, and the entry point of the fuzzer is called with what a seeded generator makes.

use std::collections::HashMap;

use corelane_dialect::fuzz::{self, Node};
use corelane_dialect::memcached::{Gathering, Session};
use corelane_dialect::{Gather, Moment, Part, Shape, Step, Taken};
use corelane_protocol::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};

const MOMENT: Moment = Moment { now: MonotonicUs(0), unix_ms: 1_700_000_000_000 };
const VALUE_BYTES_MAX: usize = 100;

#[derive(Clone)]
struct Entry {
    value: Vec<u8>,
    user_flags: u32,
    version: u64,
    remaining: Remaining,
    uses: u8,
}

/// The slow, obvious execution of what memcached's commands ask for, at one moment of time.
#[derive(Default)]
struct Map {
    entries: HashMap<Vec<u8>, Entry>,
    version: u64,
}

type Answered<'a> = Result<Reply<'a>, Status>;

impl Map {
    fn execute(&mut self, part: &Part<'_>, out: &mut Vec<u8>) {
        let shape = part.shape;
        let reply = self
            .perform(&part.head, &part.request)
            .unwrap_or_else(|status| Reply::Failed { status, message: "" });
        if part.head.answer == Answer::Always {
            shape.render(part.echo, &reply, MOMENT, out);
        }
        self.entries.retain(|_, entry| entry.remaining != Remaining::Ms(0));
    }

    fn perform(&mut self, head: &RequestHead, request: &Request<'_>) -> Answered<'_> {
        let version = |entry: &Entry| {
            (head.want_version == WantVersion::Yes).then_some(Version(entry.version))
        };
        match *request {
            Request::Get { key, .. } => self.get(key, version),
            Request::GetAndTouch { key, ttl } => {
                self.touch(key, ttl)?;
                self.get(key, version)
            }
            Request::Set(set) => {
                let old = self.entries.get(set.key);
                let holds = match set.condition {
                    SetCondition::Always => true,
                    SetCondition::Absent => old.is_none(),
                    SetCondition::Present => old.is_some(),
                    SetCondition::VersionIs(version) => {
                        old.ok_or(Status::NotFound)?.version == version.0
                    }
                    _ => unreachable!("memcached has no such condition"),
                };
                if !holds {
                    return Err(Status::ConditionFailed);
                }
                let entry = self.put(set.key, set.value.to_vec(), set.user_flags, set.ttl);
                Ok(Reply::Done { version: version(entry) })
            }
            Request::Extend { key, value, side, absent: Absent::Miss } => {
                let Entry { value: old, user_flags, remaining, .. } =
                    self.entries.get(key).cloned().ok_or(Status::NotFound)?;
                let whole = match side {
                    Side::Append => [&old, value].concat(),
                    Side::Prepend => [value, &old].concat(),
                };
                let entry = self.put(key, whole, user_flags, Ttl::Never);
                entry.remaining = remaining;
                Ok(Reply::Done { version: version(entry) })
            }
            Request::Delete { key, condition } => {
                let entry = self.entries.get(key).ok_or(Status::NotFound)?;
                match condition {
                    DeleteCondition::VersionIs(version) if version.0 != entry.version => {
                        return Err(Status::ConditionFailed);
                    }
                    _ => self.entries.remove(key),
                };
                Ok(Reply::Done { version: None })
            }
            Request::Touch { key, ttl, .. } => {
                self.touch(key, ttl)?;
                Ok(Reply::Done { version: None })
            }
            Request::ExtendIf { key, value, side, version: wanted } => {
                let entry = self.entries.get(key).ok_or(Status::NotFound)?;
                if entry.version != wanted.0 {
                    return Err(Status::ConditionFailed);
                }
                let request = Request::Extend { key, value, side, absent: Absent::Miss };
                self.perform(head, &request)
            }
            Request::Count(count) => self.count(&count, version),
            Request::CountAndDescribe { count, version: wanted, touch } => {
                let entry = self.entries.get(count.key);
                let differs =
                    |version: Version| entry.is_some_and(|entry| entry.version != version.0);
                if wanted.is_some_and(differs) {
                    return Err(Status::ConditionFailed);
                }
                self.count(&count, |_| None)?;
                let (key, value) = (count.key, WithValue::Yes);
                self.perform(head, &Request::Describe { key, value, touch })
            }
            Request::Describe { key, value, touch } => {
                let entry = self.entries.get_mut(key).ok_or(Status::NotFound)?;
                let description = Description {
                    value_bytes: entry.value.len() as u64,
                    memory_bytes: 63,
                    user_flags: entry.user_flags,
                    remaining: entry.remaining,
                    version: version(entry),
                    uses: entry.uses,
                    is_integer: false,
                };
                entry.uses += u8::from(value != WithValue::No);
                if let Some(ttl) = touch {
                    entry.remaining = remaining(ttl);
                }
                let value = (value == WithValue::Yes).then_some(&entry.value[..]);
                Ok(Reply::Described { description, value })
            }
            _ => unreachable!("memcached does not ask for {request:?}"),
        }
    }

    fn get(&mut self, key: &[u8], version: impl Fn(&Entry) -> Option<Version>) -> Answered<'_> {
        let entry = self.entries.get_mut(key).ok_or(Status::NotFound)?;
        entry.uses += 1;
        let version = version(entry);
        Ok(Reply::Value(Value { bytes: &entry.value, user_flags: entry.user_flags, version }))
    }

    fn touch(&mut self, key: &[u8], ttl: Ttl) -> Result<(), Status> {
        self.entries.get_mut(key).ok_or(Status::NotFound)?.remaining = remaining(ttl);
        Ok(())
    }

    fn count(
        &mut self,
        count: &Count<'_>,
        version: impl Fn(&Entry) -> Option<Version>,
    ) -> Answered<'_> {
        let Some(old) = self.entries.get(count.key).cloned() else {
            let number = count.initial.ok_or(Status::NotFound)?;
            let entry = self.put(count.key, number.to_string().into_bytes(), 0, count.ttl);
            return Ok(Reply::Number { number, version: version(entry) });
        };
        let number = str::from_utf8(&old.value).ok().and_then(|text| text.parse::<u64>().ok());
        let number = number.ok_or(Status::NotANumber)?;
        let number = match count.direction {
            Direction::Increment => number.wrapping_add(count.delta),
            Direction::Decrement => number.saturating_sub(count.delta),
        };
        let entry =
            self.put(count.key, number.to_string().into_bytes(), old.user_flags, Ttl::Never);
        entry.remaining = old.remaining;
        Ok(Reply::Number { number, version: version(entry) })
    }

    fn put(&mut self, key: &[u8], value: Vec<u8>, user_flags: u32, ttl: Ttl) -> &mut Entry {
        self.version += 1;
        let version = self.version;
        let entry = Entry { value, user_flags, version, remaining: remaining(ttl), uses: 0 };
        self.entries.entry(key.to_vec()).insert_entry(entry).into_mut()
    }
}

fn remaining(ttl: Ttl) -> Remaining {
    match ttl {
        Ttl::After { ms, .. } => Remaining::Ms(ms),
        Ttl::Never | Ttl::Default | Ttl::Keep => Remaining::Never,
    }
}

/// What a node answers to these bytes, which arrive in pieces of a length.
fn converse(node: &Node, input: &[u8], piece: usize) -> String {
    let mut session = Session::new(VALUE_BYTES_MAX, node);
    let mut map = Map::default();
    let (mut out, mut start) = (Vec::new(), 0);
    for end in (piece..input.len()).step_by(piece).chain([input.len()]) {
        while let Taken::Whole { consumed, step } =
            session.step(&input[start..end], node, MOMENT, &mut out)
        {
            start += consumed;
            match step {
                Step::Answered => {}
                Step::One(part) => map.execute(&part, &mut out),
                Step::Several { parts, gather: Gather::InOrder { end } } => {
                    parts.for_each(|part| map.execute(&part, &mut out));
                    out.extend_from_slice(end);
                }
                Step::Everywhere { request, gather: Gather::Memcached(gather), .. } => {
                    if let Request::Flush { delay_ms: 0 } = request {
                        map.entries.clear();
                    }
                    Gathering::new(gather).finish(node, MOMENT, &mut out);
                }
                Step::Close => {
                    out.extend_from_slice(b"<closed>");
                    return String::from_utf8(out).unwrap();
                }
                step => panic!("{step:?}"),
            }
        }
    }
    String::from_utf8(out).unwrap()
}

/// Lines end in CR and LF on the wire and in LF here.
#[track_caller]
fn check(input: &str, expected: &str) {
    check_at(&Node { token: None }, input, expected);
}

#[track_caller]
fn check_at(node: &Node, input: &str, expected: &str) {
    let input = input.replace('\n', "\r\n");
    let expected = expected.replace('\n', "\r\n");
    for piece in [input.len().max(1), 1, 2, 7] {
        assert_eq!(converse(node, input.as_bytes(), piece), expected, "in pieces of {piece}");
    }
}

#[test]
fn values_are_told_under_their_keys() {
    check(
        "set k 5 0 3\nabc\nget k\ngets k\nget k nokey k\nget  k \nget no\n",
        "STORED\nVALUE k 5 3\nabc\nEND\nVALUE k 5 3 1\nabc\nEND\n\
         VALUE k 5 3\nabc\nVALUE k 5 3\nabc\nEND\nVALUE k 5 3\nabc\nEND\nEND\n",
    );
    check("get\nget \ngat\ngat 10\nGET k\n", "ERROR\nERROR\nERROR\nEND\nERROR\n");
    check("set k 0 0 0\n\nget k\n", "STORED\nVALUE k 0 0\n\nEND\n");
    check(
        "set k 0 100 1\na\ngat -1 k\nget k\nset k 0 0 1\na\ngats 10 k no\ngat x k\n",
        "STORED\nVALUE k 0 1\na\nEND\nEND\nSTORED\nVALUE k 0 1 2\na\nEND\n\
         CLIENT_ERROR invalid exptime argument\n",
    );
}

#[test]
fn a_line_ends_with_or_without_a_return() {
    for (line, expected) in [
        ("version x\n", "VERSION 1.6.18-corelane-0.1.0\r\n"),
        ("\r\n", "ERROR\r\n"),
        ("\n", "ERROR\r\n"),
        ("set k 0 0 1\na\r\nget k\n", "STORED\r\nVALUE k 0 1\r\na\r\nEND\r\n"),
    ] {
        assert_eq!(converse(&Node { token: None }, line.as_bytes(), line.len()), expected);
    }
}

#[test]
fn stores_have_their_conditions() {
    check(
        "add k 0 0 1\na\nadd k 0 0 1\nb\nreplace k 0 0 1\nc\nreplace no 0 0 1\nd\n\
         append k 0 0 1\nx\nprepend k 9 100 1\ny\nappend no 0 0 1\nz\nget k\n",
        "STORED\nNOT_STORED\nSTORED\nNOT_STORED\nSTORED\nSTORED\nNOT_STORED\n\
         VALUE k 0 3\nycx\nEND\n",
    );
    check(
        "cas k 0 0 1 9\na\nset k 0 0 1\na\ncas k 0 0 1 9\nb\ncas k 0 0 1 1\nc\ncas k 0 0 1\n\
         cas k 0 0 1 x\nget k\n",
        "NOT_FOUND\nSTORED\nEXISTS\nSTORED\nERROR\nCLIENT_ERROR bad command line format\n\
         VALUE k 0 1\nc\nEND\n",
    );
}

#[test]
fn a_store_that_is_wrong_is_refused_and_its_value_read_over() {
    let bad = "CLIENT_ERROR bad command line format\n";
    check("set k 0 0\na\n", "ERROR\nERROR\n");
    check("set k 0 0 -1\nmn\n", &format!("{bad}MN\n"));
    check("set k -1 0 1\nmn\n", &format!("{bad}MN\n"));
    check("set k 4294967295 0 1\na\nget k\n", "STORED\nVALUE k 4294967295 1\na\nEND\n");
    check("set k 4294967296 0 1\nmn\n", &format!("{bad}MN\n"));
    check("set k 1x 0 1\nmn\n", &format!("{bad}MN\n"));
    check("set k 0 0 1 other\na\n", "STORED\n");
    check("set k 0 0 1 noreply\na\nget k\n", "VALUE k 0 1\na\nEND\n");
    check("set k 0 0 1x noreply\nmn\n", "MN\n");
    check("set k 0 0 1 noreply 2\nmn\n", "ERROR\nMN\n");
    check("set k 0 0 3\nabcde\nget k\n", "CLIENT_ERROR bad data chunk\nERROR\nEND\n");
    check("set k 0 0 3 noreply\nabcde\nget k\n", "ERROR\nEND\n");
    let key = "k".repeat(251);
    check(&format!("set {key} 0 0 1\nget {key}\nget a {key}\n"), &bad.repeat(3));
    let key = "k".repeat(250);
    check(&format!("set {key} 0 0 1\na\n"), "STORED\n");
}

#[test]
fn what_is_too_large_does_not_leave_the_old_value() {
    let value = "x".repeat(VALUE_BYTES_MAX + 1);
    let too_large = "SERVER_ERROR object too large for cache\n";
    check(
        &format!("set k 0 0 1\na\nset k 0 0 101\n{value}\nget k\n"),
        &format!("STORED\n{too_large}END\n"),
    );
    check(
        &format!("set k 0 0 1\na\nadd k 0 0 101\n{value}\nget k\n"),
        &format!("STORED\n{too_large}VALUE k 0 1\na\nEND\n"),
    );
    check(&format!("set k 0 0 101 noreply\n{value}\nget k\n"), "END\n");
    check(&format!("ms k 1\na\nms k 101\n{value}\nmg k v\n"), &format!("HD\n{too_large}EN\n"));
}

#[test]
fn numbers_wrap_above_and_stop_at_0() {
    check(
        "incr n 1\nset n 7 0 2\n10\nincr n 5\ndecr n 100\ndecr n 1\nget n\n\
         incr n 18446744073709551615\nincr n 2\n",
        "NOT_FOUND\nSTORED\n15\n0\n0\nVALUE n 7 1\n0\nEND\n18446744073709551615\n1\n",
    );
    let delta = "CLIENT_ERROR invalid numeric delta argument\n";
    check(
        "set n 0 0 1\na\nincr n 1\nincr n -1\nincr n 18446744073709551616\nincr n\n\
         incr n x noreply\nincr n 1 2 3\n",
        &format!(
            "STORED\nCLIENT_ERROR cannot increment or decrement non-numeric value\n\
             {delta}{delta}ERROR\nERROR\n"
        ),
    );
}

#[test]
fn deletes_touches_and_flushes_are_confirmed() {
    let usage = "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\n";
    check(
        "set k 0 0 1\na\ndelete k\ndelete k\ndelete k 0\ndelete k 1\ndelete k 0 noreply\n\
         delete k noreply\ndelete\ndelete k 0 1\ndelete a b c d\ndelete k 1 noreply\n",
        &format!("STORED\nDELETED\nNOT_FOUND\nNOT_FOUND\n{usage}ERROR\n{usage}ERROR\n"),
    );
    check(
        "set k 0 0 1\na\ntouch k 10\ntouch no 10\ntouch k x\ntouch k\ntouch k 10 noreply\n\
         touch k -1\nget k\n",
        "STORED\nTOUCHED\nNOT_FOUND\nCLIENT_ERROR invalid exptime argument\nERROR\nTOUCHED\nEND\n",
    );
    check(
        "flush_all x\nflush_all -1\nflush_all 0\nflush_all noreply\nflush_all 100 noreply\n\
         flush_all 1 2 3\nflush_all 100\nflush_all\nset k 0 0 1\na\nflush_all\nget k\n",
        "CLIENT_ERROR invalid exptime argument\nOK\nOK\nERROR\nOK\nOK\nSTORED\nOK\nEND\n",
    );
}

#[test]
fn the_rest_is_answered_or_refused() {
    check(
        "verbosity 1\nverbosity\nverbosity x\nverbosity 1 noreply\nverbosity noreply\n",
        "OK\nERROR\nCLIENT_ERROR bad command line format\n",
    );
    check("stats foo\nstats reset\nstats items\n", "ERROR\nRESET\nEND\n");
    check(
        "shutdown\nslabs\nlru_crawler\nwatch\na\nx y\nmx\nm\n",
        &format!("ERROR: shutdown not enabled\n{}", "ERROR\n".repeat(7)),
    );
    check("mn\nmn x\nquit\nmn\n", "MN\nMN\n<closed>");
}

#[test]
fn a_line_may_not_be_longer_than_memcached_takes_but_a_get_may() {
    check(&format!("{}\n", "x".repeat(2_048)), "ERROR\n");
    let closed = "CLIENT_ERROR line too long\n<closed>";
    check(&format!("{}\n", "x".repeat(2_049)), closed);
    check(&"x".repeat(2_050), closed);
    check(&format!("get {}\n", "key ".repeat(3_000)), "END\n");
}

#[test]
fn meta_gets_answer_their_flags_in_order() {
    check("mg\nmg no\nmg no k Oabc\nmg no q k\n", "ERROR\nEN\nEN kno Oabc\n");
    check(
        "ms m 3 F77 T100\nabc\nmg m\nmg m v\nmg m s t f c k O1 v q\nmg m T30 t\nmg m t T0\n\
         mg m t\nmg  m   k \nmg m vk kx\n",
        "HD\nHD\nVA 3\nabc\nVA 3 s3 t100 f77 c1 km O1\nabc\nHD t30\nHD t30\nHD t-1\nHD km\n\
         VA 3 km\nabc\n",
    );
    check("set k 0 0 1\na\nmg k h\nmg k h\nmg k u\n", "STORED\nHD h0\nHD h1\nHD\n");
    check(
        "mg m v v\nmg m !\nmg m xyz\nmg m S1\n",
        "CLIENT_ERROR duplicate flag\nCLIENT_ERROR invalid flag\nCLIENT_ERROR invalid flag\n\
         CLIENT_ERROR invalid flag\n",
    );
    check("mg m C1 D1 J1 MX F1 I P1 L1\n", "EN\n");
    let opaque = format!("O{}", "1".repeat(31));
    check(
        &format!("mg m {opaque} k\nmg m {opaque}1 k\n"),
        &format!("EN {opaque} km\nCLIENT_ERROR opaque token too long\n"),
    );
    check(
        "mg foo k v s t f c h O1 u q T1 C1 D1 J1 F1 ME L P\n\
         mg foo k v s t f c h O1 u T1 C1 D1 J1 F1 ME P\n",
        "CLIENT_ERROR options flags are too long\nEN kfoo O1\n",
    );
}

#[test]
fn meta_sets_have_modes() {
    let bad = "CLIENT_ERROR bad command line format\n";
    check("ms\nms m\nms m x\nms m -1\n", &format!("ERROR\n{bad}{bad}{bad}"));
    check(
        "ms m 3 MX\nabc\nms m 3 Mxx\nabc\nms m 3 M\nabc\nms m 3 TX\nabc\nms m 3 FX\nabc\n\
         ms m 3 S5\nabc\nms m 3 CX\nabc\nmg m\n",
        &format!(
            "CLIENT_ERROR invalid mode for ms M token\nCLIENT_ERROR incorrect length for M token\n\
             CLIENT_ERROR incorrect length for M token\n\
             CLIENT_ERROR bad token in command line format\n{bad}CLIENT_ERROR invalid flag\n\
             CLIENT_ERROR bad token in command line format\nEN\n"
        ),
    );
    check(
        "ms m 3 MA\nabc\nms m 3 MR\nabc\nms m 3 ME O1 k c\nabc\nms m 3 ME k c q\nabc\n\
         ms m 1 MA\nd\nms m 1 MP q\n_\nmg m v\nms m 1 MR q\nx\nms m 1 MS\ny\nmg m v\n",
        "NS\nNS\nHD O1 km c1\nNS km c0\nHD\nVA 5\n_abcd\nHD\nVA 1\ny\n",
    );
    check(
        "ms m 1 C1\na\nms m 1\na\nms m 1 C9\nb\nms m 1 C1 c\nc\nms m 1 MR C1\nd\nms m 1 MR C2\ne\n",
        "NF\nHD\nEX\nHD c2\nEX\nHD\n",
    );
    check("ms m 2\nabc\nmn\n", "CLIENT_ERROR bad data chunk\nERROR\nMN\n");
    check("ms m 2 q\nabc\nmn\n", "CLIENT_ERROR bad data chunk\nERROR\nMN\n");
}

#[test]
fn keys_may_be_in_base64() {
    check(
        "ms Zm9v 3 b k\nabc\nmg Zm9v b k v\nget foo\nmg Zm9v k\nme Zm9v b\n",
        "HD kZm9v b\nVA 3 kZm9v b\nabc\nVALUE foo 0 3\nabc\nEND\nEN kZm9v\n\
         ME Zm9v exp=-1 cas=1 fetch=yes cls=1 size=63\n",
    );
    let bad = "CLIENT_ERROR error decoding key\n";
    let flag = "CLIENT_ERROR invalid or duplicate flag\n";
    check(
        "mg Zm9 b k\nmg !! b\nmg AA== b k\nms !! 3 b\nabc\nmd !! b\nma !! b\nme foo b\n",
        &format!("{bad}{bad}EN kAA== b\n{bad}{flag}{flag}CLIENT_ERROR bad command line format\n"),
    );
}

#[test]
fn meta_deletes_compare_versions() {
    check(
        "ms m 1\na\nmd m C9 k\nmd m C1 q\nmd m q O5\nmd m x\nmd\nms m 1\nb\nmd m k\n",
        "HD\nEX km\nNF O5\nCLIENT_ERROR invalid or duplicate flag\nERROR\nHD\nHD km\n",
    );
}

#[test]
fn meta_numbers_may_begin() {
    let flag = "CLIENT_ERROR invalid or duplicate flag\n";
    check(
        "ma n\nma n N0 J13 D7 v\nma n D5 v\nma n MD v\nma n MD D100 v\nma n M+ c k O1\nma n MI q\n\
         mg n v\nma n MX\nma n Mxx\nma n DX\nma n JX\nma n N\nma n !\nma n v v\nma no q\n",
        &format!(
            "NF\nVA 2\n13\nVA 2\n18\nVA 2\n17\nVA 1\n0\nHD c5 kn O1\nVA 1\n2\n\
             CLIENT_ERROR invalid mode for ma M token\n{}NF\n",
            flag.repeat(6)
        ),
    );
    check(
        "ma n N1000 t v\nma n T100 t c\nma n q t\nma n C1 v\nma n C3 T0 t v\nma no C1 k\n",
        "VA 1 t1000\n0\nHD t100 c2\nEX\nVA 1 t-1\n3\nNF kno\n",
    );
    check(
        "ms m 1\na\nms m 1 MA C9\nb\nms m 1 MA C1 c\nb\nms no 1 MP C1\nc\nmg m v\n",
        "HD\nEX\nHD c2\nNS\nVA 2\nab\n",
    );
    check(
        "set n 0 0 1\na\nma n\n",
        "STORED\nCLIENT_ERROR cannot increment or decrement non-numeric value\n",
    );
}

#[test]
fn claims_on_entries_are_refused_in_words() {
    let refused = "CLIENT_ERROR flags N and R of mg, and I, are not supported\n";
    check("mg m N30\nmg m R30\nms m 1 I\na\nmd m I T30\n", &refused.repeat(4));
    check("ms m 1\na\nmg m l v k\n", "HD\nVA 1 km\na\n");
}

#[test]
fn a_token_is_proved_as_the_value_of_a_set() {
    let node = Node { token: Some(b"secret") };
    let unauthenticated = "CLIENT_ERROR unauthenticated\n";
    check_at(
        &node,
        "get k\nmg k\nset x 0 0 99999\nset x 0 0 5\nwrong\nset x 0 0 6\nsecret\nget k\n",
        &format!("{}CLIENT_ERROR authentication failure\nSTORED\nEND\n", unauthenticated.repeat(3)),
    );
    check_at(&node, "set x 0 0 11\nuser secret\nmn\n", "STORED\nMN\n");
    check_at(
        &node,
        "set x 0 0 4\nsecret\nmn\n",
        &format!("CLIENT_ERROR bad command line termination\n{}", unauthenticated.repeat(2)),
    );
}

#[test]
fn a_value_in_pieces_is_the_value_as_a_whole() {
    let node = Node { token: None };
    for line in ["get key\r\n", "gets key\r\n", "mg key v f c s k\r\n"] {
        let mut session = Session::new(VALUE_BYTES_MAX, &node);
        let taken = session.step(line.as_bytes(), &node, MOMENT, &mut Vec::new());
        let Taken::Whole { step: Step::One(part), .. } = taken else { panic!("{taken:?}") };
        let shape: Shape = part.shape;
        let value = Value { bytes: b"value", user_flags: 7, version: Some(Version(9)) };
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        shape.render(part.echo, &Reply::Value(value), MOMENT, &mut whole);
        let head = corelane_dialect::ValueHead::of(&value);
        shape.value_header(part.echo, head, MOMENT, &mut pieces);
        pieces.extend_from_slice(value.bytes);
        shape.value_trailer(&mut pieces);
        assert_eq!(whole, pieces, "{line}");
    }
}

/// How many inputs the generator makes.
fn rounds() -> usize {
    std::env::var("CORELANE_FUZZ_ROUNDS")
        .map_or(20_000, |rounds| rounds.parse().expect("CORELANE_FUZZ_ROUNDS is a number"))
}

#[test]
fn any_bytes_are_answered_alike_however_they_are_cut() {
    let words: Vec<&[u8]> = [
        "get",
        "gets",
        "gat",
        "gats",
        "set",
        "add",
        "cas",
        "append",
        "incr",
        "decr",
        "touch",
        "delete",
        "flush_all",
        "stats",
        "verbosity",
        "quit",
        "mg",
        "ms",
        "md",
        "ma",
        "mn",
        "me",
        "noreply",
        "k",
        "key",
        "Zm9v",
        "b",
        "v",
        "t",
        "T30",
        "O1",
        "q",
        "MA",
        "ME",
        "C77",
        "N0",
        "0",
        "1",
        "2",
        "3",
        "64",
        "65",
        "-1",
        "99999999999",
        "token",
    ]
    .map(str::as_bytes)
    .to_vec();
    for round in 0..rounds() {
        let mut random = StdRng::seed_from_u64(round as u64);
        let mut input = Vec::new();
        for _ in 0..random.random_range(1..40) {
            match random.random_range(0..20) {
                0 => input.push(random.random()),
                1 => input.extend_from_slice(b"\n"),
                2..=5 => input.extend_from_slice(b"\r\n"),
                6 => input.extend(std::iter::repeat_n(b'x', random.random_range(1..300))),
                7 => input.extend_from_slice(b"set x 0 0 5\r\ntoken\r\n"),
                8 => input.extend_from_slice(b"set k 0 0 3\r\nabc\r\n"),
                _ => {
                    input.extend_from_slice(words[random.random_range(0..words.len())]);
                    input.push(b' ');
                }
            }
        }
        let cuts: [u8; 4] = std::array::from_fn(|_| random.random_range(0..30));
        let outcome = std::panic::catch_unwind(|| fuzz::memcached(&input, &cuts));
        assert!(outcome.is_ok(), "round {round}");
    }
}
