//! Commands of memcached's protocols by a seeded generator.
//!
//! What is left out on purpose, because the answers are meant to differ: flags of claims (`N`
//! and `R` of `mg`, `I`), `l`, `q` or `t` together with `N` of `ma`, its `T` and what its
//! `c` tells (both concern the item before, where memcached moves the longer number), flags and times over 32 bits, and
//! `me`, whose answer is for people; gets with a key that is too long, at which memcached loses
//! answers to commands before it that were not sent yet. Numbers have keys of their own, since
//! memcached may leave spaces after one that became shorter.

use std::collections::HashMap;
use std::fmt;

use rand::RngExt;
use rand::rngs::StdRng;

/// A command as it is sent, with places for the version of a key as the server told it last.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
enum Piece {
    Bytes(Vec<u8>),
    VersionOf(String),
}

impl fmt::Display for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.pieces {
            match piece {
                Piece::Bytes(bytes) if bytes.len() > 400 => {
                    write!(formatter, "{}… ({} bytes)", bytes[..60].escape_ascii(), bytes.len())?;
                }
                Piece::Bytes(bytes) => write!(formatter, "{}", bytes.escape_ascii())?,
                Piece::VersionOf(key) => write!(formatter, "<version of {key}>")?,
            }
        }
        Ok(())
    }
}

impl Command {
    pub(crate) fn plain(text: &str) -> Command {
        Command { pieces: vec![Piece::Bytes(text.as_bytes().to_vec())] }
    }

    fn with_value(mut self, value: &[u8]) -> Command {
        self.pieces.push(Piece::Bytes([value, b"\r\n"].concat()));
        self
    }

    /// Appends the command, with the versions that a server told.
    pub(crate) fn write(&self, versions: &HashMap<Vec<u8>, Vec<u8>>, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Bytes(bytes) => out.extend_from_slice(bytes),
                Piece::VersionOf(key) => {
                    let version = versions.get(key.as_bytes());
                    out.extend_from_slice(version.map_or(b"1", Vec::as_slice));
                }
            }
        }
    }
}

fn one<'t>(random: &mut StdRng, texts: &[&'t str]) -> &'t str {
    texts[random.random_range(0..texts.len())]
}

/// Whether something that happens once in `times` happens.
fn rarely(random: &mut StdRng, times: u32) -> bool {
    random.random_ratio(1, times)
}

fn text_key(random: &mut StdRng) -> String {
    match random.random_range(0..60) {
        0 => "k".repeat(250),
        1 => "k".repeat(251),
        2 => "sch\u{fc}ssel".to_owned(),
        3 => "{tag}key:with/signs".to_owned(),
        _ => format!("key{}", random.random_range(0..12)),
    }
}

fn number_key(random: &mut StdRng) -> String {
    format!("number{}", random.random_range(0..6))
}

fn any_key(random: &mut StdRng) -> String {
    if rarely(random, 3) { number_key(random) } else { text_key(random) }
}

/// A value for a key. After a key that is refused it is taken for commands, which must not be
/// longer than any may be.
fn value(random: &mut StdRng, key: &str) -> Vec<u8> {
    if key.len() > 250 {
        return b"value".to_vec();
    }
    match random.random_range(0..40) {
        0 => Vec::new(),
        1 => vec![b'v'; random.random_range(1..20_000)],
        2 => b"a\r\nb\r\n".to_vec(),
        3 => vec![0, 1, 2, 253, 254, 255],
        _ => format!("value{}", random.random_range(0..1_000)).into_bytes(),
    }
}

fn digits(random: &mut StdRng) -> String {
    let texts = ["0", "1", "9", "10", "99", "100", "18446744073709551615", "18446744073709551614"];
    match random.random_range(0..3) {
        0 => one(random, &texts).to_owned(),
        _ => random.random_range(0..2_000u32).to_string(),
    }
}

fn noreply(random: &mut StdRng) -> &'static str {
    one(random, &["", "", "", "", "", " noreply"])
}

fn exptime(random: &mut StdRng) -> String {
    match random.random_range(0..12) {
        0 => one(random, &["-1", "-100", "1000000", "2592000", "+100", "0100"]).to_owned(),
        1..=3 => "1000".to_owned(),
        _ => "0".to_owned(),
    }
}

fn end(random: &mut StdRng) -> &'static str {
    one(random, &["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", " \r\n"])
}

/// Any command.
pub(crate) fn command(random: &mut StdRng) -> Command {
    match random.random_range(0..100) {
        0..20 => gets(random),
        20..40 => store(random),
        40..46 => compare_and_set(random),
        46..54 => count(random),
        54..60 => delete_or_touch(random),
        60..74 => meta_get(random),
        74..84 => meta_set(random),
        84..88 => meta_delete(random),
        88..94 => meta_count(random),
        94..97 => other(random),
        _ => wrong(random),
    }
}

