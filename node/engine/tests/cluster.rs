//! A node that shares the slots with others: what it answers for theirs, and what happens to
//! slots that leave and come back.

mod harness;

use std::collections::BTreeMap;
use std::sync::Arc;

use corelane_engine::{ClusterView, EngineConfig};
use corelane_protocol::wire::{self, FRAME_BYTES_MAX, ReplyDecoded};
use corelane_protocol::{
    Answer as Answering, DeleteCondition, Jitter, Keys, OldValue, Redirect, Redirection, Remaining,
    Reply, Request, RequestHead, RequestId, Set, SetCondition, ShortEpoch, StandIn, Status, Ttl,
    Value, limits::STAND_IN_TTL_MS_MAX,
};
use corelane_ring::{
    Address, CoreMap, Epoch, Node as RingNode, NodeIndex, NodeName, SLOTS, Slot, SlotRange,
    Topology, slot_of,
};
use harness::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A topology of "node", which is the node of the harness, and "other": which of the two has
/// which slot.
fn topology(epoch: u64, is_ours: impl Fn(Slot) -> bool) -> Topology {
    let node = |name: &str| RingNode {
        name: NodeName::new(name).unwrap(),
        addresses: vec![Address::new(&format!("{name}.example:7400")).unwrap()],
        weight: 100.try_into().unwrap(),
        zone: String::new(),
    };
    let range = |slot| SlotRange {
        first: slot,
        last: slot,
        owners: vec![NodeIndex(u16::from(!is_ours(slot)))],
    };
    let ranges: Vec<_> = Slot::all().map(range).collect();
    Topology::new(Epoch(epoch), vec![node("node"), node("other")], &ranges).unwrap()
}

fn name() -> NodeName {
    NodeName::new("node").unwrap()
}

/// Slots under 8192 are the node's.
fn low(slot: Slot) -> bool {
    slot.index() < SLOTS / 2
}

fn clustered(cores: u16, topology: Topology) -> Node {
    let view = ClusterView::first(cores, topology, &name()).unwrap();
    Node::new(cores, EngineConfig { cluster: Some(Arc::new(view)), ..config() })
}

/// A key of a slot that fits.
fn key_where(fits: impl Fn(Slot) -> bool) -> Vec<u8> {
    let keys = (0..).map(|number| format!("key-{number}").into_bytes());
    keys.into_iter().find(|key| fits(slot_of(key))).unwrap()
}

/// Everything that was sent, as heads' epochs and debug texts of the replies.
fn replies(node: &mut Node, wire: Wire) -> Vec<(u16, String)> {
    let sent = std::mem::take(&mut node.seen(wire).sent);
    let mut rest = sent.as_slice();
    let mut replies = Vec::new();
    while !rest.is_empty() {
        let ReplyDecoded::Complete { frame, consumed } = wire::decode_reply(rest, FRAME_BYTES_MAX)
        else {
            panic!("half a reply was sent");
        };
        replies.push((frame.head.epoch.0, format!("{:?}", frame.reply)));
        rest = &rest[consumed..];
    }
    replies
}

fn moved(key: &[u8], epoch: u64) -> String {
    let slot = slot_of(key).number();
    let address = "other.example:7400";
    let redirect = Redirect { redirection: Redirection::Moved, slot, epoch, address };
    format!("{:?}", Reply::Redirect(redirect))
}

#[test]
fn foreign_slots_are_answered_with_where_they_are() {
    for cores in [1, 3] {
        let mut node = clustered(cores, topology(0x1_0005, low));
        let wire = node.connect(0);
        let (ours, theirs) = (key_where(low), key_where(|slot| !low(slot)));
        let frames = [set(1, &ours, b"v"), set(2, &theirs, b"v"), get(3, &theirs), get(4, &ours)];
        node.receive(wire, &frames.concat());
        node.settle();
        let (mut ok, mut elsewhere) = (0, 0);
        for (epoch, reply) in replies(&mut node, wire) {
            assert_eq!(epoch, 5, "{reply}");
            if reply == moved(&theirs, 0x1_0005) {
                elsewhere += 1;
            } else {
                assert!(reply.starts_with("Done") || reply.starts_with("Value"), "{reply}");
                ok += 1;
            }
        }
        assert_eq!((ok, elsewhere), (2, 2));
        let owned: u64 = node.engines.iter_mut().map(|e| e.counters().slots_owned).sum();
        assert_eq!(owned, SLOTS as u64 / 2);
    }
}

