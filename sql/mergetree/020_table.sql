-- `mexcflow setup --engine mergetree`: in place of the StripeLog table of ../020_table.sql, for who queries more
-- than is recorded. Sorted by type and time, so that an hour of trades is read from a few granules; rows of one
-- type and time stay in the order they came in.
--
-- An INSERT goes in once for its token: the window is how many of the last ones are remembered. The fsync
-- settings have what was acknowledged on the disk; the last one opens a table whose newest parts a power cut broke.
--
-- For another symbol than BTC_USDT replace `btc by ` and that table's name.
CREATE TABLE IF NOT EXISTS mexc_data.`btc`
(
    ts DateTime64(3) CODEC(Delta, ZSTD(3)),
    mt Enum8('t' = 1, 'd' = 2, 'dp' = 3, 'dl' = 4) CODEC(ZSTD(3)),
    m String CODEC(ZSTD(3))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(ts)
ORDER BY (mt, ts)
SETTINGS
    non_replicated_deduplication_window = 1000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    max_suspicious_broken_parts = 1000000;
