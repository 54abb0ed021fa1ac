//! memcached's text and meta protocols, as memcached 1.6.18 speaks them
//! (<https://github.com/memcached/memcached/blob/master/doc/protocol.txt>).
//!
//! ```text
//! bytes ─ session: line, data block ─ classic │ meta ─► Step
//! bytes ◄─ Shape::render ◄──────────────────────────── Reply
//! ```

mod ahead;
mod base64;
mod classic;
mod compatibility;
mod gather;
pub mod limits;
mod line;
pub mod meta;
mod session;
mod shape;
mod time;

pub(crate) use ahead::ahead;
pub use ahead::only_reads;
pub use classic::KeyParts as Parts;
pub use compatibility::compatibility;
pub use gather::{Gather, Gathering, Page};
pub use session::Session;
pub use shape::{Place, Shape, Unique};

use corelane_protocol::{Request, RequestHead};

use crate::step::{Part, Shape as AnyShape, Step};

/// What is answered to `version`: the memcached whose behaviour this is, and who it really is.
const VERSION: &str = concat!("VERSION 1.6.18-corelane-", env!("CARGO_PKG_VERSION"));

const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format";

/// What a command is. `data` counts the bytes after its line that belong to it.
#[derive(Debug)]
enum Parsed<'a> {
    /// It asks for something.
    Command { step: Step<'a>, data: usize },
    /// It is answered by this line alone.
    Answered(&'static str),
    /// It is refused with this line.
    Refused { text: &'static str, data: usize },
    /// Its value is not all there.
    Incomplete { data: usize },
}

impl Parsed<'_> {
    fn refused(text: &'static str) -> Self {
        Parsed::Refused { text, data: 0 }
    }
}

fn part<'a>(head: RequestHead, request: Request<'a>, shape: Shape, echo: &'a [u8]) -> Part<'a> {
    Part { head, request, shape: AnyShape::Memcached(shape), echo }
}

fn shaped<'a>(head: RequestHead, request: Request<'a>, shape: Shape, echo: &'a [u8]) -> Step<'a> {
    Step::One(part(head, request, shape, echo))
}
