"""The main job, end to end: the real command against the simulated exchange, into the real engine.

What is compared is the table, row by row and in order, with what the frames that were sent decode to.
"""

import json
import signal
import time
from pathlib import Path

import pytest

from mexcflow.exchanges.mexc import Mexc
from mexcflow.model import Frame, Kind, Row
from mexcflow.pipeline.decode import read_frame
from mexcflow.simulator import Faults, Simulator
from mexcflow.store import open_store
from tests.conftest import Running, mexcflow, wait_for
from tests.fault_proxy import FaultProxy
from tests.http_front import HttpFront

CASES = [json.loads(line) for line in (Path(__file__).parent / "frames/mexc.jsonl").read_text().splitlines()]
T_MS = 1_790_000_000_000


def rows_of(frames: list[bytes], symbol: str = "BTC_USDT") -> list[Row]:
    """What frames decode to; the receive time of dead letters is left out."""
    exchange = Mexc(symbol, ("ticker", "deal", "depth"))
    readings = [read_frame(exchange, Frame(0, frame)) for frame in frames]
    return [row for reading in readings for row in reading.rows]


def stored(folder: Path, table: str = "btc") -> list[Row]:
    """The rows of a table in the order they were stored; the receive time of dead letters is left out."""
    with open_store(str(folder), create=False) as store:
        return store.query(
            f"SELECT if(mt = 'dl', 0, toUnixTimestamp64Milli(ts)), toString(mt), m FROM mexc_data.{table} "
            "SETTINGS max_threads = 1"
        )


def statistics(running: Running) -> list[dict]:
    lines = [json.loads(line) for line in running.out.splitlines() if line.startswith("{")]
    return [line["statistics"] for line in lines]


def deals(running: Running) -> int:
    """How many deal messages the newest block tells of."""
    blocks = statistics(running)
    return blocks[-1]["messages"]["deal"] if blocks else 0


def assert_adds_up(block: dict) -> None:
    parts = ("acks", "pongs", "exchange_errors", "skipped", "dead_letters")
    assert block["frames"] == sum(block["messages"].values()) + sum(block[part] for part in parts)


def record(start, exchange: Simulator, *more: str, symbol: str = "BTC_USDT") -> Running:
    return start(
        "run", "--symbol", symbol, "--endpoint", exchange.url, "--flush-interval", "0.2",
        "--stats-interval", "0.5", "--log-format", "json", *more,
    )  # fmt: skip


def test_every_kind_of_frame_comes_out_exact_and_the_statistics_add_up(start, tmp_path):
    frames = [case["frame"].encode() for case in CASES if case["frame"]]
    with Simulator(frames=frames) as exchange:
        running = record(start, exchange)
        wait_for(lambda: statistics(running) and statistics(running)[-1]["frames"] == len(frames) + 3)
        assert running.stop() == 0
    assert stored(tmp_path / "data") == rows_of(frames)
    last = statistics(running)[-1]
    assert last["final"]
    assert_adds_up(last)
    assert last["rows"] == len(rows_of(frames))
    kinds = [case["kind"] for case in CASES if case["frame"]]
    assert last["dead_letters"] == kinds.count("dead_letter")
    assert last["acks"] == kinds.count("ack") + 3
    assert last["pongs"] == kinds.count("pong")
    assert last["exchange_errors"] == kinds.count("error")
    assert last["skipped"] == kinds.count("skipped")
    for channel in ("ticker", "deal", "depth"):
        sent = [case for case in CASES if case["kind"] == "data" and case["channel"] == channel]
        assert last["messages"][channel] == len(sent)


def test_captured_frames_of_the_real_exchange_come_out_exact(start, tmp_path):
    folder = Path(__file__).resolve().parents[2] / "shared/data/frames"
    if not folder.is_dir():
        pytest.skip("the captured frames are not beside this checkout")
    frames = [line for path in sorted(folder.glob("mexc_futures.*.jsonl")) for line in path.open("rb")]
    frames = [frame.strip() for frame in frames]
    with Simulator(frames=frames) as exchange:
        running = record(start, exchange)
        wait_for(lambda: statistics(running) and statistics(running)[-1]["frames"] == len(frames) + 3)
        assert running.stop() == 0
    rows = stored(tmp_path / "data")
    assert rows == rows_of(frames)
    assert (1788335242156, "d", "77525.9|3|2") in rows
    assert (1789498322169, "dp", "[75480,4959]|[75481.2,10]") in rows


