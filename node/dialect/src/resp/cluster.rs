//! `CLUSTER`: the topology as clients of Redis Cluster ask for it, and what they say before
//! a request that was redirected.

use std::fmt::Write;

use corelane_protocol::Request;

use super::call::{Call, Outcome, Refusal, integer, take};
use super::parse::Args;
use super::shape::Form;
use super::write;
use crate::facts::{ClusterFacts, ClusterNode};
use crate::limits::SCAN_COUNT_MAX;
use crate::step::Step;

const SLOTS: i64 = 16_384;

/// Commands that only make sense between nodes; here they change nothing.
pub(crate) fn accepted<'a>(call: &mut Call<'_, 'a>, _: Args<'a>) -> Outcome<'a> {
    cluster(call)?;
    call.ok()
}

fn cluster<'c>(call: &Call<'c, '_>) -> Result<ClusterFacts<'c>, Refusal> {
    call.facts.cluster().ok_or(Refusal::NO_CLUSTER)
}

pub(crate) fn myid<'a>(call: &mut Call<'_, 'a>, _: Args<'a>) -> Outcome<'a> {
    let cluster = cluster(call)?;
    write::bulk(cluster.nodes[cluster.own].id.as_bytes(), call.out);
    Ok(Step::Answered)
}

pub(crate) fn keyslot<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    cluster(call)?;
    let [key] = take(&mut args);
    let slot = call.facts.slot_of(key);
    call.integer(slot.into())
}

fn slot(text: &[u8]) -> Result<u16, Refusal> {
    match integer(text)? {
        slot @ 0..SLOTS => Ok(slot as u16),
        _ => Err(Refusal::Words("ERR Invalid slot")),
    }
}

pub(crate) fn countkeysinslot<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    cluster(call)?;
    let [text] = take(&mut args);
    call.one(Request::CountKeys { slot: Some(slot(text)?) }, Form::Number)
}

pub(crate) fn getkeysinslot<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    cluster(call)?;
    let [text, count] = take(&mut args);
    let slot = slot(text)?;
    let Ok(count) = u32::try_from(integer(count)?) else {
        return Err(Refusal::Words("ERR Invalid number of keys"));
    };
    call.one(Request::KeysInSlot { slot, count: count.min(SCAN_COUNT_MAX) }, Form::Keys)
}

pub(crate) fn slots<'a>(call: &mut Call<'_, 'a>, _: Args<'a>) -> Outcome<'a> {
    let cluster = cluster(call)?;
    let mut ranges: Vec<(u16, u16, &ClusterNode)> = cluster
        .nodes
        .iter()
        .flat_map(|node| node.slots.iter().map(move |&(first, last)| (first, last, node)))
        .collect();
    ranges.sort_unstable_by_key(|&(first, ..)| first);
    let out = &mut *call.out;
    write::array(ranges.len(), out);
    for (first, last, node) in ranges {
        write::array(3, out);
        write::integer(first.into(), out);
        write::integer(last.into(), out);
        write::array(4, out);
        write::bulk(node.host.as_bytes(), out);
        write::integer(node.port.into(), out);
        write::bulk(node.id.as_bytes(), out);
        write::array(0, out);
    }
    Ok(Step::Answered)
}

pub(crate) fn shards<'a>(call: &mut Call<'_, 'a>, _: Args<'a>) -> Outcome<'a> {
    let cluster = cluster(call)?;
    let revision = call.state.revision;
    let out = &mut *call.out;
    write::array(cluster.nodes.len(), out);
    for node in cluster.nodes {
        write::map(revision, 2, out);
        write::bulk(b"slots", out);
        write::array(2 * node.slots.len(), out);
        for &(first, last) in &node.slots {
            write::integer(first.into(), out);
            write::integer(last.into(), out);
        }
        write::bulk(b"nodes", out);
        write::array(1, out);
        write::map(revision, 7, out);
        let mut text = |name: &str, value: &str| {
            write::bulk(name.as_bytes(), out);
            write::bulk(value.as_bytes(), out);
        };
        text("id", &node.id);
        text("ip", &node.host);
        text("endpoint", &node.host);
        text("role", "master");
        text("health", "online");
        for (name, number) in [("port", node.port.into()), ("replication-offset", 0)] {
            write::bulk(name.as_bytes(), out);
            write::integer(number, out);
        }
    }
    Ok(Step::Answered)
}

pub(crate) fn nodes<'a>(call: &mut Call<'_, 'a>, _: Args<'a>) -> Outcome<'a> {
    let cluster = cluster(call)?;
    let mut text = String::new();
    for (place, node) in cluster.nodes.iter().enumerate() {
        let ClusterNode { id, host, port, slots } = node;
        let flags = if place == cluster.own { "myself,master" } else { "master" };
        let epoch = cluster.epoch;
        let line = write!(text, "{id} {host}:{port}@{port} {flags} - 0 0 {epoch} connected");
        line.expect("writing to a string cannot fail");
        for &(first, last) in slots {
            let range = match last {
                _ if last == first => write!(text, " {first}"),
                _ => write!(text, " {first}-{last}"),
            };
            range.expect("writing to a string cannot fail");
        }
        text.push('\n');
    }
    write::verbatim(call.state.revision, text.as_bytes(), call.out);
    Ok(Step::Answered)
}

pub(crate) fn info<'a>(call: &mut Call<'_, 'a>, _: Args<'a>) -> Outcome<'a> {
    let cluster = cluster(call)?;
    let ranges = cluster.nodes.iter().flat_map(|node| &node.slots);
    let assigned: u64 = ranges.map(|&(first, last)| u64::from(last - first) + 1).sum();
    let state = if assigned == SLOTS as u64 { "ok" } else { "fail" };
    let size = cluster.nodes.iter().filter(|node| !node.slots.is_empty()).count();
    let (nodes, epoch) = (cluster.nodes.len(), cluster.epoch);
    let text = format!(
        "cluster_enabled:1\r\ncluster_state:{state}\r\ncluster_slots_assigned:{assigned}\r\n\
         cluster_slots_ok:{assigned}\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:0\r\n\
         cluster_known_nodes:{nodes}\r\ncluster_size:{size}\r\n\
         cluster_current_epoch:{epoch}\r\ncluster_my_epoch:{epoch}\r\n"
    );
    write::verbatim(call.state.revision, text.as_bytes(), call.out);
    Ok(Step::Answered)
}
