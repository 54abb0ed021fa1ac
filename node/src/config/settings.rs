//! The one table of settings. A row declares a setting once: its name (the flag
//! `--memory`, the variable `CORELANE_MEMORY`, the key `memory`), what `--help` says of it,
//! how its text becomes part of a [`Config`], and how it is printed.

use std::path::Path;
use std::str::FromStr;

use super::values::{
    self, ValueError, elements, format_duration_ms, format_size, parse_duration_ms, parse_size,
    read_dialects, show_dialects,
};
use super::{
    CONNECTIONS_MAX, Config, MEMORY_MAX, MEMORY_PER_CORE_MIN, OUTPUT_BYTES_RANGE, SPIN_US_MAX,
    TTL_JITTER_PERCENT_MAX, VALUE_BYTES_MAX, token,
};

/// How many values a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// One.
    One,
    /// Several: the flag may be repeated, text separates them by commas, the file has an array.
    List,
    /// On when its flag is there.
    Switch,
}

/// Under which heading `--help` lists a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heading {
    /// Addresses and names.
    Network,
    /// Threads and the kernel.
    Cores,
    /// What is kept.
    Memory,
    /// For how long.
    Expiry,
    /// What clients may do.
    Limits,
    /// Who may connect.
    Security,
}

impl Heading {
    /// As help and printed configuration show it.
    pub fn title(self) -> &'static str {
        match self {
            Heading::Network => "Network",
            Heading::Cores => "Cores",
            Heading::Memory => "Memory and eviction",
            Heading::Expiry => "Expiry",
            Heading::Limits => "Limits and timeouts",
            Heading::Security => "Security",
        }
    }
}

/// A row of the table.
#[derive(Debug)]
pub struct Setting {
    /// Its name, as in the flag and the file.
    pub name: &'static str,
    /// What stands for its value in `--help`.
    pub value_name: &'static str,
    /// How many values it takes.
    pub arity: Arity,
    /// Its group.
    pub heading: Heading,
    /// One or two sentences, without the default.
    pub help: &'static str,
    /// The default in words, where its value depends on the machine.
    pub default_words: Option<&'static str>,
    /// Reads its text into a configuration.
    pub read: fn(&mut Config, &str) -> Result<(), ValueError>,
    /// Prints its value as `read` takes it; `None` where the value is not to be printed.
    pub show: fn(&Config) -> Option<String>,
}

impl Setting {
    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("CORELANE_{}", self.name.replace('-', "_").to_ascii_uppercase())
    }
}

/// Settings that may be changed while the node runs.
pub const CHANGEABLE: &[&str] = &["memory", "policy"];

