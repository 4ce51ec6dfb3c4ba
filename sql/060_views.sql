-- One way to ask, whatever the exchange and however its rows are kept: the typed tables and the string tables of
-- mexc_data together. What a query says of exchange, symbol and event_time reaches the tables below: an hour of
-- one symbol is read from a few granules, and string tables of other symbols are not read.
--
-- For another stream than MEXC's BTC_USDT replace `btc by ` and ^btc$ by ^$ with that table's name in it, and 'mexc'
-- and 'BTC_USDT' by those of the stream.

-- One string table, whatever its engine, in UTC. It is looked for by its name when it is asked: one that was
-- dropped or renamed has no rows then, and breaks none of the views.
CREATE TABLE IF NOT EXISTS market_data.`btc_string_rows`
(
    ts DateTime64(3, 'UTC'),
    mt Enum8('t' = 1, 'd' = 2, 'dp' = 3, 'dl' = 4),
    m String
)
ENGINE = Merge('mexc_data', '^btc$');

-- Its rows, named and typed as those of the typed tables. A row that cannot be read is left out.
CREATE OR REPLACE VIEW mexc_data.`btc_typed_trades` AS
SELECT
    'mexc' AS exchange,
    'BTC_USDT' AS symbol,
    ts AS event_time,
    assumeNotNull(p) AS price,
    assumeNotNull(q) AS quantity,
    CAST(direction AS Enum8('buy' = 1, 'sell' = 2)) AS side
FROM
(
    SELECT
        ts,
        toDecimal128OrNull(x[1], 18) AS p,
        toDecimal128OrNull(x[2], 18) AS q,
        toInt8OrZero(x[3]) AS direction
    FROM
    (
        SELECT ts, splitByChar('|', m) AS x
        FROM market_data.`btc_string_rows`
        WHERE mt = 'd'
    )
)
WHERE p IS NOT NULL AND q IS NOT NULL AND direction IN (1, 2);

CREATE OR REPLACE VIEW mexc_data.`btc_typed_tickers` AS
SELECT
    'mexc' AS exchange,
    'BTC_USDT' AS symbol,
    ts AS event_time,
    toDecimal128OrNull(x[1], 18) AS last_price,
    toDecimal128OrNull(x[2], 18) AS mark_price,
    toDecimal128OrNull(x[3], 18) AS index_price,
    toDecimal128OrNull(x[4], 18) AS open_interest,
    toDecimal128OrNull(x[5], 18) AS funding_rate
FROM
(
    SELECT ts, splitByChar('|', m) AS x
    FROM market_data.`btc_string_rows`
    WHERE mt = 't'
)
WHERE length(x) = 5;

CREATE OR REPLACE VIEW mexc_data.`btc_typed_tops` AS
SELECT
    'mexc' AS exchange,
    'BTC_USDT' AS symbol,
    ts AS event_time,
    toDecimal128OrNull(bid[1], 18) AS best_bid,
    toDecimal128OrNull(bid[2], 18) AS best_bid_quantity,
    toDecimal128OrNull(ask[1], 18) AS best_ask,
    toDecimal128OrNull(ask[2], 18) AS best_ask_quantity
FROM
(
    SELECT
        ts,
        x,
        splitByChar(',', substring(x[1], 2, position(x[1], ']') - 2)) AS bid,
        splitByChar(',', substring(x[2], 2, position(x[2], ']') - 2)) AS ask
    FROM
    (
        SELECT ts, splitByChar('|', m) AS x
        FROM market_data.`btc_string_rows`
        WHERE mt = 'dp'
    )
)
WHERE length(x) = 2;

-- These views of all string tables as one; of none, as long as there is none.
CREATE TABLE IF NOT EXISTS market_data.string_trades
(
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    event_time DateTime64(6, 'UTC'),
    price Decimal(38, 18),
    quantity Decimal(38, 18),
    side Enum8('buy' = 1, 'sell' = 2)
)
ENGINE = Merge('mexc_data', '_typed_trades$');

