//! The types of single settings: each parses from the one text form that flags, environment
//! and file share, and prints the same form. A value of these types needs no later checks.

use corelane_dialect::Dialects;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Most data cores of one node. Mesh memory grows with the square of it (16 KiB a lane).
pub const CORES_MAX: u16 = 256;
/// Highest CPU number that a list of CPUs may name.
pub const CPU_MAX: usize = 4095;
/// Longest node name, in bytes.
pub const NODE_NAME_BYTES_MAX: usize = 64;
/// Longest time that a duration setting takes: ten years, in milliseconds.
pub const DURATION_MS_MAX: u64 = 10 * 365 * 24 * 60 * 60 * 1000;

/// Why a text is not a value of a setting. The message says what would be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not one of a few words.
    #[error("must be {expected}")]
    Choice {
        /// The words.
        expected: &'static str,
    },
    /// Not a whole number.
    #[error("must be a whole number")]
    Number,
    /// A number outside its range.
    #[error("must be between {least} and {most}")]
    Range {
        /// Smallest possible value, in the setting's own form.
        least: String,
        /// Largest possible value.
        most: String,
    },
    /// Not a size.
    #[error(
        "must be a size in bytes such as 512MiB, 4GiB or 2g (k, m, g and t count by 1024; KB, MB, GB and TB by 1000)"
    )]
    Size,
    /// Not a duration.
    #[error("must be a duration with its unit, such as 500ms, 30s, 5m, 2h or 7d")]
    Duration,
    /// Not an address.
    #[error(
        "must be an IP address and a port, such as 127.0.0.1:7400 or [::1]:7400 (names are not looked up)"
    )]
    Address,
    /// Not an address of a listener.
    #[error(
        "must be an IP address and a port, such as 127.0.0.1:7400 or [::1]:7400, or unix:PATH (names are not looked up)"
    )]
    ListenAddress,
    /// A UNIX socket without a path.
    #[error("must name a path after unix:, at most 107 bytes long")]
    UnixPath,
    /// The same thing twice in a list.
    #[error("names {what} twice")]
    Repeated {
        /// Which.
        what: String,
    },
    /// A list without elements.
    #[error("must not be empty")]
    Empty,
    /// Not a core count or list.
    #[error(
        "must be auto, a number of cores (1 to 256), or a list of CPUs such as 0,2,4-7 (a single CPU is 3-3)"
    )]
    Cores,
    /// Not a node name.
    #[error("must be 1 to 64 of the characters A-Z a-z 0-9 . _ -")]
    NodeName,
    /// The token file cannot be read.
    #[error("cannot be read: {reason}")]
    Unreadable {
        /// What the system said.
        reason: String,
    },
    /// A token of impossible length.
    #[error("holds {bytes} bytes; a token is 1 to 1024 bytes, not counting one newline at the end")]
    TokenLength {
        /// How long it is.
        bytes: usize,
    },
}

/// What the node calls itself: it is told apart by this name, not by its address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeName(String);

impl NodeName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<NodeName, ValueError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if text.is_empty() || text.len() > NODE_NAME_BYTES_MAX || !text.bytes().all(allowed) {
            return Err(ValueError::NodeName);
        }
        Ok(NodeName(text.to_owned()))
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A UNIX socket.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            ListenAddress::Tcp(address) => is_loopback(address),
            ListenAddress::Unix(_) => true,
        }
    }
}

/// Whether an address is the machine's own, also when IPv4 is written as IPv6.
pub(crate) fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

