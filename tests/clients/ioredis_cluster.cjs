// ioredis as a client of Redis Cluster. It says "done" after each phase, and goes on when it is told
// to: meanwhile the nodes change.
"use strict";

const assert = require("node:assert");
const readline = require("node:readline");
const Redis = require("ioredis");

const KEYS = 500;

async function writeAndRead(client) {
  const keys = Array.from({ length: KEYS }, (_, number) => `key:${number}`);
  const written = await Promise.all(keys.map((key) => client.set(key, key)));
  assert.ok(written.every((answer) => answer === "OK"));
  assert.deepEqual(await Promise.all(keys.map((key) => client.get(key))), keys);
}

async function commands(client) {
  await writeAndRead(client);
  assert.equal(client.nodes("master").length, 3);
  for (let number = 0; number < 50; number += 1) {
    const key = `command:${number}`;
    assert.equal(await client.incrby(key, 41), 41);
    assert.equal(await client.append(key, "5"), 3);
    assert.equal(await client.expire(key, 100), 1);
    assert.ok((await client.ttl(key)) > 0);
    assert.equal(await client.getdel(key), "415");
  }
  for (const tag of ["{a}", "{b}", "{c}", "{d}"]) {
    assert.equal(await client.mset(`${tag}1`, 1, `${tag}2`, 2), "OK");
    assert.deepEqual(await client.mget(`${tag}1`, `${tag}2`), ["1", "2"]);
    const transaction = await client.multi().incr(`${tag}1`).get(`${tag}1`).del(`${tag}1`).exec();
    assert.deepEqual(transaction, [[null, 2], [null, "2"], [null, 1]]);
    const pipeline = await client.pipeline().get(`${tag}2`).del(`${tag}2`).exec();
    assert.deepEqual(pipeline, [[null, "2"], [null, 1]]);
  }
}

async function main() {
  const nodes = process.env.NODE_PORTS.split(",").map((port) => ({
    host: "127.0.0.1",
    port: Number(port),
  }));
  // One is enough to find the others.
  const client = new Redis.Cluster(nodes.slice(0, 1));
  const told = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  await commands(client);
  for (let change = 0; change < 3; change += 1) {
    console.log("done");
    await told.next();
    await writeAndRead(client);
  }
  console.log("done");
  await client.quit();
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
