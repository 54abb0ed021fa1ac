//! The one table of commands: how each is called, what it takes and what runs it. What
//! `COMMAND` tells, the errors about arguments and docs/compatibility.md come from here.

mod rows;

use super::call::{Call, Outcome};
use super::parse::Args;

pub(crate) use rows::COMMANDS;

/// What runs a command: its arguments, without its name, to a step.
pub(crate) type Run = for<'c, 'a> fn(&mut Call<'c, 'a>, Args<'a>) -> Outcome<'a>;

/// What a command is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Strings,
    Keys,
    Transactions,
    Connection,
    Server,
    Cluster,
}

impl Group {
    /// Redis's name for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Group::Strings => "string",
            Group::Keys => "generic",
            Group::Transactions => "transactions",
            Group::Connection => "connection",
            Group::Server => "server",
            Group::Cluster => "cluster",
        }
    }
}

/// Redis's flags of a command, and one of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flags(u16);

impl Flags {
    pub(crate) const NONE: Flags = Flags(0);
    pub(crate) const WRITE: Flags = Flags(1);
    pub(crate) const READONLY: Flags = Flags(1 << 1);
    pub(crate) const DENYOOM: Flags = Flags(1 << 2);
    pub(crate) const ADMIN: Flags = Flags(1 << 3);
    pub(crate) const NOSCRIPT: Flags = Flags(1 << 4);
    pub(crate) const LOADING: Flags = Flags(1 << 5);
    pub(crate) const STALE: Flags = Flags(1 << 6);
    pub(crate) const FAST: Flags = Flags(1 << 7);
    pub(crate) const NO_AUTH: Flags = Flags(1 << 8);
    pub(crate) const NO_MULTI: Flags = Flags(1 << 9);
    pub(crate) const ALLOW_BUSY: Flags = Flags(1 << 10);
    /// It is carried out at once between `MULTI` and `EXEC`.
    pub(crate) const IN_MULTI: Flags = Flags(1 << 11);

    /// Names as `COMMAND` tells them.
    const NAMES: [(Flags, &str); 11] = [
        (Flags::WRITE, "write"),
        (Flags::READONLY, "readonly"),
        (Flags::DENYOOM, "denyoom"),
        (Flags::ADMIN, "admin"),
        (Flags::NOSCRIPT, "noscript"),
        (Flags::LOADING, "loading"),
        (Flags::STALE, "stale"),
        (Flags::FAST, "fast"),
        (Flags::NO_AUTH, "no_auth"),
        (Flags::NO_MULTI, "no_multi"),
        (Flags::ALLOW_BUSY, "allow_busy"),
    ];

    pub(crate) const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    pub(crate) fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        let has = move |(flag, _): &&(Flags, _)| self.has(*flag);
        Flags::NAMES.iter().filter(has).map(|(_, name)| *name)
    }
}

/// Where among its arguments a command has its keys, its name being number 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    /// The first key; 0 where there is none.
    pub(crate) first: i8,
    /// The last; negative numbers count from the end.
    pub(crate) last: i8,
    /// From one key to the next.
    pub(crate) step: i8,
}

/// A command, or a subcommand.
#[derive(Debug)]
pub(crate) struct Command {
    /// In lower case; that of a subcommand has both names, with a bar between.
    pub(crate) name: &'static str,
    /// Arguments with its name; negative: so many at least.
    pub(crate) arity: i8,
    pub(crate) group: Group,
    pub(crate) flags: Flags,
    pub(crate) keys: Keys,
    /// The version of Redis that had it first; the fork's, where Redis never had it.
    pub(crate) since: &'static str,
    pub(crate) summary: &'static str,
    /// Its options as one writes them.
    pub(crate) options: &'static str,
    /// What is not as in Redis 7.0, for the documentation.
    pub(crate) differs: &'static str,
    pub(crate) subcommands: &'static [Command],
    pub(crate) run: Run,
}

impl Command {
    const fn new(name: &'static str, arity: i8, group: Group, flags: Flags, run: Run) -> Command {
        Command {
            name,
            arity,
            group,
            flags,
            keys: Keys { first: 0, last: 0, step: 0 },
            since: "1.0.0",
            summary: "",
            options: "",
            differs: "",
            subcommands: &[],
            run,
        }
    }

    const fn keys(mut self, first: i8, last: i8, step: i8) -> Command {
        self.keys = Keys { first, last, step };
        self
    }

    const fn since(mut self, version: &'static str) -> Command {
        self.since = version;
        self
    }

    const fn summary(mut self, summary: &'static str) -> Command {
        self.summary = summary;
        self
    }

    const fn options(mut self, options: &'static str) -> Command {
        self.options = options;
        self
    }

    const fn differs(mut self, how: &'static str) -> Command {
        self.differs = how;
        self
    }

    const fn subcommands(mut self, subcommands: &'static [Command]) -> Command {
        self.subcommands = subcommands;
        self
    }

    /// Whether it takes so many arguments, its name included.
    pub(crate) fn takes(&self, count: usize) -> bool {
        let arity = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { count >= arity } else { count == arity }
    }

