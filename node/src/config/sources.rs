//! From flags, environment and file to a [`Config`]. The sources are read from the weakest
//! to the strongest (defaults, file, environment, flags), each value through its setting's
//! one parser, so that a wrong value is refused even where a stronger source hides it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::host::Host;
use super::settings::{Arity, SETTINGS, Setting, find};
use super::token::{self, Readers};
use super::{Config, ConfigError, Warning};

/// What all environment variables of settings begin with.
pub const VARIABLE_PREFIX: &str = "CORELANE_";
/// The variable that names the configuration file, as `--config` does.
const VARIABLE_CONFIG: &str = "CORELANE_CONFIG";
/// Variables with the prefix that are read elsewhere (the log's level).
const VARIABLES_ELSEWHERE: [&str; 1] = ["CORELANE_LOG"];

/// Everything a configuration is made from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Flags in the order given; the values of a list already joined by commas.
    pub flags: Vec<(&'static Setting, String)>,
    /// The file that `--config` names.
    pub config_file: Option<PathBuf>,
    /// Environment variables that begin with `CORELANE_`.
    pub environment: Vec<(String, String)>,
}

/// Reads this process's variables that begin with `CORELANE_`, sorted.
///
/// # Errors
/// One of them is not valid UTF-8.
pub fn process_environment() -> Result<Vec<(String, String)>, ConfigError> {
    let mut variables = Vec::new();
    for (variable, value) in std::env::vars_os() {
        let Some(variable) = variable.to_str().filter(|name| name.starts_with(VARIABLE_PREFIX))
        else {
            continue;
        };
        let variable = variable.to_owned();
        match value.into_string() {
            Ok(value) => variables.push((variable, value)),
            Err(_) => return Err(ConfigError::NotText { variable }),
        }
    }
    variables.sort();
    Ok(variables)
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The file.
    File(FilePlace),
    /// Its environment variable.
    Environment,
    /// Its flag.
    Flag,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePlace {
    /// The file, as it was named.
    pub path: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for FilePlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

/// A configuration, and how it came about.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The configuration.
    pub config: Config,
    /// Where each setting's value came from, and its text where it was given; in the order
    /// of [`SETTINGS`].
    pub origins: Vec<(Origin, Option<String>)>,
    /// What works, but probably not as meant.
    pub warnings: Vec<Warning>,
}

/// Makes the configuration.
///
/// # Errors
/// The first thing that is refused, with its place.
pub fn resolve(sources: &Sources, host: &Host) -> Result<Resolved, ConfigError> {
    let mut draft = Draft {
        config: Config::for_host(host),
        origins: vec![(Origin::Default, None); SETTINGS.len()],
    };
    let mut warnings = Vec::new();

    let variable = sources.environment.iter().find(|(name, _)| name == VARIABLE_CONFIG);
    let from_variable = variable.map(|(_, path)| PathBuf::from(path));
    if let Some(path) = sources.config_file.clone().or(from_variable) {
        let text = fs::read_to_string(&path)
            .map_err(|error| ConfigError::File { path: path.clone(), reason: error.to_string() })?;
        draft.read_file(&path, &text)?;
    }
    for (variable, value) in &sources.environment {
        match SETTINGS.iter().find(|setting| setting.variable() == *variable) {
            Some(setting) => draft.read(setting, value, Origin::Environment)?,
            None => warnings.extend(unknown_variable(variable)),
        }
    }
    for (setting, value) in &sources.flags {
        draft.read(setting, value, Origin::Flag)?;
    }

    let Draft { mut config, origins } = draft;
    if *origin_of(&origins, "connections-max") == Origin::Default {
        config.lower_connections(host);
        if config.connections_max < super::CONNECTIONS_DEFAULT {
            warnings.push(Warning::FewerConnections {
                hard: host.open_files.hard,
                connections_max: config.connections_max,
            });
        }
    }
    config.check(host)?;
    warnings.extend(config.warnings(host));
    if let Some(path) = text_of(&origins, "auth-token-file")
        && let Some(Readers::Others { mode }) = token::readers(Path::new(path))
    {
        warnings.push(Warning::TokenReadable { path: PathBuf::from(path), mode });
    }
    Ok(Resolved { config, origins, warnings })
}

impl Resolved {
    /// The configuration as a TOML file that gives it again, each value with its origin.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut heading = None;
        for (setting, (origin, given)) in SETTINGS.iter().zip(&self.origins) {
            if heading != Some(setting.heading) {
                let gap = if heading.is_some() { "\n" } else { "" };
                text += &format!("{gap}# {}\n", setting.heading.title());
                heading = Some(setting.heading);
            }
            let value = (setting.show)(&self.config).or_else(|| given.clone());
            let line = match value {
                Some(value) => format!("{} = {}", setting.name, toml::Value::String(value)),
                None => format!("# {} is not set", setting.name),
            };
            let origin = match origin {
                Origin::Default => "default".to_owned(),
                Origin::File(place) => place.to_string(),
                Origin::Environment => setting.variable(),
                Origin::Flag => format!("--{}", setting.name),
            };
            text += &format!("{line:<44} # {origin}\n");
        }
        text
    }
}

