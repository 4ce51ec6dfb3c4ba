-- The strings of one table as typed columns. Prices in the quote currency, quantities in contracts.
-- JSONExtract and the ...OrNull functions give [] and NULL for text they cannot read, where CAST would
-- throw and one bad row would break the whole view.

CREATE OR REPLACE VIEW mexc_data.`btc_ticker` AS
SELECT
    ts,
    toFloat64OrNull(x[1]) AS last_price,
    toFloat64OrNull(x[2]) AS mark_price,
    toFloat64OrNull(x[3]) AS index_price,
    toFloat64OrNull(x[4]) AS open_interest,
    toFloat64OrNull(x[5]) AS funding_rate
FROM (SELECT ts, splitByChar('|', m) AS x FROM mexc_data.`btc` WHERE mt = 't');

-- side is the aggressor's: who took what was resting
CREATE OR REPLACE VIEW mexc_data.`btc_deals` AS
SELECT
    ts,
    toFloat64OrNull(x[1]) AS price,
    toFloat64OrNull(x[2]) AS quantity,
    multiIf(x[3] = '1', 'buy', x[3] = '2', 'sell', NULL) AS side
FROM (SELECT ts, splitByChar('|', m) AS x FROM mexc_data.`btc` WHERE mt = 'd');

-- best first; an empty side is an empty array, and its best price, the spread and the mid are NULL;
-- the spread is taken between the prices as decimals: between doubles 84000.1 - 84000 is 0.10000000000582077
CREATE OR REPLACE VIEW mexc_data.`btc_depth` AS
SELECT
    ts,
    bids,
    asks,
    if(empty(bids), NULL, bids[1].1) AS best_bid,
    if(empty(asks), NULL, asks[1].1) AS best_ask,
    toFloat64(exact_ask - exact_bid) AS spread,
    (best_bid + best_ask) / 2 AS mid
FROM
(
    SELECT
        ts,
        toDecimal128OrNull(substring(x[1], 2, position(x[1], ',') - 2), 18) AS exact_bid,
        toDecimal128OrNull(substring(x[2], 2, position(x[2], ',') - 2), 18) AS exact_ask,
        JSONExtract(concat('[', x[1], ']'), 'Array(Tuple(price Float64, quantity Float64))') AS bids,
        JSONExtract(concat('[', x[2], ']'), 'Array(Tuple(price Float64, quantity Float64))') AS asks
    FROM (SELECT ts, splitByChar('|', m) AS x FROM mexc_data.`btc` WHERE mt = 'dp')
);

-- ts is the minute's beginning; open and close are the first and last trade by event time, of several
-- in one ms by the order they were stored in: one thread reads the table in that order and numbers them
CREATE OR REPLACE VIEW mexc_data.`btc_candles_1m` AS
SELECT
    toStartOfMinute(at) AS ts,
    argMin(price, (at, n)) AS open,
    max(price) AS high,
    min(price) AS low,
    argMax(price, (at, n)) AS close,
    sum(quantity) AS volume,
    sumIf(quantity, side = 'buy') AS buy_volume,
    sum(price * quantity) / nullIf(sum(quantity), 0) AS vwap,
    count() AS trades
FROM
(
    SELECT ts AS at, rowNumberInAllBlocks() AS n, price, quantity, side
    FROM mexc_data.`btc_deals`
    WHERE price IS NOT NULL AND quantity IS NOT NULL
    SETTINGS max_threads = 1
)
GROUP BY ts
ORDER BY ts;
