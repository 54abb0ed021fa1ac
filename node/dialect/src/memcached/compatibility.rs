//! The commands as documentation. That they are there, and which flags have an effect, is tested
//! against what a session makes of them.

use std::fmt::Write;

/// Commands that are called alike.
struct Row {
    words: &'static [&'static str],
    /// What may be said of them.
    takes: &'static str,
    /// Of meta commands: the flags that have an effect.
    flags: &'static str,
    /// What comes after the word in a command of this kind.
    #[cfg(test)]
    example: &'static str,
}

macro_rules! row {
    ($words:expr, $takes:expr, $flags:expr, $example:expr) => {
        Row {
            words: &$words,
            takes: $takes,
            flags: $flags,
            #[cfg(test)]
            example: $example,
        }
    };
}

const COMMANDS: [Row; 13] = [
    row!(["get", "gets"], "any number of keys, on a line of at most 1 MiB", "", " k\r\n"),
    row!(["gat", "gats"], "the same, after a time", "", " 9 k\r\n"),
    row!(["set", "add", "replace", "append", "prepend"], NO_REPLY, "", " k 0 0 1\r\n1\r\n"),
    row!(["cas"], NO_REPLY, "", " k 0 0 1 7\r\n1\r\n"),
    row!(["incr", "decr", "touch"], NO_REPLY, "", " k 1\r\n"),
    row!(["delete"], NO_REPLY, "", " k\r\n"),
    row!(["flush_all"], "with a delay, and `noreply`", "", "\r\n"),
    row!(["stats"], "general, `items`, `slabs`, `settings`, `reset`", "", "\r\n"),
    row!(["version", "quit", "mn", "verbosity"], "", "", " 1\r\n"),
    row!(["mg"], "", "b c f h k O q s t T v", " abcd\r\n"),
    row!(["ms"], "; M with the modes A E P R S", "b c C F k M O q T", " abcd 1\r\n1\r\n"),
    row!(["md"], "", "b C k O q", " abcd\r\n"),
    row!(["ma"], "; M with the modes I + D -", "b c C D J k M N O q t T v", " abcd\r\n"),
];

const NO_REPLY: &str = "with `noreply`";

/// A Markdown table of the commands.
pub fn compatibility() -> String {
    let mut text = "| command | |\n| --- | --- |\n".to_owned();
    for row in &COMMANDS {
        let words: Vec<String> = row.words.iter().map(|word| format!("`{word}`")).collect();
        let flags = if row.flags.is_empty() { "" } else { "flags " };
        let Row { flags: letters, takes, .. } = row;
        writeln!(text, "| {} | {flags}{letters}{takes} |", words.join(", "))
            .expect("writing to a string cannot fail");
    }
    text.push_str("| `me` | flag b |\n");
    text
}

#[cfg(test)]
mod tests {
    use corelane_protocol::{
        Description, MonotonicUs, Remaining, Reply, Request, Status, Value, Version,
    };

    use super::*;
    use crate::detect::MEMCACHED_WORDS;
    use crate::fuzz::Node;
    use crate::memcached::Session;
    use crate::step::{Moment, Step, Taken};

    const MOMENT: Moment = Moment { now: MonotonicUs(0), unix_ms: 1_000 };

    /// What a session makes of a command, and how it answers what is done and what is not there.
    fn probe(input: &str) -> String {
        let node = Node::default();
        let mut session = Session::new(100, &node);
        let mut out = Vec::new();
        let taken = session.step(input.as_bytes(), &node, MOMENT, &mut out);
        let Taken::Whole { step, .. } = taken else { panic!("{input:?} is not whole") };
        let Step::One(part) = step else {
            return format!("{} {step:?}", out.escape_ascii());
        };
        let description = Description {
            value_bytes: 2,
            memory_bytes: 48,
            user_flags: 5,
            remaining: Remaining::Ms(9_000),
            version: part
                .head
                .want_version
                .eq(&corelane_protocol::WantVersion::Yes)
                .then_some(VERSION),
            uses: 1,
            is_integer: true,
        };
        let version = description.version;
        let with_value = |value| Reply::Described { description, value };
        let done = match part.request {
            Request::Get { .. } | Request::GetAndTouch { .. } => {
                Reply::Value(Value { bytes: b"12", user_flags: 5, version })
            }
            Request::Describe {
                value: corelane_protocol::WithValue::No | corelane_protocol::WithValue::Counted,
                ..
            } => with_value(None),
            Request::Describe { .. } | Request::CountAndDescribe { .. } => with_value(Some(b"12")),
            Request::Count(_) => Reply::Number { number: 12, version },
            _ => Reply::Done { version },
        };
        let absent = Reply::Failed { status: Status::NotFound, message: "" };
        for reply in [done, absent] {
            part.shape.render(part.echo, &reply, MOMENT, &mut out);
        }
        format!("{:?} {:?} {}", part.head, part.request, out.escape_ascii())
    }

    const VERSION: Version = Version(7);

    #[test]
    fn the_commands_are_those_that_a_session_knows() {
        let mut known = vec!["me"];
        for Row { words, example, .. } in &COMMANDS {
            for word in *words {
                let answer = probe(&format!("{word}{example}"));
                assert!(!answer.contains("ERROR"), "{word}: {answer}");
                known.push(word);
            }
        }
        for word in MEMCACHED_WORDS.map(|word| std::str::from_utf8(word).expect("ASCII")) {
            let answer = probe(&format!("{word} k\r\n"));
            let is_known = known.contains(&word);
            assert!(is_known || answer.starts_with("ERROR"), "{word}: {answer}");
        }
    }

    #[test]
    fn the_flags_are_those_that_have_an_effect() {
        for Row { words, flags, example, .. } in COMMANDS.iter().filter(|row| !row.flags.is_empty())
        {
            let word = words[0];
            let (line, data) = example.split_once("\r\n").expect("a line");
            for letter in ('a'..='z').chain('A'..='Z') {
                let argument = match letter {
                    'M' if word == "ms" => "E",
                    'M' => "D",
                    'O' => "x",
                    'T' | 'N' | 'F' | 'C' | 'J' | 'D' => "3",
                    _ => "",
                };
                // Only what is created has a first value.
                let before = if letter == 'J' { " N3" } else { "" };
                let without = probe(&format!("{word}{line}{before}\r\n{data}"));
                let with = probe(&format!("{word}{line}{before} {letter}{argument}\r\n{data}"));
                let is_told = flags.split(' ').any(|flag| flag == letter.to_string());
                let has_effect = with != without && !with.contains("CLIENT_ERROR");
                assert_eq!(has_effect, is_told, "{word} {letter}: {with}\n{without}");
            }
        }
    }
}
