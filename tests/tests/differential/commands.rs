//! Seeded commands, as wrong and as right as clients send them.

use rand::rngs::StdRng;
use rand::{Rng, RngExt};

pub(crate) type Command = Vec<Vec<u8>>;

/// One of several.
fn pick<'a, T: ?Sized>(random: &mut StdRng, from: &[&'a T]) -> &'a T {
    from[random.random_range(0..from.len())]
}

/// Keys that several commands of a stream share. Those with braces are of one slot.
pub(crate) fn key(random: &mut StdRng) -> Vec<u8> {
    match random.random_range(0..20) {
        0 => b"".to_vec(),
        1 => b"\0\xff\r\n \"".to_vec(),
        2 => vec![b'k'; 3_000],
        3..8 => tagged_key(random),
        _ => format!("key:{}", random.random_range(0..12)).into_bytes(),
    }
}

/// A key of the one slot that commands on several keys stay in.
pub(crate) fn tagged_key(random: &mut StdRng) -> Vec<u8> {
    format!("{{tag}}{}", random.random_range(0..6)).into_bytes()
}

/// A key that only holds short decimals.
fn decimal_key(random: &mut StdRng) -> Vec<u8> {
    format!("decimal:{}", random.random_range(0..3)).into_bytes()
}

fn value(random: &mut StdRng) -> Vec<u8> {
    match random.random_range(0..12) {
        0 => Vec::new(),
        1 => b"\r\n\0\xff\x80".to_vec(),
        2 => {
            let mut bytes = vec![0; random.random_range(100..5_000)];
            random.fill_bytes(&mut bytes);
            bytes
        }
        3..6 => number(random),
        _ => format!("value {}", random.random_range(0..1_000)).into_bytes(),
    }
}

/// What is, or is nearly, a number.
fn number(random: &mut StdRng) -> Vec<u8> {
    let numbers = [
        "0",
        "1",
        "-1",
        "10",
        "100",
        "3000",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775806",
        "9223372036854775808",
        "-9223372036854775809",
        "99999999999999999999",
        "01",
        "+1",
        " 1",
        "1 ",
        "",
        "-",
        "-0",
        "1.5",
        "0x10",
        "abc",
        "4294967296",
        "2147483648",
    ];
    match random.random_range(0..3) {
        0 => random.random_range(-50..50).to_string().into_bytes(),
        _ => pick(random, &numbers).as_bytes().to_vec(),
    }
}

/// An expiry that is either over or far away: none comes while a stream runs.
fn expiry(random: &mut StdRng) -> Vec<u8> {
    match random.random_range(0..6) {
        0 => number_but_small(random),
        _ => random.random_range(200_000..100_000_000).to_string().into_bytes(),
    }
}

/// What is wrong as an expiry, or over at once.
fn number_but_small(random: &mut StdRng) -> Vec<u8> {
    let numbers = ["0", "-1", "-100", "x", "", "9223372036854775807", "99999999999999999999"];
    pick(random, &numbers).as_bytes().to_vec()
}

/// A moment in seconds or milliseconds that has passed or is far away.
fn moment(random: &mut StdRng, unit: u64) -> Vec<u8> {
    match random.random_range(0..6) {
        0 => number_but_small(random),
        1 => b"1".to_vec(),
        _ => (4_000_000_000 * unit + random.random_range(0..1_000)).to_string().into_bytes(),
    }
}

/// Builds commands of words and other arguments.
struct Builder(Command);

impl Builder {
    fn new(random: &mut StdRng, name: &str) -> Builder {
        let name = match random.random_range(0..4) {
            0 => name.to_ascii_uppercase(),
            1 => {
                let (head, tail) = name.split_at(1);
                head.to_ascii_uppercase() + tail
            }
            _ => name.to_owned(),
        };
        // A subcommand is an argument of its own.
        Builder(name.split(' ').map(|word| word.as_bytes().to_vec()).collect())
    }

    fn with(mut self, argument: impl Into<Vec<u8>>) -> Builder {
        self.0.push(argument.into());
        self
    }

    fn words(mut self, words: &str) -> Builder {
        self.0.extend(words.split_whitespace().map(|word| word.as_bytes().to_vec()));
        self
    }
}

