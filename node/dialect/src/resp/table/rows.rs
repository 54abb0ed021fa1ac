//! The rows of the table, in the order of their names.

use super::super::transaction;
use super::super::{client, cluster, commands, config, connection, info, keys, server, strings};
use super::{Command, Flags, Group};

const WRITE_MORE_FAST: Flags = Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST);
const WRITE_MORE: Flags = Flags::WRITE.and(Flags::DENYOOM);
const WRITE_FAST: Flags = Flags::WRITE.and(Flags::FAST);
const READ_FAST: Flags = Flags::READONLY.and(Flags::FAST);
const SESSION: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE);
const ANY_TIME: Flags = Flags::LOADING.and(Flags::STALE);
const ADMIN: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE);
const ADMIN_ALONE: Flags =
    Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE).and(Flags::NO_MULTI);
const ANY_TIME_FAST: Flags = Flags::LOADING.and(Flags::STALE).and(Flags::FAST);
const TRANSACTION: Flags =
    Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE).and(Flags::FAST).and(Flags::ALLOW_BUSY);
const TRANSACTION_NOW: Flags = Flags::NOSCRIPT
    .and(Flags::LOADING)
    .and(Flags::STALE)
    .and(Flags::FAST)
    .and(Flags::ALLOW_BUSY)
    .and(Flags::IN_MULTI);
const STRANGER: Flags = Flags::NOSCRIPT
    .and(Flags::LOADING)
    .and(Flags::STALE)
    .and(Flags::FAST)
    .and(Flags::NO_AUTH)
    .and(Flags::ALLOW_BUSY);
const STRANGER_NOW: Flags = Flags::NOSCRIPT
    .and(Flags::LOADING)
    .and(Flags::STALE)
    .and(Flags::FAST)
    .and(Flags::NO_AUTH)
    .and(Flags::ALLOW_BUSY)
    .and(Flags::IN_MULTI);

static CLIENT: [Command; 11] = [
    Command::new("client|getname", 2, Group::Connection, SESSION, connection::client_getname)
        .since("2.6.9")
        .summary("The connection's name"),
    Command::new("client|help", 2, Group::Connection, ANY_TIME, commands::help)
        .since("5.0.0")
        .summary("What subcommands there are")
        .differs("Our own words"),
    Command::new("client|id", 2, Group::Connection, SESSION, connection::client_id)
        .since("5.0.0")
        .summary("The connection's number"),
    Command::new("client|info", 2, Group::Connection, SESSION, client::info)
        .since("6.2.0")
        .summary("The connection's line of CLIENT LIST")
        .differs("As CLIENT LIST"),
    Command::new("client|kill", -3, Group::Connection, ADMIN_ALONE, client::kill)
        .since("2.4.0")
        .summary("Close connections"),
    Command::new("client|list", -2, Group::Connection, ADMIN_ALONE, client::list)
        .since("2.4.0")
        .summary("A line for each connection")
        .differs("Fields that mean nothing here are 0; the last field, `dialect`, tells what the connection speaks, the native protocol and memcached included"),
    Command::new("client|no-evict", 3, Group::Connection, ADMIN, connection::client_no_evict)
        .since("7.0.0")
        .summary("Accepted: no connection is ever evicted")
        .differs("Changes nothing"),
    Command::new("client|no-touch", 3, Group::Connection, SESSION, connection::client_no_evict)
        .since("7.2.0")
        .summary("Accepted: reads count as before")
        .differs("Not in Redis 7.0; changes nothing"),
    Command::new("client|reply", 3, Group::Connection, SESSION, connection::client_reply)
        .since("3.2.0")
        .summary("Whether commands are answered"),
    Command::new("client|setinfo", 4, Group::Connection, SESSION, connection::client_setinfo)
        .since("7.2.0")
        .summary("What the client's library calls itself")
        .differs("Not in Redis 7.0"),
    Command::new("client|setname", 3, Group::Connection, SESSION, connection::client_setname)
        .since("2.6.9")
        .summary("Name the connection")
        .differs("At most 1,024 bytes"),
];