def test_a_generated_market_comes_out_exact(start, tmp_path):
    faults = Faults(exponents=True, garbage_every_s=0.2, duplicate_every_s=0.3, out_of_order_every_s=0.4)
    with Simulator(speed=20, faults=faults, keep_sent=True) as exchange:
        running = record(start, exchange)
        wait_for(lambda: len(exchange.sent) > 1500)
        with exchange.silence():
            sent = count_channels(exchange.sent)
            wait_for(lambda: statistics(running) and statistics(running)[-1]["messages"] == sent)
            assert running.stop() == 0
    rows = stored(tmp_path / "data")
    assert [row for row in rows if row[1] != "dl"] == rows_of(exchange.sent)
    letters = [m for _, mt, m in rows if mt == "dl"]
    assert letters == [one.decode("utf-8", "replace")[:500] for one in exchange.garbage]
    assert_adds_up(statistics(running)[-1])
    assert statistics(running)[-1]["dead_letters"] == len(letters)


def count_channels(frames: list[bytes]) -> dict[str, int]:
    exchange = Mexc("BTC_USDT", ("ticker", "deal", "depth"))
    counts = dict.fromkeys(("ticker", "deal", "depth"), 0)
    for frame in frames:
        reading = read_frame(exchange, Frame(0, frame))
        assert reading.kind is Kind.DATA
        counts[reading.channel] += 1
    return counts


def test_twenty_thousand_frames_at_full_speed_come_out_exact_in_full_batches(start, tmp_path):
    frames = [
        b'{"symbol":"BTC_USDT","data":[{"p":%d.5,"v":%d,"T":1,"t":%d}],"channel":"push.deal","ts":%d}'
        % (number, number % 97 + 1, T_MS + number, T_MS + number)
        for number in range(20_000)
    ]
    with Simulator(frames=frames) as exchange:
        running = record(start, exchange, "--batch-frames", "1000", "--flush-interval", "60")
        wait_for(lambda: statistics(running) and statistics(running)[-1]["frames"] >= 19_000)
        assert running.stop() == 0
    assert stored(tmp_path / "data") == rows_of(frames)
    assert statistics(running)[-1]["inserts"] <= 25


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stores_everything_received_and_ends_with_0_within_5_seconds(start, tmp_path, number):
    with Simulator(speed=5, keep_sent=True) as exchange:
        running = record(start, exchange, "--flush-interval", "60")
        wait_for(lambda: len(exchange.sent) > 100)
        with exchange.silence():
            sent = list(exchange.sent)
            time.sleep(0.3)  # all of it is at the recorder by now, and none of it in the table
            began = time.monotonic()
            assert running.stop(number) == 0
            assert time.monotonic() - began < 5
    assert stored(tmp_path / "data") == rows_of(sent)


def test_a_second_signal_ends_at_once(start, exchange):
    running = record(start, exchange)
    wait_for(lambda: len(exchange.received) >= 3)
    running.process.send_signal(signal.SIGINT)
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(5) in (0, 130)  # 0 when the first one was quicker


def test_a_duration_ends_like_ctrl_c(tmp_path):
    with Simulator(speed=5) as exchange:
        done = mexcflow(
            "run", "--symbol", "ETH_USDT", "--endpoint", exchange.url, "--duration", "2", cwd=tmp_path
        )
    assert done.returncode == 0, done.stderr
    assert "final" in done.stdout
    assert stored(tmp_path / "data", "eth")


def test_every_lost_connection_is_made_again_and_nothing_received_is_doubled(start, tmp_path):
    def number(at: int) -> bytes:
        return b'{"symbol":"BTC_USDT","data":[{"p":%d,"v":1,"T":1,"t":%d}],"channel":"push.deal","ts":%d}' % (
            at,
            T_MS + at,
            T_MS + at,
        )

    with Simulator(generate=False) as exchange:
        running = record(start, exchange)
        for times in range(1, 5):
            wait_for(lambda times=times: len(exchange.received) >= 3 * times, seconds=20)
            for at in range(3):
                exchange.send(number(10 * times + at))
            wait_for(lambda times=times: deals(running) == 3 * times)
            (exchange.drop, exchange.half_frame)[times % 2]()
        wait_for(lambda: len(exchange.received) >= 15, seconds=20)
        assert running.stop() == 0
    assert [m for _, _, m in stored(tmp_path / "data")] == [
        f"{10 * times + at}|1|1" for times in range(1, 5) for at in range(3)
    ]
    assert statistics(running)[-1]["reconnects"] == 4
    assert "connection lost" in statistics(running)[-1]["last_reason"]
    assert "connection lost" in running.err


def test_the_cut_for_want_of_pings_does_not_happen(start):
    with Simulator(speed=2, ping_timeout_s=1.0) as exchange:
        running = record(start, exchange, "--ping-interval", "0.4")
        wait_for(lambda: statistics(running) and statistics(running)[-1]["pongs"] >= 5)
        assert running.stop() == 0
        assert exchange.connections == 1


