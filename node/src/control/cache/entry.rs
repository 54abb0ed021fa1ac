//! One entry: `/cache/{key}`.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use corelane_protocol::{
    DeleteCondition, Description, Jitter, OldValue, Remaining, Reply, Request, RequestHead, Set,
    SetCondition, Status, Ttl, Version, WantVersion, WithValue,
};
use serde::{Deserialize, Serialize};

use super::answer::{Problem, json};
use super::condition::{Conditions, Simple, tag};
use super::gateway::Gateway;
use super::key;
use super::limits::json_bytes_max;

const OCTETS: &str = "application/octet-stream";

/// How long an entry of raw bytes remains, in milliseconds; left out where it is for ever.
const TTL_HEADER: &str = "corelane-ttl-remaining-ms";

/// A request whose reply carries the version.
fn versioned() -> RequestHead {
    RequestHead { want_version: WantVersion::Yes, ..RequestHead::default() }
}

/// `GET` and `HEAD`.
pub(super) async fn read(
    State(gateway): State<Arc<Gateway>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = key::of_path(uri.path())?;
    let conditions = Conditions::of(&headers)?;
    let _room = gateway.room(gateway.value_bytes_max()).await;
    let request = Request::Describe { key: &key, value: WithValue::Yes, touch: None };
    gateway
        .ask(versioned(), request, |reply| match reply {
            Reply::Described { description, value: Some(value) } => {
                found(&description, value, &conditions, &headers)
            }
            Reply::Failed { status: Status::NotFound, .. } if !conditions.is_matched(None) => {
                Err(Problem::ConditionFailed)
            }
            other => Err(Problem::from(&other)),
        })
        .await
}

fn found(
    description: &Description,
    value: &[u8],
    conditions: &Conditions,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Found<'a> {
        value: &'a str,
        ttl_remaining_ms: Option<u64>,
    }
    if !conditions.is_matched(description.version) {
        return Err(Problem::ConditionFailed);
    }
    let mut about = entity_tag(description.version);
    if !conditions.is_none_matched(description.version) {
        return Ok((StatusCode::NOT_MODIFIED, about).into_response());
    }
    let ttl_remaining_ms = match description.remaining {
        Remaining::Never => None,
        Remaining::Ms(ms) => Some(ms),
    };
    // Two forms are made of one entry: caches between must tell them apart.
    about.insert(header::VARY, HeaderValue::from_static("accept"));
    if wants_octets(headers) {
        if let Some(ms) = ttl_remaining_ms {
            about.insert(TTL_HEADER, HeaderValue::from(ms));
        }
        about.insert(header::CONTENT_TYPE, HeaderValue::from_static(OCTETS));
        return Ok((about, value.to_vec()).into_response());
    }
    let value = str::from_utf8(value).map_err(|_| Problem::NotAcceptable)?;
    Ok((about, json(&Found { value, ttl_remaining_ms })).into_response())
}

/// The headers that tell a version, if there is one to tell.
fn entity_tag(version: Option<Version>) -> HeaderMap {
    version.map(|version| (header::ETAG, tag(version))).into_iter().collect()
}

/// Whether raw bytes are asked for: they are where their type is named. Else it is JSON.
fn wants_octets(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|range| media_type(range).eq_ignore_ascii_case(OCTETS))
}

/// A media type without its parameters.
fn media_type(text: &str) -> &str {
    text.split(';').next().unwrap_or_default().trim()
}

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Octets,
}

impl Form {
    /// Web pages may have browsers send a POST of any simple type to any address, without
    /// asking: such types are taken for JSON from a PUT only, which browsers ask about first.
    fn of(method: &Method, headers: &HeaderMap) -> Result<Form, Problem> {
        let kind = match headers.get(header::CONTENT_TYPE) {
            Some(value) => value.to_str().map_err(|_| Problem::UnsupportedType)?,
            None => "",
        };
        let kind = media_type(kind).to_ascii_lowercase();
        match kind.as_str() {
            OCTETS => Ok(Form::Octets),
            "application/json" => Ok(Form::Json),
            // What curl sends unless it is told otherwise, and nothing.
            "application/x-www-form-urlencoded" | "" if method == Method::PUT => Ok(Form::Json),
            _ => Err(Problem::UnsupportedType),
        }
    }
}

/// The body of a write in JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    value: String,
    ttl_ms: Option<u64>,
    #[serde(rename = "ttlSeconds")]
    ttl_seconds: Option<u64>,
}

fn ttl(ms: Option<u64>, seconds: Option<u64>) -> Result<Ttl, Problem> {
    let ms = match (ms, seconds) {
        (None, None) => return Ok(Ttl::Default),
        (Some(ms), None) => Some(ms),
        (None, Some(seconds)) => seconds.checked_mul(1_000),
        (Some(_), Some(_)) => {
            return Err(Problem::BadRequest("give ttl_ms or ttlSeconds, not both"));
        }
    };
    // The highest numbers have other meanings between the cores.
    let ms = ms.filter(|ms| *ms <= i64::MAX as u64);
    let ms = ms.ok_or(Problem::BadRequest("the time to live is too long"))?;
    Ok(Ttl::After { ms, jitter: Jitter::Exact })
}