#[test]
fn a_multi_get_is_answered_key_by_key() {
    let mut node = clustered(2, topology(7, low));
    let wire = node.connect(1);
    let (ours, theirs) = (key_where(low), key_where(|slot| !low(slot)));
    let mut buffer = Vec::new();
    let keys = Keys::encode([&ours[..], &theirs[..], &ours[..]], &mut buffer).unwrap();
    let frames = [set(1, &ours, b"v"), frame(2, &Request::MultiGet(keys))].concat();
    let answers = node.ask(wire, &frames);
    let mut parts: Vec<_> =
        answers.iter().filter_map(|answer| Some((answer.part?, answer.status))).collect();
    parts.sort_unstable_by_key(|(part, _)| *part);
    // What is not a failure is Ok to the harness: two values, and a redirect.
    assert_eq!(parts, [(0, Status::Ok), (1, Status::Ok), (2, Status::Ok)]);
    let values = answers.iter().filter(|answer| answer.value.is_some()).count();
    assert_eq!(values, 2);
    assert_eq!(answers.last().unwrap().status, Status::End);
}

#[test]
fn writes_that_want_no_answer_get_none() {
    let mut node = clustered(1, topology(7, low));
    let wire = node.connect(0);
    let theirs = key_where(|slot| !low(slot));
    let condition = corelane_protocol::DeleteCondition::Always;
    let head = RequestHead { id: RequestId(1), answer: Answering::Never, ..RequestHead::default() };
    let silent = frame_with(head, &Request::Delete { key: &theirs, condition });
    assert_eq!(node.ask(wire, &silent), []);
    assert_eq!(node.engines[0].counters().turned_away, 1);
}

#[test]
fn the_table_is_told_to_whoever_has_an_older_one() {
    let mut node = Node::new(2, config());
    let wire = node.connect(0);
    let ask = |id, held_epoch| frame(id, &Request::Topology { held_epoch });
    node.receive(wire, &ask(1, 0));
    node.settle();
    assert_eq!(replies(&mut node, wire), [(0, "Done { version: None }".to_owned())]);

    let table = topology(0x2_0001, low);
    let even = CoreMap::even(2).unwrap();
    let view = Arc::new(ClusterView::after(&even, table.clone(), &name()).unwrap());
    node.engines.iter_mut().for_each(|engine| engine.set_cluster(Arc::clone(&view), node.now));
    for (held, is_told) in [(0, true), (0x2_0000, true), (0x2_0001, false), (u64::MAX, false)] {
        node.receive(wire, &ask(2, held));
        node.settle();
        let sent = std::mem::take(&mut node.seen(wire).sent);
        let ReplyDecoded::Complete { frame, .. } = wire::decode_reply(&sent, FRAME_BYTES_MAX)
        else {
            panic!("a reply was sent");
        };
        assert_eq!(frame.head.epoch, ShortEpoch(1));
        match frame.reply {
            Reply::Topology { table: bytes } if is_told => {
                assert!(Topology::decode(bytes).unwrap() == table);
            }
            Reply::Done { version: None } if !is_told => {}
            other => panic!("{held}: {other:?}"),
        }
    }
}

#[test]
fn hello_tells_which_slots_are_ours_and_the_epoch() {
    let mut node = clustered(4, topology(9, low));
    let wire = node.connect(0);
    node.receive(wire, &hello(1, Some(0), b""));
    node.settle();
    let sent = std::mem::take(&mut node.seen(wire).sent);
    let ReplyDecoded::Complete { frame, .. } = wire::decode_reply(&sent, FRAME_BYTES_MAX) else {
        panic!("a reply was sent");
    };
    assert_eq!(frame.head.epoch, ShortEpoch(9));
    let Reply::Welcome(welcome) = frame.reply else { panic!("{:?}", frame.reply) };
    let map = CoreMap::from_ranges(4, welcome.ranges()).unwrap();
    assert!(Slot::all().all(|slot| map.owns(slot) == low(slot)));
    assert_eq!(map.loads(), [2_048; 4]);
}

