//! The tables of SPEC.md against the code: every number, under its name.

use corelane_protocol::Status;
use corelane_protocol::wire::{FRAME_BYTES_MAX, Opcode, ReplyKind};

const SPECIFICATION: &str = include_str!("../SPEC.md");

/// First two cells of every row of the tables in the section with this heading.
fn rows(heading: &str) -> Vec<(String, String)> {
    let (_, section) = SPECIFICATION.split_once(&format!("\n## {heading}\n")).expect(heading);
    let section = section.split("\n## ").next().unwrap();
    let cells = |line: &str| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        Some((cells.next()?.to_owned(), cells.next()?.to_owned()))
    };
    section
        .lines()
        .filter_map(cells)
        .filter(|(number, _)| number.starts_with(char::is_numeric))
        .collect()
}

/// `NotFound` as `not found`.
fn words(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

#[test]
fn statuses() {
    let expected: Vec<_> = Status::ALL
        .iter()
        .map(|status| (format!("{:#04x}", *status as u8), words(&format!("{status:?}"))))
        .collect();
    assert_eq!(rows("Statuses"), expected);
}

#[test]
fn requests() {
    let expected: Vec<_> = Opcode::ALL
        .iter()
        .map(|opcode| {
            let name = match opcode {
                Opcode::MultiGet => "multi-get".to_owned(),
                Opcode::TtlOf => "TTL query".to_owned(),
                opcode => words(&format!("{opcode:?}")),
            };
            (format!("{:#04x}", *opcode as u8), name)
        })
        .collect();
    let documented: Vec<_> = rows("Requests")
        .into_iter()
        .map(|(number, name)| (number, name.trim_end_matches(" *w*").to_owned()))
        .collect();
    assert_eq!(documented, expected);
}

#[test]
fn kinds_of_replies() {
    let expected: Vec<_> = ReplyKind::ALL
        .iter()
        .map(|kind| ((*kind as u8).to_string(), words(&format!("{kind:?}"))))
        .collect();
    assert_eq!(rows("Replies"), expected);
}

#[test]
fn longest_frame() {
    assert!(SPECIFICATION.contains("frame over 67,125,519 bytes"));
    assert_eq!(FRAME_BYTES_MAX, 67_125_519);
}