impl FromStr for ListenAddress {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<ListenAddress, ValueError> {
        match text.strip_prefix("unix:") {
            // sun_path holds 108 bytes, the last of them zero (unix(7)).
            Some(path) if path.is_empty() || path.len() > 107 => Err(ValueError::UnixPath),
            Some(path) => Ok(ListenAddress::Unix(PathBuf::from(path))),
            None => text.parse().map(ListenAddress::Tcp).map_err(|_| ValueError::ListenAddress),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => address.fmt(formatter),
            ListenAddress::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// Which data cores the node runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// One a CPU that the process may use.
    Auto,
    /// So many, on the first CPUs that the process may use.
    Count(u16),
    /// One on each of these CPUs.
    List(Vec<usize>),
}

impl Cores {
    /// How many data cores that makes on a machine with so many usable CPUs.
    pub fn count(&self, cpus: usize) -> usize {
        match self {
            Cores::Auto => cpus.clamp(1, usize::from(CORES_MAX)),
            Cores::Count(count) => usize::from(*count),
            Cores::List(list) => list.len(),
        }
    }
}

impl FromStr for Cores {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Cores, ValueError> {
        if text == "auto" {
            return Ok(Cores::Auto);
        }
        if let Ok(count) = text.parse::<u16>() {
            if count == 0 || count > CORES_MAX {
                return Err(ValueError::Cores);
            }
            return Ok(Cores::Count(count));
        }
        let mut cpus = Vec::new();
        for part in elements(text)? {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: usize = first.parse().map_err(|_| ValueError::Cores)?;
            let last: usize = last.parse().map_err(|_| ValueError::Cores)?;
            if first > last || last > CPU_MAX {
                return Err(ValueError::Cores);
            }
            for cpu in first..=last {
                if cpus.contains(&cpu) {
                    return Err(ValueError::Repeated { what: format!("CPU {cpu}") });
                }
                cpus.push(cpu);
            }
        }
        if cpus.len() > usize::from(CORES_MAX) {
            return Err(ValueError::Cores);
        }
        Ok(Cores::List(cpus))
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cores::Auto => formatter.write_str("auto"),
            Cores::Count(count) => count.fmt(formatter),
            Cores::List(list) => match list.as_slice() {
                // "3" would read as a count.
                [cpu] => write!(formatter, "{cpu}-{cpu}"),
                cpus => {
                    let texts: Vec<String> = cpus.iter().map(usize::to_string).collect();
                    formatter.write_str(&texts.join(","))
                }
            },
        }
    }
}

/// The non-empty elements of a comma-separated list; one comma at the end is allowed.
pub(crate) fn elements(text: &str) -> Result<Vec<&str>, ValueError> {
    let text = text.strip_suffix(',').unwrap_or(text);
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(ValueError::Empty);
    }
    Ok(parts)
}

/// Reads names of dialects.
///
/// # Errors
/// [`ValueError::Choice`]
pub(crate) fn read_dialects(text: &str) -> Result<Dialects, ValueError> {
    let mut dialects = Dialects { native: false, resp: false, memcached: false };
    for element in elements(text)? {
        match element {
            "native" => dialects.native = true,
            "resp" => dialects.resp = true,
            "memcached" => dialects.memcached = true,
            _ => return Err(ValueError::Choice { expected: "native, resp or memcached" }),
        }
    }
    Ok(dialects)
}

/// What [`read_dialects`] reads.
pub(crate) fn show_dialects(dialects: Dialects) -> String {
    let Dialects { native, resp, memcached } = dialects;
    [(native, "native"), (resp, "resp"), (memcached, "memcached")]
        .into_iter()
        .filter_map(|(is_spoken, name)| is_spoken.then_some(name))
        .collect::<Vec<_>>()
        .join(",")
}

