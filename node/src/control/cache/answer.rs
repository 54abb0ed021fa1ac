//! What goes wrong, as HTTP has it: a status, and JSON that says it in words.

use std::borrow::Cow;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use corelane_protocol::{Reply, Status};
use serde::Serialize;

use crate::control::access::Access;

/// Why a request has no other answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The request itself is wrong.
    BadRequest(&'static str),
    /// Who asks is not answered.
    NoAccess(Access),
    /// There is no such entry.
    NotFound,
    /// The value cannot be told in the form asked for.
    NotAcceptable,
    /// A condition of the request does not hold.
    ConditionFailed,
    /// The value is longer than the node keeps.
    TooLarge,
    /// The key is longer than the node keeps.
    KeyTooLong,
    /// The body is of a type that is not understood here.
    UnsupportedType,
    /// The node does not serve at the moment.
    Unavailable(&'static str),
    /// The memory is used up and nothing may be evicted.
    OutOfMemory,
    /// Another node answers for the key: here.
    Elsewhere(String),
    /// The core refused it for a reason of its own.
    Refused(Status, String),
}

impl From<&Reply<'_>> for Problem {
    /// What a core answered instead of what was asked for.
    fn from(reply: &Reply<'_>) -> Problem {
        match *reply {
            Reply::Failed { status, message } => Problem::from((status, message)),
            Reply::Busy { .. } => Problem::from((Status::Busy, "")),
            Reply::Redirect(redirect) => Problem::Elsewhere(redirect.address.to_owned()),
            _ => unreachable!("{reply:?} answers none of the requests made here"),
        }
    }
}

impl From<(Status, &str)> for Problem {
    fn from((status, message): (Status, &str)) -> Problem {
        match status {
            Status::NotFound => Problem::NotFound,
            Status::ConditionFailed => Problem::ConditionFailed,
            Status::ValueTooLarge => Problem::TooLarge,
            Status::KeyTooLong => Problem::KeyTooLong,
            Status::OutOfMemory => Problem::OutOfMemory,
            Status::Loading => Problem::Unavailable("the node is loading its data"),
            Status::GoingAway => Problem::Unavailable("the node is shutting down"),
            Status::Busy => Problem::Unavailable("the node is overloaded"),
            _ => Problem::Refused(status, message.to_owned()),
        }
    }
}

impl Problem {
    fn status(&self) -> StatusCode {
        match self {
            Problem::BadRequest(_) => StatusCode::BAD_REQUEST,
            Problem::NoAccess(Access::StrangeName) => StatusCode::MISDIRECTED_REQUEST,
            Problem::NoAccess(_) => StatusCode::UNAUTHORIZED,
            Problem::NotFound => StatusCode::NOT_FOUND,
            Problem::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Problem::ConditionFailed => StatusCode::PRECONDITION_FAILED,
            Problem::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Problem::KeyTooLong => StatusCode::URI_TOO_LONG,
            Problem::UnsupportedType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Problem::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Problem::OutOfMemory => StatusCode::INSUFFICIENT_STORAGE,
            Problem::Elsewhere(_) => StatusCode::MISDIRECTED_REQUEST,
            Problem::Refused(Status::WrongType, _) => StatusCode::CONFLICT,
            Problem::Refused(_, _) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn words(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Problem::BadRequest(words) | Problem::Unavailable(words) => words,
            Problem::NoAccess(access) => access.words(),
            Problem::NotFound => "there is no such entry",
            Problem::NotAcceptable => "the value is not text: ask for application/octet-stream",
            Problem::ConditionFailed => "a condition of the request does not hold",
            Problem::TooLarge => "the value is longer than this node keeps",
            Problem::KeyTooLong => "the key is longer than 16384 bytes",
            Problem::UnsupportedType => "the body must be application/json or octet-stream",
            Problem::OutOfMemory => "the memory is used up and nothing may be evicted",
            Problem::Elsewhere(address) => {
                return Cow::Owned(format!("the node at {address} has the key"));
            }
            Problem::Refused(status, message) if message.is_empty() => {
                return Cow::Owned(format!("refused: {status:?}"));
            }
            Problem::Refused(_, message) => return Cow::Owned(message.clone()),
        })
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body<'a> {
            error: &'a str,
        }
        let mut headers = HeaderMap::new();
        match self {
            Problem::NoAccess(Access::WithoutToken) => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Problem::Unavailable(_) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        (self.status(), headers, json(&Body { error: &self.words() })).into_response()
    }
}

/// A body of JSON with its type.
pub(super) fn json(body: &impl Serialize) -> impl IntoResponse {
    let text = serde_json::to_string(body).expect("what is answered has no keys but strings");
    ([(header::CONTENT_TYPE, "application/json")], text)
}
