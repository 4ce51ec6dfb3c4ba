"""Other collectors as clients of `collectors.py`: their handlers, our tables, INSERTs in batches.

Run by an interpreter that has them, with `chdb` and `clickhouse-connect`; nothing of mexcflow is imported
here, and nothing of theirs there. cryptofeed 3 is AGPL-3.0: this is a program of its own that uses it.

The rows go as TabSeparated text, which costs least, 10,000 at a time or what came within a second: more than
either of the two does by itself.

- cryptofeed: its handler with its own connections. Of Binance it knows books only as changes, so a depth20
  frame is to it 40 levels that changed; the 20 best are stored. Its book keeps levels that left the best 20.
- ccxt.pro: `watch_trades` in a loop, as its manual shows.
"""

import asyncio
import json
import os
import re
import resource
import sys
import tempfile
import time
from pathlib import Path

SQL = Path(__file__).resolve().parent.parent / "sql"
ROWS, SECONDS = 10_000, 1.0
PATIENCE_S = 5.0
"""After so long without anything new it is over."""
SNAPSHOT = '{"lastUpdateId":9000000000000,"bids":[["84000.00","1.000"]],"asks":[["85000.00","1.000"]]}'
"""The book before the first frame of `market_frames.books`."""
COLUMNS = {
    "aggTrade": ("trades", "trade_id, price, quantity, base_quantity, side"),
    "depth20": ("books", "sequence, `bids.price`, `bids.quantity`, `asks.price`, `asks.quantity`"),
}