def test_without_pings_the_exchange_cuts_and_its_reason_is_told(start):
    with Simulator(speed=2, ping_timeout_s=1.0) as exchange:
        running = record(start, exchange, "--ping-interval", "60")
        wait_for(lambda: exchange.connections >= 2)
        wait_for(lambda: statistics(running) and statistics(running)[-1]["reconnects"] >= 1)
        assert running.stop() == 0
    assert "more than 60 seconds no response, close the channel" in statistics(running)[-1]["last_reason"]


def test_an_unknown_contract_ends_with_2_and_leaves_nothing_behind(tmp_path):
    with Simulator() as exchange:
        done = mexcflow("run", "--symbol", "NOPE_USDT", "--endpoint", exchange.url, cwd=tmp_path)
        assert exchange.connections == 1
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("mexcflow: mexc does not know the contract NOPE_USDT")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    with open_store(str(tmp_path / "data")) as store:
        assert store.query("SELECT name FROM system.tables WHERE database = 'mexc_data'") == []


def test_too_many_errors_stop_with_75_after_everything_is_stored(start, tmp_path):
    deal = b'{"symbol":"BTC_USDT","data":[{"p":1,"v":1,"T":1,"t":%d}],"channel":"push.deal"}' % T_MS
    with Simulator(generate=False) as exchange:
        running = record(start, exchange, "--max-errors", "10", "--stats-interval", "30")
        wait_for(lambda: len(exchange.received) >= 3)
        for _ in range(10):
            exchange.send(b'{"channel":"rs.error","data":"trouble"}')
        exchange.send(deal)
        time.sleep(1.5)
        assert running.process.poll() is None  # 10 are allowed
        exchange.send(b'{"channel":"rs.error","data":"trouble"}')
        exchange.send(deal)
        assert running.process.wait(10) == 75
    assert "11 errors within 30 s, more than the 10 of --max-errors" in running.err
    assert len(stored(tmp_path / "data")) == 2


def test_a_thousand_dead_letters_do_not_stop_the_feed(start, tmp_path):
    deal = b'{"symbol":"BTC_USDT","data":[{"p":1,"v":1,"T":1,"t":%d}],"channel":"push.deal"}' % T_MS
    frames = [b"garbage %d" % number for number in range(1000)] + [deal]
    with Simulator(frames=frames) as exchange:
        running = record(start, exchange)
        wait_for(lambda: deals(running) == 1)
        assert running.stop() == 0
    assert stored(tmp_path / "data") == rows_of(frames)


def test_only_the_wanted_channels_are_asked_for(tmp_path):
    with Simulator(speed=10) as exchange:
        done = mexcflow(
            "run", "--symbol", "BTC_USDT", "--channels", "deal, ticker", "--table", "mine",
            "--endpoint", exchange.url, "--duration", "2", cwd=tmp_path,
        )  # fmt: skip
        assert [json.loads(one)["method"] for one in exchange.received] == ["sub.deal", "sub.ticker"]
    assert done.returncode == 0
    assert {mt for _, mt, _ in stored(tmp_path / "data", "mine")} == {"d", "t"}