#[test]
fn requests_by_another_epoch_are_counted() {
    let mut node = clustered(1, topology(3, |_| true));
    let wire = node.connect(0);
    for (epoch, stale) in [(0, 0), (3, 0), (2, 1), (4, 2)] {
        let head =
            RequestHead { id: RequestId(1), epoch: ShortEpoch(epoch), ..RequestHead::default() };
        node.ask(wire, &frame_with(head, &Request::Get { key: b"k", least_version: None }));
        assert_eq!(node.engines[0].counters().stale_epochs, stale);
    }
}

#[test]
fn a_slot_that_left_is_emptied_in_slices_and_never_seen_again() {
    let mut node = Node::new(1, config());
    let wire = node.connect(0);
    let keys: Vec<Vec<u8>> = (0..2_000).map(|n| format!("{{tag}}{n}").into_bytes()).collect();
    for key in &keys {
        node.ask(wire, &set(1, key, b"old"));
    }
    let slot = slot_of(&keys[0]);
    let mut map = CoreMap::even(1).unwrap();
    let mut put = |node: &mut Node, epoch, is_ours: &dyn Fn(Slot) -> bool| {
        let view = ClusterView::after(&map, topology(epoch, is_ours), &name()).unwrap();
        map = view.cores().clone();
        node.engines[0].set_cluster(Arc::new(view), node.now);
    };
    put(&mut node, 1, &|other| other != slot);
    let reply = |node: &mut Node, key: &[u8]| {
        node.receive(wire, &get(2, key));
        node.settle();
        replies(node, wire).remove(0).1
    };
    assert_eq!(reply(&mut node, &keys[0]), moved(&keys[0], 1));
    assert_eq!(node.engines[0].counters().items, 2_000, "nothing is dropped at once");
    node.engines[0].tick(node.now, &mut node.outputs[0]);
    let left = node.engines[0].counters().items;
    assert!((1_900..2_000).contains(&left), "a slice went, {left} are left");

    // It comes back too early: what it held may be stale.
    put(&mut node, 2, &|_| true);
    assert!(reply(&mut node, &keys[1_999]).contains("Loading"));
    node.advance_ms(1_000);
    let counters = node.engines[0].counters();
    assert_eq!((counters.items, counters.slots_leaving), (0, 0));
    assert_eq!(counters.slots_owned, SLOTS as u64);
    assert!(reply(&mut node, &keys[1_999]).contains("NotFound"));
    node.ask(wire, &set(3, &keys[7], b"new"));
    assert!(reply(&mut node, &keys[7]).contains("Value"));
    node.engines[0].invariants();
}