/// The setting of this name.
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// All settings, in the order of `--help`.
pub static SETTINGS: &[Setting] = &[
    Setting {
        name: "listen",
        value_name: "ADDRESS",
        arity: Arity::List,
        heading: Heading::Network,
        help: "Where clients connect: IP:PORT, [IPv6]:PORT or unix:PATH. May be repeated",
        default_words: None,
        read: |config, text| {
            let mut addresses = Vec::new();
            for element in elements(text)? {
                addresses.push(element.parse()?);
            }
            config.listen = addresses;
            Ok(())
        },
        show: |config| {
            let texts: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
            Some(texts.join(","))
        },
    },
    Setting {
        name: "dialects",
        value_name: "NAME",
        arity: Arity::List,
        heading: Heading::Network,
        help: "What clients may speak there: native, resp (as Redis and Valkey have it) and \
               memcached; told apart by the first bytes of a connection",
        default_words: None,
        read: |config, text| {
            config.dialects = read_dialects(text)?;
            Ok(())
        },
        show: |config| Some(show_dialects(config.dialects)),
    },
    Setting {
        name: "admin",
        value_name: "ADDRESS",
        arity: Arity::One,
        heading: Heading::Network,
        help: "Where /healthz, /readyz and /metrics are served over HTTP, or none",
        default_words: None,
        read: |config, text| {
            config.admin = match text {
                "none" => None,
                address => Some(address.parse().map_err(|_| ValueError::Address)?),
            };
            Ok(())
        },
        show: |config| Some(or_none(config.admin, |address| address.to_string())),
    },
    Setting {
        name: "http",
        value_name: "ADDRESS",
        arity: Arity::One,
        heading: Heading::Network,
        help: "Where the cache itself is served over HTTP, or none",
        default_words: None,
        read: |config, text| {
            config.http = match text {
                "none" => None,
                address => Some(address.parse().map_err(|_| ValueError::Address)?),
            };
            Ok(())
        },
        show: |config| Some(or_none(config.http, |address| address.to_string())),
    },
    Setting {
        name: "node-name",
        value_name: "NAME",
        arity: Arity::One,
        heading: Heading::Network,
        help: "What the node calls itself; nodes are told apart by name, not by address",
        default_words: Some("the host's name"),
        read: |config, text| parse_into(&mut config.node_name, text),
        show: |config| Some(config.node_name.to_string()),
    },
    Setting {
        name: "topology",
        value_name: "FILE",
        arity: Arity::One,
        heading: Heading::Network,
        help: "File with the nodes of the cluster and who owns which slots, in TOML or JSON; a later \
               topology, by PUT /topology on the admin port, replaces it. Without one the node owns \
               all slots",
        default_words: Some("none"),
        read: |config, text| {
            config.topology = match text {
                "none" => None,
                path => Some(path.into()),
            };
            Ok(())
        },
        show: |config| {
            Some(or_none(config.topology.as_ref(), |path| path.to_string_lossy().into_owned()))
        },
    },
    Setting {
        name: "warm-up",
        value_name: "TIME",
        arity: Arity::One,
        heading: Heading::Network,
        help: "For how long after a topology whose epoch is the next one this node keeps what it \
               held of slots that left it, so that clients which warm up copy it to their new \
               nodes, and lets them copy what comes, or none. The same on all nodes",
        default_words: None,
        read: |config, text| {
            config.warm_up_ms = match text {
                "none" => None,
                time => Some(parse_duration_ms(time)?),
            };
            Ok(())
        },
        show: |config| Some(or_none(config.warm_up_ms, format_duration_ms)),
    },
    Setting {
        name: "cores",
        value_name: "N|LIST",
        arity: Arity::List,
        heading: Heading::Cores,
        help: "Data cores, one thread each: auto (one a CPU), how many, or on which CPUs (0,2,4-7; \
               a single CPU is 3-3). More than there are CPUs run unpinned",
        default_words: None,
        read: |config, text| parse_into(&mut config.cores, text),
        show: |config| Some(config.cores.to_string()),
    },
    Setting {
        name: "pin",
        value_name: "on|off",
        arity: Arity::One,
        heading: Heading::Cores,
        help: "Whether each data core stays on its CPU; off for several nodes on one host",
        default_words: None,
        read: |config, text| parse_into(&mut config.pin, text),
        show: |config| Some(config.pin.to_string()),
    },
    Setting {
        name: "io",
        value_name: "auto|uring|epoll",
        arity: Arity::One,
        heading: Heading::Cores,
        help: "How data cores talk to the kernel. auto is io_uring, and stops with the reason where \
               it is not to be had; epoll works everywhere and costs more CPU",
        default_words: None,
        read: |config, text| parse_into(&mut config.io, text),
        show: |config| Some(config.io.to_string()),
    },
    Setting {
        name: "spin-us",
        value_name: "MICROSECONDS",
        arity: Arity::One,
        heading: Heading::Cores,
        help: "How long a core looks for work before it sleeps, 0 to 1000, while that tends to \
               pay. 100 more than halves the latency of few connections; 0 spends the least CPU",
        default_words: None,
        read: |config, text| {
            config.spin_us = number_between(text, 0, SPIN_US_MAX)?;
            Ok(())
        },
        show: |config| Some(config.spin_us.to_string()),
    },
    Setting {
        name: "memory",
        value_name: "SIZE",
        arity: Arity::One,
        heading: Heading::Memory,
        help: "Memory of the whole process: 512MiB, 4GiB, 2g",
        default_words: Some("75 % of the smaller of the cgroup's limit and physical memory"),
        read: |config, text| {
            config.memory = size_between(text, MEMORY_PER_CORE_MIN, MEMORY_MAX)?;
            Ok(())
        },
        show: |config| Some(format_size(config.memory)),
    },
    Setting {
        name: "memory-max",
        value_name: "SIZE",
        arity: Arity::One,
        heading: Heading::Memory,
        help: "How far --memory may be raised while the node runs. It costs address space, not \
               memory",
        default_words: Some("what --memory is"),
        read: |config, text| {
            config.memory_max = match text {
                "none" => None,
                size => Some(size_between(size, MEMORY_PER_CORE_MIN, MEMORY_MAX)?),
            };
            Ok(())
        },
        show: |config| Some(or_none(config.memory_max, format_size)),
    },
    Setting {
        name: "prefault",
        value_name: "off|ahead|all",
        arity: Arity::One,
        heading: Heading::Memory,
        help: "Memory that a thread of its own faults in, so that data cores do not wait for the \
               kernel to zero it: 64 MiB a core ahead of use, all of it, or none",
        default_words: None,
        read: |config, text| parse_into(&mut config.prefault, text),
        show: |config| Some(config.prefault.to_string()),
    },
    Setting {
        name: "huge-pages",
        value_name: "never|ahead|advise",
        arity: Arity::One,
        heading: Heading::Memory,
        help: "Whether the kernel is asked to back entries and index with huge pages: nowhere, \
               where memory is faulted in ahead of use, or everywhere",
        default_words: None,
        read: |config, text| parse_into(&mut config.huge_pages, text),
        show: |config| Some(config.huge_pages.to_string()),
    },
    Setting {
        name: "memory-nodes",
        value_name: "local|any",
        arity: Arity::One,
        heading: Heading::Memory,
        help: "On hosts of several NUMA nodes: whether a pinned core's memory comes from its own \
               node while that has some, or from wherever it is touched first",
        default_words: None,
        read: |config, text| parse_into(&mut config.memory_nodes, text),
        show: |config| Some(config.memory_nodes.to_string()),
    },
    Setting {
        name: "policy",
        value_name: "POLICY",
        arity: Arity::One,
        heading: Heading::Memory,
        help: "What goes when memory is full: s3, clock, lfu, fifo, random or ttl (soonest to \
               expire), each also with :ttl-only; or noeviction. Redis's names (allkeys-lru, \
               volatile-ttl ...) mean their nearest",
        default_words: None,
        read: |config, text| parse_into(&mut config.policy, text),
        show: |config| Some(config.policy.to_string()),
    },
    Setting {
        name: "hash",
        value_name: "rapid|siphash",
        arity: Arity::One,
        heading: Heading::Memory,
        help: "Hash of the table, keyed with a secret of the process. siphash withstands clients \
               that choose keys to collide, and costs some 10 ns an operation",
        default_words: None,
        read: |config, text| parse_into(&mut config.hash, text),
        show: |config| Some(config.hash.to_string()),
    },
    Setting {
        name: "value-bytes-max",
        value_name: "SIZE",
        arity: Arity::One,
        heading: Heading::Memory,
        help: "Longest value; at most 64MiB",
        default_words: None,
        read: |config, text| {
            config.value_bytes_max = size_between(text, 1, VALUE_BYTES_MAX)? as usize;
            Ok(())
        },
        show: |config| Some(format_size(config.value_bytes_max as u64)),
    },
    Setting {
        name: "default-ttl",
        value_name: "TIME",
        arity: Arity::One,
        heading: Heading::Expiry,
        help: "Time to live of entries written without one: 500ms, 30s, 5m, 2h, 7d, or none",
        default_words: None,
        read: |config, text| {
            config.default_ttl_ms = match text {
                "none" => None,
                time => Some(parse_duration_ms(time)?),
            };
            Ok(())
        },
        show: |config| Some(or_none(config.default_ttl_ms, format_duration_ms)),
    },
    Setting {
        name: "ttl-jitter",
        value_name: "asked|always|off",
        arity: Arity::One,
        heading: Heading::Expiry,
        help: "Which times to live are spread at random, so that entries written together do not \
               expire together: those of requests that ask for it, all, or none",
        default_words: None,
        read: |config, text| parse_into(&mut config.ttl_jitter, text),
        show: |config| Some(config.ttl_jitter.to_string()),
    },
    Setting {
        name: "ttl-jitter-percent",
        value_name: "PERCENT",
        arity: Arity::One,
        heading: Heading::Expiry,
        help: "By how much either way, 0 to 50",
        default_words: None,
        read: |config, text| {
            let percent = number_between(text, 0, u64::from(TTL_JITTER_PERCENT_MAX))?;
            config.ttl_jitter_percent = percent as u8;
            Ok(())
        },
        show: |config| Some(config.ttl_jitter_percent.to_string()),
    },
    Setting {
        name: "connections-max",
        value_name: "N",
        arity: Arity::One,
        heading: Heading::Limits,
        help: "Most client connections of the whole node at a time",
        default_words: Some("10000, or what the limit of open files allows"),
        read: |config, text| {
            config.connections_max = number_between(text, 1, CONNECTIONS_MAX)? as usize;
            Ok(())
        },
        show: |config| Some(config.connections_max.to_string()),
    },
    Setting {
        name: "output-bytes-max",
        value_name: "SIZE",
        arity: Arity::One,
        heading: Heading::Limits,
        help: "Replies waiting for one connection from which on nothing more is read from it, \
               64KiB to 1GiB; a single longer reply still passes",
        default_words: None,
        read: |config, text| {
            let (least, most) = OUTPUT_BYTES_RANGE;
            config.output_bytes_max = size_between(text, least, most)? as usize;
            Ok(())
        },
        show: |config| Some(format_size(config.output_bytes_max as u64)),
    },
    Setting {
        name: "idle-timeout",
        value_name: "TIME",
        arity: Arity::One,
        heading: Heading::Limits,
        help: "How long a frame may stay half sent, the hello be missing or replies stay unread, \
               before the connection is closed. One without a request under way may be idle for ever",
        default_words: None,
        read: |config, text| {
            config.idle_timeout_ms = parse_duration_ms(text)?;
            Ok(())
        },
        show: |config| Some(format_duration_ms(config.idle_timeout_ms)),
    },
    Setting {
        name: "drain-timeout",
        value_name: "TIME",
        arity: Arity::One,
        heading: Heading::Limits,
        help: "How long a shutdown waits for clients to read their last replies",
        default_words: None,
        read: |config, text| {
            config.drain_timeout_ms = parse_duration_ms(text)?;
            Ok(())
        },
        show: |config| Some(format_duration_ms(config.drain_timeout_ms)),
    },
    Setting {
        name: "auth-token-file",
        value_name: "FILE",
        arity: Arity::One,
        heading: Heading::Security,
        help: "File with the token that clients must prove first (1 to 1024 bytes; one newline at \
               its end does not count). Without a token only loopback and UNIX sockets are allowed",
        default_words: Some("no token"),
        read: |config, text| {
            config.auth_token = Some(token::read(Path::new(text))?);
            Ok(())
        },
        show: |_| None,
    },
    Setting {
        name: "insecure",
        value_name: "on|off",
        arity: Arity::Switch,
        heading: Heading::Security,
        help: "Allow addresses that other machines reach without a token",
        default_words: None,
        read: |config, text| parse_into(&mut config.insecure, text),
        show: |config| Some(config.insecure.to_string()),
    },
];