/// Declares an enum whose values are words: parsing and printing come from one list.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident, $expected:literal, {
        $($(#[$variant_meta:meta])* $variant:ident = $word:literal $(| $other:literal)*,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)*
        }

        impl FromStr for $name {
            type Err = ValueError;

            fn from_str(text: &str) -> Result<$name, ValueError> {
                match text {
                    $($word $(| $other)* => Ok($name::$variant),)*
                    _ => Err(ValueError::Choice { expected: $expected }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(match self { $($name::$variant => $word,)* })
            }
        }
    };
}

words! {
    /// Whether data cores are bound to CPUs.
    Pin, "on or off", {
        /// Each core stays on its CPU.
        On = "on" | "true",
        /// The kernel moves them as it likes (several nodes on one host, tests).
        Off = "off" | "false",
    }
}

words! {
    /// Which kernel interface the data cores use.
    Io, "auto, uring or epoll", {
        /// io_uring; where it is not to be had the node says why and exits.
        Auto = "auto",
        /// io_uring, as `Auto`.
        Uring = "uring",
        /// A readiness loop, for laptops and containers.
        Epoll = "epoll",
    }
}

words! {
    /// How much memory is faulted in before it is needed.
    Prefault, "off, ahead or all", {
        /// None: each page costs its core a fault when it is first written.
        Off = "off",
        /// A little more than is in use, by a thread of its own.
        Ahead = "ahead",
        /// All that the shards may hold, by the same thread.
        All = "all",
    }
}

words! {
    /// Whether the shards' memory is backed by huge pages.
    HugePages, "never, ahead or advise", {
        /// Not even where the system gives them unasked.
        Never = "never",
        /// Where memory is faulted in before it is needed, and the kernel has them.
        Ahead = "ahead",
        /// Wherever the kernel has them.
        Advise = "advise",
    }
}

words! {
    /// Which memory (NUMA) node the shards' memory comes from.
    MemoryNodes, "local or any", {
        /// That of the core's CPU, while it has some left.
        Local = "local",
        /// That of whichever thread touches it first.
        Any = "any",
    }
}

words! {
    /// Which times to live are spread at random.
    JitterMode, "asked, always or off", {
        /// Those of requests that ask for it.
        Asked = "asked",
        /// All of them, the default TTL included.
        Always = "always",
        /// None, whatever a request asks.
        Off = "off",
    }
}

words! {
    /// The hash of the table (not of routing, which is public and fixed).
    TableHash, "rapid or siphash", {
        /// rapidhash with secrets of the process: fast, and enough where clients are trusted.
        Rapid = "rapid",
        /// SipHash-1-3 with a key of the process: a keyed pseudo-random function, for
        /// clients that may choose keys to collide.
        SipHash = "siphash",
    }
}

words! {
    /// Whether the node may be reached from other machines without a token.
    Insecure, "on or off", {
        /// Refused.
        Off = "off" | "false",
        /// Whoever reaches the port reads and writes everything.
        On = "on" | "true",
    }
}

/// In which order entries are evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvictionOrder {
    /// The CLOCK hand with a probation queue and a ghost list (S3-FIFO's behaviour).
    S3,
    /// CLOCK, near to least recently used.
    Clock,
    /// Least frequently used, with ageing.
    Lfu,
    /// Oldest first.
    Fifo,
    /// At random.
    Random,
    /// Soonest to expire first.
    Ttl,
}

/// Which entries may be evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvictionScope {
    /// All.
    AllKeys,
    /// Only those with a time to live.
    TtlOnly,
}

/// What happens when memory is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Writes answer "out of memory"; reads go on.
    NoEviction,
    /// Entries are evicted.
    Evict {
        /// Which goes first.
        order: EvictionOrder,
        /// Among which.
        scope: EvictionScope,
    },
}

impl Policy {
    const EXPECTED: &'static str = "s3, clock, lfu, fifo, random or ttl, each also with :ttl-only \
         (s3:ttl-only evicts only entries with a TTL), or noeviction; Redis's names such as \
         allkeys-lru and volatile-ttl mean the nearest of these";
}

