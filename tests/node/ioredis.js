// What an application does with ioredis. Usage: node ioredis.js PORT
"use strict";

const assert = require("node:assert");
const Redis = require("ioredis");
const { ask, scenarios, until } = require("./scenarios");

const port = Number(process.argv[2]);
const options = { port, lazyConnect: true, retryStrategy: null, maxRetriesPerRequest: 0 };

async function connected(more = {}) {
  const redis = new Redis({ ...options, ...more });
  await redis.connect();
  return redis;
}

scenarios(connected, (redis) => redis.disconnect(), {
  async values(redis) {
    await redis.set("io", "v");
    for (let i = 0; i < 3; i++) assert.strictEqual(await redis.get("io"), "v");
    await redis.hset("io:hash", { a: "1", b: "2" });
    for (let i = 0; i < 2; i++) {
      assert.deepStrictEqual(await redis.hgetall("io:hash"), { a: "1", b: "2" });
    }
    assert.deepStrictEqual(await redis.mget("io", "absent"), ["v", null]);
    const big = Buffer.alloc(5_000_000, 0xe9);
    await redis.set("io:big", big);
    for (let i = 0; i < 3; i++) assert.ok(big.equals(await redis.getBuffer("io:big")));
  },

  async pipelines(redis) {
    const pipeline = redis.pipeline().set("io:n", 1).incr("io:n").get("io:n").lpush("io:n", 1);
    const done = await pipeline.exec();
    assert.deepStrictEqual(done.slice(0, 3).map(([, reply]) => reply), ["OK", 2, "2"]);
    assert.match(done[3][0].message, /WRONGTYPE/);
  },

  async autoPipelining() {
    const redis = await connected({ enableAutoPipelining: true });
    const keys = Array.from({ length: 300 }, (_, i) => `io:auto:${i}`);
    await Promise.all(keys.map((key, i) => redis.set(key, i)));
    const found = await Promise.all(keys.map((key) => redis.get(key)));
    assert.deepStrictEqual(found, keys.map((_, i) => String(i)));
    const mixed = await Promise.all(keys.flatMap((key) => [redis.incr(key), redis.get(key)]));
    mixed.forEach((reply, at) => assert.equal(reply, (at >> 1) + 1));
    redis.disconnect();
  },

  async transactions(redis) {
    await redis.set("io:t", 1);
    const done = await redis.multi().incr("io:t").get("io:t").exec();
    assert.deepStrictEqual(done.map(([, reply]) => reply), [2, "2"]);
    const other = await connected();
    await redis.watch("io:t");
    await other.set("io:t", 9);
    assert.strictEqual(await redis.multi().incr("io:t").exec(), null);
    await assert.rejects(redis.multi().set("io:t").exec(), /EXECABORT/);
    other.disconnect();
  },

  async pubSub(redis) {
    const subscriber = await connected();
    const heard = [];
    const done = new Promise((resolve) => {
      subscriber.on("message", (channel, text) => heard.push([channel, text]) == 3 && resolve());
      subscriber.on("pmessage", (p, channel, text) => heard.push([p, text]) == 3 && resolve());
    });
    await subscriber.subscribe("io:c1", "io:c2");
    await subscriber.psubscribe("io:p*");
    for (const channel of ["io:c1", "io:c2", "io:p1"]) {
      assert.strictEqual(await redis.publish(channel, channel), 1);
    }
    await done;
    assert.deepStrictEqual(heard, [["io:c1", "io:c1"], ["io:c2", "io:c2"], ["io:p*", "io:p1"]]);
    await subscriber.unsubscribe("io:c1", "io:c2");
    await subscriber.punsubscribe("io:p*");
    assert.strictEqual(await subscriber.ping(), "PONG");
    subscriber.disconnect();
  },

  async blocking(redis) {
    const waiter = await connected();
    const popped = waiter.blpop("io:queue", 10);
    await redis.rpush("io:queue", "job");
    assert.deepStrictEqual(await popped, ["io:queue", "job"]);
    assert.strictEqual(await waiter.blpop("io:queue", 0.05), null);
    assert.strictEqual(await waiter.brpoplpush("io:queue", "io:other", 0.05), null);
    waiter.disconnect();
  },

  async scripts(redis) {
    const lua = "return redis.call('INCRBY', KEYS[1], ARGV[1])";
    redis.defineCommand("addTo", { numberOfKeys: 1, lua });
    await redis.del("io:s");
    assert.strictEqual(await redis.addTo("io:s", 5), 5);
    await redis.script("FLUSH");
    assert.strictEqual(await redis.addTo("io:s", 5), 10); // NOSCRIPT, and again with EVAL
    assert.strictEqual(await redis.get("io:s"), "10");
    await assert.rejects(redis.eval("return redis.error_reply('MINE text')", 0), /MINE text/);
  },

  async scans(redis) {
    const names = Array.from({ length: 500 }, (_, i) => `io:scan:${i}`);
    await redis.mset(Object.fromEntries(names.map((name) => [name, 1])));
    const seen = new Set();
    for await (const keys of redis.scanStream({ match: "io:scan:*", count: 50 })) {
      keys.forEach((key) => seen.add(key));
    }
    assert.strictEqual(seen.size, 500);
    await redis.sadd("io:set", ...names);
    let members = 0;
    for await (const page of redis.sscanStream("io:set")) members += page.length;
    assert.ok(members >= 500);
  },

  async streams(redis) {
    await redis.del("io:x");
    await redis.xgroup("CREATE", "io:x", "g", "$", "MKSTREAM");
    const reader = await connected();
    const waiting = reader.xreadgroup("GROUP", "g", "me", "BLOCK", 10000, "STREAMS", "io:x", ">");
    const id = await redis.xadd("io:x", "*", "field", "value");
    assert.deepStrictEqual(await waiting, [["io:x", [[id, ["field", "value"]]]]]);
    assert.strictEqual(await redis.xack("io:x", "g", id), 1);
    assert.deepStrictEqual(await redis.xrange("io:x", "-", "+"), [[id, ["field", "value"]]]);
    reader.disconnect();
  },

  async errorsAreNotRetried() {
    let connections = 0;
    const redis = new Redis({ port, retryStrategy: () => 10 });
    redis.on("connect", () => connections++);
    await redis.set("io:text", "x");
    await assert.rejects(redis.incr("io:text"), /not an integer/);
    await assert.rejects(redis.call("NOSUCHCOMMAND"), /unknown command/);
    assert.strictEqual(connections, 1);
    redis.disconnect();
  },

  async reconnects(redis) {
    redis.disconnect(); // it does not come back
    const lasting = new Redis({ port, retryStrategy: () => 20, maxRetriesPerRequest: null });
    const subscriber = lasting.duplicate();
    for (const each of [lasting, subscriber]) each.on("error", () => {}); // ECONNREFUSED
    const heard = new Promise((resolve) => subscriber.on("message", (_, text) => resolve(text)));
    await lasting.set("io:lasting", "before");
    await subscriber.subscribe("io:again");
    const again = new Promise((resolve) => subscriber.once("ready", resolve));
    await ask("restart terrace");
    assert.strictEqual(await lasting.get("io:lasting"), "before");
    await lasting.set("io:lasting", "after");
    await again;
    await until(() => lasting.publish("io:again", "back")); // it has subscribed again
    assert.strictEqual(await heard, "back");
    lasting.disconnect();
    subscriber.disconnect();
  },
});
