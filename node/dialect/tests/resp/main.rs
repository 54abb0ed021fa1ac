//! Conversations in RESP, against a plain map that executes the requests. What is expected
//! was answered by Redis 7.0.15. Each conversation is also held in pieces, and the entry
//! point of the fuzzer is called with what a seeded generator makes.

mod map;

use corelane_dialect::fuzz::{self, Node};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use map::converse;

/// Splits `line` at spaces into an array of strings; `~` stands for a space in one of them.
fn array(line: &str) -> Vec<u8> {
    let words: Vec<String> = line.split(' ').map(|word| word.replace('~', " ")).collect();
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

/// Each line of `conversation` is a command and its answer, with ` => ` between them. The
/// answer's line breaks are written as bars.
#[track_caller]
fn check(conversation: &str) {
    check_at(&Node::default(), conversation);
}

#[track_caller]
fn check_at(node: &Node, conversation: &str) {
    let (mut input, mut expected) = (Vec::new(), Vec::new());
    for line in conversation.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (command, answer) = line.split_once(" =>").expect("a command and its answer");
        input.extend_from_slice(&array(command));
        expected.push((command, answer.strip_prefix(' ').unwrap_or("").to_owned()));
    }
    for piece in [input.len(), 1, 7] {
        let answers = converse(node, &input, piece);
        let mut rest = String::from_utf8(answers).expect("ASCII").replace("\r\n", "|");
        for (command, answer) in &expected {
            let after = rest.strip_prefix(answer.as_str());
            let Some(after) = after else {
                panic!("{command}: expected {answer:?} at the front of {rest:?}");
            };
            rest = after.to_owned();
        }
        assert_eq!(rest, "", "in pieces of {piece}");
    }
}

#[test]
fn values_are_set_and_told() {
    check(
        r#"
        set k => -ERR wrong number of arguments for 'set' command|
        set k v foo => -ERR syntax error|
        set k v ex 0 => -ERR invalid expire time in 'set' command|
        set k v ex x => -ERR value is not an integer or out of range|
        set k v ex 9223372036854775807 => -ERR invalid expire time in 'set' command|
        set k v ex 10 px 10 => -ERR syntax error|
        set k v ex 10 keepttl => -ERR syntax error|
        set k v nx xx => -ERR syntax error|
        set k v nx get => $-1|
        set k w xx get => $1|v|
        get k => $1|w|
        set k x nx => $-1|
        set k y XX EX 10 => +OK|
        ttl k => :10|
        set k z keepttl => +OK|
        pttl k => :10000|
        set k v exat 1 => +OK|
        exists k k => :0|
        set k v exat 0 => -ERR invalid expire time in 'set' command|
        setex k 0 v => -ERR invalid expire time in 'setex' command|
        setex k x v => -ERR value is not an integer or out of range|
        setex k 10 v => +OK|
        psetex k 0 v => -ERR invalid expire time in 'psetex' command|
        setnx k w => :0|
        setnx n w => :1|
        getset n w2 => $1|w|
        getset nokey v => $-1|
        getdel nokey => $1|v|
        getdel nokey => $-1|
        mset a => -ERR wrong number of arguments for 'mset' command|
        mset a 1 b => -ERR wrong number of arguments for 'mset' command|
        mset a 1 b 2 => +OK|
        mget a nokey b => *3|$1|1|$-1|$1|2|
        msetnx c 1 a 2 => :0|
        msetnx c 1 d 2 => :1|
        msetnx c 1 e => -ERR wrong number of arguments for 'msetnx' command|
        append a xyz => :4|
        append new xyz => :3|
        strlen a => :4|
        strlen none => :0|
        getrange a 0 -1 => $4|1xyz|
        getrange a -2 -1 => $2|yz|
        getrange a 5 1 => $0||
        getrange a x 1 => -ERR value is not an integer or out of range|
        getrange none 0 -1 => $0||
        substr a 0 1 => $2|1x|
        setrange a -1 x => -ERR offset is out of range|
        setrange a x x => -ERR value is not an integer or out of range|
        setrange a 5 xyz => :8|
        setrange none 0  => :0|
        "#,
    );
}

