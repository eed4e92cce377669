// BullMQ: queues, workers, flows and schedulers. Usage: node bullmq.js PORT
"use strict";

const assert = require("node:assert");
const { FlowProducer, Queue, QueueEvents, UnrecoverableError, Worker } = require("bullmq");
const { ask, scenarios, until } = require("./scenarios");

const connection = { host: "127.0.0.1", port: Number(process.argv[2]) };

// A queue of its own for each scenario, its worker, and what the worker has done.
async function opened() {
  const name = `q${process.hrtime.bigint()}`;
  const done = [];
  const work = async (job) => {
    if (job.name === "fail" && job.attemptsMade < job.data.times) throw new Error("as it should");
    if (job.name === "never") throw new UnrecoverableError("never");
    if (job.name === "parent") return Object.values(await job.getChildrenValues()).sort();
    done.push(job.data.n);
    await job.updateProgress(50);
    return job.data.n * 2;
  };
  const all = {
    queue: new Queue(name, { connection }),
    events: new QueueEvents(name, { connection }),
    worker: new Worker(name, work, { connection, concurrency: 4 }),
    flows: new FlowProducer({ connection }),
  };
  await Promise.all(Object.values(all).map((each) => each.waitUntilReady?.()));
  return { name, done, ...all };
}

const close = async ({ queue, events, worker, flows }) => {
  await worker.close();
  await Promise.all([queue.close(), events.close(), flows.close()]);
};

scenarios(opened, close, {
  async jobs({ queue, events, done }) {
    const jobs = await queue.addBulk(
      Array.from({ length: 50 }, (_, n) => ({ name: "double", data: { n } })),
    );
    const results = await Promise.all(jobs.map((job) => job.waitUntilFinished(events)));
    assert.deepStrictEqual(results, jobs.map((job) => job.data.n * 2));
    assert.strictEqual(done.length, 50);
    assert.strictEqual(await queue.getCompletedCount(), 50);
  },

  async failures({ queue, events }) {
    const twice = await queue.add("fail", { times: 2, n: 1 }, { attempts: 3 });
    assert.strictEqual(await twice.waitUntilFinished(events), 2);
    const never = await queue.add("never", {}, { attempts: 3 });
    await assert.rejects(never.waitUntilFinished(events), /never/);
    const [failed] = await queue.getFailed();
    assert.strictEqual(failed.attemptsMade, 1);
    await never.remove();
    assert.strictEqual(await queue.getFailedCount(), 0);
  },

  async delayed({ queue, events }) {
    const began = Date.now();
    const job = await queue.add("double", { n: 3 }, { delay: 200 });
    assert.strictEqual(await job.isDelayed(), true);
    assert.strictEqual(await job.waitUntilFinished(events), 6);
    assert.ok(Date.now() - began >= 200);
  },

  async priorities({ queue, worker, done, events }) {
    await worker.pause();
    const jobs = [];
    for (const n of [3, 1, 2]) jobs.push(await queue.add("double", { n }, { priority: n }));
    assert.strictEqual(await queue.getPrioritizedCount?.() ?? 3, 3);
    worker.opts.concurrency = 1;
    worker.resume();
    await Promise.all(jobs.map((job) => job.waitUntilFinished(events)));
    assert.deepStrictEqual([...done].sort(), [1, 2, 3]);
  },

  async schedulers({ queue, done }) {
    await queue.upsertJobScheduler("often", { every: 50 }, { name: "double", data: { n: 4 } });
    await until(() => done.length >= 3);
    assert.strictEqual(await queue.removeJobScheduler("often"), true);
  },

  async flows({ name, queue, flows, events }) {
    const children = [1, 2, 3].map((n) => ({ name: "double", queueName: name, data: { n } }));
    const { job } = await flows.add({ name: "parent", queueName: name, children });
    assert.deepStrictEqual(await job.waitUntilFinished(events), [2, 4, 6]);
    assert.strictEqual(await queue.getCompletedCount(), 4);
  },

  // What was added is done, and what was done is known, whatever happened to Redis.
  async reconnects({ queue, events, worker, done, flows }) {
    for (const each of [queue, events, worker, flows]) each.on("error", () => {});
    const before = await queue.add("double", { n: 21 });
    assert.strictEqual(await before.waitUntilFinished(events), 42);
    await worker.pause();
    const jobs = await queue.addBulk(
      Array.from({ length: 20 }, (_, n) => ({ name: "double", data: { n } })),
    );
    await ask("restart redis");
    worker.resume();
    const state = (job) => job.getState().catch(() => "unknown");
    for (const job of [before, ...jobs]) {
      await until(async () => (await state(job)) === "completed");
    }
    assert.deepStrictEqual([...new Set(done)].sort((a, b) => a - b), [...Array(20).keys(), 21]);
  },
});
