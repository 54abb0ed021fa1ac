//! `/config`: the configuration as it is, and the settings of it that change while the node
//! runs.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::Shared;
use super::http::authorize;
use crate::config::settings;

/// Answers with the configuration as a configuration file has it.
pub(super) async fn show(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if let Err(refusal) = authorize(&shared, &headers) {
        return *refusal;
    }
    match shared.node.get() {
        Some(node) => settings::file(&node.config()).into_response(),
        None => starting(),
    }
}

/// Changes the settings that the query names, all of them or none, and answers with what then
/// holds: `curl -X PUT '127.0.0.1:7401/config?policy=allkeys-lfu&memory=2GiB'`.
pub(super) async fn change(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Query(changes): Query<Vec<(String, String)>>,
) -> Response {
    if let Err(refusal) = authorize(&shared, &headers) {
        return *refusal;
    }
    let Some(node) = shared.node.get() else {
        return starting();
    };
    match node.change(&changes) {
        Ok(()) => {
            for (name, text) in &changes {
                tracing::info!("{name} is {text} from now on");
            }
            settings::file(&node.config()).into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

fn starting() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response()
}