/// A configuration as a file, without what is secret.
pub fn file(config: &Config) -> String {
    let shown = SETTINGS.iter().filter_map(|setting| Some((setting.name, (setting.show)(config)?)));
    shown.map(|(name, text)| format!("{name} = {}\n", toml::Value::String(text))).collect()
}

fn parse_into<T: FromStr<Err = ValueError>>(field: &mut T, text: &str) -> Result<(), ValueError> {
    *field = text.parse()?;
    Ok(())
}

fn or_none<T>(value: Option<T>, print: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "none".to_owned(), print)
}

fn number_between(text: &str, least: u64, most: u64) -> Result<u64, ValueError> {
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        Ok(_) => Err(ValueError::Range { least: least.to_string(), most: most.to_string() }),
        Err(_) => Err(ValueError::Number),
    }
}

fn size_between(text: &str, least: u64, most: u64) -> Result<u64, ValueError> {
    match parse_size(text)? {
        size if (least..=most).contains(&size) => Ok(size),
        _ => Err(ValueError::Range {
            least: values::format_size(least),
            most: values::format_size(most),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_reads_back() {
        let original = Config::default();
        for setting in SETTINGS {
            let Some(text) = (setting.show)(&original) else { continue };
            let mut config = original.clone();
            (setting.read)(&mut config, &text).unwrap_or_else(|e| panic!("{}: {e}", setting.name));
            assert_eq!(config, original, "{}", setting.name);
        }
    }

    #[test]
    fn a_configuration_is_written_as_a_file() {
        let text = file(&Config { memory: 3 << 30, ..Config::default() });
        assert!(text.contains("memory = \"3GiB\"\n"), "{text}");
        assert!(text.contains("policy = \"s3\"\n"), "{text}");
        assert_eq!(text.parse::<toml::Table>().unwrap().len(), text.lines().count());
    }

    #[test]
    fn changeable_settings_exist() {
        assert!(CHANGEABLE.iter().all(|name| find(name).is_some()));
    }

    #[test]
    fn names_are_unique_and_plain() {
        for (index, setting) in SETTINGS.iter().enumerate() {
            assert!(setting.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
            assert!(SETTINGS[..index].iter().all(|other| other.name != setting.name));
            assert!(!setting.help.ends_with('.'), "{}: the default follows", setting.name);
        }
        assert_eq!(find("ttl-jitter-percent").unwrap().variable(), "CORELANE_TTL_JITTER_PERCENT");
    }

    #[test]
    fn numbers_keep_their_range() {
        let refused = |name: &str, text: &str| {
            let error = (find(name).unwrap().read)(&mut Config::default(), text).unwrap_err();
            error.to_string()
        };
        assert_eq!(refused("ttl-jitter-percent", "51"), "must be between 0 and 50");
        assert_eq!(refused("ttl-jitter-percent", "-1"), "must be a whole number");
        assert_eq!(refused("value-bytes-max", "65MiB"), "must be between 1 and 64MiB");
        assert_eq!(refused("memory", "1MiB"), "must be between 32MiB and 64TiB");
        assert_eq!(refused("connections-max", "0"), "must be between 1 and 1000000");
        assert_eq!(refused("output-bytes-max", "1k"), "must be between 64KiB and 1GiB");
    }
}