    /// The name without that of the command it belongs to.
    pub(crate) fn own_name(&self) -> &'static str {
        self.name.rsplit('|').next().expect("a split gives at least one")
    }

    /// The categories of Redis's access lists that it is in.
    pub(crate) fn categories(&self) -> Vec<&'static str> {
        let mut categories = Vec::new();
        let has = |flag| self.flags.has(flag);
        categories.extend(has(Flags::WRITE).then_some("write"));
        categories.extend(has(Flags::READONLY).then_some("read"));
        categories.push(match self.group {
            Group::Strings => "string",
            Group::Keys => "keyspace",
            Group::Transactions => "transaction",
            Group::Connection => "connection",
            Group::Server | Group::Cluster => "admin",
        });
        if has(Flags::ADMIN) {
            categories.push("dangerous");
        }
        categories.push(if has(Flags::FAST) { "fast" } else { "slow" });
        categories
    }
}

/// Why there is no command to run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unknown<'a> {
    /// No command has this name.
    Command,
    /// This command has no such subcommand.
    Subcommand(&'static Command, &'a [u8]),
    /// It is a line of an HTTP request, which a web page may have been made to send.
    Web,
}

impl Unknown<'_> {
    /// Redis's words: of what the client sent, it repeats so much and no more.
    pub(crate) fn message(&self, name: &[u8], args: Args<'_>) -> Vec<u8> {
        // To Redis they are C strings.
        let printed = |text: &'_ [u8], most: usize| -> Vec<u8> {
            let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
            text[..end.min(most)].to_vec()
        };
        let mut text = Vec::new();
        match self {
            Unknown::Subcommand(command, name) => {
                text.extend_from_slice(b"ERR unknown subcommand '");
                text.extend_from_slice(&printed(name, 128));
                text.extend_from_slice(b"'. Try ");
                text.extend_from_slice(command.name.to_ascii_uppercase().as_bytes());
                text.extend_from_slice(b" HELP.");
            }
            Unknown::Command | Unknown::Web => {
                text.extend_from_slice(b"ERR unknown command '");
                text.extend_from_slice(&printed(name, 128));
                text.extend_from_slice(b"', with args beginning with: ");
                let mut told = 0;
                for arg in args {
                    if told >= 128 {
                        break;
                    }
                    let arg = printed(arg, 128 - told);
                    told += arg.len() + 3;
                    text.push(b'\'');
                    text.extend_from_slice(&arg);
                    text.extend_from_slice(b"' ");
                }
            }
        }
        text
    }
}

/// The command of a name; where it has subcommands, the one that the first argument names,
/// which is then taken.
pub(crate) fn find<'a>(name: &[u8], args: &mut Args<'a>) -> Result<&'static Command, Unknown<'a>> {
    let Some(command) = by_name(name) else {
        let is_web = [&b"post"[..], b"host:"].iter().any(|it| name.eq_ignore_ascii_case(it));
        return Err(if is_web { Unknown::Web } else { Unknown::Command });
    };
    if command.subcommands.is_empty() || args.len() == 0 {
        return Ok(command);
    }
    let name = args.next().expect("there is one");
    let found = |sub: &&Command| name.eq_ignore_ascii_case(sub.own_name().as_bytes());
    command.subcommands.iter().find(found).ok_or(Unknown::Subcommand(command, name))
}

/// The command of a name without a bar.
pub(crate) fn by_name(name: &[u8]) -> Option<&'static Command> {
    let mut lower = [0; 16];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let place = COMMANDS.binary_search_by(|command| command.name.as_bytes().cmp(lower)).ok()?;
    Some(&COMMANDS[place])
}

/// The command or subcommand of a name as `COMMAND` writes it.
pub(crate) fn by_full_name(name: &[u8]) -> Option<&'static Command> {
    let mut names = name.splitn(2, |&byte| byte == b'|');
    let command = by_name(names.next()?)?;
    match names.next() {
        None => Some(command),
        Some(sub) => {
            let found = |it: &&Command| sub.eq_ignore_ascii_case(it.own_name().as_bytes());
            command.subcommands.iter().find(found)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_in_order_and_found() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
        for command in &COMMANDS {
            assert_eq!(by_name(command.name.as_bytes()).map(|it| it.name), Some(command.name));
            let upper = command.name.to_ascii_uppercase();
            assert!(by_name(upper.as_bytes()).is_some());
            for sub in command.subcommands {
                assert!(sub.name.starts_with(&format!("{}|", command.name)));
                assert!(by_full_name(sub.name.as_bytes()).is_some());
            }
        }
        assert!(by_name(b"a-name-longer-than-any").is_none());
        assert!(by_name(b"").is_none());
    }

    #[test]
    fn every_command_is_described() {
        let all = COMMANDS.iter().chain(COMMANDS.iter().flat_map(|it| it.subcommands));
        for command in all {
            assert!(!command.summary.is_empty(), "{}", command.name);
            assert!(command.keys.first == 0 || command.keys.step > 0, "{}", command.name);
        }
    }
}