def test_an_instance_file_gives_the_defaults_and_flags_win(tmp_path):
    (tmp_path / "instances").mkdir()
    with Simulator(speed=10) as exchange:
        (tmp_path / "instances/mine.toml").write_text(
            f'symbol = "SOL_USDT"\ntable = "from_file"\nchannels = ["deal"]\nendpoint = "{exchange.url}"\n'
            'database = "from-file"\n'
        )
        done = mexcflow("run", "--symbol", "SOL_USDT", "--duration", "1.5", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert {mt for _, mt, _ in stored(tmp_path / "from-file", "from_file")} == {"d"}
        done = mexcflow(
            "run", "--symbol", "SOL_USDT", "--duration", "2", "--table", "from_flag", "--channels", "ticker",
            "--database", "from-flag", cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert {mt for _, mt, _ in stored(tmp_path / "from-flag", "from_flag")} == {"t"}


def test_a_symbol_that_names_no_table_is_recorded_where_its_file_says(tmp_path):
    (tmp_path / "instances").mkdir()
    (tmp_path / "instances/niu.toml").write_text('symbol = "牛来_USDT"\ntable = "niu"\n')
    with Simulator(speed=10, symbols=["牛来_USDT"]) as exchange:
        done = mexcflow(
            "run", "--symbol", "牛来_USDT", "--endpoint", exchange.url, "--duration", "2", cwd=tmp_path
        )
    assert done.returncode == 0, done.stderr
    assert {mt for _, mt, _ in stored(tmp_path / "data", "niu")} == {"d", "dp", "t"}


def test_text_statistics_are_plain_lines_in_a_pipe(tmp_path):
    with Simulator(speed=10) as exchange:
        done = mexcflow(
            "run", "--symbol", "BTC_USDT", "--endpoint", exchange.url, "--duration", "2.2",
            "--stats-interval", "1", cwd=tmp_path,
        )  # fmt: skip
    assert done.stdout.count("── BTC_USDT · ") == 3
    assert "→ btc/data.bin" in done.stdout
    assert "\x1b" not in done.stdout


def test_the_log_for_machines_is_one_object_a_line(start, exchange):
    running = record(start, exchange)
    wait_for(lambda: len(exchange.received) >= 3)
    assert running.stop() == 0
    lines = [json.loads(line) for line in running.err.splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)


class TestOnAServer:
    """The same job with a database behind HTTP, which can go away while we record."""

    @pytest.fixture
    def front(self, tmp_path):
        with open_store(str(tmp_path / "server")) as store, HttpFront(store) as front:
            yield front

    def rows(self, front: HttpFront) -> list[Row]:
        return front.store.query(
            "SELECT toUnixTimestamp64Milli(ts), toString(mt), m FROM mexc_data.btc SETTINGS max_threads = 1"
        )

    def test_a_generated_market_comes_out_exact(self, start, front):
        with Simulator(speed=20, keep_sent=True) as exchange:
            running = record(start, exchange, "--database", f"http://127.0.0.1:{front.port}")
            wait_for(lambda: len(exchange.sent) > 500)
            with exchange.silence():
                sent = count_channels(exchange.sent)
                wait_for(lambda: statistics(running)[-1]["messages"] == sent)
                assert running.stop() == 0
        assert self.rows(front) == rows_of(exchange.sent)

    def test_a_database_that_was_away_gets_every_row_once_and_in_order(self, start, front):
        with Simulator(speed=10, keep_sent=True) as exchange:
            running = record(start, exchange, "--database", f"http://127.0.0.1:{front.port}")
            wait_for(lambda: deals(running) > 20)
            front.refuse_with = (503, 202, "Code: 202. DB::Exception: Too many simultaneous queries.")
            before = len(exchange.sent)
            wait_for(lambda: statistics(running)[-1]["errors"] >= 2)
            wait_for(lambda: len(exchange.sent) > before + 200)
            front.refuse_with = None
            wait_for(lambda: statistics(running)[-1]["backlog_frames"] < 50, seconds=30)
            with exchange.silence():
                sent = count_channels(exchange.sent)
                wait_for(lambda: statistics(running)[-1]["messages"] == sent)
                assert running.stop() == 0
        assert self.rows(front) == rows_of(exchange.sent)
        assert exchange.connections == 1

    def test_stopping_while_it_is_away_leaves_the_rest_to_the_next_run(self, start, front):
        with Simulator(speed=10, keep_sent=True) as exchange:
            running = record(start, exchange, "--database", f"http://127.0.0.1:{front.port}")
            wait_for(lambda: deals(running) > 20)
            front.refuse_with = (503, 202, "Code: 202. DB::Exception: Too many simultaneous queries.")
            wait_for(lambda: statistics(running)[-1]["errors"] >= 1)
            assert running.stop(within=5.0) == 69
            assert "frames are in the journal and not yet in the table" in running.err
            assert "Traceback" not in running.err
            front.refuse_with = None
            with exchange.silence():
                again = record(start, exchange, "--database", f"http://127.0.0.1:{front.port}")
                wait_for(lambda: "recovered from the journal" in again.err)
                assert again.stop() == 0
        rows = self.rows(front)
        assert rows == rows_of(exchange.sent)[: len(rows)]
        assert len(rows) > 20

    def test_stopping_while_it_hangs_is_69_too(self, start, front):
        with Simulator(speed=10) as exchange, FaultProxy(front.port) as proxy:
            running = record(start, exchange, "--database", f"http://127.0.0.1:{proxy.port}")
            wait_for(lambda: deals(running) > 20)
            with proxy.stall(inserts_only=False):
                wait_for(lambda: statistics(running)[-1]["backlog_s"] > 0.5)
                assert running.stop(within=8.0) == 69
        assert "frames are in the journal and not yet in the table" in running.err
        assert "Traceback" not in running.err

    def test_a_server_that_is_not_there_is_told_at_once(self, tmp_path):
        done = mexcflow(
            "run", "--symbol", "BTC_USDT", "--database", "http://me:secret@127.0.0.1:1", cwd=tmp_path
        )
        assert done.returncode == 69
        assert "http://me@127.0.0.1:1" in done.stderr
        assert "secret" not in done.stderr
        assert "Traceback" not in done.stderr