fn origin_of<'a>(origins: &'a [(Origin, Option<String>)], name: &str) -> &'a Origin {
    &origins[index_of(name)].0
}

fn text_of<'a>(origins: &'a [(Origin, Option<String>)], name: &str) -> Option<&'a str> {
    origins[index_of(name)].1.as_deref()
}

fn index_of(name: &str) -> usize {
    SETTINGS.iter().position(|setting| setting.name == name).expect("a setting of the table")
}

/// A configuration that sources are still read into.
struct Draft {
    config: Config,
    origins: Vec<(Origin, Option<String>)>,
}

impl Draft {
    fn read(
        &mut self,
        setting: &'static Setting,
        text: &str,
        origin: Origin,
    ) -> Result<(), ConfigError> {
        if let Err(reason) = (setting.read)(&mut self.config, text) {
            let place = match origin {
                Origin::Default => "default".to_owned(),
                Origin::File(place) => format!("{place}: {}", setting.name),
                Origin::Environment => setting.variable(),
                Origin::Flag => format!("--{}", setting.name),
            };
            return Err(ConfigError::Value { place, value: text.to_owned(), reason });
        }
        self.origins[index_of(setting.name)] = (origin, Some(text.to_owned()));
        Ok(())
    }

    fn read_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let place = |offset: usize| FilePlace::at(path, text, offset);
        let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            place: place(error.span().map_or(0, |span| span.start)).to_string(),
            reason: error.message().to_owned(),
        })?;
        // In the order of the file, so that the first mistake is the one reported.
        let mut entries: Vec<_> = table.get_ref().iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let Some(setting) = find(key.get_ref()) else {
                return Err(ConfigError::UnknownKey {
                    place: place(key.span().start).to_string(),
                    key: key.get_ref().to_string(),
                    hint: hint(key.get_ref()),
                });
            };
            let place = place(value.span().start);
            let text = text_of_value(setting, value).map_err(|shape| ConfigError::Shape {
                place: place.to_string(),
                key: setting.name,
                expected: shape.expected,
                found: shape.found,
            })?;
            self.read(setting, &text, Origin::File(place))?;
        }
        Ok(())
    }
}

struct WrongShape {
    expected: &'static str,
    found: &'static str,
}

/// The text of a value of the file, as a flag would give it.
fn text_of_value(setting: &Setting, value: &Spanned<DeValue<'_>>) -> Result<String, WrongShape> {
    let expected = match setting.arity {
        Arity::One | Arity::Switch => "a string, a whole number or a boolean",
        Arity::List => "a string, a whole number or an array of them",
    };
    let scalar = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.to_string()),
        DeValue::Boolean(flag) => Ok(flag.to_string()),
        other => Err(WrongShape { expected, found: name_of_kind(other) }),
    };
    match (value.get_ref(), setting.arity) {
        (DeValue::Array(array), Arity::List) => {
            let mut text = String::new();
            for element in array.iter() {
                // A comma after each, so that [3] is the list of CPU 3 and not three cores.
                text += &(scalar(element.get_ref())? + ",");
            }
            Ok(text)
        }
        (other, _) => scalar(other),
    }
}

fn name_of_kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

