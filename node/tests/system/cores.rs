//! Several cores: keys on each of them, connections on the core that they ask for, and
//! requests that come to a core which does not own their key.

use corelane_protocol::{Hello, Keys, MonotonicUs, Request, Status};
use corelane_ring::{Core, CoreMap, slot_of};

use crate::process::{Io, Node, block_on};
use crate::wire::{
    What, Wire, frame, frame_until, frame_without_answer, get, hello, hello_frame, set,
};

/// Keys of one core of a node, different for each.
pub(crate) fn keys_of(core: u16, cores: u16, count: usize) -> Vec<String> {
    let map = CoreMap::even(cores).expect("a possible number of cores");
    let mut keys = Vec::new();
    for index in 0.. {
        let key = format!("key {index}");
        if map.core_of(slot_of(key.as_bytes())) == Core(core) {
            keys.push(key);
        }
        if keys.len() == count {
            break;
        }
    }
    keys
}

on_both!(
    a_client_sends_each_request_to_the_core_of_its_key,
    a_connection_gets_the_core_that_it_asks_for,
    a_core_forwards_what_is_not_its_own,
    forwarded_writes_to_one_key_keep_their_order,
    deadlines_hold_on_every_core,
    sixteen_cores_on_any_machine,
);

fn a_client_sends_each_request_to_the_core_of_its_key(io: Io) {
    let node = Node::start(io, &["--cores", "2"]);
    block_on(async {
        let client = node.client().await;
        for core in 0..2 {
            for key in keys_of(core, 2, 200) {
                client.set(&key, &key).await.unwrap();
                assert_eq!(client.get(&key).await.unwrap().unwrap().bytes, key);
            }
        }
    });
    node.until_counter("requests_set", |sets| sets == 400);
    assert_eq!(node.counter("requests_set"), [200, 200]);
    assert_eq!(node.counter("items"), [200, 200]);
    assert_eq!(node.counter("forwarded_out"), [0, 0]);
}

fn a_connection_gets_the_core_that_it_asks_for(io: Io) {
    let node = Node::start(io, &["--cores", "2"]);
    // The kernel spreads connections over the cores, so about half of them land wrong.
    let mut wires = Vec::new();
    for index in 0..32 {
        let core = index % 2;
        let mut wire = node.connect();
        // What follows the hello without waiting moves along, wherever a frame is cut.
        let key = format!("handed over {index}");
        let mut bytes = hello_frame(&Hello { core: Some(core), ..hello() });
        bytes.extend(frame(1, &set(key.as_bytes(), b"value")));
        bytes.extend(frame(2, &get(key.as_bytes())));
        let cut = 5 + usize::from(index) * 3 % (bytes.len() - 5);
        wire.send(&bytes[..cut]);
        wire.send(&bytes[cut..]);
        assert!(matches!(
            wire.next().what,
            What::Welcome { core: landed, cores: 2, .. } if landed == core
        ));
        let replies = [wire.next(), wire.next()];
        assert_eq!((replies[0].id, &replies[0].what), (1, &What::Done));
        assert_eq!((replies[1].id, &replies[1].what), (2, &What::Value(b"value".to_vec())));
        wires.push(wire);
    }
    node.until_counter("connections_open", |open| open == 32);
    assert_eq!(node.counter("connections_open"), [16, 16]);
}

fn a_core_forwards_what_is_not_its_own(io: Io) {
    let node = Node::start(io, &["--cores", "2"]);
    let mut wire = Wire::on_core(node.address(), 0);
    let mut keys = keys_of(0, 2, 100);
    keys.extend(keys_of(1, 2, 100));
    let mut requests = Vec::new();
    for (id, key) in keys.iter().enumerate() {
        requests.extend(frame(id as u32, &set(key.as_bytes(), key.as_bytes())));
        requests.extend(frame(1000 + id as u32, &get(key.as_bytes())));
    }
    wire.send(&requests);
    let mut answered = 0;
    while answered < 2 * keys.len() {
        let got = wire.next();
        match got.id {
            id @ 1000.. => {
                assert_eq!(got.what, What::Value(keys[id as usize - 1000].clone().into_bytes()));
            }
            _ => assert_eq!(got.what, What::Done),
        }
        answered += 1;
    }

    // A multi-get over both cores.
    let (mut encoded, asked) = (Vec::new(), [&keys[0], &keys[150], &keys[1], &keys[199]]);
    let asked_keys = asked.iter().map(|key| key.as_bytes());
    let multi_get = Request::MultiGet(Keys::encode(asked_keys, &mut encoded).unwrap());
    wire.send(&frame(7, &multi_get));
    let mut parts: Vec<_> = (0..4).map(|_| wire.next()).collect();
    parts.sort_by_key(|got| got.part);
    for (index, (got, key)) in parts.iter().zip(asked).enumerate() {
        assert_eq!((got.id, got.part), (7, Some(index as u16)));
        assert_eq!(got.what, What::Value(key.clone().into_bytes()));
    }
    let end = wire.next();
    assert_eq!((end.id, end.what), (7, What::End));

    node.until_counter("forwarded_out", |forwarded| forwarded == 202);
    assert_eq!(node.counter("forwarded_out"), [202, 0]);
    assert_eq!(node.counter("forwarded_in"), [0, 202]);
    assert_eq!(node.counter("items"), [100, 100]);
}