/// The same from a query, for bodies that have no place for it.
fn ttl_of_query(query: Option<&str>) -> Result<Ttl, Problem> {
    let number = |name| match key::parameter(query, name) {
        None => Ok(None),
        Some(text) => {
            let number = text.parse::<u64>().map(Some);
            number.map_err(|_| Problem::BadRequest("a time to live must be a whole number"))
        }
    };
    ttl(number("ttl_ms")?, number("ttlSeconds")?)
}

/// `PUT` and `POST`.
pub(super) async fn write(
    State(gateway): State<Arc<Gateway>>,
    request: HttpRequest<Body>,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let key = key::of_path(parts.uri.path())?;
    let conditions = Conditions::of(&parts.headers)?;
    let form = Form::of(&parts.method, &parts.headers)?;
    let bytes_max = match form {
        Form::Json => json_bytes_max(gateway.value_bytes_max()),
        Form::Octets => gateway.value_bytes_max(),
    };
    let length = parts.headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|text| text.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > bytes_max) {
        return Err(Problem::TooLarge);
    }
    let _room = gateway.room(length.unwrap_or(bytes_max)).await;
    let body = to_bytes(body, bytes_max).await.map_err(|_| Problem::TooLarge)?;
    let (value, ttl) = match form {
        Form::Octets => (Vec::from(body), ttl_of_query(parts.uri.query())?),
        Form::Json => {
            let stored: Stored = serde_json::from_slice(&body).map_err(|_| {
                Problem::BadRequest("the body must be {\"value\": text} with ttl_ms or ttlSeconds")
            })?;
            (stored.value.into_bytes(), ttl(stored.ttl_ms, stored.ttl_seconds)?)
        }
    };
    if value.len() > gateway.value_bytes_max() {
        return Err(Problem::TooLarge);
    }
    let condition = match conditions.simple() {
        Simple::None => SetCondition::Always,
        Simple::Present => SetCondition::Present,
        Simple::Absent => SetCondition::Absent,
        Simple::No => match checked_version(&gateway, &key, &conditions).await? {
            Some(version) => SetCondition::VersionIs(version),
            None => SetCondition::Absent,
        },
    };
    let set = Set { key: &key, value: &value, user_flags: 0, ttl, condition, old: OldValue::Omit };
    gateway
        .ask(versioned(), Request::Set(set), |reply| match reply {
            Reply::Done { version } => {
                let stored = json(&Written { status: "stored", deleted: None });
                Ok((StatusCode::CREATED, entity_tag(version), stored).into_response())
            }
            // The entry that was looked at has gone since.
            Reply::Failed { status: Status::NotFound, .. } => Err(Problem::ConditionFailed),
            other => Err(Problem::from(&other)),
        })
        .await
}

/// What became of a write.
#[derive(Debug, Serialize)]
struct Written {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<bool>,
}

/// `DELETE`.
pub(super) async fn delete(
    State(gateway): State<Arc<Gateway>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = key::of_path(uri.path())?;
    let conditions = Conditions::of(&headers)?;
    let needed = match conditions.simple() {
        Simple::None | Simple::Present => DeleteCondition::Always,
        Simple::Absent | Simple::No => match checked_version(&gateway, &key, &conditions).await? {
            Some(version) => DeleteCondition::VersionIs(version),
            // The conditions hold because there is nothing.
            None => return Ok(deleted(false)),
        },
    };
    let request = Request::Delete { key: &key, condition: needed };
    gateway
        .ask(RequestHead::default(), request, |reply| match reply {
            Reply::Done { .. } => Ok(deleted(true)),
            Reply::Failed { status: Status::NotFound, .. } => match conditions.simple() {
                Simple::None => Ok(deleted(false)),
                _ => Err(Problem::ConditionFailed),
            },
            other => Err(Problem::from(&other)),
        })
        .await
}

fn deleted(deleted: bool) -> Response {
    json(&Written { status: "deleted", deleted: Some(deleted) }).into_response()
}

/// The version for which conditions were found to hold: a write that depends on it takes
/// effect only if they still do.
async fn checked_version(
    gateway: &Gateway,
    key: &[u8],
    conditions: &Conditions,
) -> Result<Option<Version>, Problem> {
    let request = Request::Describe { key, value: WithValue::No, touch: None };
    let current = gateway
        .ask(versioned(), request, |reply| match reply {
            Reply::Described { description, .. } => Ok(description.version),
            Reply::Failed { status: Status::NotFound, .. } => Ok(None),
            other => Err(Problem::from(&other)),
        })
        .await?;
    if conditions.is_matched(current) && conditions.is_none_matched(current) {
        Ok(current)
    } else {
        Err(Problem::ConditionFailed)
    }
}
