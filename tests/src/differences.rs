//! Where Corelane differs from Redis and memcached on purpose: one list, which the differential
//! tests compare by and try out on both servers, and which docs/compatibility.md shows.

use std::fmt::Write as _;
use std::io::{Read, Write};

/// How alike two answers to one command must be, where they cannot be the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// All bytes.
    Bytes,
    /// Numbers that depend on the moment.
    Time {
        /// Milliseconds that one of them counts for.
        unit_ms: i64,
    },
    /// The same elements, in any order.
    Set,
    /// Both an error in the same words, both nothing, or answers of one kind.
    Shape,
}

/// Commands whose answers are the server's own.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// Their names.
    pub commands: &'static [&'static str],
    /// How they are compared instead.
    pub likeness: Likeness,
    /// Why.
    pub because: &'static str,
}

/// RESP commands that are not compared byte for byte.
pub const RESP_OWN: [Own; 5] = [
    Own {
        commands: &["ttl", "expiretime"],
        likeness: Likeness::Time { unit_ms: 1_000 },
        because: "two servers are not asked at one moment",
    },
    Own {
        commands: &["pttl", "pexpiretime"],
        likeness: Likeness::Time { unit_ms: 1 },
        because: "two servers are not asked at one moment",
    },
    Own {
        commands: &["dbsize"],
        likeness: Likeness::Shape,
        because: "entries whose time is over count until a server comes across them",
    },
    Own { commands: &["keys"], likeness: Likeness::Set, because: "keys have no order" },
    Own {
        commands: &[
            "info",
            "client",
            "command",
            "scan",
            "randomkey",
            "time",
            "memory",
            "object",
            "hello",
        ],
        likeness: Likeness::Shape,
        because: "they tell of the server itself, or choose",
    },
];

/// How the answers to a RESP command are compared.
pub fn resp_likeness(name: &[u8]) -> Likeness {
    let is = |command: &&str| name.eq_ignore_ascii_case(command.as_bytes());
    let own = RESP_OWN.iter().find(|own| own.commands.iter().any(is));
    own.map_or(Likeness::Bytes, |own| own.likeness)
}

/// An intended difference, with commands that show it. Streams of random commands leave it out.
#[derive(Clone, Copy, Debug)]
pub struct Difference {
    /// What is sent, one command after the other.
    pub sent: &'static [&'static str],
    /// How the other server's answer to the last one begins.
    pub theirs: &'static str,
    /// How Corelane's begins.
    pub ours: &'static str,
    /// Why.
    pub because: &'static str,
}

const fn differs(
    sent: &'static [&'static str],
    theirs: &'static str,
    ours: &'static str,
    because: &'static str,
) -> Difference {
    Difference { sent, theirs, ours, because }
}

const ONE_SLOT: &str = "what is atomic over several keys needs them in one slot, on one node too";
const NOT_THERE: &str = "there are only strings, and nothing is published or scripted";
const LATER: &str = "of later versions of Redis, or of Valkey";
const IN_FORCE: &str = "what cannot be changed is not said to have been";

/// Those from Redis 7.0.15.
pub const RESP: [Difference; 14] = [
    differs(&["SET a 1", "RENAME a b"], "+OK", "-CROSSSLOT", ONE_SLOT),
    differs(&["SET a 1", "COPY a b REPLACE"], ":1", "-CROSSSLOT", ONE_SLOT),
    differs(&["DEL a b", "MSETNX a 1 b 2"], ":1", "-CROSSSLOT", ONE_SLOT),
    differs(
        &["MULTI", "DBSIZE"],
        "+QUEUED",
        "-ERR Command not allowed inside a transaction",
        "a transaction is one core's, and other cores are not stopped for it",
    ),
    differs(&["LPUSH list a"], ":1", "-ERR unknown command", NOT_THERE),
    differs(&["PUBLISH channel a"], ":0", "-ERR unknown command", NOT_THERE),
    differs(&["SET a 1", "GETBIT a 0"], ":0", "-ERR unknown command", NOT_THERE),
    differs(&["SET a 1", "SET a 2 IFEQ 1"], "-ERR syntax error", "+OK", LATER),
    differs(&["SET a 1", "DELIFEQ a 1"], "-ERR unknown command", ":1", LATER),
    differs(&["CLIENT NO-TOUCH on"], "-ERR unknown subcommand", "+OK", LATER),
    differs(&["CONFIG SET hz 20"], "+OK", "-ERR CONFIG SET failed", IN_FORCE),
    differs(&["CONFIG SET maxmemory 0"], "+OK", "-ERR CONFIG SET failed", IN_FORCE),
    differs(
        &["SET a 1", "OBJECT IDLETIME a"],
        ":0",
        "-ERR An LFU maxmemory policy is selected",
        "when an entry was read last is not kept under any policy",
    ),
    differs(&["EVAL \"return 1\" 0"], ":1", "-ERR unknown command", NOT_THERE),
];

