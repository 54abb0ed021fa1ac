//! How balanced placement is, and how little it moves, over many sets of nodes.

use std::num::NonZeroU32;

use corelane_ring::{
    Address, Change, CoreMap, Epoch, Node, NodeIndex, NodeName, SLOTS, Slot, Topology, place,
    rebalance,
};

/// Sets of nodes that are looked at for each size.
const SETS: u32 = 24;
const SIZES: [usize; 3] = [3, 10, 100];
/// Sizes in between, where the room that a node has beyond its share begins and grows.
const SIZES_BETWEEN: [usize; 5] = [15, 16, 20, 32, 48];

/// The names differ from set to set, and so does the form of names.
fn node(set: u32, number: usize, weight: u32) -> Node {
    let name = match set % 3 {
        0 => format!("cache-{set}-{number}"),
        1 => format!("10.{set}.0.{number}"),
        _ => format!("rack{set}.host{number:03}.example"),
    };
    Node {
        addresses: vec![Address::new(&format!("{name}:7400")).unwrap()],
        name: NodeName::new(&name).unwrap(),
        weight: NonZeroU32::new(weight).unwrap(),
        zone: String::new(),
    }
}

fn nodes(set: u32, count: usize) -> Vec<Node> {
    (0..count).map(|number| node(set, number, 100)).collect()
}

fn loads(table: &Topology) -> Vec<usize> {
    let mut loads = vec![0; table.nodes().len()];
    Slot::all().for_each(|slot| loads[table.owner(slot).index()] += 1);
    loads
}

/// The slots whose owner differs, and those of them that neither come from nor go to `node`.
fn moved(from: &Topology, to: &Topology, node: &NodeName) -> (usize, usize) {
    let owners = |slot| [from, to].map(|table| &table.node(table.owner(slot)).name);
    let changed = || Slot::all().map(owners).filter(|[before, after]| before != after);
    let others = changed().filter(|pair| !pair.contains(&node)).count();
    (changed().count(), others)
}

fn each_set(mut check: impl FnMut(u32, usize)) {
    SIZES.into_iter().for_each(|size| (0..SETS).for_each(|set| check(set, size)));
}

/// The node's share, by weight, of all slots.
fn share(nodes: &[Node], number: usize) -> f64 {
    let weights: u64 = nodes.iter().map(|node| u64::from(node.weight.get())).sum();
    SLOTS as f64 * f64::from(nodes[number].weight.get()) / weights as f64
}

#[test]
fn up_to_sixteen_nodes_own_their_share_to_the_slot() {
    for set in 0..SETS {
        for size in [2, 3, 7, 10, 16] {
            let weight = |number: usize| match set % 2 {
                0 => 100,
                _ => 50 + (number as u32 * 37 + set) % 151,
            };
            let nodes: Vec<Node> =
                (0..size).map(|number| node(set, number, weight(number))).collect();
            let loads = loads(&place(Epoch(1), nodes.clone(), 1).unwrap());
            for (number, load) in loads.into_iter().enumerate() {
                let share = share(&nodes, number);
                assert!((load as f64 - share).abs() < 1.0, "{set} of {size}: {load} of {share}");
            }
        }
    }
}

#[test]
fn placed_loads_are_within_a_tenth_of_the_mean() {
    each_set(|set, size| {
        let table = place(Epoch(1), nodes(set, size), 1).unwrap();
        let largest = loads(&table).into_iter().max().unwrap();
        let ratio = largest as f64 * size as f64 / SLOTS as f64;
        assert!(ratio <= 1.10, "set {set} of {size}: {ratio}");
    });
}

#[test]
fn placement_moves_what_a_join_or_a_removal_is_due() {
    let check = |set, size| {
        let fewer = place(Epoch(1), nodes(set, size), 1).unwrap();
        let more = place(Epoch(2), nodes(set, size + 1), 1).unwrap();
        let joined = node(set, size, 100).name;
        let share = SLOTS as f64 / (size + 1) as f64;
        // Placement has no memory, so the removal is the join seen from the other end.
        let (all, others) = moved(&fewer, &more, &joined);
        assert_eq!(moved(&more, &fewer, &joined), (all, others));
        assert!(all as f64 <= 1.25 * share, "set {set} of {size}: {all} of {share} moved");
        assert!(others as f64 <= 0.15 * share, "set {set} of {size}: {others} moved elsewhere");
    };
    each_set(check);
    SIZES_BETWEEN.into_iter().for_each(|size| (0..SETS / 4).for_each(|set| check(set, size)));
}

