// Runs named scenarios one after the other, each with a client of its own: those named
// behind the port, or all but the one that needs something to happen to the servers.
"use strict";

const LIMIT_MS = 20_000;

exports.scenarios = async (connected, close, all) => {
  const named = process.argv.slice(3);
  const chosen = named.length ? named : Object.keys(all).filter((name) => name !== "reconnects");
  for (const name of chosen) {
    const late = setTimeout(() => fail(name, new Error(`not within ${LIMIT_MS} ms`)), LIMIT_MS);
    try {
      const client = await connected();
      await all[name](client);
      await close(client);
    } catch (error) {
      fail(name, error);
    }
    clearTimeout(late);
    console.log(`ok ${name}`);
  }
  console.log("all ok");
  process.exit(0);
};

// Again and again, with a turn of the event loop in between: a cached value needs none.
exports.until = async (condition) => {
  while (!(await condition())) await new Promise(setImmediate);
};

// Asks whoever started us.
exports.ask = (what) =>
  new Promise((resolve) => {
    process.stdin.once("data", resolve);
    console.log(`please ${what}`);
  });

function fail(name, error) {
  console.error(`${name}:`, error);
  process.exit(1);
}