impl FromStr for Policy {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Policy, ValueError> {
        use EvictionOrder::{Clock, Fifo, Lfu, Random, S3, Ttl};
        use EvictionScope::{AllKeys, TtlOnly};
        let evict = |order, scope| Ok(Policy::Evict { order, scope });
        // Redis's names: https://redis.io/docs/latest/develop/reference/eviction/
        match text {
            "noeviction" => return Ok(Policy::NoEviction),
            "allkeys-lru" => return evict(Clock, AllKeys),
            "volatile-lru" => return evict(Clock, TtlOnly),
            "allkeys-lfu" => return evict(Lfu, AllKeys),
            "volatile-lfu" => return evict(Lfu, TtlOnly),
            "allkeys-random" => return evict(Random, AllKeys),
            "volatile-random" => return evict(Random, TtlOnly),
            "volatile-ttl" => return evict(Ttl, TtlOnly),
            _ => {}
        }
        let (order, scope) = match text.strip_suffix(":ttl-only") {
            Some(order) => (order, TtlOnly),
            None => (text, AllKeys),
        };
        match order {
            "s3" => evict(S3, scope),
            "clock" => evict(Clock, scope),
            "lfu" => evict(Lfu, scope),
            "fifo" => evict(Fifo, scope),
            "random" => evict(Random, scope),
            "ttl" => evict(Ttl, scope),
            _ => Err(ValueError::Choice { expected: Policy::EXPECTED }),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Policy::Evict { order, scope } = self else {
            return formatter.write_str("noeviction");
        };
        formatter.write_str(match order {
            EvictionOrder::S3 => "s3",
            EvictionOrder::Clock => "clock",
            EvictionOrder::Lfu => "lfu",
            EvictionOrder::Fifo => "fifo",
            EvictionOrder::Random => "random",
            EvictionOrder::Ttl => "ttl",
        })?;
        match scope {
            EvictionScope::AllKeys => Ok(()),
            EvictionScope::TtlOnly => formatter.write_str(":ttl-only"),
        }
    }
}

/// Reads a size in bytes: `4096`, `512MiB`, `2g`. Letters of either case; k, m, g, t and
/// KiB, MiB, GiB, TiB are powers of 1024; KB, MB, GB, TB powers of 1000.
pub fn parse_size(text: &str) -> Result<u64, ValueError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| ValueError::Size)?;
    let unit = unit.trim_start().to_ascii_lowercase();
    let bytes_per_unit: u64 = match unit.as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(ValueError::Size),
    };
    number.checked_mul(bytes_per_unit).ok_or(ValueError::Size)
}

/// Writes a size so that [`parse_size`] reads the same number of bytes.
pub fn format_size(bytes: u64) -> String {
    let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// Reads a duration as milliseconds: `500ms`, `30s`, `5m`, `2h`, `7d`.
pub fn parse_duration_ms(text: &str) -> Result<u64, ValueError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| ValueError::Duration)?;
    let ms_per_unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(ValueError::Duration),
    };
    let ms = number.checked_mul(ms_per_unit).ok_or(ValueError::Duration)?;
    if ms == 0 || ms > DURATION_MS_MAX {
        return Err(ValueError::Range {
            least: "1ms".to_owned(),
            most: format_duration_ms(DURATION_MS_MAX),
        });
    }
    Ok(ms)
}

