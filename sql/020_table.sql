-- What was received from MEXC about one symbol, as compact text, in the order it was stored.
--
-- mt  from             ts                  m
-- t   push.ticker      the frame's ts      lastPrice|fairPrice|indexPrice|holdVol|fundingRate
-- d   push.deal        the deal's own t    price|volume|direction   (1 buy, 2 sell: the aggressor's side)
-- dp  push.depth.full  the frame's ts      bids|asks, each [price,amount],[price,amount],..., best first
-- dl  undecodable      the receive time    the raw text, at most 500 characters
--
-- For another symbol than BTC_USDT replace `btc by ` and that table's name, in all files of this folder.
CREATE TABLE IF NOT EXISTS mexc_data.`btc`
(
    ts DateTime64(3),
    mt Enum8('t' = 1, 'd' = 2, 'dp' = 3, 'dl' = 4),
    m String
)
ENGINE = StripeLog;
