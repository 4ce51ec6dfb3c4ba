-- `mexcflow setup --cluster market`: in place of the table of ../040_coverage.sql, which says what the columns mean.
-- One stream's intervals are on one shard, so that FINAL, which looks at each shard alone, finds all versions.
CREATE TABLE IF NOT EXISTS market_data.coverage_local ON CLUSTER `market`
(
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    channel LowCardinality(String),
    `from` DateTime64(3),
    `to` DateTime64(3),
    state Enum8('live' = 1, 'outage' = 2, 'gap' = 3),
    reason String,
    frames UInt64,
    rows UInt64,
    run String,
    host LowCardinality(String),
    updated DateTime64(3)
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', updated)
ORDER BY (exchange, symbol, channel, `from`, state)
SETTINGS
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 31536000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    max_suspicious_broken_parts = 1000000;

CREATE TABLE IF NOT EXISTS market_data.coverage ON CLUSTER `market` AS market_data.coverage_local
ENGINE = Distributed('market', 'market_data', 'coverage_local', cityHash64(exchange, symbol));
