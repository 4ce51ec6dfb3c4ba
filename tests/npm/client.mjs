// What a user of @clickhouse/client does, against the endpoint: node client.mjs URL TOKEN
import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { createClient } from "@clickhouse/client";

const [url, password] = process.argv.slice(2);
const common = { url, username: "default", password };
const client = createClient(common);
const ROWS = 100_000;
let held = 0;
const holds = async (what, test) => {
  await test();
  console.log(`${++held} ${what}`);
};
const json = async (query, more = {}) => (await client.query({ query, format: "JSONEachRow", ...more })).json();

await holds("ping", async () => assert.equal((await client.ping()).success, true));

await holds("create", () =>
  client.command({
    query: "CREATE OR REPLACE TABLE mexc_data.npm (id UInt32, name String) ENGINE = MergeTree ORDER BY id",
  }),
);

await holds("insert 100,000 rows as a stream", async () => {
  const rows = function* () {
    for (let id = 0; id < ROWS; id++) yield { id, name: `näme ${id}` };
  };
  const inserted = await client.insert({
    table: "mexc_data.npm", values: Readable.from(rows()), format: "JSONEachRow",
  });
  assert.equal(inserted.executed, true);
  assert.equal(inserted.summary.written_rows, String(ROWS));
});

await holds("read them as a stream", async () => {
  const result = await client.query({ query: "SELECT * FROM mexc_data.npm ORDER BY id", format: "JSONEachRow" });
  let next = 0;
  for await (const rows of result.stream()) {
    for (const row of rows) {
      const { id, name } = row.json();
      assert.equal(id, next);
      assert.equal(name, `näme ${next++}`);
    }
  }
  assert.equal(next, ROWS);
});

await holds("insert an array of arrays", async () => {
  await client.insert({ table: "mexc_data.npm", values: [[ROWS, "it's"]], format: "JSONCompactEachRow" });
  assert.deepEqual(await json(`SELECT name FROM mexc_data.npm WHERE id = ${ROWS}`), [{ name: "it's" }]);
});

await holds("JSON with its statistics", async () => {
  const result = await (await client.query({ query: "SELECT 1 AS x", format: "JSON" })).json();
  assert.deepEqual([result.data, result.rows], [[{ x: 1 }], 1]);
});

await holds("parameters", async () => {
  const query_params = { text: "a\tb'ü", list: [1, 2], none: null };
  assert.deepEqual(await json("SELECT {text:String} AS a, {list:Array(UInt8)} AS b, {none:Nullable(String)} AS c", { query_params }),
    [{ a: "a\tb'ü", b: [1, 2], c: null }]);
});

await holds("settings of one query only", async () => {
  const query = "SELECT toUInt64(getSetting('max_block_size')) AS x";
  const usual = await json(query);
  assert.notDeepEqual(usual, [{ x: 77 }]);
  assert.deepEqual(await json(query, { clickhouse_settings: { max_block_size: "77", output_format_json_quote_64bit_integers: 0 } }), [{ x: 77 }]);
  assert.deepEqual(await json(query), usual);
});

await holds("errors with their type and code", async () => {
  await assert.rejects(json("SELECT * FROM no_such_table"), { code: "60", type: "UNKNOWN_TABLE" });
  await assert.rejects(createClient({ ...common, password: "wrong" }).query({ query: "SELECT 1" }), { code: "516" });
});

await holds("gzip both ways", async () => {
  const packed = createClient({ ...common, compression: { request: true, response: true } });
  await packed.insert({ table: "mexc_data.npm", values: [{ id: 1_000_000, name: "packed" }], format: "JSONEachRow" });
  const result = await packed.query({ query: "SELECT count() AS n FROM mexc_data.npm", format: "JSONEachRow" });
  assert.equal(Number((await result.json())[0].n), ROWS + 2);
  await packed.close();
});

await holds("a session with a temporary table", async () => {
  const session = createClient({ ...common, session_id: "npm", max_open_connections: 1 });
  await session.command({ query: "CREATE TEMPORARY TABLE mine (a UInt8)" });
  await session.insert({ table: "mine", values: [{ a: 5 }], format: "JSONEachRow" });
  const result = await session.query({ query: "SELECT * FROM mine", format: "JSONEachRow" });
  assert.deepEqual(await result.json(), [{ a: 5 }]);
  await session.close();
});

await holds("a query that is aborted, and another one after it", async () => {
  const controller = new AbortController();
  const query = client.query({ query: "SELECT sleep(3)", abort_signal: controller.signal });
  setTimeout(() => controller.abort(), 100);
  await assert.rejects(query);
  assert.deepEqual(await json("SELECT 2 AS x"), [{ x: 2 }]);
});

await client.close();
console.log(`all ${held} hold`);
