//! The repository's own files, as the tests of layers and tidiness read them.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Names of directories that hold nothing of ours.
const NOT_OURS: [&str; 4] = ["target", ".git", "corpus", "artifacts"];

/// The root of the workspace.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("the crate is in the workspace").to_owned()
}

/// A text file of the repository.
#[derive(Debug)]
pub struct SourceFile {
    /// Path from the root, with `/` between its parts.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// All files whose path `wanted` accepts, in order of their paths.
pub fn files(wanted: impl Fn(&str) -> bool) -> Vec<SourceFile> {
    let root = root();
    let mut found = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("the tree can be read") {
            let entry = entry.expect("the tree can be read");
            let name = entry.file_name().into_string().expect("names are text");
            let path = entry.path();
            if path.is_dir() {
                if !NOT_OURS.contains(&name.as_str()) {
                    directories.push(path);
                }
                continue;
            }
            let relative = path.strip_prefix(&root).expect("it is below the root");
            let relative = relative.to_str().expect("paths are text").to_owned();
            // What is not text is none of the tests' business.
            if wanted(&relative)
                && let Ok(text) = fs::read_to_string(&path)
            {
                found.push(SourceFile { path: relative, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// All Rust files.
pub fn rust_files() -> Vec<SourceFile> {
    files(|path| path.ends_with(".rs"))
}

/// Whether a path is of a test, a benchmark or a fuzz target, which are judged less strictly.
pub fn is_test_path(path: &str) -> bool {
    let mut parts = path.split('/');
    parts.any(|part| matches!(part, "tests" | "benches" | "tests.rs" | "testing"))
}

/// Rust text with comments, and what is inside literals, turned into spaces. Lines stay
/// where they are.
pub fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' => match raw_string_end(bytes, at).filter(|_| begins_a_literal(bytes, at)) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            b'\'' => match char_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            _ => {
                at += 1;
                continue;
            }
        };
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(code).expect("whole literals and comments were replaced")
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| at + length)
}

fn comment_end(bytes: &[u8], at: usize) -> usize {
    let mut depth = 0;
    let mut here = at;
    while here < bytes.len() {
        if bytes[here..].starts_with(b"/*") {
            depth += 1;
            here += 2;
        } else if bytes[here..].starts_with(b"*/") {
            depth -= 1;
            here += 2;
            if depth == 0 {
                return here;
            }
        } else {
            here += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut here = at + 1;
    while here < bytes.len() {
        match bytes[here] {
            b'\\' => here += 2,
            b'"' => return here + 1,
            _ => here += 1,
        }
    }
    bytes.len()
}

fn raw_string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..].iter().take_while(|byte| **byte == b'#').count();
    let open = at + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    let body = &bytes[open + 1..];
    let length = body.windows(close.len()).position(|window| window == close)?;
    Some(open + 1 + length + close.len())
}

/// The end of a character literal; none where the quote begins a lifetime.
fn char_end(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at + 1) == Some(&b'\\') {
        let close = bytes[at + 3..].iter().position(|byte| *byte == b'\'')?;
        return Some(at + 3 + close + 1);
    }
    let text = std::str::from_utf8(&bytes[at + 1..bytes.len().min(at + 6)]);
    let valid = text.unwrap_or_else(|error| {
        std::str::from_utf8(&bytes[at + 1..at + 1 + error.valid_up_to()])
            .expect("valid up to there")
    });
    let character = valid.chars().next()?;
    let close = at + 1 + character.len_utf8();
    (bytes.get(close) == Some(&b'\'')).then_some(close + 1)
}

/// Whether what stands before a letter lets it be the prefix of a literal: no word, or the
/// `b` or `c` of its own prefix.
fn begins_a_literal(bytes: &[u8], at: usize) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let word = bytes[..at].iter().rev().take_while(|byte| is_part(byte)).count();
    matches!(&bytes[at - word..at], b"" | b"b" | b"c")
}

/// The same lines, those of `#[cfg(test)]` items left empty. `code` is what [`code_of`]
/// gives.
pub fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut at = 0;
    for item in test_items(code) {
        kept.push_str(&code[at..item.start]);
        kept.extend(code[item.clone()].chars().filter(|character| *character == '\n'));
        at = item.end;
    }
    kept + &code[at..]
}

/// How many lines of it are `#[cfg(test)]` items.
pub fn lines_of_tests(code: &str) -> usize {
    test_items(code).into_iter().map(|item| code[item].lines().count()).sum()
}

fn test_items(code: &str) -> Vec<Range<usize>> {
    let mut items = Vec::new();
    let mut at = 0;
    while let Some(found) = code[at..].find("#[cfg(test)]") {
        let start = at + found;
        at = start + item_end(&code[start..]);
        items.push(start..at);
    }
    items
}

/// The end of the item that `code` begins with: its closing brace, or its semicolon.
fn item_end(code: &str) -> usize {
    let mut depth = 0;
    for (at, character) in code.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Whether `word` stands in `text` as a word of its own.
pub fn has_word(text: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(is_part)
            && !text[at + word.len()..].chars().next().is_some_and(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked() {
        let check = |text: &str, expected: &str| assert_eq!(code_of(text), expected);
        check("a // b\nc", "a     \nc");
        check("a /* b /* c */ d */ e", "a                   e");
        check(r#"f("x \" y") z"#, "f(        ) z");
        check("r\"a\" b", "     b");
        check("br##\"a\"# \"## b", "b            b");
        check("fn f<'a>(x: &'a str) { '\\'' }", "fn f<'a>(x: &'a str) {      }");
        check("['é', '\"', b'x']", "[    ,    , b   ]");
    }

    #[test]
    fn tests_are_left_out() {
        let code = "a\n#[cfg(test)]\nmod tests {\n { }\n}\nb\n#[cfg(test)]\nuse c;\nd";
        assert_eq!(without_tests(code), "a\n\n\n\n\nb\n\n\nd");
        assert_eq!(lines_of_tests(code), 6);
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("an unsafe block", "unsafe"));
        assert!(!has_word("deny(unsafe_code)", "unsafe"));
    }
}