static CLUSTER: [Command; 9] = [
    Command::new(
        "cluster|countkeysinslot",
        3,
        Group::Cluster,
        Flags::STALE,
        cluster::countkeysinslot,
    )
    .since("3.0.0")
    .summary("How many keys a slot has here"),
    Command::new("cluster|getkeysinslot", 4, Group::Cluster, Flags::STALE, cluster::getkeysinslot)
        .since("3.0.0")
        .summary("Some keys of a slot")
        .differs("At most 1,000"),
    Command::new("cluster|help", 2, Group::Cluster, ANY_TIME, commands::help)
        .since("5.0.0")
        .summary("What subcommands there are")
        .differs("Our own words"),
    Command::new("cluster|info", 2, Group::Cluster, Flags::STALE, cluster::info)
        .since("3.0.0")
        .summary("Whether all slots have a node")
        .differs("Fields that mean nothing here are left out"),
    Command::new("cluster|keyslot", 3, Group::Cluster, Flags::STALE, cluster::keyslot)
        .since("3.0.0")
        .summary("The slot of a key"),
    Command::new("cluster|myid", 2, Group::Cluster, Flags::STALE, cluster::myid)
        .since("3.0.0")
        .summary("The node's number"),
    Command::new("cluster|nodes", 2, Group::Cluster, Flags::STALE, cluster::nodes)
        .since("3.0.0")
        .summary("All nodes as text"),
    Command::new("cluster|shards", 2, Group::Cluster, ANY_TIME, cluster::shards)
        .since("7.0.0")
        .summary("All nodes with their slots"),
    Command::new("cluster|slots", 2, Group::Cluster, ANY_TIME, cluster::slots)
        .since("3.0.0")
        .summary("All slots with their nodes"),
];

static COMMAND: [Command; 6] = [
    Command::new("command|count", 2, Group::Server, ANY_TIME, commands::count)
        .since("2.8.13")
        .summary("How many"),
    Command::new("command|docs", -2, Group::Server, ANY_TIME, commands::docs)
        .since("7.0.0")
        .summary("What they are for")
        .differs("Our own words; arguments are not described one by one"),
    Command::new("command|getkeys", -4, Group::Server, ANY_TIME, commands::getkeys)
        .since("2.8.13")
        .summary("The keys of a command"),
    Command::new("command|help", 2, Group::Server, ANY_TIME, commands::help)
        .since("5.0.0")
        .summary("What subcommands there are")
        .differs("Our own words"),
    Command::new("command|info", -2, Group::Server, ANY_TIME, commands::info)
        .since("2.8.13")
        .summary("How they are called"),
    Command::new("command|list", -2, Group::Server, ANY_TIME, commands::list)
        .since("7.0.0")
        .summary("Their names"),
];

static CONFIG: [Command; 4] = [
    Command::new("config|get", -3, Group::Server, ADMIN, config::get)
        .since("2.0.0")
        .summary("Settings that match")
        .differs("Only what exists here, and a few that clients look for"),
    Command::new("config|help", 2, Group::Server, ANY_TIME, commands::help)
        .since("5.0.0")
        .summary("What subcommands there are")
        .differs("Our own words"),
    Command::new("config|resetstat", 2, Group::Server, ADMIN, config::resetstat)
        .since("2.0.0")
        .summary("Accepted: counters are never set back")
        .differs("Changes nothing, since others read the counters by their growth"),
    Command::new("config|set", -4, Group::Server, ADMIN_ALONE, config::set)
        .since("2.0.0")
        .summary("Change settings")
        .differs("`maxmemory`, up to the node's `--memory-max`, and `maxmemory-policy`, of which `--policy` says what its names mean here; any other may be set to what it is"),
];

static MEMORY: [Command; 2] = [
    Command::new("memory|help", 2, Group::Server, ANY_TIME, commands::help)
        .since("4.0.0")
        .summary("What subcommands there are")
        .differs("Our own words"),
    Command::new("memory|usage", -3, Group::Server, Flags::READONLY, keys::memory_usage)
        .keys(2, 2, 1)
        .since("4.0.0")
        .summary("Bytes that a key takes"),
];

static OBJECT: [Command; 5] = [
    Command::new("object|encoding", 3, Group::Keys, Flags::READONLY, keys::object_encoding)
        .keys(2, 2, 1)
        .since("2.2.3")
        .summary("How Redis would hold the value")
        .differs("Told by the value alone: `raw` is what is longer than 44 bytes"),
    Command::new("object|freq", 3, Group::Keys, Flags::READONLY, keys::object_freq)
        .keys(2, 2, 1)
        .since("4.0.0")
        .summary("How often a key was read lately")
        .differs("Only where the policy counts reads"),
    Command::new("object|help", 2, Group::Keys, ANY_TIME, commands::help)
        .since("6.2.0")
        .summary("What subcommands there are")
        .differs("Our own words"),
    Command::new("object|idletime", 3, Group::Keys, Flags::READONLY, keys::object_idletime)
        .keys(2, 2, 1)
        .since("2.2.3")
        .summary("Refused as Redis does: no policy here remembers it")
        .differs("Never told"),
    Command::new("object|refcount", 3, Group::Keys, Flags::READONLY, keys::object_refcount)
        .keys(2, 2, 1)
        .since("2.2.3")
        .summary("Always 1")
        .differs("No value is shared, so it is 1"),
];

