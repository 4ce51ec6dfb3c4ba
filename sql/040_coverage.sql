-- What is the same for every exchange. `coverage` says what we have of a stream, what we lack, and why.
CREATE DATABASE IF NOT EXISTS market_data ENGINE = Atomic;

-- state   one row for                                                from, to
-- live    each connection and channel that brought something         its first and its last sign of life
-- outage  each time we were not listening; channel is empty, it      when it began, and when the next connection
--         concerns all of them; also from one run to the next        stood; to = from: it has not ended yet
-- gap     a frame that came twice, or whose sequence number is       when the frame before it and when it was
--         lower than the one before it, within one connection        received
--
-- Times are receive times in UTC, by the recorder's clock. reason: why an outage began; what was out of order.
-- frames, rows: messages of market data and the rows they became, of this channel and connection.
-- An interval is written again as it grows, and after a crash: the row with the latest `updated` counts. So
-- read it with FINAL, or through the view below. The settings make an INSERT safe on the disk, and once only.
CREATE TABLE IF NOT EXISTS market_data.coverage
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
ENGINE = ReplacingMergeTree(updated)
ORDER BY (exchange, symbol, channel, `from`, state)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    max_suspicious_broken_parts = 1000000;

-- each interval once, with its length: that of an outage which has not ended is what it has come to by now
CREATE OR REPLACE VIEW market_data.coverage_now AS
SELECT
    exchange,
    symbol,
    channel,
    `from`,
    `to`,
    dateDiff('millisecond', `from`, if(state = 'outage' AND `to` = `from`, now64(3), `to`)) / 1000 AS seconds,
    state,
    reason,
    frames,
    rows,
    run,
    host
FROM market_data.coverage FINAL;
