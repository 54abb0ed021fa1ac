//! `CONFIG`: the settings of Redis that mean something here, under Redis's names.

use super::call::{Call, Outcome, Refusal, take};
use super::gather::GatherKind;
use super::parse::Args;
use super::write;
use crate::facts::{Facts, NodeFacts};
use crate::glob::{self, Case};
use crate::step::{self, Control, Settings, Step};

/// Notes what a new value means, or tells why it means nothing.
type Change = fn(&[u8], &mut Settings) -> Result<(), &'static str>;

/// Redis's policies, in the order in which it lists them.
const POLICIES: [&str; 8] = [
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "noeviction",
];

/// A setting.
struct Row {
    name: &'static str,
    /// Its value as Redis prints it.
    value: fn(&NodeFacts<'_>, &dyn Facts) -> String,
    /// What a new value means; none where it cannot be changed while the node runs.
    change: Option<Change>,
}

const fn fixed(name: &'static str, value: fn(&NodeFacts<'_>, &dyn Facts) -> String) -> Row {
    Row { name, value, change: None }
}

/// In the order of their names.
static SETTINGS: [Row; 18] = [
    fixed("appendfsync", |_, _| "no".into()),
    fixed("appendonly", |_, _| "no".into()),
    fixed("cluster-enabled", |_, facts| yes_or_no(facts.cluster().is_some())),
    fixed("databases", |_, _| "16".into()),
    fixed("hz", |_, _| "10".into()),
    fixed("io-threads", |node, _| node.cores.to_string()),
    fixed("lfu-decay-time", |_, _| "1".into()),
    fixed("maxclients", |node, _| node.connections_max.to_string()),
    Row {
        name: "maxmemory",
        value: |node, _| node.memory_bytes_max.to_string(),
        change: Some(|text, settings| {
            settings.memory_bytes = Some(parse_bytes(text)?);
            Ok(())
        }),
    },
    Row {
        name: "maxmemory-policy",
        value: |node, _| node.policy.into(),
        change: Some(|text, settings| {
            settings.policy = Some(parse_policy(text)?);
            Ok(())
        }),
    },
    fixed("notify-keyspace-events", |_, _| String::new()),
    fixed("port", |node, _| node.port.to_string()),
    fixed("proto-max-bulk-len", |node, _| node.value_bytes_max.to_string()),
    fixed("save", |_, _| String::new()),
    fixed("slowlog-log-slower-than", |_, _| "-1".into()),
    fixed("slowlog-max-len", |_, _| "0".into()),
    fixed("tcp-keepalive", |_, _| "0".into()),
    fixed("timeout", |_, _| "0".into()),
];

fn yes_or_no(is: bool) -> String {
    if is { "yes".into() } else { "no".into() }
}

/// A size as Redis writes it: a number and `k`, `kb`, `m`, `mb`, `g` or `gb`, the units
/// without a `b` being decimal.
fn parse_bytes(text: &[u8]) -> Result<u64, &'static str> {
    const WRONG: &str = "argument must be a memory value";
    let text = std::str::from_utf8(text).map_err(|_| WRONG)?.to_ascii_lowercase();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match &text[end..] {
        "" | "b" => 1,
        "k" => 1_000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return Err(WRONG),
    };
    let number: u64 = text[..end].parse().map_err(|_| WRONG)?;
    number.checked_mul(unit).ok_or(WRONG)
}

fn parse_policy(text: &[u8]) -> Result<&'static str, &'static str> {
    let named = POLICIES.iter().find(|name| text.eq_ignore_ascii_case(name.as_bytes()));
    named.copied().ok_or(
        "argument(s) must be one of the following: volatile-lru, volatile-lfu, \
         volatile-random, volatile-ttl, allkeys-lru, allkeys-lfu, allkeys-random, noeviction",
    )
}

pub(crate) fn get<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    let wanted = |row: &&Row| {
        args.clone().any(|pattern| glob::matches(pattern, row.name.as_bytes(), Case::Ignored))
    };
    let node = call.facts.node();
    let rows: Vec<&Row> = SETTINGS.iter().filter(wanted).collect();
    write::map(call.state.revision, rows.len(), call.out);
    for row in rows {
        write::bulk(row.name.as_bytes(), call.out);
        write::bulk((row.value)(&node, call.facts).as_bytes(), call.out);
    }
    Ok(Step::Answered)
}

/// The counters are read by their growth, by others too: they are never set back.
pub(crate) fn resetstat<'a>(call: &mut Call<'_, 'a>, _: Args<'a>) -> Outcome<'a> {
    call.ok()
}

pub(crate) fn set<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    if !args.len().is_multiple_of(2) {
        return Err(Refusal::SYNTAX);
    }
    let node = call.facts.node();
    let mut settings = Settings::default();
    let mut rest = args.clone();
    for place in 0..args.len() / 2 {
        let [name, value] = take(&mut rest);
        let row = SETTINGS.iter().find(|row| name.eq_ignore_ascii_case(row.name.as_bytes()));
        let Some(row) = row else {
            let what = b"ERR Unknown option or number of arguments for CONFIG SET - '";
            return Err(Refusal::Told([&what[..], name, b"'"].concat()));
        };
        let failed = |why: &str| {
            let name = row.name;
            let text =
                format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}");
            Refusal::Told(text.into_bytes())
        };
        let mut before = args.clone().step_by(2).take(place);
        if before.any(|other| other.eq_ignore_ascii_case(name)) {
            return Err(failed("duplicate parameter"));
        }
        if value == (row.value)(&node, call.facts).as_bytes() {
            continue;
        }
        let change = row.change.ok_or_else(|| failed("can't set immutable config"))?;
        change(value, &mut settings).map_err(failed)?;
    }
    if settings == Settings::default() {
        return call.ok();
    }
    let gather = step::Gather::Resp(call.gather(GatherKind::Configured));
    Ok(Step::Control { control: Control::Configure(settings), gather })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(parse_bytes(text.as_bytes()).ok(), expected, "{text}");
        };
        check("100", Some(100));
        check("100b", Some(100));
        check("2k", Some(2_000));
        check("2KB", Some(2_048));
        check("1gb", Some(1 << 30));
        check("-1", None);
        check("1kbb", None);
        check("", None);
        check("99999999999gb", None);
    }

    #[test]
    fn settings_are_in_order() {
        assert!(SETTINGS.is_sorted_by_key(|row| row.name));
    }
}
