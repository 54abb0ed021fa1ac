// ioredis: commands, pipelines, transactions, scans and buffers.
"use strict";

const assert = require("node:assert");
const crypto = require("node:crypto");
const Redis = require("ioredis");

async function main() {
  const client = new Redis(Number(process.env.NODE_PORT), "127.0.0.1");
  assert.equal(await client.ping(), "PONG");
  await client.flushall();
  assert.equal(await client.set("key", "value", "EX", 100), "OK");
  assert.equal(await client.get("key"), "value");
  assert.ok((await client.ttl("key")) > 0);
  assert.equal(await client.set("key", "other", "NX"), null);
  assert.equal(await client.del("key", "nosuch"), 1);
  assert.equal(await client.get("key"), null);

  const pipeline = client.pipeline();
  for (let number = 0; number < 1000; number += 1) {
    pipeline.set(`pipe:${number}`, number).get(`pipe:${number}`);
  }
  const answers = await pipeline.exec();
  answers.forEach(([error, answer], place) => {
    assert.equal(error, null);
    assert.equal(answer, place % 2 === 0 ? "OK" : String((place - 1) / 2));
  });

  const transaction = await client.multi().set("{tag}a", 1).incr("{tag}a").get("{tag}a").exec();
  assert.deepEqual(transaction, [[null, "OK"], [null, 2], [null, "2"]]);

  await client.watch("{tag}a");
  await client.duplicate().set("{tag}a", "changed");
  assert.equal(await client.multi().get("{tag}a").exec(), null);

  const found = new Set();
  for await (const keys of client.scanStream({ match: "pipe:*", count: 50 })) {
    keys.forEach((key) => found.add(key));
  }
  assert.equal(found.size, 1000);

  const large = crypto.randomBytes(1 << 20);
  await client.set("large", large);
  assert.ok(large.equals(await client.getBuffer("large")));

  await assert.rejects(client.incr("pipe:nosuch", 1), /wrong number of arguments/);
  await assert.rejects(client.lpush("list", 1), /unknown command/);
  await client.select(5);
  assert.equal(await client.dbsize(), 0);
  await client.quit();
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
