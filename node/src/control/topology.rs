//! The topology over HTTP: what is in force, and a later one to take its place.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Shared;
use super::connections::ADMIN;
use super::http::authorize;
use crate::topology::format;
use crate::topology::keeper::{RefusedTopology, Taken};

/// The topology in force as JSON, or 404.
pub(super) async fn show(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if let Err(refusal) = authorize(&shared, &headers) {
        return *refusal;
    }
    match shared.node.get().and_then(|node| node.topology()) {
        Some(view) => {
            let kind = [(header::CONTENT_TYPE, "application/json")];
            (kind, format::print(view.topology())).into_response()
        }
        None => (StatusCode::NOT_FOUND, "the node has no topology\n").into_response(),
    }
}

/// Takes a topology in TOML or JSON; says which epoch is in force, or why it still is.
pub(super) async fn replace(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    if let Err(refusal) = authorize(&shared, request.headers()) {
        return *refusal;
    }
    let Some(node) = shared.node.get() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response();
    };
    // Only now: strangers get nothing of theirs buffered.
    let body = match to_bytes(request.into_body(), ADMIN.request_bytes_max).await {
        Ok(body) => body,
        Err(error) => return answer(StatusCode::PAYLOAD_TOO_LARGE, &error),
    };
    let text = match std::str::from_utf8(&body) {
        Ok(text) => text,
        Err(error) => return answer(StatusCode::BAD_REQUEST, &error),
    };
    let topology = match format::parse(text) {
        Ok(topology) => topology,
        Err(error) => return answer(StatusCode::BAD_REQUEST, &error),
    };
    let epoch = topology.epoch().0;
    match node.offer_topology(topology) {
        Ok(taken) => {
            if taken == Taken::New {
                tracing::info!("topology {epoch} is in force");
            }
            format!("epoch {epoch} is in force\n").into_response()
        }
        Err(error @ RefusedTopology::Stale { .. }) => answer(StatusCode::CONFLICT, &error),
        Err(error @ RefusedTopology::TooLong(_)) => answer(StatusCode::PAYLOAD_TOO_LARGE, &error),
        Err(error @ RefusedTopology::Write { .. }) => {
            tracing::error!("topology {epoch} is not taken: {error}");
            answer(StatusCode::INTERNAL_SERVER_ERROR, &error)
        }
    }
}

fn answer(status: StatusCode, error: &impl std::fmt::Display) -> Response {
    (status, format!("{error}\n")).into_response()
}
