//! Entity tags from versions, and the conditions that requests make of them (RFC 9110,
//! sections 8.8.3 and 13.1).

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use corelane_protocol::Version;

use super::answer::Problem;

/// The entity tag of a version.
pub(super) fn tag(version: Version) -> HeaderValue {
    HeaderValue::try_from(format!("\"{:x}\"", version.0)).expect("digits between quotes")
}

/// What one header asks of the entry.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    /// That there is one.
    Any,
    /// That its version is one of these.
    Tags(Vec<Tag>),
}

/// An entity tag of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tag {
    is_weak: bool,
    /// None where it is not of a form that is given out here, so that nothing has it.
    version: Option<Version>,
}

/// The conditions of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    matches: Option<Wanted>,
    matches_none: Option<Wanted>,
}

/// The conditions in the form that needs no look at the entry, where they have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Simple {
    /// There are none.
    None,
    /// There must be an entry.
    Present,
    /// There must be none.
    Absent,
    /// It depends on the version.
    No,
}

impl Conditions {
    pub(super) fn of(headers: &HeaderMap) -> Result<Conditions, Problem> {
        Ok(Conditions {
            matches: wanted(headers, header::IF_MATCH)?,
            matches_none: wanted(headers, header::IF_NONE_MATCH)?,
        })
    }

    pub(super) fn simple(&self) -> Simple {
        match (&self.matches, &self.matches_none) {
            (None, None) => Simple::None,
            (Some(Wanted::Any), None) => Simple::Present,
            (None, Some(Wanted::Any)) => Simple::Absent,
            _ => Simple::No,
        }
    }

    /// Whether `If-Match` holds for an entry of this version, or for none. A weak tag is none.
    pub(super) fn is_matched(&self, current: Option<Version>) -> bool {
        match (&self.matches, current) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(Wanted::Any), Some(_)) => true,
            (Some(Wanted::Tags(tags)), Some(_)) => {
                tags.iter().any(|tag| !tag.is_weak && tag.version == current)
            }
        }
    }

    /// Whether `If-None-Match` holds likewise. A weak tag is as good as a strong one.
    pub(super) fn is_none_matched(&self, current: Option<Version>) -> bool {
        match (&self.matches_none, current) {
            (None, _) | (Some(_), None) => true,
            (Some(Wanted::Any), Some(_)) => false,
            (Some(Wanted::Tags(tags)), Some(_)) => tags.iter().all(|tag| tag.version != current),
        }
    }
}

fn wanted(headers: &HeaderMap, name: HeaderName) -> Result<Option<Wanted>, Problem> {
    let bad = Problem::BadRequest("a condition must be * or entity tags between quotes");
    let mut tags = Vec::new();
    let mut is_given = false;
    for value in headers.get_all(name) {
        is_given = true;
        let mut rest = value.as_bytes().trim_ascii();
        if rest == b"*" {
            return Ok(Some(Wanted::Any));
        }
        while !rest.is_empty() {
            let (is_weak, quoted) = match rest.strip_prefix(b"W/") {
                Some(quoted) => (true, quoted),
                None => (false, rest),
            };
            let text = quoted.strip_prefix(b"\"").ok_or_else(|| bad.clone())?;
            let end = text.iter().position(|byte| *byte == b'"').ok_or_else(|| bad.clone())?;
            tags.push(Tag { is_weak, version: version(&text[..end]) });
            rest = text[end + 1..].trim_ascii_start();
            match rest.strip_prefix(b",") {
                Some(more) => rest = more.trim_ascii_start(),
                None if rest.is_empty() => {}
                None => return Err(bad),
            }
        }
    }
    match (is_given, tags.is_empty()) {
        (false, _) => Ok(None),
        (true, true) => Err(bad),
        (true, false) => Ok(Some(Wanted::Tags(tags))),
    }
}

/// The version that a tag stands for, if it is written as [`tag`] writes it.
fn version(text: &[u8]) -> Option<Version> {
    let version = u64::from_str_radix(str::from_utf8(text).ok()?, 16).map(Version).ok()?;
    (tag(version).as_bytes()[1..].strip_suffix(b"\"") == Some(text)).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(matches: &'static str, none: &'static str) -> Result<Conditions, Problem> {
        let mut headers = HeaderMap::new();
        for (name, text) in [(header::IF_MATCH, matches), (header::IF_NONE_MATCH, none)] {
            if !text.is_empty() {
                headers.insert(name, HeaderValue::from_static(text));
            }
        }
        Conditions::of(&headers)
    }

    /// Whether the conditions hold for version 10 and for no entry.
    #[track_caller]
    fn check(matches: &'static str, none: &'static str, expected: (bool, bool)) {
        let conditions = conditions(matches, none).unwrap();
        let holds = |current| conditions.is_matched(current) && conditions.is_none_matched(current);
        assert_eq!((holds(Some(Version(10))), holds(None)), expected);
    }

    #[test]
    fn tags_are_compared_strongly_or_weakly() {
        check("", "", (true, true));
        check("*", "", (true, false));
        check("", "*", (false, true));
        check("\"a\"", "", (true, false));
        check("\"b\", \"a\"", "", (true, false));
        check("\"b\"", "", (false, false));
        check("W/\"a\"", "", (false, false));
        check("", "W/\"a\"", (false, true));
        check("", "\"b\" ,\"c,\"", (true, true));
        check("\"0a\"", "\"A\"", (false, false));
        assert_eq!(tag(Version(10)), "\"a\"");
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused() {
        for wrong in ["a", "\"a", "\"a\" \"b\"", "W\"a\"", "*, \"a\""] {
            assert!(conditions(wrong, "").is_err(), "{wrong}");
        }
    }
}
