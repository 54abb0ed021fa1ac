//! The admin port: health without credentials, metrics for whoever holds the token.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use subtle::ConstantTimeEq;

use super::connections::BoundedListener;
use super::{Phase, Shared, metrics};

/// Serves until an error; for ever without a listener.
pub(super) async fn serve(
    listener: Option<std::net::TcpListener>,
    shared: Arc<Shared>,
) -> io::Result<()> {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    let listener = BoundedListener::new(tokio::net::TcpListener::from_std(listener)?);
    axum::serve(listener, router(shared)).await
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
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
    if !authorized(&shared, &headers) {
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
        return (StatusCode::UNAUTHORIZED, challenge, "the node's token is needed as bearer\n")
            .into_response();
    }
    match metrics::render(&shared) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!("metrics could not be rendered: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Compares in a time that depends on the token's length alone.
fn authorized(shared: &Shared, headers: &HeaderMap) -> bool {
    let Some(token) = &shared.auth_token else { return true };
    let Some(given) = headers.get(header::AUTHORIZATION) else { return false };
    match given.as_bytes().split_at_checked("Bearer ".len()) {
        Some((scheme, given)) if scheme.eq_ignore_ascii_case(b"Bearer ") => {
            token.as_bytes().ct_eq(given).into()
        }
        _ => false,
    }
}