fn forwarded_writes_to_one_key_keep_their_order(io: Io) {
    let node = Node::start(io, &["--cores", "2"]);
    let mut wire = Wire::on_core(node.address(), 0);
    let keys = keys_of(1, 2, 8);
    // Sets of growing length, every second one unanswered, and a get behind each of them.
    let mut requests = Vec::new();
    for round in 0..100_u32 {
        let value = vec![b'v'; round as usize * 11];
        for (index, key) in keys.iter().enumerate() {
            let request = set(key.as_bytes(), &value);
            if round % 2 == 0 {
                requests.extend(frame(0, &request));
            } else {
                requests.extend(frame_without_answer(0, &request));
            }
            requests.extend(frame(1 + round * 8 + index as u32, &get(key.as_bytes())));
        }
    }
    wire.send(&requests);
    let (mut done, mut values) = (0, 0);
    while done + values < 400 + 800 {
        let got = wire.next();
        match got.what {
            What::Done => done += 1,
            What::Value(value) => {
                values += 1;
                assert_eq!(value.len(), (got.id - 1) as usize / 8 * 11);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((done, values), (400, 800));
}

fn deadlines_hold_on_every_core(io: Io) {
    let node = Node::start(io, &["--cores", "2"]);
    let mut wire = Wire::on_core(node.address(), 0);
    for key in [keys_of(0, 2, 1), keys_of(1, 2, 1)].concat() {
        let request = set(key.as_bytes(), b"value");
        // The node's clock starts with the node, so its beginning is past.
        wire.send(&frame_until(1, MonotonicUs(0), &request));
        assert_eq!(wire.next().what, What::Failed(Status::TooLate));
        assert_eq!(wire.ask(&get(key.as_bytes())), What::Failed(Status::NotFound));
        wire.send(&frame_until(1, MonotonicUs(u64::MAX), &request));
        assert_eq!(wire.next().what, What::Done);
    }
    node.until_counter("too_late", |late| late == 2);
}

fn sixteen_cores_on_any_machine(io: Io) {
    let node = Node::start(io, &["--cores", "16", "--pin", "on", "--memory", "512MiB"]);
    assert_eq!(node.ready["cores"], "16");
    if std::thread::available_parallelism().unwrap().get() < 16 {
        assert!(node.log().contains("they run unpinned and share them"), "{}", node.log());
        let cpus = node.cpus_of_cores();
        assert_eq!(cpus.len(), 16);
        assert!(cpus.values().all(|cpus| *cpus == cpus_of_this_thread()), "{cpus:?}");
    }
    let keys: Vec<Vec<String>> = (0..16).map(|core| keys_of(core, 16, 20)).collect();
    block_on(async {
        let client = node.client().await;
        assert_eq!(client.cores(), 16);
        for key in keys.iter().flatten() {
            client.set(key, key).await.unwrap();
        }
        let all: Vec<&String> = keys.iter().flatten().collect();
        for (key, value) in all.iter().zip(client.get_many(&all).await) {
            assert_eq!(value.unwrap().expect("it was set").bytes, **key);
        }
        client.ping().await.unwrap();
        assert_eq!(client.stats().await.unwrap().len(), 16);
    });
    node.until_counter("requests_set", |sets| sets == 320);
    assert_eq!(node.counter("items"), [20; 16]);
    // From one connection to all the others.
    let mut wire = Wire::on_core(node.address(), 3);
    for key in keys.iter().flatten() {
        assert_eq!(wire.ask(&get(key.as_bytes())), What::Value(key.clone().into_bytes()));
    }
    node.until_counter("forwarded_in", |forwarded| forwarded >= 15 * 20);
    node.signal(rustix::process::Signal::TERM);
    assert_eq!(node.ended().code(), Some(0));
}

fn cpus_of_this_thread() -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    line.trim().to_owned()
}

#[test]
fn cores_are_pinned_to_their_cpus() {
    let cpus = std::thread::available_parallelism().unwrap().get().min(2);
    let node = Node::start(Io::Epoll, &["--cores", &cpus.to_string(), "--pin", "on"]);
    let allowed = node.cpus_of_cores();
    assert_eq!(allowed.len(), cpus);
    let mut single: Vec<&String> = allowed.values().collect();
    single.sort();
    single.dedup();
    assert_eq!(single.len(), cpus, "{allowed:?}");
    assert!(single.iter().all(|list| list.parse::<u16>().is_ok()), "{allowed:?}");
}