/// Random topologies over random traffic on a node whose cores hear of them at different
/// times. The reference: a slot's entries are gone from the moment it left.
#[test]
fn no_entry_survives_its_slots_absence() {
    const CORES: u16 = 3;
    for seed in 0..30 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut node = Node::new(CORES, config());
        let wires: Vec<Wire> = (0..usize::from(CORES)).map(|core| node.connect(core)).collect();
        let keys: Vec<Vec<u8>> = (0..64).map(|n| format!("key-{n}").into_bytes()).collect();
        let mut views: Vec<Arc<ClusterView>> = Vec::new();
        let mut map = CoreMap::even(CORES).unwrap();
        let mut known = [0; CORES as usize];
        let mut reference: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for step in 0..600u64 {
            match random.random_range(0..20) {
                0 => {
                    // All are told in the end; who hears of it when is left open.
                    let salt = random.random_range(0..7u16);
                    let ours = |slot: Slot| {
                        !slot.number().wrapping_mul(31).wrapping_add(salt).is_multiple_of(3)
                    };
                    let view = ClusterView::after(&map, topology(step + 1, ours), &name());
                    let view = Arc::new(view.unwrap());
                    map = view.cores().clone();
                    reference.retain(|key, _| map.owns(slot_of(key)));
                    views.push(view);
                }
                1..=3 => {
                    let core = random.random_range(0..usize::from(CORES));
                    if known[core] < views.len() {
                        node.engines[core].set_cluster(Arc::clone(&views[known[core]]), node.now);
                        known[core] += 1;
                    }
                }
                4 => node.advance_ms(50),
                _ => {
                    let key = &keys[random.random_range(0..keys.len())];
                    let wire = wires[random.random_range(0..wires.len())];
                    let settled = known.iter().all(|known| *known == views.len());
                    let value = format!("value-{step}").into_bytes();
                    let is_set = random.random_bool(0.5);
                    let request = if is_set { set(1, key, &value) } else { get(1, key) };
                    node.receive(wire, &request);
                    node.settle();
                    let (_, reply) = replies(&mut node, wire).remove(0);
                    let is_ours = map.owns(slot_of(key));
                    match (is_set, reply.split([' ', '(']).next().unwrap()) {
                        (true, "Done") if is_ours => {
                            reference.insert(key.clone(), value);
                        }
                        // By a core that has yet to hear that the slot left, or that it is to.
                        (true, "Done") => {
                            assert!(!settled, "seed {seed}: a foreign slot took a set")
                        }
                        (false, "Value") => {
                            let held = reference.get(key);
                            let fresh = held.is_some_and(|v| reply.contains(&format!("{v:?}")));
                            assert!(fresh || !settled, "seed {seed}, step {step}: {reply}");
                        }
                        (_, "Redirect") => assert!(!is_ours || !settled, "seed {seed}: {reply}"),
                        _ => {
                            let is_miss = reply.contains("NotFound") && !is_set;
                            let in_force = !reference.contains_key(key) || !settled;
                            let busy = reply.contains("Loading");
                            assert!(
                                is_miss && in_force || busy,
                                "seed {seed}, step {step}: {reply}"
                            );
                        }
                    }
                }
            }
        }
        node.advance_ms(1_000);
        node.engines.iter().for_each(|engine| engine.invariants());
    }
}

/// A node that had the low slots and has the high ones now, for as long as it takes part in warming
/// them up.
fn swapped(cores: u16, epoch: u64, warm_up_ms: u64, before: impl FnOnce(&mut Node)) -> Node {
    let first = ClusterView::first(cores, topology(5, low), &name()).unwrap();
    let next = topology(epoch, |slot| !low(slot));
    let view = Arc::new(ClusterView::following(&first, next, &name(), warm_up_ms).unwrap());
    let cluster = Some(Arc::new(first));
    let mut node = Node::new(cores, EngineConfig { cluster, ..config() });
    before(&mut node);
    node.engines.iter_mut().for_each(|engine| engine.set_cluster(Arc::clone(&view), node.now));
    node
}

/// What a request that is routed by an epoch is answered with.
fn answer(node: &mut Node, wire: Wire, epoch: u16, request: &Request<'_>) -> String {
    let epoch = ShortEpoch(epoch);
    let head = RequestHead { id: RequestId(1), epoch, ..RequestHead::default() };
    node.receive(wire, &frame_with(head, request));
    node.settle();
    replies(node, wire).remove(0).1
}

fn untouched<'a>(key: &'a [u8], value: &'a [u8]) -> Request<'a> {
    Request::Set(Set {
        key,
        value,
        user_flags: 0,
        ttl: Ttl::Default,
        condition: SetCondition::Untouched,
        old: OldValue::Omit,
    })
}

#[test]
fn what_has_left_can_be_read_for_a_while_by_who_goes_by_the_new_topology() {
    let keys: Vec<Vec<u8>> = (0..40).map(|n| format!("key-{n}").into_bytes()).collect();
    let fill = |node: &mut Node| {
        let wire = node.connect(0);
        keys.iter().for_each(|key| drop(node.ask(wire, &set(1, key, b"value"))));
    };
    let mut node = swapped(3, 6, 1_000, fill);
    let wire = node.connect(1);
    for key in &keys {
        let left = Request::GetLeft { key };
        let told = answer(&mut node, wire, 6, &left);
        if low(slot_of(key)) {
            let bytes = [&[0xFF; 8], &b"value"[..]].concat();
            let value = Value { bytes: &bytes, user_flags: 0, version: None };
            assert_eq!(told, format!("{:?}", Reply::Value(value)));
            assert_eq!(answer(&mut node, wire, 6, &Request::Exists { key }), moved(key, 6));
            for other in [0, 5, 7] {
                assert!(answer(&mut node, wire, other, &left).contains("Loading"));
            }
        } else {
            assert!(told.contains("Loading"), "the slot has come: {told}");
        }
    }
    let here = |node: &mut Node| -> u64 {
        node.engines.iter_mut().map(|engine| engine.counters().items).sum()
    };
    assert!(here(&mut node) > 0);
    node.advance_ms(1_100);
    let left = key_where(low);
    assert!(answer(&mut node, wire, 6, &Request::GetLeft { key: &left }).contains("NotFound"));
    assert_eq!(here(&mut node), 0);
    assert!(node.engines.iter_mut().all(|engine| engine.counters().slots_kept == 0));
}