#[test]
fn placement_gives_no_node_more_than_a_tenth_over_its_weight() {
    for set in 0..SETS {
        let weight = |number| 50 + (number as u32 * 37 + set * 11) % 151;
        let nodes: Vec<Node> = (0..30).map(|number| node(set, number, weight(number))).collect();
        let weights: u32 = (0..30).map(weight).sum();
        let table = place(Epoch(1), nodes, 1).unwrap();
        for (number, load) in loads(&table).into_iter().enumerate() {
            let share = SLOTS as f64 * f64::from(weight(number)) / f64::from(weights);
            assert!(load as f64 <= 1.10 * share, "set {set}: {load} of {share}");
            assert!(load as f64 >= 0.75 * share, "set {set}: {load} of {share}");
        }
    }
}

#[test]
fn rebalancing_is_exact_and_moves_the_least() {
    each_set(|set, size| {
        let table = rebalance(
            &place(Epoch(1), nodes(set, size - 1), 1).unwrap(),
            Change::Join(node(set, size - 1, 100)),
            1,
        )
        .unwrap();
        let exact = |table: &Topology| {
            let floor = SLOTS / table.nodes().len();
            assert!(loads(table).into_iter().all(|load| load == floor || load == floor + 1));
        };
        exact(&table);

        let newcomer = node(set, size, 100);
        let joined = rebalance(&table, Change::Join(newcomer.clone()), 1).unwrap();
        exact(&joined);
        let (all, others) = moved(&table, &joined, &newcomer.name);
        assert_eq!(others, 0);
        let due = SLOTS / (size + 1);
        assert!(all == due || all == due + 1, "{all} moved, {due} are due");

        let gone = node(set, set as usize % size, 100).name;
        let left = rebalance(&joined, Change::Leave(gone.clone()), 1).unwrap();
        exact(&left);
        let before = loads(&joined)[joined.find(&gone).unwrap().index()];
        assert_eq!(moved(&joined, &left, &gone), (before, 0));
        // Every one of the others takes some of it, as equal a part as there is.
        let gain = |node: &Node| {
            let load = |table: &Topology| loads_of(table, &node.name);
            load(&left) - load(&joined)
        };
        let gains: Vec<usize> = left.nodes().iter().map(gain).collect();
        let part = before / size;
        assert!(gains.iter().all(|gain| gain.abs_diff(part) <= 1 && *gain > 0), "{gains:?}");
    });
}

fn loads_of(table: &Topology, name: &NodeName) -> usize {
    table.owned_by(table.find(name).unwrap()).len()
}

#[test]
fn rebalancing_follows_weights_to_the_slot() {
    for set in 0..SETS {
        let weight = |number| 50 + (number as u32 * 37 + set * 11) % 151;
        let mut table = place(Epoch(1), vec![node(set, 0, weight(0))], 1).unwrap();
        for number in 1..40 {
            let change = Change::Join(node(set, number, weight(number)));
            table = rebalance(&table, change, 1).unwrap();
        }
        let weights: u32 = (0..40).map(weight).sum();
        for (number, load) in loads(&table).into_iter().enumerate() {
            let share = SLOTS as f64 * f64::from(weight(number)) / f64::from(weights);
            assert!((load as f64 - share).abs() < 1.0, "set {set}: {load} of {share}");
        }
    }
}

/// The largest core of 64 on each node, as a multiple of the mean over all cores.
fn largest_core(table: &Topology) -> f64 {
    let cores = 64 * table.nodes().len();
    let largest = (0..table.nodes().len() as u16)
        .flat_map(|node| {
            let owned = table.owned_by(NodeIndex(node));
            CoreMap::by_rank(64, &owned).unwrap().loads()
        })
        .max();
    f64::from(largest.unwrap()) * cores as f64 / SLOTS as f64
}

#[test]
fn cores_are_as_equal_as_nodes() {
    for set in 0..SETS {
        for (size, most) in [(16, 1.03), (100, 1.2)] {
            let first = place(Epoch(1), nodes(set, size - 1), 1).unwrap();
            let table = rebalance(&first, Change::Join(node(set, size - 1, 100)), 1).unwrap();
            let ratio = largest_core(&table);
            assert!(ratio <= most, "set {set} of {size}: {ratio}");
        }
        // From the list alone it is as good.
        for (size, most) in [(16, 1.03), (100, 1.2)] {
            let ratio = largest_core(&place(Epoch(1), nodes(set, size), 1).unwrap());
            assert!(ratio <= most, "set {set} of {size}: {ratio}");
        }
    }
}