fn gets(random: &mut StdRng) -> Command {
    let name = one(random, &["get", "get", "gets", "gat", "gats"]);
    let mut line = name.to_owned();
    if name.starts_with("gat") {
        line += " ";
        line += &exptime(random);
    }
    let keys = if rarely(random, 3) { random.random_range(1..40) } else { 1 };
    for _ in 0..keys {
        let key = any_key(random);
        line += " ";
        line += if key.len() > 250 { "key0" } else { &key };
    }
    Command::plain(&(line + end(random)))
}

fn store(random: &mut StdRng) -> Command {
    let name = one(random, &["set", "set", "set", "add", "replace", "append", "prepend"]);
    let is_number = rarely(random, 4) && !name.ends_with("pend");
    let (key, value) = if is_number {
        let spaced = ["007", " 10", "10 ", "+5", "-1", "1x"];
        let text = if rarely(random, 8) { one(random, &spaced).to_owned() } else { digits(random) };
        (number_key(random), text.into_bytes())
    } else if rarely(random, 2_000) {
        ("key0".to_owned(), vec![b'x'; 1_100_000])
    } else {
        let key = text_key(random);
        let value = value(random, &key);
        (key, value)
    };
    let flags = one(random, &["0", "0", "5", "4294967295", "007"]);
    let (exptime, quiet) = (exptime(random), noreply(random));
    let line = format!("{name} {key} {flags} {exptime} {}{quiet}{}", value.len(), end(random));
    Command::plain(&line).with_value(&value)
}

fn compare_and_set(random: &mut StdRng) -> Command {
    let key = text_key(random);
    let value = value(random, &key);
    let (exptime, quiet) = (exptime(random), noreply(random));
    let mut command = Command::plain(&format!("cas {key} 3 {exptime} {} ", value.len()));
    command.pieces.push(Piece::VersionOf(key));
    command.pieces.push(Piece::Bytes(format!("{quiet}\r\n").into_bytes()));
    command.with_value(&value)
}

fn count(random: &mut StdRng) -> Command {
    let name = one(random, &["incr", "incr", "decr"]);
    let key = if rarely(random, 8) { text_key(random) } else { number_key(random) };
    Command::plain(&format!("{name} {key} {}{}{}", digits(random), noreply(random), end(random)))
}

fn delete_or_touch(random: &mut StdRng) -> Command {
    let key = any_key(random);
    let line = match random.random_range(0..3) {
        0 => format!("delete {key}{}", noreply(random)),
        1 => format!("delete {key} 0{}", noreply(random)),
        _ => format!("touch {key} {}{}", exptime(random), noreply(random)),
    };
    Command::plain(&(line + end(random)))
}

/// A key of a meta command, and the flag that it needs.
fn meta_key(random: &mut StdRng) -> (String, &'static str) {
    match random.random_range(0..6) {
        0 => (one(random, &["Zm9v", "AAECAw==", "/+8=", "Zg=="]).to_owned(), " b"),
        1 => (number_key(random), ""),
        _ => (text_key(random), ""),
    }
}

/// Some of these flags, in any order.
fn flags(random: &mut StdRng, texts: &[&str]) -> String {
    let mut left = texts.to_vec();
    let mut line = String::new();
    for _ in 0..random.random_range(0..6) {
        if left.is_empty() {
            break;
        }
        line += " ";
        line += left.swap_remove(random.random_range(0..left.len()));
    }
    line
}

fn meta_get(random: &mut StdRng) -> Command {
    let (key, binary) = meta_key(random);
    let texts = ["k", "v", "v", "f", "c", "s", "t", "q", "h", "Oopaque", "T1000", "T0", "u", "M"];
    // Of two equal flags the second is refused.
    let kinds = if rarely(random, 20) { &texts[..] } else { &texts[1..13] };
    let mut flags = flags(random, kinds);
    if key.starts_with("number") {
        flags = flags.replace(" s", "");
    }
    let key_flag = if flags.contains(" k") { "" } else { " k" };
    Command::plain(&format!("mg {key}{binary}{flags}{key_flag}{}", end(random)))
}

fn meta_set(random: &mut StdRng) -> Command {
    let (key, binary) = meta_key(random);
    let value =
        if key.starts_with("number") { digits(random).into_bytes() } else { value(random, &key) };
    let mut texts = vec!["k", "c", "q", "Oopaque", "T1000", "T0", "F77", "s", "t", "S1"];
    if !rarely(random, 20) {
        texts.pop();
    }
    let modes = ["ME", "MR", "MS", "MX", "MA", "MP"];
    // memcached forgets that a key was in Base64 when its value is extended.
    let is_replaced = key.starts_with("number") || !binary.is_empty();
    let modes = if is_replaced { &modes[..3] } else { &modes[..] };
    texts.push(modes[random.random_range(0..modes.len())]);
    let flags = flags(random, &texts);
    let mut command = Command::plain(&format!("ms {key} {}{binary}{flags}", value.len()));
    if rarely(random, 4) && !binary.is_empty() || rarely(random, 6) {
        command.pieces.push(Piece::Bytes(b" C".to_vec()));
        command.pieces.push(Piece::VersionOf(key));
    }
    command.pieces.push(Piece::Bytes(b"\r\n".to_vec()));
    command.with_value(&value)
}

