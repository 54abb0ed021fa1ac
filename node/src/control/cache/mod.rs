//! The cache over HTTP, for whoever has nothing but an HTTP client (RFC 9110).
//!
//! ```text
//! path, headers, body ─ entry │ several ─► Request ─ gateway ─► the core that owns the key
//! status, ETag, JSON or bytes ◄─────────── Reply ◄───────────────────────────────┘
//! ```
//!
//! What it offers is written in `openapi.json`, which is served as well; a test compares it
//! with the routes. It is meant for convenience, not for speed: it shares one thread with
//! health and metrics, and what may be under way is bounded by [`limits`].

mod answer;
mod condition;
mod entry;
mod gateway;
mod key;
pub(crate) mod limits;
mod several;

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use self::answer::Problem;
use self::gateway::Gateway;
use super::access::Access;
use super::connections::BoundedListener;
use super::{HttpConfig, Shared};

/// The description of what is served here.
const OPENAPI: &str = include_str!("openapi.json");

/// Serves until an error; for ever without a listener.
pub(super) async fn serve(config: Option<HttpConfig>, shared: Arc<Shared>) -> io::Result<()> {
    let Some(config) = config else {
        return std::future::pending().await;
    };
    let bounds = limits::bounds(config.value_bytes_max);
    let listener = tokio::net::TcpListener::from_std(config.listener)?;
    let gateway = Arc::new(Gateway::new(Arc::clone(&shared), config.value_bytes_max));
    axum::serve(BoundedListener::new(listener, bounds), router(gateway, shared)).await
}

fn router(gateway: Arc<Gateway>, shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/cache", get(several::read))
        .route(
            "/cache/{*key}",
            get(entry::read).put(entry::write).post(entry::write).delete(entry::delete),
        )
        .with_state(gateway)
        .layer(middleware::from_fn_with_state(shared, with_access))
        .route("/openapi.json", get(openapi))
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

/// Lets through who is to be answered.
async fn with_access(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    match Access::of(&shared, request.headers()) {
        Access::Granted => next.run(request).await,
        refused => Problem::NoAccess(refused).into_response(),
    }
}
