//! The command line. Flags are made from the table of settings
//! ([`corelane::config::settings`]); their values stay text here and are read with those
//! of the environment and the file, so that one parser and one kind of message serve all.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, Parser, Subcommand};
use corelane::config::settings::{Arity, SETTINGS, Setting};
use corelane::config::sources::process_environment;
use corelane::config::{Config, ConfigError, Sources};

const AFTER_HELP: &str = "\
Every option is also an environment variable (--value-bytes-max: CORELANE_VALUE_BYTES_MAX) and a
key of the TOML file (value-bytes-max = \"1MiB\"). Flags win over the environment, the environment
over the file. Sizes: k, m, g and KiB, MiB, GiB count by 1024; KB, MB, GB by 1000. Times need
their unit. CORELANE_LOG sets the log's level (error, warn, info, debug, trace).

SIGTERM or SIGINT answers what was received and ends; a second one ends at once. The exit code is
0 after a drain, 1 after a failure, 2 for a wrong configuration.";

/// Corelane, a distributed in-memory cache in which every CPU core is its own small server.
#[derive(Debug, Parser)]
#[command(
    name = "corelane",
    version,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = AFTER_HELP,
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Task>,
    #[command(flatten)]
    settings: SettingFlags,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Run a node (what happens without a command, too)
    #[command(after_help = AFTER_HELP, max_term_width = 100)]
    Serve(SettingFlags),
    /// Check whether this machine suits a node with these settings
    #[command(max_term_width = 100)]
    Doctor(DoctorArguments),
    /// Print the configuration that a node with these settings would have, as TOML
    #[command(max_term_width = 100)]
    Config(SettingFlags),
}

/// The arguments of `corelane doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    /// Print JSON instead of text
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) settings: SettingFlags,
}

impl Cli {
    /// What is to be done; to serve, unless another command is given.
    pub(crate) fn task(self) -> Task {
        self.command.unwrap_or(Task::Serve(self.settings))
    }
}

/// The settings that were given as flags.
#[derive(Clone, Debug, Default)]
pub(crate) struct SettingFlags {
    config_file: Option<PathBuf>,
    values: Vec<(&'static Setting, String)>,
}

impl SettingFlags {
    /// With the process's environment, all that a configuration is made from.
    pub(crate) fn sources(self) -> Result<Sources, ConfigError> {
        Ok(Sources {
            flags: self.values,
            config_file: self.config_file,
            environment: process_environment()?,
        })
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<SettingFlags, clap::Error> {
        let mut flags = SettingFlags::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.config_file = matches.get_one::<PathBuf>("config").cloned();
        for setting in SETTINGS {
            if let Some(values) = matches.get_many::<String>(setting.name) {
                let values: Vec<&str> = values.map(String::as_str).collect();
                self.values.push((setting, values.join(",")));
            }
        }
        Ok(())
    }
}

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        let defaults = Config::default();
        let mut command = command.arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .help("Read settings from this TOML file [environment: CORELANE_CONFIG]"),
        );
        for setting in SETTINGS {
            command = command.arg(flag(setting, &defaults));
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        SettingFlags::augment_args(command)
    }
}

fn flag(setting: &'static Setting, defaults: &Config) -> Arg {
    let default = match setting.default_words {
        Some(words) => Some(words.to_owned()),
        None => (setting.show)(defaults),
    };
    let help = match default {
        Some(default) => format!("{} [default: {default}]", setting.help),
        None => setting.help.to_owned(),
    };
    let arg = Arg::new(setting.name)
        .long(setting.name)
        .value_name(setting.value_name)
        .help_heading(setting.heading.title())
        .help(help);
    match setting.arity {
        Arity::One => arg.action(ArgAction::Set),
        Arity::List => arg.action(ArgAction::Append),
        Arity::Switch => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("on"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(arguments: &[&str]) -> Vec<(&'static str, String)> {
        let all = std::iter::once("corelane").chain(arguments.iter().copied());
        let Task::Serve(settings) = Cli::try_parse_from(all).unwrap().task() else {
            panic!("not serve: {arguments:?}");
        };
        settings.values.into_iter().map(|(setting, value)| (setting.name, value)).collect()
    }

    #[test]
    fn serve_is_the_default() {
        let expected = vec![("cores", "2".to_owned())];
        assert_eq!(flags(&["--cores", "2"]), expected);
        assert_eq!(flags(&["serve", "--cores", "2"]), expected);
        assert_eq!(flags(&[]), vec![]);
    }

    #[test]
    fn lists_repeat_and_switches_need_no_value() {
        let listen = ["--listen", "127.0.0.1:1", "--listen=unix:/tmp/x", "--insecure"];
        assert_eq!(
            flags(&listen),
            vec![("listen", "127.0.0.1:1,unix:/tmp/x".to_owned()), ("insecure", "on".to_owned())]
        );
        assert_eq!(flags(&["--insecure=off"]), vec![("insecure", "off".to_owned())]);
    }

    #[test]
    fn other_tasks_take_settings_too() {
        let parse = |arguments: &[&str]| Cli::try_parse_from(arguments).unwrap().task();
        let Task::Doctor(doctor) = parse(&["corelane", "doctor", "--json", "--cores=2"]) else {
            panic!();
        };
        assert!(doctor.json);
        assert_eq!(doctor.settings.values.len(), 1);
        let Task::Config(settings) = parse(&["corelane", "config", "--config", "a.toml"]) else {
            panic!();
        };
        assert_eq!(settings.config_file, Some(PathBuf::from("a.toml")));
    }

    #[test]
    fn unknown_flags_and_commands_are_refused() {
        for arguments in [&["--coers", "2"][..], &["start"], &["--cores"], &["--cores=1", "serve"]]
        {
            let all = std::iter::once("corelane").chain(arguments.iter().copied());
            let error = Cli::try_parse_from(all).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
        }
    }

    #[test]
    fn help_shows_headings_defaults_and_sources() {
        for arguments in [&["corelane", "--help"][..], &["corelane", "serve", "--help"]] {
            let help = Cli::try_parse_from(arguments).unwrap_err().to_string();
            for part in [
                "Network:",
                "Memory and eviction:",
                "Limits and timeouts:",
                "--listen <ADDRESS>",
                "[default: 127.0.0.1:7400]",
                "[default: the host's name]",
                "[default: s3]",
                "[default: 1MiB]",
                "CORELANE_VALUE_BYTES_MAX",
                "--insecure",
                "a second one ends at once",
            ] {
                assert!(help.contains(part), "{part:?} is missing in\n{help}");
            }
        }
    }
}
