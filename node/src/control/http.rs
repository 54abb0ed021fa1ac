//! The admin port: health without credentials; metrics, the configuration and the topology for
//! whoever holds the token.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::access::Access;
use super::connections::{ADMIN, BoundedListener};
use super::{Phase, Shared, configuration, metrics, topology};

/// Serves until an error; for ever without a listener.
pub(super) async fn serve(
    listener: Option<std::net::TcpListener>,
    shared: Arc<Shared>,
) -> io::Result<()> {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    let listener = BoundedListener::new(tokio::net::TcpListener::from_std(listener)?, ADMIN);
    axum::serve(listener, router(shared)).await
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/topology", get(topology::show).put(topology::replace))
        .route("/config", get(configuration::show).put(configuration::change))
        .with_state(shared)
}

/// 200 while the process lives.
async fn healthy() -> &'static str {
    "alive\n"
}

/// 200 only while the node serves; the body says what else it is doing.
async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let phase = shared.phase();
    let status = match phase {
        Phase::Ready => StatusCode::OK,
        Phase::Starting | Phase::Draining | Phase::Stopped => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{}\n", phase.word())).into_response()
}

async fn metrics(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if let Err(refusal) = authorize(&shared, &headers) {
        return *refusal;
    }
    match metrics::render(&shared) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!("metrics could not be rendered: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Lets nobody pass who is not to be answered.
pub(super) fn authorize(shared: &Shared, headers: &HeaderMap) -> Result<(), Box<Response>> {
    let access = Access::of(shared, headers);
    let message = format!("{}\n", access.words());
    Err(Box::new(match access {
        Access::Granted => return Ok(()),
        Access::WithoutToken => {
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
            (StatusCode::UNAUTHORIZED, challenge, message).into_response()
        }
        Access::StrangeName => (StatusCode::MISDIRECTED_REQUEST, message).into_response(),
    }))
}
