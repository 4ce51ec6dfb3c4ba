-- `mexcflow setup --cluster market`: in place of the tables of ../050_market.sql, which says what the columns mean.
-- One symbol's rows are on one shard, so that FINAL, which looks at each shard alone, finds all versions, and a
-- batch that is sent again finds its tokens where they were.

CREATE TABLE IF NOT EXISTS market_data.trades_local ON CLUSTER `market`
(
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    event_time DateTime64(6, 'UTC') CODEC(GCD, Delta, ZSTD(1)),
    receive_time DateTime64(6, 'UTC') CODEC(ZSTD(1)),
    trade_id String CODEC(ZSTD(3)),
    price Decimal(38, 18) CODEC(GCD, ZSTD(1)),
    quantity Decimal(38, 18) CODEC(GCD, ZSTD(1)),
    base_quantity Nullable(Decimal(38, 18)) CODEC(GCD, ZSTD(1)),
    side Enum8('buy' = 1, 'sell' = 2) CODEC(ZSTD(1))
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
PARTITION BY toYYYYMM(event_time)
ORDER BY (exchange, symbol, event_time, trade_id)
SETTINGS
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 31536000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    max_suspicious_broken_parts = 1000000;

CREATE TABLE IF NOT EXISTS market_data.trades ON CLUSTER `market` AS market_data.trades_local
ENGINE = Distributed('market', 'market_data', 'trades_local', cityHash64(exchange, symbol));

CREATE TABLE IF NOT EXISTS market_data.books_local ON CLUSTER `market`
(
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    event_time DateTime64(6, 'UTC') CODEC(GCD, Delta, ZSTD(1)),
    receive_time DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    sequence UInt64 CODEC(Delta, ZSTD(1)),
    `bids.price` Array(Decimal(38, 18)) CODEC(GCD, ZSTD(6)),
    `bids.quantity` Array(Decimal(38, 18)) CODEC(GCD, ZSTD(6)),
    `asks.price` Array(Decimal(38, 18)) CODEC(GCD, ZSTD(6)),
    `asks.quantity` Array(Decimal(38, 18)) CODEC(GCD, ZSTD(6))
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
PARTITION BY toYYYYMM(event_time)
ORDER BY (exchange, symbol, event_time)
SETTINGS
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 31536000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    max_suspicious_broken_parts = 1000000;

CREATE TABLE IF NOT EXISTS market_data.books ON CLUSTER `market` AS market_data.books_local
ENGINE = Distributed('market', 'market_data', 'books_local', cityHash64(exchange, symbol));

CREATE TABLE IF NOT EXISTS market_data.tickers_local ON CLUSTER `market`
(
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    event_time DateTime64(6, 'UTC') CODEC(GCD, Delta, ZSTD(1)),
    receive_time DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    last_price Nullable(Decimal(38, 18)) CODEC(GCD, ZSTD(1)),
    mark_price Nullable(Decimal(38, 18)) CODEC(GCD, ZSTD(1)),
    index_price Nullable(Decimal(38, 18)) CODEC(GCD, ZSTD(1)),
    open_interest Nullable(Decimal(38, 18)) CODEC(GCD, ZSTD(1)),
    funding_rate Nullable(Decimal(38, 18)) CODEC(ZSTD(1)),
    next_funding_time Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1))
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
PARTITION BY toYYYYMM(event_time)
ORDER BY (exchange, symbol, event_time)
SETTINGS
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 31536000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    max_suspicious_broken_parts = 1000000;

CREATE TABLE IF NOT EXISTS market_data.tickers ON CLUSTER `market` AS market_data.tickers_local
ENGINE = Distributed('market', 'market_data', 'tickers_local', cityHash64(exchange, symbol));

CREATE TABLE IF NOT EXISTS market_data.candles_local ON CLUSTER `market`
(
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    interval LowCardinality(String),
    open_time DateTime64(3, 'UTC') CODEC(GCD, Delta, ZSTD(1)),
    open Decimal(38, 18) CODEC(GCD, ZSTD(1)),
    high Decimal(38, 18) CODEC(GCD, ZSTD(1)),
    low Decimal(38, 18) CODEC(GCD, ZSTD(1)),
    close Decimal(38, 18) CODEC(GCD, ZSTD(1)),
    volume Nullable(Decimal(38, 18)) CODEC(GCD, ZSTD(1)),
    quote_volume Nullable(Decimal(38, 18)) CODEC(GCD, ZSTD(1)),
    trades Nullable(UInt64) CODEC(ZSTD(1)),
    closed Bool CODEC(ZSTD(1)),
    event_time DateTime64(6, 'UTC') CODEC(GCD, Delta, ZSTD(1)),
    receive_time DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', receive_time)
PARTITION BY toYYYYMM(open_time)
ORDER BY (exchange, symbol, interval, open_time)
SETTINGS
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 31536000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    max_suspicious_broken_parts = 1000000;

CREATE TABLE IF NOT EXISTS market_data.candles ON CLUSTER `market` AS market_data.candles_local
ENGINE = Distributed('market', 'market_data', 'candles_local', cityHash64(exchange, symbol));

CREATE TABLE IF NOT EXISTS market_data.dead_letters_local ON CLUSTER `market`
(
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    channel LowCardinality(String),
    receive_time DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    reason String CODEC(ZSTD(3)),
    text String CODEC(ZSTD(3))
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
PARTITION BY toYYYYMM(receive_time)
ORDER BY (exchange, symbol, receive_time)
SETTINGS
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 31536000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    max_suspicious_broken_parts = 1000000;

CREATE TABLE IF NOT EXISTS market_data.dead_letters ON CLUSTER `market` AS market_data.dead_letters_local
ENGINE = Distributed('market', 'market_data', 'dead_letters_local', cityHash64(exchange, symbol));

CREATE TABLE IF NOT EXISTS market_data.contracts_local ON CLUSTER `market`
(
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    base LowCardinality(String),
    quote LowCardinality(String),
    kind LowCardinality(String),
    contract_size Decimal(38, 18),
    inverse Bool,
    tick_size Nullable(Decimal(38, 18)),
    quantity_step Nullable(Decimal(38, 18)),
    state LowCardinality(String),
    seen DateTime64(3, 'UTC')
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
ORDER BY (exchange, symbol, seen)
SETTINGS
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 31536000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    max_suspicious_broken_parts = 1000000;

CREATE TABLE IF NOT EXISTS market_data.contracts ON CLUSTER `market` AS market_data.contracts_local
ENGINE = Distributed('market', 'market_data', 'contracts_local', cityHash64(exchange, symbol));