/// An option of `SET`, and of `GETEX` where it has it, too.
fn option(random: &mut StdRng, builder: Builder) -> Builder {
    let seconds = random.random_range(0..2) == 0;
    match random.random_range(0..10) {
        0..3 => builder.words(if seconds { "ex" } else { "PX" }).with(expiry(random)),
        3 | 4 => {
            let unit = if seconds { 1 } else { 1_000 };
            builder.words(if seconds { "EXAT" } else { "pxat" }).with(moment(random, unit))
        }
        5 => builder.words("NX"),
        6 => builder.words("xx"),
        7 => builder.words("GET"),
        8 => builder.words("keepttl"),
        _ => builder.words(pick(random, &["persist", "foo", "ex", "NX XX", "EX 10 EX 10", "type"])),
    }
}

fn options(random: &mut StdRng, mut builder: Builder) -> Builder {
    for _ in 0..*[0, 0, 1, 1, 2, 3].get(random.random_range(0..6)).expect("in range") {
        builder = option(random, builder);
    }
    builder
}

/// A command on one slot, as transactions may have it.
pub(crate) fn in_slot(random: &mut StdRng) -> Command {
    command_on(random, tagged_key)
}

/// Any command.
pub(crate) fn command(random: &mut StdRng) -> Command {
    match random.random_range(0..12) {
        0 => on_many(random),
        1 => on_the_node(random),
        2 => on_one_slot(random),
        3 => wrong(random),
        4 => decimal(random),
        _ => command_on(random, key),
    }
}

fn command_on(random: &mut StdRng, key: fn(&mut StdRng) -> Vec<u8>) -> Command {
    let names = [
        "get",
        "get",
        "get",
        "set",
        "set",
        "set",
        "setex",
        "psetex",
        "setnx",
        "getset",
        "getdel",
        "getex",
        "append",
        "strlen",
        "getrange",
        "substr",
        "setrange",
        "incr",
        "decr",
        "incrby",
        "decrby",
        "del",
        "unlink",
        "exists",
        "touch",
        "expire",
        "pexpire",
        "expireat",
        "pexpireat",
        "ttl",
        "pttl",
        "expiretime",
        "pexpiretime",
        "persist",
        "type",
        "rename",
        "renamenx",
    ];
    let name = pick(random, &names);
    let builder = Builder::new(random, name).with(key(random));
    let builder = match name {
        "set" => {
            let builder = builder.with(value(random));
            options(random, builder)
        }
        "getex" if random.random_range(0..2) == 0 => option(random, builder),
        "setex" | "psetex" => builder.with(expiry(random)).with(value(random)),
        "setnx" | "getset" | "append" => builder.with(value(random)),
        "getrange" | "substr" => builder.with(number(random)).with(number(random)),
        "setrange" => {
            let offset = random.random_range(0..3_000).to_string().into_bytes();
            let offset = if random.random_range(0..5) == 0 { number(random) } else { offset };
            builder.with(offset).with(value(random))
        }
        "incrby" | "decrby" => builder.with(number(random)),
        "expire" | "pexpire" => expire_options(random, builder, expiry),
        "expireat" => expire_options(random, builder, |random| moment(random, 1)),
        "pexpireat" => expire_options(random, builder, |random| moment(random, 1_000)),
        "rename" | "renamenx" => {
            return Builder::new(random, name).with(tagged_key(random)).with(tagged_key(random)).0;
        }
        _ => builder,
    };
    builder.0
}

fn expire_options(
    random: &mut StdRng,
    builder: Builder,
    expiry: impl Fn(&mut StdRng) -> Vec<u8>,
) -> Builder {
    let builder = builder.with(expiry(random));
    match random.random_range(0..3) {
        0 => builder.words(pick(
            random,
            &["nx", "XX", "gt", "LT", "xx lt", "XX gt", "nx xx", "gt lt", "nx gt", "foo", "nx nx"],
        )),
        _ => builder,
    }
}

fn on_many(random: &mut StdRng) -> Command {
    let name = pick(random, &["mget", "mset", "del", "unlink", "exists", "touch"]);
    let mut builder = Builder::new(random, name);
    for _ in 0..random.random_range(1..8) {
        builder = builder.with(key(random));
        if name == "mset" && random.random_range(0..30) > 0 {
            builder = builder.with(value(random));
        }
    }
    builder.0
}