#[test]
fn numbers_are_counted() {
    check(
        r#"
        incr n => :1|
        incrby n 10 => :11|
        decr n => :10|
        decrby n 20 => :-10|
        incrby n x => -ERR value is not an integer or out of range|
        incrby n -5 => :-15|
        incrby n 9223372036854775807 => :9223372036854775792|
        decrby n -9223372036854775808 => -ERR decrement would overflow|
        decrby m 9223372036854775807 => :-9223372036854775807|
        set n 9223372036854775807 => +OK|
        incr n => -ERR increment or decrement would overflow|
        set n a => +OK|
        incr n => -ERR value is not an integer or out of range|
        set n ~1 => +OK|
        incr n => -ERR value is not an integer or out of range|
        set f 1.5 => +OK|
        incrbyfloat f 0.25 => $4|1.75|
        incrbyfloat f x => -ERR value is not a valid float|
        incrbyfloat f nan => -ERR value is not a valid float|
        incrbyfloat f inf => -ERR increment would produce NaN or Infinity|
        incrbyfloat f ~1 => -ERR value is not a valid float|
        incrbyfloat n 1 => -ERR value is not a valid float|
        "#,
    );
}

#[test]
fn keys_are_handled_whatever_their_values() {
    check(
        r#"
        mset a 1 b 2 c 3 => +OK|
        del a => :1|
        del a b nokey => :1|
        unlink c => :1|
        touch a b => :0|
        set k v => +OK|
        expire k x => -ERR value is not an integer or out of range|
        expire k 9223372036854775807 => -ERR invalid expire time in 'expire' command|
        expire k -9223372036854775808 => -ERR invalid expire time in 'expire' command|
        pexpire k 9223372036854775807 => -ERR invalid expire time in 'pexpire' command|
        expire k 10 foo => -ERR Unsupported option foo|
        expire k 10 nx xx => -ERR NX and XX, GT or LT options at the same time are not compatible|
        expire k 10 gt lt => -ERR GT and LT options at the same time are not compatible|
        expire k 10 nx gt => -ERR NX and XX, GT or LT options at the same time are not compatible|
        expire k 10 xx => :0|
        expire k 10 nx => :1|
        expire k 10 nx => :0|
        expire k 20 gt => :1|
        expire k 10 gt => :0|
        expire k 10 lt => :1|
        expire k 5 xx lt => :1|
        ttl k => :5|
        persist k => :1|
        persist k => :0|
        expire k 5 gt => :0|
        expire k 5 xx lt => :0|
        expire k 5 lt => :1|
        expire nokey 10 => :0|
        ttl nokey => :-2|
        pttl nokey => :-2|
        expiretime nokey => :-2|
        expireat k 99999999999 => :1|
        expiretime k => :99999999999|
        pexpiretime k => :99999999999000|
        pexpireat k 99999999999999 => :1|
        pexpiretime k => :99999999999999|
        expire k -1 => :1|
        get k => $-1|
        set k v => +OK|
        rename nokey x => -ERR no such key|
        rename k k2 => +OK|
        get k2 => $1|v|
        rename k2 k2 => +OK|
        set k v => +OK|
        renamenx k2 k => :0|
        renamenx k2 k3 => :1|
        renamenx nokey x => -ERR no such key|
        copy k k => -ERR source and destination objects are the same|
        copy k k4 => :1|
        copy k k4 => :0|
        copy k k4 replace => :1|
        copy k k db 1 => :1|
        copy k x db 16 => -ERR DB index is out of range|
        copy k x db x => -ERR value is not an integer or out of range|
        copy nokey x => :0|
        copy k x foo => -ERR syntax error|
        type k => +string|
        type nokey => +none|
        getex k ex 0 => -ERR invalid expire time in 'getex' command|
        getex k foo => -ERR syntax error|
        getex k ex 10 persist => -ERR syntax error|
        getex nokey ex 0 => $-1|
        getex nokey ex x => $-1|
        getex k ex x => -ERR value is not an integer or out of range|
        getex k ex => -ERR syntax error|
        getex k ex 100 => $1|v|
        ttl k => :100|
        getex k persist => $1|v|
        ttl k => :-1|
        object refcount nokey => $-1|
        object encoding nokey => $-1|
        object freq k => -ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.|
        object foo k => -ERR unknown subcommand 'foo'. Try OBJECT HELP.|
        object => -ERR wrong number of arguments for 'object' command|
        memory usage nokey => $-1|
        memory usage k samples => -ERR syntax error|
        memory usage k samples x => -ERR value is not an integer or out of range|
        memory usage k samples -1 => -ERR syntax error|
        memory usage k foo 1 => -ERR syntax error|
        dbsize => :3|
        select 1 => +OK|
        dbsize => :1|
        keys * => *1|$1|k|
        scan x => -ERR invalid cursor|
        scan 0 count 0 => -ERR syntax error|
        scan 0 count x => -ERR value is not an integer or out of range|
        scan 0 count => -ERR syntax error|
        scan 0 foo bar => -ERR syntax error|
        scan 0 match zz* => *2|$1|0|*0|
        scan 0 type list => *2|$1|0|*0|
        flushdb foo => -ERR syntax error|
        flushall sync async => -ERR syntax error|
        flushdb async => +OK|
        dbsize => :0|
        select 0 => +OK|
        flushall => +OK|
        dbsize => :0|
        randomkey => $-1|
        "#,
    );
}