#[test]
fn nothing_is_kept_across_a_gap_between_epochs() {
    let key = key_where(low);
    for (epoch, warm_up_ms, kept) in [(6, 1_000, true), (7, 1_000, false), (6, 0, false)] {
        let fill = |node: &mut Node| {
            let wire = node.connect(0);
            node.ask(wire, &set(1, &key, b"value"));
        };
        let mut node = swapped(1, epoch, warm_up_ms, fill);
        let wire = node.connect(0);
        let told = answer(&mut node, wire, epoch as u16, &Request::GetLeft { key: &key });
        assert_eq!(told.starts_with("Value"), kept, "{told}");
        let came = key_where(|slot| !low(slot));
        let told = answer(&mut node, wire, epoch as u16, &Request::GetOrAsk { key: &came });
        assert_eq!(told.contains("Ask"), kept, "{told}");
    }
}

/// The keys of a slot that came may be copied, until somebody writes or deletes them.
#[test]
fn a_key_is_asked_for_elsewhere_until_it_was_touched() {
    let high = |slot: Slot| !low(slot);
    let ask = |node: &mut Node, wire, key: &[u8]| {
        let told = answer(node, wire, 6, &Request::GetOrAsk { key });
        ["Ask", "NotFound", "Value"].into_iter().find(|word| told.contains(word)).unwrap()
    };
    let mut node = swapped(2, 6, 1_000, |_| ());
    let wire = node.connect(0);
    let keys: Vec<Vec<u8>> =
        (0..64).map(|n| format!("key-{n}").into_bytes()).filter(|key| high(slot_of(key))).collect();
    let delete = |key| Request::Delete { key, condition: DeleteCondition::Always };
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(ask(&mut node, wire, key), "Ask");
        match number % 3 {
            0 => {
                assert!(answer(&mut node, wire, 6, &untouched(key, b"copy")).starts_with("Done"));
                assert_eq!(ask(&mut node, wire, key), "Value");
                let again = answer(&mut node, wire, 6, &untouched(key, b"copy"));
                assert!(again.contains("ConditionFailed"), "{again}");
            }
            1 => {
                // It was not here, and is not to come any more.
                assert!(answer(&mut node, wire, 6, &delete(key)).contains("NotFound"));
                assert_eq!(ask(&mut node, wire, key), "NotFound");
                let copy = answer(&mut node, wire, 6, &untouched(key, b"copy"));
                assert!(copy.contains("ConditionFailed"), "{copy}");
            }
            _ => {
                node.ask(wire, &set(1, key, b"new"));
                node.ask(wire, &frame(1, &delete(key)));
                assert_eq!(ask(&mut node, wire, key), "NotFound");
            }
        }
    }
    let fresh: Vec<Vec<u8>> = (100..110)
        .map(|n| format!("key-{n}").into_bytes())
        .filter(|key| high(slot_of(key)))
        .collect();
    assert_eq!(ask(&mut node, wire, &fresh[0]), "Ask");
    answer(&mut node, wire, 6, &Request::FlushSlot { key: &fresh[0] });
    node.advance_ms(50);
    assert_eq!(ask(&mut node, wire, &fresh[0]), "NotFound", "its slot was emptied");
    assert_eq!(ask(&mut node, wire, &fresh[1]), "Ask");
    node.advance_ms(1_100);
    assert_eq!(ask(&mut node, wire, &fresh[1]), "NotFound", "the time is over");
}