const CLAIMS: &str = "entries are not claimed by those who refresh them";

/// Those from memcached 1.6.18.
pub const MEMCACHED: [Difference; 8] = [
    differs(&["set a 0 0 1\r\nx", "mg a N30"], "HD", "CLIENT_ERROR flags N and R", CLAIMS),
    differs(&["set a 0 0 1\r\nx", "mg a R30"], "HD", "CLIENT_ERROR flags N and R", CLAIMS),
    differs(&["set a 0 0 1\r\nx", "md a I"], "HD", "CLIENT_ERROR flags N and R", CLAIMS),
    differs(
        &["set a 0 0 1\r\nx", "mg a l"],
        "HD l0",
        "HD\r",
        "when an entry was read last is not kept; clients do without",
    ),
    differs(
        &["ms YQ== 1 b\r\nx", "mg a k"],
        "HD kYQ== b",
        "HD ka",
        "how a key was written when it was stored is not kept",
    ),
    differs(&["version"], "VERSION 1.6.18\r", "VERSION 1.6.18-corelane", "both are told"),
    differs(&["stats detail on"], "OK", "ERROR", "nothing is counted by prefixes of keys"),
    differs(&["slabs automove 1"], "OK", "ERROR", "pages move between classes by themselves"),
];

/// Sends the commands of a difference to the other server and to a node, whose answers to the last
/// are to be those listed.
///
/// # Panics
/// They are not, or a server closes the connection or does not answer in time.
pub fn check(difference: &Difference, theirs: impl Read + Write, ours: impl Read + Write) {
    let answers = (answer(difference, theirs), answer(difference, ours));
    let as_listed =
        answers.0.starts_with(difference.theirs) && answers.1.starts_with(difference.ours);
    assert!(as_listed, "{difference:?}: {answers:?}");
}

/// Sends the commands of a difference, each once the one before is answered in one line; the
/// answer to the last.
fn answer(difference: &Difference, mut server: impl Read + Write) -> String {
    let mut answer = Vec::new();
    for command in difference.sent {
        server.write_all(format!("{command}\r\n").as_bytes()).expect("the server reads");
        answer.clear();
        while !answer.ends_with(b"\r\n") {
            let mut byte = [0];
            server.read_exact(&mut byte).expect("the server answers");
            answer.push(byte[0]);
        }
    }
    String::from_utf8(answer).expect("text")
}

/// The intended differences as a Markdown table.
pub fn table(differences: &[Difference], server: &str) -> String {
    let mut text = format!(
        "| sent | {server} answers | Corelane answers | because |\n| --- | --- | --- | --- |\n"
    );
    for Difference { sent, theirs, ours, because } in differences {
        let sent: Vec<String> =
            sent.iter().map(|command| format!("`{}`", command.replace("\r\n", "⏎"))).collect();
        let (theirs, ours) = (theirs.trim_end(), ours.trim_end());
        writeln!(text, "| {} | `{theirs}` | `{ours}` | {because} |", sent.join(", "))
            .expect("writing to a string cannot fail");
    }
    text
}

/// The commands that are not compared byte for byte, as a Markdown table.
pub fn own_table() -> String {
    let mut text = "| commands | compared by | because |\n| --- | --- | --- |\n".to_owned();
    for Own { commands, likeness, because } in RESP_OWN {
        let names: Vec<String> =
            commands.iter().map(|name| format!("`{}`", name.to_ascii_uppercase())).collect();
        let by = match likeness {
            Likeness::Bytes => "all bytes",
            Likeness::Time { .. } => "time, to a minute",
            Likeness::Set => "elements, in any order",
            Likeness::Shape => "kind of answer",
        };
        writeln!(text, "| {} | {by} | {because} |", names.join(", "))
            .expect("writing to a string cannot fail");
    }
    text
}
