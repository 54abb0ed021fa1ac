//! `COMMAND`: the table of commands, told to clients.

use super::call::{Call, Outcome, Refusal, is};
use super::parse::Args;
use super::table::{self, COMMANDS, Command, Flags, Keys};
use super::write::{self, Revision};
use crate::glob::{self, Case};
use crate::step::Step;

pub(crate) fn all<'a>(call: &mut Call<'_, 'a>, _: Args<'a>) -> Outcome<'a> {
    write::array(COMMANDS.len(), call.out);
    for command in &COMMANDS {
        describe(command, call.state.revision, call.out);
    }
    Ok(Step::Answered)
}

pub(crate) fn count<'a>(call: &mut Call<'_, 'a>, _: Args<'a>) -> Outcome<'a> {
    call.integer(COMMANDS.len() as i64)
}

pub(crate) fn info<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    if args.len() == 0 {
        return all(call, args);
    }
    let revision = call.state.revision;
    write::array(args.len(), call.out);
    for name in args {
        match table::by_full_name(name) {
            Some(command) => describe(command, revision, call.out),
            None => write::null(revision, call.out),
        }
    }
    Ok(Step::Answered)
}

fn describe(command: &Command, revision: Revision, out: &mut Vec<u8>) {
    let Keys { first, last, step } = command.keys;
    write::array(10, out);
    write::bulk(command.name.as_bytes(), out);
    write::integer(command.arity.into(), out);
    write::set(revision, command.flags.names().count(), out);
    command.flags.names().for_each(|name| write::simple(name, out));
    for number in [first, last, step] {
        write::integer(number.into(), out);
    }
    let categories = command.categories();
    write::set(revision, categories.len(), out);
    categories.iter().for_each(|name| write::simple(&format!("@{name}"), out));
    write::array(0, out);
    write::array(usize::from(first > 0), out);
    if first > 0 {
        key_specification(command, revision, out);
    }
    write::array(command.subcommands.len(), out);
    command.subcommands.iter().for_each(|sub| describe(sub, revision, out));
}

/// The newer way to say where the keys are: where the first is, and how to go on from there.
fn key_specification(command: &Command, revision: Revision, out: &mut Vec<u8>) {
    let Keys { first, last, step } = command.keys;
    let text = |text: &str, out: &mut Vec<u8>| write::bulk(text.as_bytes(), out);
    write::map(revision, 3, out);
    text("flags", out);
    write::set(revision, 1, out);
    write::simple(if command.flags.has(Flags::WRITE) { "RW" } else { "RO" }, out);
    text("begin_search", out);
    write::map(revision, 2, out);
    text("type", out);
    text("index", out);
    text("spec", out);
    write::map(revision, 1, out);
    text("index", out);
    write::integer(first.into(), out);
    text("find_keys", out);
    write::map(revision, 2, out);
    text("type", out);
    text("range", out);
    text("spec", out);
    write::map(revision, 3, out);
    // From the first key, or from the end where it is negative.
    let last = if last < 0 { last } else { last - first };
    for (name, number) in [("lastkey", last), ("keystep", step), ("limit", 0)] {
        text(name, out);
        write::integer(number.into(), out);
    }
}

pub(crate) fn docs<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    let commands: Vec<&Command> = if args.len() == 0 {
        COMMANDS.iter().collect()
    } else {
        args.filter_map(table::by_full_name).collect()
    };
    write::map(call.state.revision, commands.len(), call.out);
    for command in commands {
        document(command, call.state.revision, call.out);
    }
    Ok(Step::Answered)
}

fn document(command: &Command, revision: Revision, out: &mut Vec<u8>) {
    let has_subcommands = !command.subcommands.is_empty();
    write::bulk(command.name.as_bytes(), out);
    write::map(revision, 3 + usize::from(has_subcommands), out);
    let facts =
        [("summary", command.summary), ("since", command.since), ("group", command.group.name())];
    for (name, value) in facts {
        write::bulk(name.as_bytes(), out);
        write::bulk(value.as_bytes(), out);
    }
    if has_subcommands {
        write::bulk(b"subcommands", out);
        write::map(revision, command.subcommands.len(), out);
        command.subcommands.iter().for_each(|sub| document(sub, revision, out));
    }
}

pub(crate) fn list<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let subcommands = COMMANDS.iter().flat_map(|command| command.subcommands);
    let everything = COMMANDS.iter().chain(subcommands);
    let names: Vec<&str> = if args.len() == 0 {
        everything.map(|command| command.name).collect()
    } else {
        let filter = (args.next(), args.next(), args.next(), args.next());
        let (Some(by), Some(kind), Some(value), None) = filter else {
            return Err(Refusal::SYNTAX);
        };
        if !is(by, "filterby") {
            return Err(Refusal::SYNTAX);
        }
        let wanted: &dyn Fn(&Command) -> bool = if is(kind, "pattern") {
            &|command| glob::matches(value, command.name.as_bytes(), Case::Ignored)
        } else if is(kind, "aclcat") {
            &|command| command.categories().iter().any(|category| is(value, category))
        } else if is(kind, "module") {
            &|_| false
        } else {
            return Err(Refusal::SYNTAX);
        };
        everything.filter(|command| wanted(command)).map(|command| command.name).collect()
    };
    write::array(names.len(), call.out);
    names.iter().for_each(|name| write::bulk(name.as_bytes(), call.out));
    Ok(Step::Answered)
}

pub(crate) fn getkeys<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    let mut rest = args.clone();
    let name = rest.next().expect("the arity was checked");
    let Ok(command) = table::find(name, &mut rest) else {
        return Err(Refusal::Words("ERR Invalid command specified"));
    };
    let Keys { first, last, step } = command.keys;
    if first == 0 {
        return Err(Refusal::Words("ERR The command has no key arguments"));
    }
    if !command.takes(args.len()) {
        return Err(Refusal::Words("ERR Invalid number of arguments specified for command"));
    }
    let first = first.unsigned_abs() as usize;
    let end = if last < 0 { args.len() } else { last.unsigned_abs() as usize + 1 };
    let keys = args.take(end).skip(first).step_by(step.unsigned_abs() as usize);
    write::array(keys.len(), call.out);
    keys.for_each(|key| write::bulk(key, call.out));
    Ok(Step::Answered)
}

/// What subcommands a command has. A command whose subcommand is missing never comes here:
/// its arity says that one must be there.
pub(crate) fn help<'a>(call: &mut Call<'_, 'a>, _: Args<'a>) -> Outcome<'a> {
    let name = call.command.name.split('|').next().expect("a split gives at least one");
    let command = table::by_name(name.as_bytes()).expect("a subcommand has a command");
    let out = &mut *call.out;
    write::array(1 + 2 * command.subcommands.len(), out);
    let upper = name.to_ascii_uppercase();
    let first = format!("{upper} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    write::simple(&first, out);
    for sub in command.subcommands {
        write::simple(&sub.own_name().to_ascii_uppercase(), out);
        write::simple(&format!("    {}", sub.summary), out);
    }
    Ok(Step::Answered)
}
