//! Who is answered over HTTP: whoever holds the node's token. Where there is none, ports are open
//! to this machine alone, and then a request must name the node as programs here do.
//!
//! A browser on this machine lets a page of any site ask that site's own name for anything, also
//! once the site has its name resolved to 127.0.0.1 (DNS rebinding). Such a request still carries
//! the site's name, and an address is no name that can be resolved to another.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, header};
use subtle::ConstantTimeEq;

use super::Shared;

/// Whether a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// It is.
    Granted,
    /// The node's token is missing or wrong.
    WithoutToken,
    /// It is for somebody else by name.
    StrangeName,
}

impl Access {
    /// Of a request with these headers. Compares in a time that depends on the token's length
    /// alone.
    pub(super) fn of(shared: &Shared, headers: &HeaderMap) -> Access {
        match &shared.auth_token {
            Some(token) => match headers.get(header::AUTHORIZATION).map(|it| it.as_bytes()) {
                Some(given) if is_bearer(given, token.as_bytes()) => Access::Granted,
                _ => Access::WithoutToken,
            },
            None if !shared.is_local => Access::Granted,
            None => match headers.get(header::HOST).map(|host| host.to_str()) {
                None => Access::Granted,
                Some(Ok(host)) if is_own_name(host, &shared.about.node_name) => Access::Granted,
                Some(_) => Access::StrangeName,
            },
        }
    }

    /// Words for the person who reads them, where it is not granted.
    pub(super) fn words(self) -> &'static str {
        match self {
            Access::Granted => "",
            Access::WithoutToken => "the node's token is needed as bearer",
            Access::StrangeName => {
                "without a token, the node is asked by its address, as localhost or by its name"
            }
        }
    }
}

fn is_bearer(given: &[u8], token: &[u8]) -> bool {
    match given.split_at_checked("Bearer ".len()) {
        Some((scheme, given)) if scheme.eq_ignore_ascii_case(b"Bearer ") => {
            token.ct_eq(given).into()
        }
        _ => false,
    }
}

/// Whether the name in a `Host` header is one that only this machine gives to itself.
fn is_own_name(host: &str, node_name: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    if inner.is_some_and(|name| name.parse::<Ipv6Addr>().is_ok()) || name.parse::<IpAddr>().is_ok()
    {
        return true;
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    last.eq_ignore_ascii_case("localhost") || name.eq_ignore_ascii_case(node_name)
}

#[cfg(test)]
mod tests {
    use super::is_own_name;

    #[track_caller]
    fn check(host: &str, expected: bool) {
        assert_eq!(is_own_name(host, "cache-1"), expected, "{host}");
    }

    #[test]
    fn only_names_that_nobody_else_can_have_are_its_own() {
        for own in [
            "127.0.0.1:7402",
            "127.0.0.1",
            "10.1.2.3:80",
            "[::1]:7402",
            "[::1]",
            "localhost",
            "LocalHost:7402",
            "app.localhost:7402",
            "Cache-1:7402",
        ] {
            check(own, true);
        }
        for strange in [
            "",
            "example.com",
            "example.com:7402",
            "127.0.0.1.example.com",
            "localhost.example.com",
            "notlocalhost",
            "cache-1.example.com",
            "127.0.0.1 example.com",
            "[localhost]",
        ] {
            check(strange, false);
        }
    }
}
