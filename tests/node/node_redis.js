// What an application does with node-redis. Usage: RESP=2|3 node node_redis.js PORT
"use strict";

const assert = require("node:assert");
const { createClient, createClientPool, RESP_TYPES } = require("redis");
const { ask, scenarios, until } = require("./scenarios");

const port = Number(process.argv[2]);
const RESP = Number(process.env.RESP || 2);

async function connected(more = {}) {
  const client = createClient({ RESP, socket: { port, reconnectStrategy: false }, ...more });
  client.on("error", (error) => {
    throw error;
  });
  await client.connect();
  return client;
}

scenarios(connected, (client) => client.isOpen && client.destroy(), {
  async values(client) {
    await client.set("node", "v");
    for (let i = 0; i < 3; i++) assert.strictEqual(await client.get("node"), "v");
    await client.hSet("node:hash", { a: "1", b: "2" });
    for (let i = 0; i < 2; i++) {
      assert.deepStrictEqual({ ...(await client.hGetAll("node:hash")) }, { a: "1", b: "2" });
    }
    await client.zAdd("node:z", [{ score: 1.5, value: "a" }, { score: 2, value: "b" }]);
    for (let i = 0; i < 3; i++) {
      assert.deepStrictEqual(
        (await client.zRangeWithScores("node:z", 0, -1)).map(({ value, score }) => [value, score]),
        [["a", 1.5], ["b", 2]],
      );
    }
    const big = Buffer.alloc(5_000_000, 0xe9);
    await client.set("node:big", big);
    const raw = client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
    for (let i = 0; i < 3; i++) assert.ok(big.equals(await raw.get("node:big")));
  },

  async autoPipelining(client) {
    const keys = Array.from({ length: 300 }, (_, i) => `node:auto:${i}`);
    await Promise.all(keys.map((key, i) => client.set(key, String(i))));
    const mixed = await Promise.all(keys.flatMap((key) => [client.incr(key), client.get(key)]));
    mixed.forEach((reply, at) => assert.equal(reply, (at >> 1) + 1));
  },

  async transactions(client) {
    await client.set("node:t", "1");
    assert.deepStrictEqual(await client.multi().incr("node:t").get("node:t").exec(), [2, "2"]);
    const other = await connected();
    await client.watch("node:t");
    await other.set("node:t", "9");
    await assert.rejects(client.multi().incr("node:t").exec(), /watched keys has been changed/);
    other.destroy();
  },

  async pool() {
    const pool = await createClientPool({ RESP, socket: { port } }, { minimum: 2, maximum: 10 });
    pool.on("error", (error) => {
      throw error;
    });
    await pool.connect();
    await pool.del("node:pool");
    const done = await Promise.all(
      Array.from({ length: 50 }, () => pool.execute((c) => c.multi().incr("node:pool").exec())),
    );
    assert.strictEqual(Math.max(...done.flat()), 50);
    pool.destroy();
  },

  async pubSub(client) {
    const subscriber = await connected();
    const heard = [];
    let tell;
    const done = new Promise((resolve) => (tell = resolve));
    const listen = (text, channel) => heard.push([channel, text]) == 3 && tell();
    await subscriber.subscribe(["node:c1", "node:c2"], listen);
    await subscriber.pSubscribe("node:p*", listen);
    for (const channel of ["node:c1", "node:c2", "node:p1"]) {
      assert.strictEqual(await client.publish(channel, `to ${channel}`), 1);
    }
    await done;
    assert.deepStrictEqual(heard.map(([channel]) => channel), ["node:c1", "node:c2", "node:p1"]);
    await subscriber.unsubscribe(["node:c1", "node:c2"]);
    await subscriber.pUnsubscribe("node:p*");
    assert.strictEqual(String(await subscriber.ping()), "PONG"); // bytes, when it was in RESP2
    subscriber.destroy();
  },

  async blocking(client) {
    const waiter = await connected();
    const popped = waiter.blPop("node:queue", 10);
    await client.rPush("node:queue", "job");
    assert.deepStrictEqual({ ...(await popped) }, { key: "node:queue", element: "job" });
    assert.strictEqual(await waiter.blPop("node:queue", 0.05), null);
    waiter.destroy();
  },

  async scripts(client) {
    await client.del("node:s");
    const script = "return redis.call('INCRBY', KEYS[1], ARGV[1])";
    const options = { keys: ["node:s"], arguments: ["5"] };
    assert.strictEqual(await client.eval(script, options), 5);
    const sha = await client.scriptLoad(script);
    assert.strictEqual(await client.evalSha(sha, options), 10);
    assert.strictEqual(await client.get("node:s"), "10");
    await assert.rejects(client.evalSha("f".repeat(40), options), /NOSCRIPT/);
  },

  async scans(client) {
    const names = Array.from({ length: 500 }, (_, i) => `node:scan:${i}`);
    await client.mSet(names.map((name) => [name, "1"]));
    const seen = new Set();
    for await (const keys of client.scanIterator({ MATCH: "node:scan:*", COUNT: 50 })) {
      keys.forEach((key) => seen.add(key));
    }
    assert.strictEqual(seen.size, 500);
  },

  async streams(client) {
    await client.del("node:x");
    await client.xGroupCreate("node:x", "g", "$", { MKSTREAM: true });
    const reader = await connected();
    const what = { key: "node:x", id: ">" };
    const waiting = reader.xReadGroup("g", "me", what, { BLOCK: 10000 });
    const id = await client.xAdd("node:x", "*", { field: "value" });
    assert.ok(JSON.stringify(await waiting).includes(id)); // shaped as the protocol has it
    assert.strictEqual(await client.xAck("node:x", "g", id), 1);
    reader.destroy();
  },

  async errorsAreNotRetried(client) {
    await client.set("node:text", "x");
    await assert.rejects(client.incr("node:text"), /not an integer/);
    await assert.rejects(client.sendCommand(["NOSUCHCOMMAND"]), /unknown command/);
    assert.strictEqual(await client.get("node:text"), "x");
  },

  async clientSideCache(client) {
    if (RESP === 2) return; // invalidations are pushes, which RESP2 has not
    const caching = await connected({ clientSideCache: { maxEntries: 100, evictPolicy: "LRU" } });
    const cache = caching.clientSideCache;
    const kept = async (key, value) => {
      await until(async () => (await caching.get(key)) === value);
      const { hitCount } = cache.stats();
      assert.strictEqual(await caching.get(key), value);
      assert.strictEqual(cache.stats().hitCount, hitCount + 1);
    };
    await client.set("node:kept", "0");
    await kept("node:kept", "0");
    for (const [number, writer] of [client, caching, client].entries()) {
      await writer.set("node:kept", `${number}`);
      await kept("node:kept", `${number}`);
    }
    await client.sendCommand(["TIER.INVALIDATE", "KEYS", "node:kept"]);
    await until(async () => (await caching.get("node:kept")) === null);
    await client.set("node:kept", "again");
    await kept("node:kept", "again");
    await client.flushAll();
    await until(async () => (await caching.get("node:kept")) === null);
    caching.destroy();
  },

  async reconnects(client) {
    client.destroy(); // it does not come back
    const lasting = createClient({ RESP, socket: { port, reconnectStrategy: () => 20 } });
    lasting.on("error", () => {}); // "Socket closed unexpectedly", and it reconnects
    await lasting.connect();
    await lasting.set("node:lasting", "before");
    const subscriber = lasting.duplicate();
    subscriber.on("error", () => {});
    await subscriber.connect();
    let tell;
    const heard = new Promise((resolve) => (tell = resolve));
    await subscriber.subscribe("node:again", tell);
    await ask("restart terrace");
    assert.strictEqual(await lasting.get("node:lasting"), "before");
    await lasting.set("node:lasting", "after");
    await until(() => lasting.publish("node:again", "back")); // it has subscribed again
    assert.strictEqual(await heard, "back");
    lasting.destroy();
    subscriber.destroy();
  },
});