#[test]
fn transactions_are_kept_and_carried_out() {
    check(
        r#"
        exec => -ERR EXEC without MULTI|
        discard => -ERR DISCARD without MULTI|
        multi => +OK|
        multi => -ERR MULTI calls can not be nested|
        set a 1 => +QUEUED|
        get a => +QUEUED|
        exec => *2|+OK|$1|1|
        multi => +OK|
        set a => -ERR wrong number of arguments for 'set' command|
        get a => +QUEUED|
        exec => -EXECABORT Transaction discarded because of previous errors.|
        multi => +OK|
        foo => -ERR unknown command 'foo', with args beginning with: |
        exec => -EXECABORT Transaction discarded because of previous errors.|
        multi => +OK|
        watch a => -ERR WATCH inside MULTI is not allowed|
        exec => *0|
        multi => +OK|
        set a 5 => +QUEUED|
        discard => +OK|
        get a => $1|1|
        watch a => +OK|
        set a 2 => +OK|
        multi => +OK|
        get a => +QUEUED|
        exec => *-1|
        watch a => +OK|
        expire a 100 => :1|
        persist a => :1|
        multi => +OK|
        exec => *-1|
        watch none => +OK|
        set none 1 => +OK|
        del none => :1|
        multi => +OK|
        exec => *-1|
        watch a none => +OK|
        get a => $1|2|
        multi => +OK|
        incr a => +QUEUED|
        exec => *1|:3|
        multi => +OK|
        exec => *0|
        watch a => +OK|
        set a 3 => +OK|
        unwatch => +OK|
        multi => +OK|
        get a => +QUEUED|
        ping => +QUEUED|
        select 3 => +QUEUED|
        set a 4 => +QUEUED|
        incr a x => -ERR wrong number of arguments for 'incr' command|
        exec => -EXECABORT Transaction discarded because of previous errors.|
        multi => +OK|
        get a => +QUEUED|
        select 0 => +QUEUED|
        get a => +QUEUED|
        mget a b => +QUEUED|
        exec => *4|$1|3|+OK|$1|3|*2|$1|3|$-1|
        multi => +OK|
        shutdown => -ERR Command not allowed inside a transaction|
        exec => -EXECABORT Transaction discarded because of previous errors.|
        multi => +OK|
        exec x => -EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command|
        exec => -ERR EXEC without MULTI|
        multi => +OK|
        set b 1 => +QUEUED|
        reset => +RESET|
        exec => -ERR EXEC without MULTI|
        watch => -ERR wrong number of arguments for 'watch' command|
        multi => +OK|
        quit => +OK|<closed>
        "#,
    );
}

