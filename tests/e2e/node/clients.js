// What an application does with ioredis and node-redis. Usage: node clients.js PORT CLIENT
"use strict";

const assert = require("node:assert");

const [port, client] = [Number(process.argv[2]), process.argv[3]];

async function ioredis() {
  const Redis = require("ioredis");
  const redis = new Redis({ port, lazyConnect: true, retryStrategy: null });
  await redis.connect();
  await redis.set("io", "v");
  for (let i = 0; i < 3; i++) assert.strictEqual(await redis.get("io"), "v");
  await redis.hset("io:hash", { a: "1", b: "2" });
  for (let i = 0; i < 2; i++) {
    assert.deepStrictEqual(await redis.hgetall("io:hash"), { a: "1", b: "2" });
  }
  const piped = await redis.pipeline().set("io:n", 1).incr("io:n").get("io:n").exec();
  assert.deepStrictEqual(piped.map(([, reply]) => reply), ["OK", 2, "2"]);
  const done = await redis.multi().incr("io:n").get("io:n").exec();
  assert.deepStrictEqual(done.map(([, reply]) => reply), [3, "3"]);
  const subscriber = redis.duplicate();
  await subscriber.connect();
  const heard = new Promise((resolve) => subscriber.on("message", (_, text) => resolve(text)));
  await subscriber.subscribe("io:channel");
  await redis.publish("io:channel", "hello");
  assert.strictEqual(await heard, "hello");
  await assert.rejects(redis.lpush("io", "x"), /WRONGTYPE/);
  await Promise.all([redis.quit(), subscriber.quit()]);
}

async function nodeRedis() {
  const { createClient } = require("redis");
  const redis = createClient({ url: `redis://127.0.0.1:${port}` });
  redis.on("error", (error) => {
    throw error;
  });
  await redis.connect();
  await redis.set("node", "v");
  for (let i = 0; i < 3; i++) assert.strictEqual(await redis.get("node"), "v");
  await redis.hSet("node:hash", { a: "1", b: "2" });
  for (let i = 0; i < 2; i++) {
    assert.deepStrictEqual({ ...(await redis.hGetAll("node:hash")) }, { a: "1", b: "2" });
  }
  await redis.set("node:n", "1");
  assert.deepStrictEqual(await redis.multi().incr("node:n").get("node:n").exec(), [2, "2"]);
  const subscriber = redis.duplicate();
  await subscriber.connect();
  let tell;
  const heard = new Promise((resolve) => (tell = resolve));
  await subscriber.subscribe("node:channel", tell);
  await redis.publish("node:channel", "hello");
  assert.strictEqual(await heard, "hello");
  await assert.rejects(redis.lPush("node", "x"), /WRONGTYPE/);
  await Promise.all([redis.quit(), subscriber.quit()]);
}

const main = { ioredis, "node-redis": nodeRedis }[client];
main().then(
  () => console.log("ok"),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
