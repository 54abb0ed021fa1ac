//! The Rust crate `redis`: commands, pipelines, transactions and scans, in both protocols.

use redis::{Commands, RedisResult};

fn commands(port: &str, protocol: &str) -> RedisResult<()> {
    let url = format!("redis://127.0.0.1:{port}/?protocol={protocol}");
    let mut connection = redis::Client::open(url)?.get_connection()?;
    () = redis::cmd("FLUSHALL").query(&mut connection)?;
    () = connection.set_ex("key", "value", 100)?;
    assert_eq!(connection.get::<_, String>("key")?, "value");
    assert!((1..=100).contains(&connection.ttl::<_, i64>("key")?));
    assert_eq!(connection.get::<_, Option<String>>("nosuch")?, None);
    assert_eq!(connection.incr::<_, _, i64>("number", 5)?, 5);
    assert_eq!(connection.del::<_, i64>(&["key", "number", "nosuch"])?, 2);

    let mut pipeline = redis::pipe();
    for number in 0..1_000 {
        pipeline.set(format!("pipe:{number}"), number).ignore().get(format!("pipe:{number}"));
    }
    let answers: Vec<i64> = pipeline.query(&mut connection)?;
    assert!(answers.into_iter().eq(0..1_000));

    let answers: (i64, i64) = redis::transaction(&mut connection, &["{tag}a"], |it, pipeline| {
        let old: i64 = it.get("{tag}a").unwrap_or(1);
        pipeline.set("{tag}a", old * 2).ignore().get("{tag}a").incr("{tag}b", 1).query(it)
    })?;
    assert_eq!(answers, (2, 1));

    let keys: Vec<String> =
        connection.scan_match::<_, String>("pipe:*")?.collect::<RedisResult<_>>()?;
    assert_eq!(keys.len(), 1_000);

    let error = connection.incr::<_, _, i64>("pipe:nosuch", "x").expect_err("x is no number");
    assert_eq!(error.detail(), Some("value is not an integer or out of range"));
    Ok(())
}

fn main() -> RedisResult<()> {
    let port = std::env::var("NODE_PORT").expect("NODE_PORT");
    commands(&port, "resp2")?;
    commands(&port, "resp3")
}