#[test]
fn a_slot_is_flushed_and_its_neighbours_are_not() {
    for cores in [1, 3] {
        let mut node = Node::new(cores, config());
        let wire = node.connect(0);
        let slot = |tag: &str| -> Vec<Vec<u8>> {
            (0..300).map(|n| format!("{{{tag}}}{n}").into_bytes()).collect()
        };
        let (flushed, kept) = (slot("a"), slot("b"));
        for key in flushed.iter().chain(&kept) {
            node.ask(wire, &set(1, key, b"value"));
        }
        let flush = Request::FlushSlot { key: b"{a}" };
        assert!(answer(&mut node, wire, 0, &flush).starts_with("Done"));
        let told = answer(&mut node, wire, 0, &Request::Exists { key: &flushed[7] });
        assert!(told.contains("Loading") || told.contains("NotFound"), "{told}");
        node.advance_ms(100);
        for (keys, expected) in [(&flushed, "NotFound"), (&kept, "Done")] {
            for key in keys {
                let told = answer(&mut node, wire, 0, &Request::Exists { key });
                assert!(told.contains(expected), "{told}");
            }
        }
        node.ask(wire, &set(1, &flushed[0], b"again"));
        let told = answer(&mut node, wire, 0, &Request::Exists { key: &flushed[0] });
        assert!(told.starts_with("Done"), "{told}");
        node.engines.iter().for_each(|engine| engine.invariants());
    }
}

/// What a request that asks a node to stand in for the owner is answered with.
fn in_place(node: &mut Node, wire: Wire, epoch: u16, request: &Request<'_>) -> Vec<String> {
    let (id, epoch) = (RequestId(1), ShortEpoch(epoch));
    let head = RequestHead { id, epoch, stand_in: StandIn::Yes, ..RequestHead::default() };
    node.receive(wire, &frame_with(head, request));
    node.settle();
    replies(node, wire).into_iter().map(|(_, reply)| reply).collect()
}

fn items(node: &mut Node) -> u64 {
    node.engines.iter_mut().map(|engine| engine.counters().items).sum()
}

/// Short and long keys and values, in slots of either node.
fn some_entries() -> Vec<(Vec<u8>, Vec<u8>)> {
    let value = |number: usize| vec![b'v'; if number.is_multiple_of(5) { 30_000 } else { 30 }];
    (0..40).map(|number| (format!("key-{number}").into_bytes(), value(number))).collect()
}

fn set_for<'a>(key: &'a [u8], value: &'a [u8], ttl: Ttl) -> Request<'a> {
    let (condition, old) = (SetCondition::Always, OldValue::Omit);
    Request::Set(Set { key, value, user_flags: 0, ttl, condition, old })
}

