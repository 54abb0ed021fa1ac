//! The real process under real clients: `corelane serve` is started as a child, spoken to over
//! sockets, signalled and killed. Whatever concerns connections runs on io_uring and on epoll.
//!
//! ```text
//! Node (a child process) ◄─ socket ─ Wire: frames as a test writes them, garbled ones too
//!                        ◄─ socket ─ corelane_client
//!                        ◄─ HTTP ─── admin::get, curl
//!                        ◄─ signals, limits; /proc ─► what it holds
//! ```
//!
//! Every wait ends after [`process::WAIT_MAX`], so that a node that hangs fails its test.

#![forbid(unsafe_code)]

/// Makes two tests of each function that takes an [`process::Io`].
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        $(
            mod $name {
                #[test]
                fn on_uring() {
                    if crate::process::Io::Uring.is_here() {
                        super::$name(crate::process::Io::Uring);
                    }
                }

                #[test]
                fn on_epoll() {
                    super::$name(crate::process::Io::Epoll);
                }
            }
        )*
    };
}

mod process;

mod wire;

mod operations;

mod cores;

mod expiry;

mod bad_input;

mod connections;

mod scarcity;

mod shutdown;

mod access;

mod admin;

mod cluster;

mod fleet;

mod frames;

mod http;

mod settings;

mod no_uring;

mod memory;

mod soak;