/// All commands.
pub(crate) static COMMANDS: [Command; 70] = [
    Command::new("append", 3, Group::Strings, WRITE_MORE_FAST, strings::append).keys(1, 1, 1).since("2.0.0").summary("Lengthen a value, or create it; tells the new length"),
    Command::new("asking", 1, Group::Cluster, Flags::FAST, cluster::accepted).since("3.0.0").summary("Said before a request that another node sent here"),
    Command::new("auth", -2, Group::Connection, STRANGER, connection::auth).summary("Prove the node's token as a password").differs("There is one user, `default`"),
    Command::new("client", -2, Group::Connection, Flags::NONE, commands::help).since("2.4.0").summary("What concerns connections").subcommands(&CLIENT),
    Command::new("cluster", -2, Group::Cluster, Flags::NONE, commands::help).since("3.0.0").summary("Which node has which slots").subcommands(&CLUSTER),
    Command::new("command", -1, Group::Server, ANY_TIME, commands::all).since("2.8.13").summary("What commands there are").subcommands(&COMMAND),
    Command::new("config", -2, Group::Server, Flags::NONE, commands::help).since("2.0.0").summary("Settings under Redis's names").subcommands(&CONFIG),
    Command::new("copy", -3, Group::Keys, WRITE_MORE, keys::copy).keys(1, 2, 1).since("6.2.0").summary("Give a second key the value and expiry of a first").options("DB number, REPLACE").differs("Both keys must be of one slot"),
    Command::new("dbsize", 1, Group::Server, Flags::READONLY.and(Flags::FAST).and(Flags::NO_MULTI), keys::dbsize).summary("How many keys the key space has").differs("Counted core by core"),
    Command::new("decr", 2, Group::Strings, WRITE_MORE_FAST, strings::decr).keys(1, 1, 1).summary("Take 1 from a number"),
    Command::new("decrby", 3, Group::Strings, WRITE_MORE_FAST, strings::decrby).keys(1, 1, 1).summary("Take so much from a number"),
    Command::new("del", -2, Group::Keys, Flags::WRITE, keys::del).keys(1, -1, 1).summary("Remove keys").differs("Keys of several cores are not removed at one moment"),
    Command::new("delifeq", 3, Group::Strings, WRITE_FAST, strings::delifeq).keys(1, 1, 1).since("Valkey 9.0").summary("Remove a key if its value is the one given").differs("Not in Redis 7.0"),
    Command::new("discard", 1, Group::Transactions, TRANSACTION_NOW, transaction::discard).since("2.0.0").summary("Forget the commands since MULTI"),
    Command::new("echo", 2, Group::Connection, Flags::FAST, connection::echo).summary("The same again"),
    Command::new("exec", 1, Group::Transactions, Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE).and(Flags::IN_MULTI), transaction::exec).since("1.2.0").summary("Carry out the commands since MULTI, all at once").differs("All keys, watched ones included, must be of one slot; at most 10,000 commands of 8 MiB together"),
    Command::new("exists", -2, Group::Keys, READ_FAST, keys::exists).keys(1, -1, 1).summary("How many of the keys are there"),
    Command::new("expire", -3, Group::Keys, WRITE_FAST, keys::expire).keys(1, 1, 1).summary("Let a key expire after so many seconds").options("NX, XX, GT, LT"),
    Command::new("expireat", -3, Group::Keys, WRITE_FAST, keys::expireat).keys(1, 1, 1).since("1.2.0").summary("Let a key expire at a moment in seconds").options("NX, XX, GT, LT"),
    Command::new("expiretime", 2, Group::Keys, READ_FAST, keys::expiretime).keys(1, 1, 1).since("7.0.0").summary("When a key expires, in seconds"),
    Command::new("flushall", -1, Group::Server, Flags::WRITE.and(Flags::NO_MULTI), keys::flushall).summary("Remove everything").options("ASYNC, SYNC").differs("Done core by core"),
    Command::new("flushdb", -1, Group::Server, Flags::WRITE.and(Flags::NO_MULTI), keys::flushdb).summary("Remove all keys of the key space").options("ASYNC, SYNC").differs("Done core by core"),
    Command::new("get", 2, Group::Strings, READ_FAST, strings::get).keys(1, 1, 1).summary("The value of a key"),
    Command::new("getdel", 2, Group::Strings, WRITE_FAST, strings::getdel).keys(1, 1, 1).since("6.2.0").summary("The value of a key, which is removed"),
    Command::new("getex", -2, Group::Strings, WRITE_FAST, strings::getex).keys(1, 1, 1).since("6.2.0").summary("The value of a key, whose expiry is changed").options("EX seconds, PX milliseconds, EXAT unix-seconds, PXAT unix-milliseconds, PERSIST"),
    Command::new("getrange", 4, Group::Strings, Flags::READONLY, strings::getrange).keys(1, 1, 1).since("2.4.0").summary("Some of a value's bytes"),
    Command::new("getset", 3, Group::Strings, WRITE_MORE_FAST, strings::getset).keys(1, 1, 1).summary("The value of a key, which gets another"),
    Command::new("hello", -1, Group::Connection, STRANGER, connection::hello).since("6.0.0").summary("Choose RESP2 or RESP3").options("AUTH user password, SETNAME name"),
    Command::new("incr", 2, Group::Strings, WRITE_MORE_FAST, strings::incr).keys(1, 1, 1).summary("Add 1 to a number"),
    Command::new("incrby", 3, Group::Strings, WRITE_MORE_FAST, strings::incrby).keys(1, 1, 1).summary("Add so much to a number"),
    Command::new("incrbyfloat", 3, Group::Strings, WRITE_MORE_FAST, strings::incrbyfloat).keys(1, 1, 1).since("2.6.0").summary("Add to a number with a fraction").differs("Numbers of more than 256 bytes are refused"),
    Command::new("info", -1, Group::Server, Flags::LOADING.and(Flags::STALE).and(Flags::NO_MULTI), info::info).summary("The node's counters").differs("Sections and fields that dashboards read, and Corelane's own"),
    Command::new("keys", 2, Group::Keys, Flags::READONLY.and(Flags::NO_MULTI), keys::keys).summary("All keys that match a pattern").differs("A match of more than 100,000 steps is none"),
    Command::new("memory", -2, Group::Server, Flags::NONE, commands::help).since("4.0.0").summary("What memory is used for").subcommands(&MEMORY),
    Command::new("mget", -2, Group::Strings, READ_FAST, strings::mget).keys(1, -1, 1).summary("The values of several keys").differs("Keys of several cores are not read at one moment"),
    Command::new("mset", -3, Group::Strings, WRITE_MORE, strings::mset).keys(1, -1, 2).since("1.0.1").summary("Set several keys").differs("Keys of several cores are not written at one moment"),
    Command::new("msetnx", -3, Group::Strings, WRITE_MORE, strings::msetnx).keys(1, -1, 2).since("1.0.1").summary("Set several keys if none of them is there").differs("All keys must be of one slot"),
    Command::new("multi", 1, Group::Transactions, TRANSACTION_NOW, transaction::multi).since("1.2.0").summary("Keep the commands that follow until EXEC"),
    Command::new("object", -2, Group::Keys, Flags::NONE, commands::help).since("2.2.3").summary("What is known of a key beside its value").subcommands(&OBJECT),
    Command::new("persist", 2, Group::Keys, WRITE_FAST, keys::persist).keys(1, 1, 1).since("2.2.0").summary("Take the expiry from a key"),
    Command::new("pexpire", -3, Group::Keys, WRITE_FAST, keys::pexpire).keys(1, 1, 1).since("2.6.0").summary("Let a key expire after so many milliseconds").options("NX, XX, GT, LT"),
    Command::new("pexpireat", -3, Group::Keys, WRITE_FAST, keys::pexpireat).keys(1, 1, 1).since("2.6.0").summary("Let a key expire at a moment in milliseconds").options("NX, XX, GT, LT"),
    Command::new("pexpiretime", 2, Group::Keys, READ_FAST, keys::pexpiretime).keys(1, 1, 1).since("7.0.0").summary("When a key expires, in milliseconds"),
    Command::new("ping", -1, Group::Connection, Flags::FAST, connection::ping).summary("Whether the node is there"),
    Command::new("psetex", 4, Group::Strings, WRITE_MORE, strings::psetex).keys(1, 1, 1).since("2.6.0").summary("Set a key with an expiry in milliseconds"),
    Command::new("pttl", 2, Group::Keys, READ_FAST, keys::pttl).keys(1, 1, 1).since("2.6.0").summary("How long a key still has, in milliseconds"),
    Command::new("quit", -1, Group::Connection, STRANGER_NOW, connection::quit).summary("Close the connection"),
    Command::new("randomkey", 1, Group::Keys, Flags::READONLY.and(Flags::NO_MULTI), keys::randomkey).summary("Some key"),
    Command::new("readonly", 1, Group::Cluster, ANY_TIME_FAST, cluster::accepted).since("3.0.0").summary("Accepted: there are no replicas to read from"),
    Command::new("readwrite", 1, Group::Cluster, ANY_TIME_FAST, cluster::accepted).since("3.0.0").summary("Accepted, as READONLY is"),
    Command::new("rename", 3, Group::Keys, Flags::WRITE, keys::rename).keys(1, 2, 1).summary("Give a key another name").differs("Both keys must be of one slot"),
    Command::new("renamenx", 3, Group::Keys, WRITE_FAST, keys::renamenx).keys(1, 2, 1).summary("Give a key another name that no key has").differs("Both keys must be of one slot"),
    Command::new("reset", 1, Group::Connection, STRANGER_NOW, connection::reset).since("6.2.0").summary("Make the connection as it was when it began"),
    Command::new("scan", -2, Group::Keys, Flags::READONLY.and(Flags::NO_MULTI), keys::scan).since("2.8.0").summary("Some keys, and where to go on").options("MATCH pattern, COUNT number, TYPE type").differs("COUNT counts as 1,000 at most"),
    Command::new("select", 2, Group::Connection, ANY_TIME_FAST, connection::select).summary("Choose the key space, 0 to 15"),
    Command::new("set", -3, Group::Strings, WRITE_MORE, strings::set).keys(1, 1, 1).summary("Set a key").options("EX seconds, PX milliseconds, EXAT unix-seconds, PXAT unix-milliseconds, KEEPTTL, NX, XX, GET, IFEQ value").differs("IFEQ is Valkey's (8.1)"),
    Command::new("setex", 4, Group::Strings, WRITE_MORE, strings::setex).keys(1, 1, 1).since("2.0.0").summary("Set a key with an expiry in seconds"),
    Command::new("setnx", 3, Group::Strings, WRITE_MORE_FAST, strings::setnx).keys(1, 1, 1).summary("Set a key if it is not there"),
    Command::new("setrange", 4, Group::Strings, WRITE_MORE, strings::setrange).keys(1, 1, 1).since("2.2.0").summary("Write into a value"),
    Command::new("shutdown", -1, Group::Server, Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE).and(Flags::NO_MULTI).and(Flags::ALLOW_BUSY), server::shutdown).summary("End the node, as SIGTERM does").options("NOSAVE, SAVE, NOW, FORCE, ABORT").differs("There is nothing to save"),
    Command::new("strlen", 2, Group::Strings, READ_FAST, strings::strlen).keys(1, 1, 1).since("2.2.0").summary("The length of a value"),
    Command::new("substr", 4, Group::Strings, Flags::READONLY, strings::getrange).keys(1, 1, 1).summary("Some of a value's bytes: the old name of GETRANGE"),
    Command::new("time", 1, Group::Server, ANY_TIME_FAST, connection::time).since("2.6.0").summary("The node's clock").differs("To the millisecond"),
    Command::new("touch", -2, Group::Keys, READ_FAST, keys::touch).keys(1, -1, 1).since("3.2.1").summary("Read keys without their values"),
    Command::new("ttl", 2, Group::Keys, READ_FAST, keys::ttl).keys(1, 1, 1).summary("How long a key still has, in seconds"),
    Command::new("type", 2, Group::Keys, READ_FAST, keys::kind).keys(1, 1, 1).summary("What kind of value a key has"),
    Command::new("unlink", -2, Group::Keys, WRITE_FAST, keys::del).keys(1, -1, 1).since("4.0.0").summary("Remove keys: the same as DEL here"),
    Command::new("unwatch", 1, Group::Transactions, TRANSACTION, transaction::unwatch).since("2.2.0").summary("Watch no more keys"),
    Command::new("wait", 3, Group::Server, Flags::NOSCRIPT, connection::wait).since("3.0.0").summary("How many replicas have what was written: none").differs("Answers 0 at once"),
    Command::new("watch", -2, Group::Transactions, TRANSACTION_NOW, transaction::watch).keys(1, -1, 1).since("2.2.0").summary("Let the next EXEC fail if a key has changed until then").differs("At most 1,000 keys; where connections watch more than 4,096 keys of a core in all, none of their EXECs takes effect"),
];
