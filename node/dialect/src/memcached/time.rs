//! memcached's times: seconds from now, or a moment of wall time.

use corelane_protocol::{Jitter, Remaining, Ttl};

use crate::step::Moment;

/// Seconds up to which a time is meant from now on; longer ones are seconds since 1970
/// (memcached's protocol.txt, "Expiration times").
const RELATIVE_SECONDS_MAX: i32 = 60 * 60 * 24 * 30;

/// What no time means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Zero {
    /// The node's default: a text command has a place for the time, and cannot leave it out.
    Default,
    /// Never.
    Never,
}

/// A time to live. Below 0 it expires at once.
pub(super) fn ttl(seconds: i32, zero: Zero, moment: Moment) -> Ttl {
    match (seconds, zero) {
        (0, Zero::Default) => Ttl::Default,
        (0, Zero::Never) => Ttl::Never,
        _ => Ttl::After { ms: delay_ms(seconds, moment), jitter: Jitter::Exact },
    }
}

/// Milliseconds until a time.
pub(super) fn delay_ms(seconds: i32, moment: Moment) -> u64 {
    let ms = u64::try_from(seconds).unwrap_or(0) * 1_000;
    if seconds > RELATIVE_SECONDS_MAX { ms.saturating_sub(moment.unix_ms) } else { ms }
}

/// What remains of a time to live that was just given.
pub(super) fn remaining(ttl: Ttl) -> Option<Remaining> {
    match ttl {
        Ttl::Never => Some(Remaining::Never),
        Ttl::After { ms, .. } => Some(Remaining::Ms(ms)),
        Ttl::Default | Ttl::Keep => None,
    }
}

#[cfg(test)]
mod tests {
    use corelane_protocol::MonotonicUs;

    use super::*;

    #[test]
    fn long_times_are_wall_time() {
        let moment = Moment { now: MonotonicUs(0), unix_ms: 1_700_000_000_500 };
        let check = |seconds, expected| assert_eq!(delay_ms(seconds, moment), expected);
        check(1, 1_000);
        check(-1, 0);
        check(RELATIVE_SECONDS_MAX, 2_592_000_000);
        check(RELATIVE_SECONDS_MAX + 1, 0);
        check(1_700_000_010, 9_500);
        assert_eq!(ttl(0, Zero::Default, moment), Ttl::Default);
        assert_eq!(ttl(0, Zero::Never, moment), Ttl::Never);
    }
}