#[test]
fn connections_agree_on_how_to_speak() {
    check(
        r#"
        ping => +PONG|
        ping a => $1|a|
        ping a b => -ERR wrong number of arguments for 'ping' command|
        PiNg => +PONG|
        echo a => $1|a|
        echo => -ERR wrong number of arguments for 'echo' command|
        select x => -ERR value is not an integer or out of range|
        select 16 => -ERR DB index is out of range|
        select -1 => -ERR DB index is out of range|
        select 99999999999 => -ERR value is out of range, value must between -2147483648 and 2147483647|
        select 0 => +OK|
        auth x => -ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?|
        auth default x => +OK|
        auth foo x => -WRONGPASS invalid username-password pair or user is disabled.|
        auth a b c => -ERR syntax error|
        hello x => -ERR Protocol version is not an integer or out of range|
        hello 1 => -NOPROTO unsupported protocol version|
        hello 2 foo => -ERR Syntax error in HELLO option 'foo'|
        hello 2 setname => -ERR Syntax error in HELLO option 'setname'|
        hello 2 setname a~b => -ERR Client names cannot contain spaces, newlines or special characters.|
        hello 2 auth a => -ERR Syntax error in HELLO option 'auth'|
        hello 2 auth foo x => -WRONGPASS invalid username-password pair or user is disabled.|
        hello 3 setname me => %7|$6|server|$5|redis|$7|version|$6|7.0.15|$5|proto|:3|$2|id|:1|$4|mode|$10|standalone|$4|role|$6|master|$7|modules|*0|
        client getname => $2|me|
        get nokey => _|
        mget nokey nokey => *2|_|_|
        multi => +OK|
        set k v => +QUEUED|
        exec => *1|+OK|
        watch k => +OK|
        set k w => +OK|
        multi => +OK|
        get k => +QUEUED|
        exec => _|
        hello 2 => *14|$6|server|$5|redis|$7|version|$6|7.0.15|$5|proto|:2|$2|id|:1|$4|mode|$10|standalone|$4|role|$6|master|$7|modules|*0|
        client => -ERR wrong number of arguments for 'client' command|
        client foo => -ERR unknown subcommand 'foo'. Try CLIENT HELP.|
        client id x => -ERR wrong number of arguments for 'client|id' command|
        client setname => -ERR wrong number of arguments for 'client|setname' command|
        client setname a~b => -ERR Client names cannot contain spaces, newlines or special characters.|
        client setname  => +OK|
        client getname => $-1|
        client no-evict x => -ERR syntax error|
        client no-evict on => +OK|
        client reply x => -ERR syntax error|
        client reply skip =>
        ping =>
        ping => +PONG|
        client reply off =>
        ping =>
        get k =>
        set k v =>
        mget k k =>
        del k x =>
        multi =>
        foo =>
        exec =>
        client reply on => +OK|
        ping => +PONG|
        wait x 0 => -ERR value is not an integer or out of range|
        wait 0 x => -ERR timeout is not an integer or out of range|
        wait 0 -1 => -ERR timeout is negative|
        wait 0 0 => :0|
        readonly => -ERR This instance has cluster support disabled|
        asking => -ERR This instance has cluster support disabled|
        cluster info => -ERR This instance has cluster support disabled|
        cluster foo => -ERR unknown subcommand 'foo'. Try CLUSTER HELP.|
        cluster => -ERR wrong number of arguments for 'cluster' command|
        cluster keyslot a => -ERR This instance has cluster support disabled|
        command count x => -ERR wrong number of arguments for 'command|count' command|
        command getkeys get => -ERR wrong number of arguments for 'command|getkeys' command|
        command getkeys get a => *1|$1|a|
        command getkeys mset a 1 b 2 => *2|$1|a|$1|b|
        command getkeys ping x => -ERR The command has no key arguments|
        command getkeys foo x => -ERR Invalid command specified|
        command getkeys set a => -ERR Invalid number of arguments specified for command|
        command list foo => -ERR syntax error|
        command list filterby foo a => -ERR syntax error|
        command list filterby pattern mge* => *1|$4|mget|
        command docs nosuch => *0|
        client kill foo => <control>
        client kill id x => -ERR client-id should be greater than 0|
        client kill foo x => -ERR syntax error|
        client kill type foo => -ERR Unknown client type 'foo'|
        client kill skipme maybe => -ERR syntax error|
        client list type foo => -ERR Unknown client type 'foo'|
        client list id x => -ERR Invalid client ID|
        client list foo => -ERR syntax error|
        config get nosuch => *0|
        config set nosuch 1 => -ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'|
        config set databases 12 => -ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config|
        config set maxmemory abc => -ERR CONFIG SET failed (possibly related to argument 'maxmemory') - argument must be a memory value|
        config set maxmemory 100mb maxmemory 200mb => -ERR CONFIG SET failed (possibly related to argument 'maxmemory') - duplicate parameter|
        config set save  => +OK|
        config get save => *2|$4|save|$0||
        config get databases => *2|$9|databases|$2|16|
        config get DATABASE[s] => *2|$9|databases|$2|16|
        time x => -ERR wrong number of arguments for 'time' command|
        shutdown foo => -ERR syntax error|
        shutdown nosave save => -ERR syntax error|
        shutdown abort => -ERR No shutdown in progress.|
        foo a b~c => -ERR unknown command 'foo', with args beginning with: 'a' 'b c' |
        get => -ERR wrong number of arguments for 'get' command|
        reset => +RESET|
        get => -ERR wrong number of arguments for 'get' command|
        quit => +OK|<closed>
        "#,
    );
}

