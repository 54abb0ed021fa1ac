//! The golden vectors, which were computed by other means, against this crate.

use corelane_ring::{
    Address, CoreMap, Epoch, Node, NodeIndex, NodeName, SLOTS, Slot, SlotRange, SlotSet, Topology,
    crc16, hash_tag, place, slot_of,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Slots {
    keys: Vec<KeyVector>,
}

#[derive(Deserialize)]
struct KeyVector {
    key_hex: Option<String>,
    key_repeated: Option<Repeated>,
    text: Option<String>,
    crc16: u16,
    slot: u16,
}

#[derive(Deserialize)]
struct Repeated {
    byte: u8,
    times: usize,
}

impl KeyVector {
    fn key(&self) -> Vec<u8> {
        match (&self.key_hex, &self.key_repeated) {
            (Some(hex), None) => (0..hex.len() / 2)
                .map(|index| u8::from_str_radix(&hex[index * 2..index * 2 + 2], 16).unwrap())
                .collect(),
            (None, Some(repeated)) => vec![repeated.byte; repeated.times],
            _ => panic!("a vector has one form of key"),
        }
    }
}

#[test]
fn keys_have_the_slots_that_the_vectors_say() {
    let vectors: Slots = serde_json::from_str(include_str!("../vectors/slots.json")).unwrap();
    assert!(vectors.keys.len() >= 30);
    for vector in vectors.keys {
        let key = vector.key();
        if let Some(text) = &vector.text {
            assert_eq!(text.as_bytes(), key);
        }
        assert_eq!(crc16(hash_tag(&key)), vector.crc16, "{:?}", vector.text);
        assert_eq!(slot_of(&key).number(), vector.slot, "{:?}", vector.text);
    }
}

#[test]
fn slots_that_redis_documents() {
    assert_eq!(crc16(b"123456789"), 0x31C3);
    assert_eq!(slot_of(b"foo").number(), 12_182);
    assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"{user1000}.followers"));
    assert_eq!(hash_tag(b"foo{}{bar}"), b"foo{}{bar}");
    assert_eq!(hash_tag(b"foo{{bar}}zap"), b"{bar");
    assert_eq!(hash_tag(b"foo{bar}{zap}"), b"bar");
}

#[derive(Deserialize)]
struct Cores {
    maps: Vec<MapVector>,
}

#[derive(Deserialize)]
struct MapVector {
    cores: u16,
    owned: Vec<Vec<(u16, u16)>>,
    ranges: Vec<(u16, u16)>,
}

fn slot_set(ranges: &[(u16, u16)]) -> SlotSet {
    ranges.iter().flat_map(|(first, last)| *first..=*last).map(|n| Slot::new(n).unwrap()).collect()
}

#[test]
fn cores_have_the_ranges_that_the_vectors_say() {
    let vectors: Cores = serde_json::from_str(include_str!("../vectors/cores.json")).unwrap();
    for vector in vectors.maps {
        let (first, later) = vector.owned.split_first().unwrap();
        let mut map = CoreMap::by_rank(vector.cores, &slot_set(first)).unwrap();
        for owned in later {
            map = map.reassign(&slot_set(owned));
        }
        assert_eq!(map.ranges().collect::<Vec<_>>(), vector.ranges);
        let again = CoreMap::from_ranges(vector.cores, vector.ranges).unwrap();
        assert!(again == map);
        if *first == [(0, SLOTS as u16 - 1)] && later.is_empty() {
            assert!(CoreMap::even(vector.cores).unwrap() == map);
        }
    }
}

#[derive(Deserialize)]
struct Placements {
    placements: Vec<PlacementVector>,
}

#[derive(Deserialize)]
struct PlacementVector {
    nodes: Vec<(String, u32)>,
    first_owners: Vec<u16>,
    loads: Vec<usize>,
    digest: String,
}

#[test]
fn slots_have_the_nodes_that_the_vectors_say() {
    let vectors: Placements =
        serde_json::from_str(include_str!("../vectors/placement.json")).unwrap();
    for vector in vectors.placements {
        let node = |(name, weight): &(String, u32)| Node {
            name: NodeName::new(name).unwrap(),
            addresses: vec![Address::new(&format!("unix:/run/{name}")).unwrap()],
            weight: (*weight).try_into().unwrap(),
            zone: String::new(),
        };
        let table = place(Epoch(1), vector.nodes.iter().map(node).collect(), 1).unwrap();
        let owners: Vec<u16> = Slot::all().map(|slot| table.owner(slot).0).collect();
        assert_eq!(owners[..vector.first_owners.len()], vector.first_owners);
        let load = |node| owners.iter().filter(|owner| usize::from(**owner) == node).count();
        assert_eq!((0..vector.loads.len()).map(load).collect::<Vec<_>>(), vector.loads);
        let digest = owners
            .iter()
            .flat_map(|owner| owner.to_le_bytes())
            .fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
            });
        assert_eq!(format!("{digest:016x}"), vector.digest);
    }
}

#[derive(Deserialize)]
struct TopologyVector {
    bytes: String,
    epoch: u64,
    nodes: Vec<NodeVector>,
    ranges: Vec<(u16, u16, Vec<u16>)>,
}

#[derive(Deserialize)]
struct NodeVector {
    name: String,
    zone: String,
    weight: u32,
    addresses: Vec<String>,
}

#[test]
fn topologies_have_the_bytes_that_the_vector_says() {
    let vector: TopologyVector =
        serde_json::from_str(include_str!("../vectors/topology.json")).unwrap();
    let node = |node: NodeVector| Node {
        name: NodeName::new(&node.name).unwrap(),
        addresses: node.addresses.iter().map(|text| Address::new(text).unwrap()).collect(),
        weight: node.weight.try_into().unwrap(),
        zone: node.zone,
    };
    let range = |(first, last, owners): (u16, u16, Vec<u16>)| SlotRange {
        first: Slot::new(first).unwrap(),
        last: Slot::new(last).unwrap(),
        owners: owners.into_iter().map(NodeIndex).collect(),
    };
    let nodes = vector.nodes.into_iter().map(node).collect();
    let ranges: Vec<SlotRange> = vector.ranges.into_iter().map(range).collect();
    let topology = Topology::new(Epoch(vector.epoch), nodes, &ranges).unwrap();
    let mut bytes = Vec::new();
    topology.encode(&mut bytes);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, vector.bytes);
    assert!(Topology::decode(&bytes).unwrap() == topology);
}