impl FilePlace {
    fn at(path: &Path, text: &str, offset: usize) -> FilePlace {
        let before = &text[..text.floor_char_boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        FilePlace {
            path: path.to_owned(),
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// A variable that no setting has is only warned of, since it need not be a mistake: another
/// version's setting may be in a shared environment. Kubernetes puts the addresses of a
/// service called "corelane" into `CORELANE_SERVICE_…` and `CORELANE_PORT…`; those pass.
fn unknown_variable(variable: &str) -> Option<Warning> {
    let rest = variable.strip_prefix(VARIABLE_PREFIX)?;
    let known = variable == VARIABLE_CONFIG || VARIABLES_ELSEWHERE.contains(&variable);
    let of_kubernetes = rest.starts_with("SERVICE_") || rest == "PORT" || rest.starts_with("PORT_");
    if known || of_kubernetes {
        return None;
    }
    let name = rest.to_ascii_lowercase().replace('_', "-");
    Some(Warning::UnknownVariable { variable: variable.to_owned(), hint: hint(&name) })
}

/// What may have been meant by an unknown name.
fn hint(name: &str) -> String {
    let plain = name.to_ascii_lowercase().replace('_', "-");
    let nearest =
        SETTINGS.iter().map(|setting| (distance(&plain, setting.name), setting.name)).min();
    match nearest {
        Some((distance, nearest)) if distance <= 2 => format!("did you mean {nearest:?}?"),
        _ => {
            let names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
            format!("the settings are {}", names.join(", "))
        }
    }
}

/// The edit distance of two words (Levenshtein 1966), by rows.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for column in 0..right.len() {
            let changed = diagonal + usize::from(letter != right[column]);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::host::OpenFiles;
    use crate::config::{Cores, EvictionOrder, EvictionScope, Insecure, ListenAddress, Policy};

    fn host() -> Host {
        Host {
            name: Some("cache-7".to_owned()),
            memory_bytes: Some(8 << 30),
            open_files: OpenFiles { soft: 1024, hard: 1 << 20 },
            cpus: 4,
        }
    }

    /// Flags as `name=value`, variables as `NAME=value`, a file's text.
    fn resolve_from(
        flags: &[&str],
        environment: &[&str],
        file: Option<&str>,
    ) -> Result<Resolved, ConfigError> {
        resolve_on(&host(), flags, environment, file)
    }

    fn resolve_on(
        host: &Host,
        flags: &[&str],
        environment: &[&str],
        file: Option<&str>,
    ) -> Result<Resolved, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("corelane.toml");
        let flag = |text: &&str| {
            let (name, value) = text.split_once('=').unwrap();
            (find(name).unwrap(), value.to_owned())
        };
        let variable = |text: &&str| {
            let (name, value) = text.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        };
        if let Some(text) = file {
            fs::write(&path, text).unwrap();
        }
        let sources = Sources {
            flags: flags.iter().map(flag).collect(),
            config_file: file.map(|_| path),
            environment: environment.iter().map(variable).collect(),
        };
        resolve(&sources, host)
    }

    /// The message of a refusal, without the directory of the file.
    fn refusal(flags: &[&str], environment: &[&str], file: Option<&str>) -> String {
        let message = resolve_from(flags, environment, file).unwrap_err().to_string();
        match message.find("corelane.toml") {
            Some(start) => message[start..].to_owned(),
            None => message,
        }
    }

    #[test]
    fn defaults_come_from_the_host() {
        let resolved = resolve_from(&[], &[], None).unwrap();
        assert_eq!(resolved.config, Config::for_host(&host()));
        assert_eq!(resolved.config.memory, 6 << 30);
        assert_eq!(resolved.config.node_name.as_str(), "cache-7");
        assert_eq!(resolved.config.connections_max, 10_000);
        assert_eq!(resolved.warnings, vec![]);
    }

    #[test]
    fn flags_win_over_environment_over_file_over_defaults() {
        let file = Some("cores = 1\npin = false\nhash = \"siphash\"\nconnections-max = 1_000\n");
        let environment = &["CORELANE_CORES=2", "CORELANE_PIN=on"];
        let resolved = resolve_from(&["cores=3"], environment, file).unwrap();
        assert_eq!(resolved.config.cores, Cores::Count(3));
        assert_eq!(resolved.config.pin.to_string(), "on");
        assert_eq!(resolved.config.hash.to_string(), "siphash");
        assert_eq!(resolved.config.connections_max, 1000);
        assert_eq!(*origin_of(&resolved.origins, "cores"), Origin::Flag);
        assert_eq!(*origin_of(&resolved.origins, "pin"), Origin::Environment);
        assert_eq!(*origin_of(&resolved.origins, "io"), Origin::Default);
        let Origin::File(place) = origin_of(&resolved.origins, "hash") else { panic!() };
        assert_eq!((place.line, place.column), (3, 8));
    }

    #[test]
    fn a_wrong_value_is_refused_even_where_a_flag_hides_it() {
        let message = refusal(&["cores=2"], &[], Some("cores = 0\n"));
        assert!(message.starts_with("corelane.toml:1:9: cores: \"0\" must be auto"), "{message}");
    }

    #[test]
    fn the_file_takes_strings_numbers_booleans_and_lists() {
        let file = "listen = [\"127.0.0.1:1\", \"unix:/tmp/x\"]\ncores = [3]\ninsecure = true\n\
                    memory = 1073741824\npolicy = \"volatile-ttl\"\nadmin = \"none\"\n";
        let config = resolve_from(&[], &[], Some(file)).unwrap().config;
        assert_eq!(
            config.listen,
            vec![
                ListenAddress::Tcp("127.0.0.1:1".parse().unwrap()),
                ListenAddress::Unix("/tmp/x".into())
            ]
        );
        assert_eq!(config.cores, Cores::List(vec![3]));
        assert_eq!(config.insecure, Insecure::On);
        assert_eq!(config.memory, 1 << 30);
        assert_eq!(
            config.policy,
            Policy::Evict { order: EvictionOrder::Ttl, scope: EvictionScope::TtlOnly }
        );
        assert_eq!(config.admin, None);
    }

    #[test]
    fn refusals_of_the_file_name_line_column_and_reason() {
        let check =
            |file: &str, expected: &str| assert_eq!(refusal(&[], &[], Some(file)), expected);
        check("\ncoers = 2\n", "corelane.toml:2:1: unknown key \"coers\"; did you mean \"cores\"?");
        check(
            "value_bytes_max = 1\n",
            "corelane.toml:1:1: unknown key \"value_bytes_max\"; did you mean \"value-bytes-max\"?",
        );
        check(
            "pin = true\nmemory = \"lots\"\n",
            "corelane.toml:2:10: memory: \"lots\" must be a size in bytes such as 512MiB, 4GiB or \
             2g (k, m, g and t count by 1024; KB, MB, GB and TB by 1000)",
        );
        check(
            "memory = 1.5\n",
            "corelane.toml:1:10: memory takes a string, a whole number or a boolean, not a number \
             with a fraction",
        );
        check(
            "hash = [\"rapid\"]\n",
            "corelane.toml:1:8: hash takes a string, a whole number or a boolean, not an array",
        );
        check(
            "[pin]\nx = 1\n",
            "corelane.toml:1:1: pin takes a string, a whole number or a boolean, not a table",
        );
        check(
            "idle-timeout = 30\n",
            "corelane.toml:1:16: idle-timeout: \"30\" must be a duration with its unit, such as 500ms, 30s, 5m, 2h or 7d",
        );
        check("listen = []\n", "corelane.toml:1:10: listen: \"\" must not be empty");
        let syntax = refusal(&[], &[], Some("cores = 1\ncores 2\n"));
        assert!(syntax.starts_with("corelane.toml:2:"), "{syntax}");
        let twice = refusal(&[], &[], Some("cores = 1\ncores = 2\n"));
        assert!(twice.starts_with("corelane.toml:2:1: duplicate key"), "{twice}");
        let unknown = refusal(&[], &[], Some("tls = true\n"));
        assert!(unknown.contains("the settings are listen, dialects, admin, http"), "{unknown}");
    }

    #[test]
    fn refusals_of_flags_and_variables_name_them() {
        assert_eq!(
            refusal(&["io=kqueue"], &[], None),
            "--io: \"kqueue\" must be auto, uring or epoll"
        );
        assert_eq!(
            refusal(&[], &["CORELANE_TTL_JITTER_PERCENT=60"], None),
            "CORELANE_TTL_JITTER_PERCENT: \"60\" must be between 0 and 50"
        );
        assert_eq!(
            refusal(&["listen=localhost:7400"], &[], None),
            "--listen: \"localhost:7400\" must be an IP address and a port, such as \
             127.0.0.1:7400 or [::1]:7400, or unix:PATH (names are not looked up)"
        );
        let token = refusal(&["auth-token-file=/nonexistent"], &[], None);
        assert!(token.starts_with("--auth-token-file: \"/nonexistent\" cannot be read: "));
        let file = resolve(
            &Sources { config_file: Some("/nonexistent.toml".into()), ..Sources::default() },
            &host(),
        );
        let message = file.unwrap_err().to_string();
        assert!(message.starts_with("the configuration file /nonexistent.toml: "), "{message}");
    }

    #[test]
    fn being_reachable_without_a_token_is_refused() {
        let expected = "--listen 0.0.0.0:7400 can be reached from other machines, and there is no \
                        token: give --auth-token-file FILE, or use a loopback address, or say \
                        --insecure if the network itself keeps strangers out";
        assert_eq!(refusal(&["listen=127.0.0.1:1,0.0.0.0:7400"], &[], None), expected);
        let admin = refusal(&["admin=[::]:7401"], &[], None);
        assert!(admin.starts_with("--admin [::]:7401 can be reached"), "{admin}");

        assert!(resolve_from(&["listen=unix:/tmp/x,[::1]:7"], &[], None).is_ok());
        let insecure = resolve_from(&["listen=0.0.0.0:7400", "insecure=on"], &[], None).unwrap();
        assert_eq!(
            insecure.warnings,
            vec![Warning::Unprotected { address: "0.0.0.0:7400".to_owned() }]
        );
        let token = tempfile::NamedTempFile::new().unwrap();
        fs::write(token.path(), "secret\n").unwrap();
        let flag = format!("auth-token-file={}", token.path().display());
        let resolved = resolve_from(&["listen=0.0.0.0:7400", &flag], &[], None).unwrap();
        assert_eq!(resolved.config.auth_token.unwrap().as_bytes(), b"secret");
    }

    #[test]
    fn impossible_combinations_are_refused() {
        assert_eq!(
            refusal(&["listen=127.0.0.1:7401"], &[], None),
            "127.0.0.1:7401 is given twice: every --listen, --admin and --http needs an address of its own"
        );
        assert!(resolve_from(&["listen=127.0.0.1:0,127.0.0.1:0"], &[], None).is_ok());
        assert_eq!(
            refusal(&["memory=32MiB"], &[], None),
            "--memory 32MiB is too little for 4 cores: give at least 128MiB, or fewer --cores"
        );
        let mut small = host();
        small.open_files.hard = 1000;
        let error = resolve_on(&small, &["connections-max=1000"], &[], None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--connections-max 1000 needs 1220 open files, but the hard limit of this process is \
             1000: raise it (systemd: LimitNOFILE=1220; shell: ulimit -Hn 1220; docker: --ulimit \
             nofile=1220), or give --connections-max 780"
        );
    }

    #[test]
    fn default_connections_follow_the_limit_of_open_files() {
        let mut small = host();
        small.open_files.hard = 4096;
        let resolved = resolve_on(&small, &["cores=16"], &[], None).unwrap();
        assert_eq!(resolved.config.connections_max, 4096 - 128 - 16 * 23);
        let fewer = Warning::FewerConnections { hard: 4096, connections_max: 3600 };
        assert!(resolved.warnings.contains(&fewer));
        assert!(resolved.warnings.contains(&Warning::MoreCoresThanCpus { cores: 16, cpus: 4 }));
    }

    #[test]
    fn unknown_variables_are_warned_of() {
        let environment = &[
            "CORELANE_CORE=2",
            "CORELANE_LOG=debug",
            "CORELANE_PORT=tcp://10.0.0.1:7400",
            "CORELANE_SERVICE_HOST=10.0.0.1",
        ];
        let warnings = resolve_from(&[], environment, None).unwrap().warnings;
        let texts: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            ["the environment variable CORELANE_CORE is no setting of this version; did you mean \
              \"cores\"?"]
        );
    }

    #[test]
    fn what_is_printed_gives_the_same_configuration() {
        let flags = ["cores=3-3", "listen=127.0.0.1:1,unix:/tmp/x", "default-ttl=90s"];
        let resolved = resolve_from(&flags, &["CORELANE_MEMORY=100MB"], None).unwrap();
        let printed = resolved.to_toml();
        assert!(printed.contains("# --cores\n"), "{printed}");
        assert!(printed.contains("# CORELANE_MEMORY\n"), "{printed}");
        assert!(printed.contains("# auth-token-file is not set"), "{printed}");
        let again = resolve_from(&[], &[], Some(&printed)).unwrap();
        assert_eq!(again.config, resolved.config);
    }

    #[test]
    fn distances_are_levenshtein_s() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("cores", "cores"), 0);
    }
}