fn on_one_slot(random: &mut StdRng) -> Command {
    match random.random_range(0..3) {
        0 => {
            let mut builder = Builder::new(random, "msetnx");
            for _ in 0..random.random_range(1..4) {
                builder = builder.with(tagged_key(random)).with(value(random));
            }
            builder.0
        }
        _ => {
            let builder = Builder::new(random, "copy");
            let builder = builder.with(tagged_key(random)).with(tagged_key(random));
            builder
                .words(pick(random, &["", "", "REPLACE", "db 3", "db 3 replace", "db 99", "foo"]))
                .0
        }
    }
}

/// Numbers with a fraction.
fn decimal(random: &mut StdRng) -> Command {
    match random.random_range(0..10) {
        0 => {
            let builder = Builder::new(random, "set").with(decimal_key(random));
            let numbers = ["0", "0", "0", "0x1F", "0x.8p2", "1e3", "inf", "-Infinity", "nan"];
            builder.words(pick(random, &numbers)).0
        }
        1 => Builder::new(random, "get").with(decimal_key(random)).0,
        2 => {
            let builder = Builder::new(random, "incrbyfloat").with(key(random));
            builder.words(pick(random, &["x", "nan"])).0
        }
        3 => {
            let builder = Builder::new(random, "incrbyfloat").with(decimal_key(random));
            let numbers = [
                "", " 1", "1 ", "nan", "abc", "1.2.3", "inf", "-inf", "0x10", "-0X.4", "0x1p-3",
                "0x", "0x1p", "0xg", "infinit",
            ];
            builder.with(pick(random, &numbers)).0
        }
        _ => {
            let delta = f64::from(random.random_range(-999..999)) / 1_000.0;
            let builder = Builder::new(random, "incrbyfloat").with(decimal_key(random));
            builder.with(delta.to_string()).0
        }
    }
}

fn on_the_node(random: &mut StdRng) -> Command {
    let line = pick(
        random,
        &[
            "ping",
            "ping hello",
            "echo hello",
            "echo",
            "dbsize",
            "keys *",
            "keys key:*",
            "keys *1",
            "keys key:[1-3]",
            "keys \\*",
            "randomkey",
            "select 0",
            "select 0",
            "select 3",
            "select 16",
            "select x",
            "select -1",
            "flushdb",
            "flushall async",
            "flushdb foo",
            "wait 0 0",
            "wait x 0",
            "wait 0 -1",
            "client id",
            "client getname",
            "client setname one",
            "client setname",
            "client foo",
            "client no-evict on",
            "client no-evict x",
            "client reply x",
            "command count",
            "command getkeys get a",
            "command getkeys mset a 1 b 2",
            "command getkeys ping x",
            "command getkeys foo x",
            "command getkeys set a",
            "command foo",
            "config get nosuch",
            "config set nosuch 1",
            "config get databases",
            "config foo",
            "config resetstat",
            "config resetstat x",
            "object encoding nosuch",
            "object freq nosuch",
            "object foo x",
            "memory usage nosuch",
            "memory usage nosuch samples x",
            "memory foo",
            "hello",
            "hello 2",
            "hello 3",
            "hello 4",
            "hello 2 foo",
            "auth x",
            "auth default x",
            "auth foo x",
            "auth a b c",
            "cluster info",
            "cluster foo",
            "readonly",
            "asking",
            "multi x",
            "exec x",
            "discard",
            "exec",
            "unwatch",
            "reset",
            "time x",
            "info nosuch",
            "scan x",
            "scan 0 count 0",
            "scan 0 foo bar",
            "shutdown foo",
            "shutdown abort",
            "time",
            "info server",
            "client list",
            "client info",
            "type nosuch",
            "debug-not-there a b",
            "foo",
            "get",
            "set a",
        ],
    );
    let mut builder = Builder::new(random, "x");
    builder.0.clear();
    builder.words(line).0
}

/// A command with arguments too many or too few, or that is none.
fn wrong(random: &mut StdRng) -> Command {
    let mut command = command_on(random, key);
    match random.random_range(0..4) {
        0 => command.truncate(random.random_range(1..=command.len())),
        1 => command.push(value(random)),
        2 => command.insert(0, b"nosuch\r\ncommand\0x".to_vec()),
        _ => command[0] = vec![b'n'; random.random_range(1..300)],
    }
    command
}