/// Writes a duration so that [`parse_duration_ms`] reads the same.
pub fn format_duration_ms(ms: u64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    match units.iter().find(|(unit, _)| ms >= *unit && ms.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", ms / unit),
        None => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_in_every_unit() {
        let check =
            |text: &str, expected: u64| assert_eq!(parse_size(text), Ok(expected), "{text}");
        check("0", 0);
        check("4096", 4096);
        check("4096b", 4096);
        check("1k", 1024);
        check("512MiB", 512 << 20);
        check("512 MiB", 512 << 20);
        check("2g", 2 << 30);
        check("2G", 2 << 30);
        check("4GB", 4_000_000_000);
        check("1TiB", 1 << 40);
        for wrong in ["", "g", "-1g", "1.5g", "1 g g", "1x", "18446744073709551616", "20000000t"] {
            assert_eq!(parse_size(wrong), Err(ValueError::Size), "{wrong}");
        }
    }

    #[test]
    fn sizes_print_what_they_read() {
        for bytes in [0, 1, 1023, 1024, 1536, 1 << 20, 3 << 30, u64::MAX, (1 << 40) + 1024] {
            assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }
        assert_eq!(format_size(64 << 20), "64MiB");
    }

    #[test]
    fn durations_need_a_unit() {
        let check = |text: &str, expected: u64| assert_eq!(parse_duration_ms(text), Ok(expected));
        check("1ms", 1);
        check("30s", 30_000);
        check("5m", 300_000);
        check("2h", 7_200_000);
        check("7d", 604_800_000);
        for wrong in ["", "30", "s", "1.5s", "30 s", "-1s", "99999999999999999999s"] {
            assert_eq!(parse_duration_ms(wrong), Err(ValueError::Duration), "{wrong}");
        }
        assert!(matches!(parse_duration_ms("0s"), Err(ValueError::Range { .. })));
        assert!(matches!(parse_duration_ms("4000d"), Err(ValueError::Range { .. })));
        for ms in [1, 999, 1000, 1001, 60_000, 90_000, 3_600_000, 86_400_000] {
            assert_eq!(parse_duration_ms(&format_duration_ms(ms)), Ok(ms));
        }
    }

    #[test]
    fn cores_are_a_count_or_a_list() {
        let check = |text: &str, expected: Cores| assert_eq!(text.parse(), Ok(expected), "{text}");
        check("auto", Cores::Auto);
        check("1", Cores::Count(1));
        check("256", Cores::Count(256));
        check("3-3", Cores::List(vec![3]));
        check("3,", Cores::List(vec![3]));
        check("0,2,4-6", Cores::List(vec![0, 2, 4, 5, 6]));
        for wrong in ["0", "257", "all", "3-1", "1-x", "4096-4096", "-1", "0-300"] {
            assert_eq!(wrong.parse::<Cores>(), Err(ValueError::Cores), "{wrong}");
        }
        assert_eq!("".parse::<Cores>(), Err(ValueError::Empty));
        assert_eq!(
            "1,0-2".parse::<Cores>(),
            Err(ValueError::Repeated { what: "CPU 1".to_owned() })
        );
        for text in ["auto", "7", "3-3", "0,2,5"] {
            assert_eq!(text.parse::<Cores>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn addresses_know_whether_they_are_local() {
        let local = |text: &str| text.parse::<ListenAddress>().unwrap().is_local();
        assert!(local("127.0.0.1:7400"));
        assert!(local("127.9.9.9:7400"));
        assert!(local("[::1]:7400"));
        assert!(local("[::ffff:127.0.0.1]:7400"));
        assert!(local("unix:/run/corelane.sock"));
        assert!(!local("0.0.0.0:7400"));
        assert!(!local("[::]:7400"));
        assert!(!local("192.168.1.1:0"));
        for wrong in ["localhost:7400", "7400", "127.0.0.1", ":7400", "1.2.3.4:65536"] {
            assert_eq!(wrong.parse::<ListenAddress>(), Err(ValueError::ListenAddress), "{wrong}");
        }
        assert_eq!("unix:".parse::<ListenAddress>(), Err(ValueError::UnixPath));
        let long = format!("unix:/{}", "x".repeat(107));
        assert_eq!(long.parse::<ListenAddress>(), Err(ValueError::UnixPath));
    }

    #[test]
    fn policies_read_their_own_and_redis_names() {
        let check = |text: &str, canonical: &str| {
            assert_eq!(text.parse::<Policy>().unwrap().to_string(), canonical);
        };
        check("s3", "s3");
        check("lfu:ttl-only", "lfu:ttl-only");
        check("allkeys-lru", "clock");
        check("volatile-lru", "clock:ttl-only");
        check("allkeys-lfu", "lfu");
        check("volatile-lfu", "lfu:ttl-only");
        check("allkeys-random", "random");
        check("volatile-random", "random:ttl-only");
        check("volatile-ttl", "ttl:ttl-only");
        check("noeviction", "noeviction");
        for wrong in ["", "lru", "S3", "noeviction:ttl-only", "s3:ttl-only:ttl-only"] {
            assert!(wrong.parse::<Policy>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn node_names_are_short_and_plain() {
        assert!("cache-1.rack_7".parse::<NodeName>().is_ok());
        for wrong in ["", "a b", "ä", &"x".repeat(65)] {
            assert_eq!(wrong.parse::<NodeName>(), Err(ValueError::NodeName), "{wrong}");
        }
    }
}
