"""What an earlier run left in a journal that today's run does not open: it is inserted beside its own."""

import json

import pytest

from mexcflow.clock import SYSTEM_CLOCK
from mexcflow.config import Instance
from mexcflow.exchanges import TYPED
from mexcflow.journal import Durability, Journal, JournalSettings, this_run, waiting_frames
from mexcflow.metrics import Metrics
from mexcflow.model import Wanted
from mexcflow.pipeline.feed import Maker
from mexcflow.pipeline.leftover import Leftovers
from mexcflow.pipeline.parts import Settings
from mexcflow.store import open_store

NOW_NS = 1_790_526_539_100_000_000


def trade(symbol: str, number: int) -> bytes:
    data = {"e": "aggTrade", "E": 1790526539033, "a": number, "s": symbol, "p": "84551.10", "q": "0.030"}
    data |= {"f": number, "l": number, "T": 1790526538883, "m": False}
    return json.dumps({"stream": f"{symbol.lower()}@aggTrade", "data": data}).encode()


def leave(folder, symbols: str, frames: list[bytes]) -> None:
    """Be killed before anything was inserted."""
    stream = this_run("binance", symbols)
    journal = Journal(folder, stream, settings=JournalSettings(durability=Durability()))
    journal.connected(NOW_NS, channels=["x"], url="ws://x")
    journal.append(NOW_NS, frames)
    journal.close()


@pytest.fixture
def maker(tmp_path):
    instance = Instance(exchange="binance", symbol="BTCUSDT").checked()
    settings = Settings(instance, str(tmp_path), min_free_bytes=0)
    store = open_store(str(tmp_path))
    channels = TYPED["binance"].channels
    yield Maker(
        settings,
        this_run("binance", "BTCUSDT"),
        lambda: store,
        Metrics("BTCUSDT", "market_data", channels, now=0.0),
        SYSTEM_CLOCK,
        Wanted(symbols=("BTCUSDT",), channels=channels),
    )
    store.close()


def stored(maker: Maker) -> list[tuple]:
    return maker.connect().query(
        "SELECT symbol, trade_id, toString(price), side FROM market_data.trades ORDER BY symbol, trade_id"
    )


def test_the_frames_of_other_instances_and_other_channels_are_inserted(maker, tmp_path):
    root = tmp_path / "journal" / "binance"
    both, own = root / "BTCUSDT%2CETHUSDT" / "market", root / "BTCUSDT" / "market"
    leave(both, "BTCUSDT,ETHUSDT", [trade("BTCUSDT", 1), trade("ETHUSDT", 7), b"no JSON"])
    leave(own, "BTCUSDT", [trade("BTCUSDT", 2)])
    Leftovers(maker, []).run()
    assert stored(maker) == [
        ("BTCUSDT", "1", "84551.1", "buy"),
        ("BTCUSDT", "2", "84551.1", "buy"),
        ("ETHUSDT", "7", "84551.1", "buy"),
    ]
    assert maker.connect().query("SELECT reason != '', text FROM market_data.dead_letters") == [
        (1, "no JSON")
    ]
    assert not waiting_frames(both)
    assert not waiting_frames(own)


def test_a_journal_that_is_held_or_is_our_own_is_left_alone(maker, tmp_path):
    root = tmp_path / "journal" / "binance"
    held, own = root / "ETHUSDT" / "market", root / "BTCUSDT" / "market"
    for folder, symbol in ((held, "ETHUSDT"), (own, "BTCUSDT")):
        leave(folder, symbol, [trade(symbol, 1)])
    feeds = maker.feeds()
    other = Journal(held, this_run("binance", "ETHUSDT"))
    Leftovers(maker, feeds).run()
    other.close()
    for feed in feeds:
        feed.journal.close()
    assert waiting_frames(held) == waiting_frames(own) == 1


def test_a_journal_that_cannot_be_read_costs_nothing_else(maker, tmp_path):
    root = tmp_path / "journal" / "binance"
    broken, good = root / "AUSDT" / "market", root / "ETHUSDT" / "market"
    leave(broken, "AUSDT", [trade("AUSDT", 1)])
    for path in broken.glob("0*"):
        path.write_bytes(b"\xff" * 200)
    leave(good, "ETHUSDT", [trade("ETHUSDT", 1)])
    Leftovers(maker, []).run()
    assert [row[0] for row in stored(maker)] == ["ETHUSDT"]
