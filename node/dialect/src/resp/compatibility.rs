//! The table of commands as documentation.

use std::fmt::Write;

use super::table::{COMMANDS, Command, Flags, Group};

/// A Markdown table for each group of commands: how each is called, its options, and what is
/// not as in Redis 7.0.
pub fn compatibility() -> String {
    let mut text = String::new();
    for (group, title) in [
        (Group::Strings, "Values"),
        (Group::Keys, "Keys"),
        (Group::Transactions, "Transactions"),
        (Group::Connection, "Connections"),
        (Group::Server, "The node"),
        (Group::Cluster, "The cluster"),
    ] {
        let rows = COMMANDS.iter().filter(|command| command.group == group);
        let rows: String = rows.flat_map(with_subcommands).map(row).collect();
        write!(
            text,
            "### {title}\n\n| command | what it does | options | what differs from Redis 7.0 \
             |\n| --- | --- | --- | --- |\n{rows}\n"
        )
        .expect("writing to a string cannot fail");
    }
    text
}

/// The command itself where it has no subcommands, or may stand without one.
fn with_subcommands(command: &'static Command) -> Vec<&'static Command> {
    let stands_alone = command.subcommands.is_empty() || command.takes(1);
    command.subcommands.iter().chain(stands_alone.then_some(command)).collect()
}

fn row(command: &Command) -> String {
    let name = command.name.to_ascii_uppercase().replace('|', " ");
    let least = command.arity.unsigned_abs() - name.matches(' ').count() as u8 - 1;
    let arguments = match (least, command.arity < 0) {
        (0, false) => String::new(),
        (0, true) => " …".to_owned(),
        (least, false) => format!(" ({least})"),
        (least, true) => format!(" ({least}…)"),
    };
    let Command { summary, options, .. } = command;
    let differs = differences(command).join("; ");
    format!("| `{name}`{arguments} | {summary} | {options} | {differs} |\n")
}

fn differences(command: &Command) -> Vec<&'static str> {
    // Redis refuses this one, too.
    let is_alone = command.flags.has(Flags::NO_MULTI) && command.name != "shutdown";
    let alone = is_alone.then_some("Not in transactions");
    alone.into_iter().chain((!command.differs.is_empty()).then_some(command.differs)).collect()
}