fn meta_delete(random: &mut StdRng) -> Command {
    let (key, binary) = meta_key(random);
    let flags = flags(random, &["k", "q", "Oopaque"]);
    let mut command = Command::plain(&format!("md {key}{binary}{flags}"));
    if rarely(random, 3) {
        command.pieces.push(Piece::Bytes(b" C".to_vec()));
        command.pieces.push(Piece::VersionOf(key));
    }
    command.pieces.push(Piece::Bytes(b"\r\n".to_vec()));
    command
}

fn meta_count(random: &mut StdRng) -> Command {
    let key = if rarely(random, 10) { text_key(random) } else { number_key(random) };
    let delta = format!("D{}", digits(random));
    let mode = one(random, &["MI", "M+", "MD", "M-", "Mi", "MX"]);
    let created = one(random, &["N0", "N1000", "q"]);
    let texts = ["k", "v", "t", "c", "Oopaque", "J13", &delta, mode, created];
    let mut flags = flags(random, &texts);
    if flags.contains(" N") {
        flags = flags.replace(" t", "");
    }
    if flags.contains(" k") {
        flags = flags.replace(" c", "");
    }
    let mut command = Command::plain(&format!("ma {key}{flags}"));
    // Of a value that is empty or long, memcached says first that it is no number.
    if key.starts_with("number") && rarely(random, 5) {
        command.pieces.push(Piece::Bytes(b" C".to_vec()));
        command.pieces.push(Piece::VersionOf(key));
    }
    command.pieces.push(Piece::Bytes(b"\r\n".to_vec()));
    command
}

fn other(random: &mut StdRng) -> Command {
    let line = one(
        random,
        &[
            "version",
            "version x",
            "verbosity 1",
            "verbosity",
            "verbosity 1 noreply",
            "mn",
            "stats reset",
            "stats nonsense",
            "shutdown",
            "flush_all 0",
            "flush_all noreply",
            "flush_all x",
            "flush_all 1 2 3",
            "verbosity x",
        ],
    );
    Command::plain(&format!("{line}{}", end(random)))
}

fn wrong(random: &mut StdRng) -> Command {
    let lines = [
        "\r\n",
        "\n",
        "a\r\n",
        "GET key1\r\n",
        "get\r\n",
        "gat\r\n",
        "gat 10\r\n",
        "gat x key1\r\n",
        "set key1 0 0\r\n",
        "set key1 0 0 -1\r\n",
        "set key1 -1 0 1\r\n",
        "set key1 0 x 1\r\n",
        "set key1 0 0 1x noreply\r\n",
        "set key1 0 0 1 noreply 2\r\n",
        "set key1 0 0 3\r\nabcde\r\n",
        "set key1 0 0 3 noreply\r\nabcde\r\n",
        "cas key1 0 0 1\r\n",
        "cas key1 0 0 1 x\r\n",
        "incr number1\r\n",
        "incr number1 x\r\n",
        "incr number1 -1\r\n",
        "incr number1 1 2 3\r\n",
        "incr number1 18446744073709551616\r\n",
        "decr number1 x noreply\r\n",
        "delete\r\n",
        "delete key1 1\r\n",
        "delete key1 0 1\r\n",
        "delete a b c d\r\n",
        "delete key1 1 noreply\r\n",
        "touch key1\r\n",
        "touch key1 x\r\n",
        "mx\r\n",
        "m\r\n",
        "mg\r\n",
        "ms\r\n",
        "ms key1\r\n",
        "ms key1 x\r\n",
        "ms key1 -1\r\n",
        "ms key1 2\r\nabc\r\n",
        "ms key1 2 q\r\nabc\r\n",
        "ms key1 3 TX\r\nabc\r\n",
        "ms key1 3 FX\r\nabc\r\n",
        "ms key1 3 Mxx\r\nabc\r\n",
        "md\r\n",
        "md key1 x\r\n",
        "ma\r\n",
        "ma number1 DX\r\n",
        "ma number1 Mxx\r\n",
        "ma number1 v v\r\n",
        "mg key1 !\r\n",
        "mg key1 v v\r\n",
        "mg Zm9 b\r\n",
        "ms !! 3 b\r\nabc\r\n",
        "md !! b\r\n",
        "mg key1 k k\r\n",
        "nonsense\r\n",
        "slabs\r\n",
        "lru\r\n",
        "stats\tx\r\n",
    ];
    Command::plain(one(random, &lines))
}