def cpu_s() -> float:
    """Return user and system time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Table:
    """A table in an embedded database, filled in batches; measures from the first row."""

    def __init__(self, folder: str, kind: str) -> None:
        import clickhouse_connect

        self._client = clickhouse_connect.get_client(interface="chdb", path=folder)
        name, columns = COLUMNS[kind]
        self._name, self._columns = f"market_data.{name}", columns
        self._client.command("CREATE DATABASE market_data")
        text = re.sub(r"^--.*\n", "", (SQL / "050_market.sql").read_text(), flags=re.M)
        for statement in re.split(r";\s*(?:\n|\Z)", text):
            if f"{self._name}\n" in statement:
                self._client.command(statement)
        self._lines: list[str] = []
        self.rows = 0
        self._flushed = self.last = 0.0
        self._started = self._started_cpu = 0.0

    def add(self, line: str) -> None:
        """Take a row."""
        now = time.perf_counter()
        if not self.rows:
            self._started, self._started_cpu, self._flushed = now, cpu_s(), now
        self.last = now
        self._lines.append(line)
        self.rows += 1
        if len(self._lines) >= ROWS or now - self._flushed >= SECONDS:
            self.flush()

    def flush(self) -> None:
        """Insert what waits."""
        if self._lines:
            columns = f"exchange, symbol, event_time, receive_time, {self._columns}"
            self._client.raw_insert(
                f"{self._name} ({columns})",
                insert_block="".join(self._lines).encode(),
                fmt="TabSeparated",
                settings={"input_format_parallel_parsing": 0},
            )
            self._lines = []
        self._flushed = time.perf_counter()

    def end(self, count: int) -> None:
        """Insert what is left, print the figures, and go."""
        self.flush()
        seconds, cpu = time.perf_counter() - self._started, cpu_s() - self._started_cpu
        stored = self._client.query(f"SELECT count() FROM {self._name}").result_rows[0][0]
        print(json.dumps({"us": cpu / count * 1e6, "per_s": count / seconds, "stored": stored}), flush=True)
        os._exit(0)


async def until_over(table: Table, count: int) -> None:
    """Wait for the last row, or until nothing comes any more."""
    while table.rows < count and (not table.rows or time.perf_counter() - table.last < PATIENCE_S):
        await asyncio.sleep(0.05)
    table.end(count)


def client_cryptofeed(url: str, kind: str, count: int, table: Table) -> None:
    """Run cryptofeed's own handler."""
    from cryptofeed import FeedHandler
    from cryptofeed.connection import RestEndpoint, Routes, WebsocketEndpoint
    from cryptofeed.defines import L2_BOOK, TRADES
    from cryptofeed.exchanges import BinanceFutures

    async def on_trade(trade: object, received: float) -> None:
        table.add(
            f"binance\tBTCUSDT\t{trade.timestamp:.6f}\t{received:.6f}\t{trade.id}\t{trade.price}\t"
            f"{trade.amount}\t{trade.amount}\t{trade.side}\n"
        )

    async def on_book(book: object, received: float) -> None:
        sides = []
        for side in (book.book.bids, book.book.asks):
            levels = side.to_list()[:20]
            sides += [
                ",".join([str(level[0]) for level in levels]),
                ",".join([str(level[1]) for level in levels]),
            ]
        arrays = "]\t[".join(sides)
        table.add(
            f"binance\tBTCUSDT\t{book.timestamp:.6f}\t{received:.6f}\t{book.sequence_number}\t[{arrays}]\n"
        )

    class Local(BinanceFutures):
        websocket_endpoints = [  # noqa: RUF012 - so it wants it
            WebsocketEndpoint(url.replace("ws:", "wss:"), options={"compression": None})
        ]
        rest_endpoints = [  # noqa: RUF012
            RestEndpoint(
                url.replace("ws:", "http:"),
                routes=Routes("/fapi/v1/exchangeInfo"),
            )
        ]

        async def _snapshot(self, pair: str) -> None:  # of REST, before the first frame
            name = self.exchange_symbol_to_std_symbol(pair)
            book = self._l2_book[name] = self._parse_snapshot(name, SNAPSHOT)
            self.last_update_id[name] = book.sequence_number

        def connect(self) -> list:
            made = super().connect()
            for connection, *_ in made:  # it takes no other address than one of TLS
                connection.address = connection.address.replace("wss:", "ws:")
            return made

    channel, callback = (TRADES, on_trade) if kind == "aggTrade" else (L2_BOOK, on_book)
    handler = FeedHandler(config={"uvloop": True, "log": {"disabled": True}})
    handler.add_feed(
        Local(symbols=["BTC-USDT-PERP"], channels=[channel], callbacks={channel: callback}, max_depth=20)
    )

    async def run() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(handler.run_async(install_signal_handlers=False))
            tasks.create_task(until_over(table, count))

    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def client_ccxt(url: str, kind: str, count: int, table: Table) -> None:
    """Watch trades as ccxt.pro's manual shows."""
    import ccxt.pro

    async def run() -> None:
        exchange = ccxt.pro.binanceusdm(
            {"newUpdates": True, "options": {"watchTradesForSymbols": {"name": "aggTrade"}}}
        )
        for name in ("future", "linear"):
            exchange.urls["api"]["ws"][name] = url
        exchange.get_ws_url = lambda *_: url
        rest = url.replace("ws:", "http:")
        exchange.urls["api"]["fapiPublic"] = f"{rest}/fapi/v1"
        exchange.options["fetchMarkets"] = {"types": ["linear"]}
        exchange.has["fetchCurrencies"] = False
        watching = asyncio.create_task(until_over(table, count))
        while not watching.done():
            trades = await exchange.watch_trades("BTC/USDT:USDT")
            received = time.time()
            for trade in trades:
                table.add(
                    f"binance\tBTCUSDT\t{trade['timestamp'] / 1000:.6f}\t{received:.6f}\t{trade['id']}\t"
                    f"{trade['info']['p']}\t{trade['info']['q']}\t{trade['info']['q']}\t{trade['side']}\n"
                )

    asyncio.run(run())


CLIENTS = {"cryptofeed": client_cryptofeed, "ccxt.pro": client_ccxt}


def main() -> None:
    """Be one client."""
    client, url, kind, count = sys.argv[2:6]
    with tempfile.TemporaryDirectory(prefix="mexcflow-bench-") as folder:
        CLIENTS[client](url.removesuffix("/edge"), kind, int(count), Table(folder, kind))


if __name__ == "__main__":
    main()
