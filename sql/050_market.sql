-- What exchanges with typed tables send, each kind in one table for all of them.
--
-- Times are UTC: event_time is the exchange's clock, receive_time ours when the frame's last byte was read.
-- Prices and quantities are the decimals that were sent, exactly. quantity is in the exchange's own unit
-- (contracts or base units), base_quantity in base units: NULL where the contract size is not known. A product or
-- quotient of two such decimals overflows, and the engine does not say so: write toFloat64 or toDecimal256(x, 18).
--
-- The settings make an INSERT safe on the disk, and once only for its token: the last 10,000 are remembered.
-- The last setting opens a table whose newest parts a power cut broke. The partition of a row depends on its
-- natural key alone, so FINAL need not look beyond a partition.

-- Each execution once. side is the aggressor's: who took what was resting. A trade does not change, so of
-- those of one exchange, symbol, time and id one stays, whoever wrote them: read it with FINAL, or through
-- the view trades_all.
CREATE TABLE IF NOT EXISTS market_data.trades
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
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(event_time)
ORDER BY (exchange, symbol, event_time, trade_id)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    max_suspicious_broken_parts = 1000000;

-- The best levels of a book as a whole, best first, quantities in the exchange's own unit. sequence is the
-- exchange's number of this state; 0: it has none.
CREATE TABLE IF NOT EXISTS market_data.books
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
ENGINE = MergeTree
PARTITION BY toYYYYMM(event_time)
ORDER BY (exchange, symbol, event_time)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    max_suspicious_broken_parts = 1000000;

-- What an exchange says of a symbol in sum, as known after each message; NULL: it has not said it. open_interest
-- is in the exchange's own unit.
CREATE TABLE IF NOT EXISTS market_data.tickers
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
ENGINE = MergeTree
PARTITION BY toYYYYMM(event_time)
ORDER BY (exchange, symbol, event_time)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    max_suspicious_broken_parts = 1000000;

-- Each candle as the exchange makes it: written with every update, the one received last stays. volume is in
-- base units, quote_volume in the quote currency. Read it with FINAL.
CREATE TABLE IF NOT EXISTS market_data.candles
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
ENGINE = ReplacingMergeTree(receive_time)
PARTITION BY toYYYYMM(open_time)
ORDER BY (exchange, symbol, interval, open_time)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    max_suspicious_broken_parts = 1000000;

-- Frames that could not be decoded: text is their beginning, at most 500 characters; symbol and channel are
-- empty where they could not be told.
CREATE TABLE IF NOT EXISTS market_data.dead_letters
(
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    channel LowCardinality(String),
    receive_time DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    reason String CODEC(ZSTD(3)),
    text String CODEC(ZSTD(3))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(receive_time)
ORDER BY (exchange, symbol, receive_time)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    max_suspicious_broken_parts = 1000000;

-- What an exchange's list of symbols said, a row for each time that it said something new; seen is when we
-- read it. One contract is contract_size base units or, where inverse, that much of the quote currency.
CREATE TABLE IF NOT EXISTS market_data.contracts
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
ENGINE = ReplacingMergeTree
ORDER BY (exchange, symbol, seen)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    max_suspicious_broken_parts = 1000000;