#[test]
fn a_node_stands_in_for_others_for_a_bounded_time() {
    for cores in [1, 3] {
        let mut node = clustered(cores, topology(5, low));
        let entries = some_entries();
        // A connection to each core: what arrives elsewhere is passed on.
        let wires: Vec<Wire> = (0..cores).map(|core| node.connect(core.into())).collect();
        let wire = |number: usize| wires[number % wires.len()];
        for (number, (key, value)) in entries.iter().enumerate() {
            let ttl = match number % 3 {
                0 => Ttl::Never,
                1 => Ttl::Default,
                _ => Ttl::After { ms: u64::MAX - 2, jitter: Jitter::Spread },
            };
            let told = in_place(&mut node, wire(number), 5, &set_for(key, value, ttl));
            assert!(told[0].starts_with("Done"), "{told:?}");
        }
        for (number, (key, value)) in entries.iter().enumerate() {
            let get = Request::Get { key, least_version: None };
            let told = in_place(&mut node, wire(number + 1), 5, &get);
            let expected = Value { bytes: value, user_flags: 0, version: None };
            assert_eq!(told, [format!("{:?}", Reply::Value(expected))]);
            let told = in_place(&mut node, wire(number), 5, &Request::TtlOf { key });
            let bounded = format!("{:?}", Reply::Remaining(Remaining::Ms(STAND_IN_TTL_MS_MAX)));
            let ours = low(slot_of(key));
            assert_eq!(told[0] == bounded, !ours, "{told:?}");
            // Who does not ask for it, or goes by another topology, is sent to the owner.
            let redirected = if ours { told[0].clone() } else { moved(key, 5) };
            let told = answer(&mut node, wire(number), 5, &Request::TtlOf { key });
            assert_eq!(told, redirected);
            if !ours {
                assert_eq!(in_place(&mut node, wire(number), 4, &get), [moved(key, 5)]);
                let flush = Request::FlushSlot { key };
                assert_eq!(in_place(&mut node, wire(number), 5, &flush), [moved(key, 5)]);
            }
        }
        let mut buffer = Vec::new();
        let keys = Keys::encode(entries.iter().map(|(key, _)| &key[..]), &mut buffer).unwrap();
        let told = in_place(&mut node, wire(0), 5, &Request::MultiGet(keys));
        let values = told.iter().filter(|reply| reply.starts_with("Value")).count();
        assert_eq!(values, entries.len(), "{told:?}");
        for (number, (key, _)) in entries.iter().enumerate().filter(|(number, _)| number % 2 == 0) {
            let delete = Request::Delete { key, condition: DeleteCondition::Always };
            assert!(in_place(&mut node, wire(number), 5, &delete)[0].starts_with("Done"));
        }
        let ours = |(_, (key, _)): &(usize, &(Vec<u8>, Vec<u8>))| low(slot_of(key));
        let odd = entries.iter().enumerate().filter(|(number, _)| number % 2 == 1);
        let expected = odd.clone().count() as u64;
        assert_eq!(items(&mut node), expected);
        node.advance_ms(STAND_IN_TTL_MS_MAX + 10_000);
        assert_eq!(items(&mut node), odd.filter(ours).count() as u64, "the others have expired");
        assert!(node.engines.iter_mut().any(|engine| engine.counters().stood_in > 0));
        node.engines.iter().for_each(|engine| engine.invariants());
    }
}

#[test]
fn what_a_stand_in_was_given_goes_with_the_topology() {
    let high = |slot: Slot| !low(slot);
    for cores in [1, 3] {
        // The slots stay with the other node, or come to this one.
        for comes in [false, true] {
            let mut node = clustered(cores, topology(5, low));
            let wire = node.connect(0);
            let keys: Vec<Vec<u8>> = (0..64).map(|n| format!("key-{n}").into_bytes()).collect();
            let keys: Vec<&Vec<u8>> = keys.iter().filter(|key| high(slot_of(key))).collect();
            for key in &keys {
                in_place(&mut node, wire, 5, &set_for(key, b"short-lived", Ttl::Never));
            }
            assert_eq!(items(&mut node), keys.len() as u64);
            let next = topology(6, |slot| comes || low(slot));
            let first = ClusterView::first(cores, topology(5, low), &name()).unwrap();
            let view = Arc::new(ClusterView::following(&first, next, &name(), 0).unwrap());
            node.engines
                .iter_mut()
                .for_each(|engine| engine.set_cluster(Arc::clone(&view), node.now));
            for key in &keys {
                let get = Request::Get { key, least_version: None };
                let told = in_place(&mut node, wire, 6, &get).remove(0);
                assert!(told.contains("Loading") || told.contains("NotFound"), "{told}");
            }
            node.advance_ms(200);
            assert_eq!(items(&mut node), 0);
            for key in &keys {
                let get = Request::Get { key, least_version: None };
                assert!(in_place(&mut node, wire, 6, &get)[0].contains("NotFound"));
            }
            node.engines.iter().for_each(|engine| engine.invariants());
        }
    }
}

#[test]
fn nobody_stands_in_with_what_is_left_of_a_slot() {
    let key = key_where(low);
    let fill = |node: &mut Node| {
        let wire = node.connect(0);
        node.ask(wire, &set(1, &key, b"left"));
    };
    let mut node = swapped(1, 6, 1_000, fill);
    let wire = node.connect(0);
    let get = Request::Get { key: &key, least_version: None };
    assert!(in_place(&mut node, wire, 6, &get)[0].contains("Loading"));
    node.advance_ms(1_200);
    assert!(in_place(&mut node, wire, 6, &get)[0].contains("NotFound"), "it is emptied");
    assert!(
        in_place(&mut node, wire, 6, &set_for(&key, b"new", Ttl::Never))[0].starts_with("Done")
    );
}