CREATE TABLE IF NOT EXISTS market_data.string_tickers
(
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    event_time DateTime64(6, 'UTC'),
    last_price Nullable(Decimal(38, 18)),
    mark_price Nullable(Decimal(38, 18)),
    index_price Nullable(Decimal(38, 18)),
    open_interest Nullable(Decimal(38, 18)),
    funding_rate Nullable(Decimal(38, 18))
)
ENGINE = Merge('mexc_data', '_typed_tickers$');

CREATE TABLE IF NOT EXISTS market_data.string_tops
(
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    event_time DateTime64(6, 'UTC'),
    best_bid Nullable(Decimal(38, 18)),
    best_bid_quantity Nullable(Decimal(38, 18)),
    best_ask Nullable(Decimal(38, 18)),
    best_ask_quantity Nullable(Decimal(38, 18))
)
ENGINE = Merge('mexc_data', '_typed_tops$');

-- The size of a contract, and since when: what was seen first counts for the time before as well.
CREATE OR REPLACE VIEW market_data.contract_sizes AS
SELECT
    exchange,
    symbol,
    if(seen = min(seen) OVER (PARTITION BY exchange, symbol), toDateTime64(0, 6, 'UTC'), seen) AS since,
    toNullable(contract_size) AS size,
    inverse
FROM market_data.contracts FINAL;

-- Every trade once. quantity is in the exchange's own unit, base_quantity in base units: where the table has none,
-- it is counted here, with the contract size of that time; NULL where that is not known. MEXC's strings have neither
-- a receive time (NULL) nor an id ('').
--
-- The sizes are a constant and no join: rows that have a base_quantity do not pay for those that have none. An
-- unknown contract has the size 0.
CREATE OR REPLACE VIEW market_data.trades_all AS
WITH
    (
        SELECT (groupArray(stream), groupArray(history))
        FROM
        (
            SELECT
                concat(exchange, ' ', symbol) AS stream,
                arrayReverseSort(groupArray((since, toDecimal256(assumeNotNull(size), 18), inverse))) AS history
            FROM market_data.contract_sizes
            GROUP BY stream
        )
    ) AS sizes,
    transform(concat(exchange, ' ', symbol), sizes.1, arrayEnumerate(sizes.1), 0) AS place,
    arrayFirst(x -> x.1 <= event_time, (sizes.2)[place]) AS contract,
    CAST(toDecimal256(quantity, 18) * nullIf(contract.2, 0) AS Nullable(Decimal(76, 18))) AS units,
    accurateCastOrNull(
        if(contract.3, units / toDecimal256(nullIf(price, 0), 18), units), 'Decimal(38, 18)'
    ) AS counted
SELECT
    exchange,
    symbol,
    event_time,
    receive_time,
    trade_id,
    price,
    quantity,
    if(known IS NULL, counted, known) AS base_quantity,
    side
FROM
(
    SELECT
        exchange,
        symbol,
        event_time,
        toNullable(receive_time) AS receive_time,
        trade_id,
        price,
        quantity,
        base_quantity AS known,
        side
    FROM market_data.trades FINAL
    SETTINGS do_not_merge_across_partitions_select_final = 1
    UNION ALL
    SELECT exchange, symbol, event_time, NULL, '', price, quantity, NULL, side
    FROM market_data.string_trades
);

-- The best bid and ask of every book. Quantities are in base units: NULL where the exchange's list of symbols was
-- never read. Of an empty side price and quantity are NULL, and so are spread and mid.
CREATE OR REPLACE VIEW market_data.books_top AS
SELECT
    exchange,
    symbol,
    event_time,
    receive_time,
    best_bid,
    accurateCastOrNull(
        if(inverse, bid_units / toDecimal256(nullIf(best_bid, 0), 18), bid_units), 'Decimal(38, 18)'
    ) AS best_bid_quantity,
    best_ask,
    accurateCastOrNull(
        if(inverse, ask_units / toDecimal256(nullIf(best_ask, 0), 18), ask_units), 'Decimal(38, 18)'
    ) AS best_ask_quantity,
    best_ask - best_bid AS spread,
    (best_bid + best_ask) / 2 AS mid
