"""Instances with typed tables beside MEXC's: setup, up, status, proxy-check, a journal played again."""

import json
from collections import Counter
from pathlib import Path
from urllib.parse import quote

from mexcflow.config import Instance
from mexcflow.pipeline.parts import Settings
from tests.conftest import mexcflow, wait_for
from tests.proxy import Proxy
from tests.test_record import statistics
from tests.typed_recording import received_all, record, simulated
from tests.typed_wire import said, stored

SYMBOLS = ("BTC-USDT-SWAP", "ETH-USDT-SWAP")
JOURNAL = f"data/journal/okx/{quote(','.join(SYMBOLS), safe='')}"


def write(folder: Path, mexc: str, okx: str) -> None:
    (folder / "instances").mkdir()
    (folder / "instances/btc.toml").write_text(f'symbol = "BTC_USDT"\nendpoint = "{mexc}"\n')
    (folder / "instances/okx.toml").write_text(
        f'exchange = "okx"\nsymbols = {json.dumps(SYMBOLS)}\nendpoint = "{okx}"\nbook_interval = "1s"\n'
    )


def state(folder: Path) -> dict[str, dict]:
    done = mexcflow("status", "--json", cwd=folder)
    return {one["name"]: one for one in json.loads(done.stdout)["streams"]} if done.stdout else {}


def test_setup_up_and_status_take_both_kinds_of_instances(start, tmp_path):
    with simulated("mexc") as mexc, simulated("okx") as okx:
        write(tmp_path, mexc.url, okx.address)
        for found in (False, True):
            done = mexcflow("setup", "--json", cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            (made,) = json.loads(done.stdout).values()
            assert bool(made["created"]) is not found
        running = start("up")
        wait_for(lambda: len(mexc.sent) > 20 and len(okx.sent) > 50, seconds=40, what=running.err)
        wait_for(lambda: all(one["state"] == "recording" for one in state(tmp_path).values()), seconds=20)
        streams = state(tmp_path)
        assert {name: one["exchange"] for name, one in streams.items()} == {"btc": "mexc", "okx": "okx"}
        assert streams["okx"]["symbol"] == ",".join(SYMBOLS)
        with okx.silence(), mexc.silence():
            assert running.stop(within=30) == 0, running.err
        sent = said("okx", [frames for _, frames in okx.sent_to])
        assert len(okx.sent_to) == 2
    have = stored(tmp_path / "data")
    assert set(have.trades) == set(sent.trades)
    assert have.candles == sent.candles
    assert {row[0] for row in have.books} == set(SYMBOLS)
    told = mexcflow("status", cwd=tmp_path)
    assert told.returncode == 1
    assert "okx: nobody records it: ended" in told.stdout + told.stderr


def test_proxy_check_looks_at_the_exchange_of_each_instance(tmp_path):
    with simulated("mexc") as mexc, simulated("okx") as okx, Proxy("http") as good:
        write(tmp_path, mexc.url, okx.address)
        for path in (tmp_path / "instances").iterdir():
            path.write_text(path.read_text() + f'proxy = "{good.url}"\n')
        done = mexcflow("proxy-check", "--count", "1", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["ok"]
    assert mexc.callers
    assert okx.callers


def test_a_journal_of_typed_tables_is_played_again_by_the_simulator(start, tmp_path):
    with simulated("okx") as exchange:
        running = record(
            start, exchange, "okx", *SYMBOLS, options=("--channels", "trade,book", "--keep-raw", "1d")
        )
        wait_for(lambda: len(exchange.sent) > 300, what=running.err)
        with exchange.silence():
            wait_for(lambda: received_all(running, exchange), what=running.err)
            assert running.stop() == 0, running.err
    before = stored(tmp_path / "data")
    again = start("simulate", "--archive", f"{JOURNAL}/public", "--speed", "0", "--port", "0")
    wait_for(lambda: "ws://" in again.out + again.err, what=again.err)
    address = next(word for word in (again.out + again.err).split() if word.startswith("ws://"))
    wanted = [part for symbol in SYMBOLS for part in ("--symbol", symbol)]
    second = start(
        "run", "--exchange", "okx", *wanted, "--channels", "trade,book", "--endpoint", address,
        "--database", "again", "--flush-interval", "0.2", "--stats-interval", "0.5", "--log-format", "json",
    )  # fmt: skip
    frames = statistics(running)[-1]["messages"]
    wait_for(lambda: statistics(second) and statistics(second)[-1]["messages"] == frames, what=second.err)
    assert second.stop() == 0
    after = stored(tmp_path / "again")
    assert set(after.trades) == set(before.trades)
    assert Counter(after.books) == Counter(before.books)
    whole = mexcflow("simulate", "--archive", JOURNAL, "--port", "0", cwd=tmp_path, timeout=20)
    assert whole.returncode == 2
    assert len(whole.stderr.strip().splitlines()) == 1
    assert f"{JOURNAL}/public" in whole.stderr


def test_the_journal_stays_where_it_is_while_the_process_is_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = Settings(Instance(exchange="okx", symbols=SYMBOLS).checked(), database="data")
    assert settings.folder == tmp_path / JOURNAL
    monkeypatch.chdir("/")  # as the engine does for a moment while it is loaded
    assert settings.folder == tmp_path / JOURNAL
