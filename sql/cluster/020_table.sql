-- `mexcflow setup --cluster market`: in place of the StripeLog table of ../020_table.sql, which does not replicate.
-- The databases and views are those of the files one folder up, with ON CLUSTER `market` behind each name.
--
-- For another symbol than BTC_USDT replace `btc by ` and 'btc by ' and that table's name; for another cluster
-- `market` and 'market'. {shard} and {replica} are macros of each node and stay as they are.

-- What holds the rows, on every node. Sorted by type and time, so that an hour of trades is read from a few
-- granules; rows of one type and time stay in the order they came in.
--
-- An INSERT goes in once for its token, over all replicas of the shard: the last 1,000 are remembered, for a year
-- (by default an hour in 26.x, and a recorder that was killed may come back later than that). The fsync settings
-- have what was acknowledged on the disk; the last one opens a table whose newest parts a power cut broke.
CREATE TABLE IF NOT EXISTS mexc_data.`btc_local` ON CLUSTER `market`
(
    ts DateTime64(3) CODEC(Delta, ZSTD(3)),
    mt Enum8('t' = 1, 'd' = 2, 'dp' = 3, 'dl' = 4) CODEC(ZSTD(3)),
    m String CODEC(ZSTD(3))
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
PARTITION BY toYYYYMM(ts)
ORDER BY (mt, ts)
SETTINGS
    replicated_deduplication_window = 1000,
    replicated_deduplication_window_seconds = 31536000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    max_suspicious_broken_parts = 1000000;

-- What is written and read, on every node. The key is the table's own name, so all rows of a table are on one
-- shard: a batch is one block there, sent again it finds the token of the first time, and rows keep their order.
-- Different symbols go to different shards.
CREATE TABLE IF NOT EXISTS mexc_data.`btc` ON CLUSTER `market` AS mexc_data.`btc_local`
ENGINE = Distributed('market', 'mexc_data', 'btc_local', cityHash64('btc'));