FROM
(
    SELECT
        b.exchange AS exchange,
        b.symbol AS symbol,
        b.event_time AS event_time,
        b.receive_time AS receive_time,
        b.best_bid AS best_bid,
        b.best_ask AS best_ask,
        c.inverse AS inverse,
        CAST(toDecimal256(b.bid, 18) * toDecimal256(c.size, 18) AS Nullable(Decimal(76, 18))) AS bid_units,
        CAST(toDecimal256(b.ask, 18) * toDecimal256(c.size, 18) AS Nullable(Decimal(76, 18))) AS ask_units
    FROM
    (
        SELECT
            exchange,
            symbol,
            event_time,
            toNullable(receive_time) AS receive_time,
            if(empty(bids.price), NULL, bids.price[1]) AS best_bid,
            if(empty(bids.quantity), NULL, bids.quantity[1]) AS bid,
            if(empty(asks.price), NULL, asks.price[1]) AS best_ask,
            if(empty(asks.quantity), NULL, asks.quantity[1]) AS ask
        FROM market_data.books
        UNION ALL
        SELECT exchange, symbol, event_time, NULL, best_bid, best_bid_quantity, best_ask, best_ask_quantity
        FROM market_data.string_tops
    ) AS b
    ASOF LEFT JOIN market_data.contract_sizes AS c
        ON b.exchange = c.exchange AND b.symbol = c.symbol AND b.event_time >= c.since
);

-- Every ticker; NULL is what an exchange does not say. open_interest is in its own unit.
CREATE OR REPLACE VIEW market_data.tickers_all AS
SELECT
    exchange,
    symbol,
    event_time,
    toNullable(receive_time) AS receive_time,
    last_price,
    mark_price,
    index_price,
    open_interest,
    funding_rate,
    next_funding_time
FROM market_data.tickers
UNION ALL
SELECT
    exchange,
    symbol,
    event_time,
    NULL,
    last_price,
    mark_price,
    index_price,
    open_interest,
    funding_rate,
    NULL
FROM market_data.string_tickers;

-- Candles of any length, from trades: SELECT * FROM market_data.candles_from_trades(interval = '1m'), or 5s, 4h,
-- 1d. Intervals begin at multiples of their length since 1970 in UTC; one without a trade has no candle. Volumes
-- are in base units: NULL where the contract size of any trade is not known.
--
-- open and close are the first and last trade by event time, then receive time, then id. Of MEXC's strings, which
-- have neither, those of one ms are taken in the order in which one order eats its way through the book.
CREATE OR REPLACE VIEW market_data.candles_from_trades AS
SELECT
    exchange,
    symbol,
    toStartOfInterval(event_time, toIntervalSecond(toUInt32(parseTimeDelta({interval:String})))) AS open_time,
    argMin(price, place) AS open,
    max(price) AS high,
    min(price) AS low,
    argMax(price, place) AS close,
    if(count(base_quantity) = count(), sum(base_quantity), NULL) AS volume,
    if(count(base_quantity) = count(), sum(base_quantity * (side = 'buy')), NULL) AS buy_volume,
    count() AS trades,
    CAST(
        toDecimal256(sum(toDecimal256(price, 18) * base_quantity), 18) / nullIf(volume, 0), 'Nullable(Decimal(38, 18))'
    ) AS vwap
FROM
(
    SELECT
        *,
        (
            event_time,
            coalesce(receive_time, event_time),
            length(trade_id),
            trade_id,
            if(side = 'buy', price, -price)
        ) AS place
    FROM market_data.trades_all
)
GROUP BY exchange, symbol, open_time;