/// How many inputs the generator makes.
fn rounds() -> usize {
    std::env::var("CORELANE_FUZZ_ROUNDS")
        .map_or(10_000, |rounds| rounds.parse().expect("CORELANE_FUZZ_ROUNDS is a number"))
}

#[test]
fn any_bytes_are_answered_alike_however_they_are_cut() {
    let words: Vec<&str> = include_str!("words.txt").split_whitespace().collect();
    for seed in 0..rounds() as u64 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut input = Vec::new();
        for _ in 0..random.random_range(1..6) {
            let count = random.random_range(1..6);
            let chosen: Vec<_> =
                (0..count).map(|_| words[random.random_range(0..words.len())]).collect();
            match random.random_range(0..3) {
                0 => input.extend_from_slice((chosen.join(" ") + "\r\n").as_bytes()),
                _ => input.extend_from_slice(&array(&chosen.join(" "))),
            }
        }
        for _ in 0..random.random_range(0..3) {
            let at = random.random_range(0..input.len());
            input[at] = b"*$\r\n\0\"'0123456789-"[random.random_range(0..18)];
        }
        let cuts: Vec<u8> = (0..4).map(|_| random.random_range(0..20)).collect();
        fuzz::resp(&input, &cuts);
    }
}

#[test]
fn what_a_differential_run_found_stays_found() {
    check(
        r#"
        set k v EX 10 EX 20 => +OK|
        set k v EX 10 KEEPTTL => -ERR syntax error|
        getex k EX 10 EX 30 => $1|v|
        getex k persist persist => $1|v|
        ttl k => :-1|
        exec x => -EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command|
        getrange k -20 -40 => $0||
        getrange k -40 -20 => $1|v|
        "#,
    );
}

#[test]
fn a_node_with_a_token_is_closed_to_strangers() {
    let node = Node { token: Some(b"secret") };
    check_at(
        &node,
        r#"
        get k => -NOAUTH Authentication required.|
        nosuch => -ERR unknown command 'nosuch', with args beginning with: |
        get => -ERR wrong number of arguments for 'get' command|
        ping => -NOAUTH Authentication required.|
        auth wrong => -WRONGPASS invalid username-password pair or user is disabled.|
        auth other secret => -WRONGPASS invalid username-password pair or user is disabled.|
        hello 3 => -NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time|
        hello 2 auth default wrong => -WRONGPASS invalid username-password pair or user is disabled.|
        auth secret => +OK|
        set k v => +OK|
        get k => $1|v|
        reset => +RESET|
        get k => -NOAUTH Authentication required.|
        auth default secret => +OK|
        get k => $1|v|
        "#,
    );
}
