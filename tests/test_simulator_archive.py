"""A recorded stream, played again by the simulator: what is sent, when, and to whom."""

import itertools
import json
import math
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import websocket

from mexcflow.errors import Misuse
from mexcflow.ops.archive import open_archive
from mexcflow.simulator import Settings, Simulator
from mexcflow.simulator.player import Pace
from tests.conftest import ROOT
from tests.test_simulator_command import COMMAND, simulate
from tests.test_simulator_protocol import CUT, Client

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TEXT, BINARY = websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_BINARY
CASES = [json.loads(line) for line in (ROOT / "tests/frames/mexc.jsonl").read_text().splitlines()]
MARKET_DATA = ("data", "skipped", "dead_letter")
START_NS = 1_790_000_000_000_000_000
MANY = [b'{"number":%d}' % number for number in range(3000)]  # dead letters all, and so market data
CONNECTED, DISCONNECTED, FRAME, SEGMENT = 2, 3, 1, 6


def record(kind: int, at_ns: int, payload: bytes, number: int = 1) -> bytes:
    """One record as the journal's format describes it; `number` is that of the segment."""
    checked = struct.pack("<qB", at_ns, kind)
    return (
        struct.pack("<HII", 0x4AA7, len(payload), zlib.crc32(payload, zlib.crc32(checked, number)))
        + checked
        + payload
    )


def head(symbol: str = "BTC_USDT", exchange: str = "mexc", number: int = 1) -> bytes:
    content = {"format": 1, "exchange": exchange, "symbol": symbol, "journal": "j", "run": "r", "host": "h"}
    return record(SEGMENT, START_NS, json.dumps({**content, "ledger": {}}).encode(), number)


def journal(folder: Path, *segments: list[bytes], symbol: str = "BTC_USDT", exchange: str = "mexc") -> Path:
    """A stream's folder with these frames, one microsecond apart, in as many segments."""
    folder.mkdir(parents=True)
    clock = itertools.count(START_NS, 1000)
    for number, frames in enumerate(segments, start=1):
        records = [head(symbol, exchange, number), record(CONNECTED, next(clock), b'{"run":"r"}', number)]
        records += [record(FRAME, next(clock), frame, number) for frame in frames]
        records.append(record(DISCONNECTED, next(clock), b'{"reason":"stopped"}', number))
        ending = "open" if number == len(segments) else "sealed"
        (folder / f"{number:08}.{ending}").write_bytes(b"".join(records))
    return folder


class Played:
    """A recording that counts how often it was begun, and how far it was read."""

    def __init__(self, *pauses_s: float, forever: bool = False) -> None:
        self.begun = self.read = 0
        self._pauses_s = pauses_s
        self._forever = forever

    def __call__(self) -> Iterator[tuple[int, bytes]]:
        self.begun += 1
        at_ns = START_NS
        for number in itertools.count():
            if not self._forever:
                if number > len(self._pauses_s):
                    return
                at_ns += int(self._pauses_s[number - 1] * 1e9) if number else 0
            self.read += 1
            yield at_ns, b"%d" % number


def numbers(client: Client, count: int) -> list[int]:
    return [int(client.raw()[1]) for _ in range(count)]


def as_fast_as_it_goes(recording: Played, **more) -> Simulator:
    return Simulator(recording=recording, speed=0, **more)


class TestReading:
    def test_market_data_comes_out_verbatim_in_order_and_nothing_else_does(self, tmp_path):
        frames = [case["frame"].encode() for case in CASES]
        archive = open_archive(journal(tmp_path / "mexc/BTC_USDT", frames[:20], frames[20:]))
        assert (archive.exchange, archive.symbol) == ("mexc", "BTC_USDT")
        found = list(archive.market_data())
        assert [payload for _, payload in found] == [
            case["frame"].encode() for case in CASES if case["kind"] in MARKET_DATA
        ]
        assert found == sorted(found, key=lambda one: one[0])
        assert found[0][0] == START_NS + 1000

    def test_the_raw_archive_is_played_before_the_segments_or_alone(self, tmp_path):
        folder = journal(tmp_path / "mexc/BTC_USDT", MANY[:100], MANY[100:150])
        (folder / "archive").mkdir()
        oldest = folder / "00000001.sealed"
        packed = zstd.compress(oldest.read_bytes())
        (folder / "archive/00000001-20261121T140000Z.zst").write_bytes(packed)
        oldest.unlink()
        for place, count in ((folder, 150), (folder / "archive", 100)):
            archive = open_archive(place)
            assert archive.symbol == "BTC_USDT"
            assert [payload for _, payload in archive.market_data()] == MANY[:count]

    @pytest.mark.parametrize(
        ("segments", "message"),
        [
            (None, "there is no journal"),
            ([], "there is no journal"),
            ([[]], "no market data in it"),
            ([[case["frame"].encode() for case in CASES if case["kind"] == "ack"]], "no market data in it"),
        ],
    )
    def test_a_folder_of_no_use_is_misuse_with_a_hint(self, tmp_path, segments, message):
        folder = tmp_path / "BTC_USDT"
        if segments is not None:
            journal(folder, *segments)
        with pytest.raises(Misuse, match=message) as caught:
            open_archive(folder)
        assert caught.value.hint

    @pytest.mark.parametrize("content", [b"", b"no journal, just text\n" * 1000])
    def test_a_file_that_is_no_segment_is_misuse(self, tmp_path, content):
        (tmp_path / "00000001.sealed").write_bytes(content)
        with pytest.raises(Misuse, match="a journal without a readable head"):
            open_archive(tmp_path)

    def test_an_exchange_that_nobody_knows_is_misuse(self, tmp_path):
        folder = journal(tmp_path / "stream", MANY, exchange="nowhere")
        with pytest.raises(Misuse, match="there is no exchange 'nowhere'"):
            open_archive(folder)


class TestPace:
    def due(self, *pauses_s: float, **settings) -> list[float | None]:
        pace = Pace(Settings(recording=Played(*pauses_s), **settings))
        return [pace.due_s(at_ns) for at_ns, _ in Played(*pauses_s)()]

    def test_times_are_those_of_the_recording_counted_from_the_first_frame(self):
        assert self.due(0.5, 0, 2, 0.25) == [0, 0.5, 0.5, 2.5, 2.75]

    def test_a_day_of_small_pauses_does_not_drift(self):
        assert self.due(*[0.0864] * 10_000)[-1] == pytest.approx(864, abs=1e-6)

    def test_speed_makes_it_faster(self):
        assert self.due(0.5, 2, speed=10) == [0, 0.05, 0.25]

    def test_speed_0_waits_for_nothing_but_the_client(self):
        assert self.due(0.5, 2, speed=0) == [None, None, None]

    def test_long_pauses_are_cut_down_before_speed_counts(self):
        assert self.due(9, 3600, 1, speed=2) == [0, 4.5, 9.5, 10]
        assert self.due(9, 3600, 1, max_pause_s=2) == [0, 2, 4, 5]

    def test_long_pauses_can_be_kept(self):
        assert self.due(3600, 1, max_pause_s=math.inf) == [0, 3600, 3601]

    def test_a_clock_that_was_set_back_is_no_pause(self):
        assert self.due(1, -3600, 1) == [0, 1, 1, 2]

    def test_a_rate_is_even_whatever_the_recording_did(self):
        assert self.due(5, 0, 3, rate=4) == [0, 0.25, 0.5, 0.75]


class TestPlaying:
    def test_frames_come_when_they_are_due(self):
        recording = Played(0.6, 0, 9, 0, 9)
        with Simulator(recording=recording, speed=3) as exchange, Client(exchange.url, "deal") as client:
            assert numbers(client, 1) == [0]
            assert client.silent(timeout=0.1)
            assert numbers(client, 2) == [1, 2]
            assert client.silent(timeout=1)

    def test_an_endless_recording_is_read_only_as_far_as_it_is_sent(self):
        recording = Played(forever=True)
        with Simulator(recording=recording, rate=500, keep_sent=True) as exchange:
            with Client(exchange.url, "deal") as client:
                assert numbers(client, 100) == list(range(100))
            assert recording.read <= len(exchange.sent) + 1
        assert recording.begun == 1

    def test_a_client_that_comes_back_goes_on_and_nothing_is_read_twice(self):
        recording = Played(forever=True)
        got: list[int] = []
        with Simulator(recording=recording, rate=200, keep_sent=True) as exchange:
            for _ in range(3):
                with Client(exchange.url, "deal") as client:
                    got += numbers(client, 20)
            sent = [int(payload) for payload in exchange.sent]
        assert sent == list(range(len(sent)))  # some of it was on its way when a connection was cut
        assert got == sorted(set(got))
        assert recording.begun == 1

    def test_clients_that_are_there_together_get_the_same(self):
        recording = Played(forever=True)
        with Simulator(recording=recording, rate=500) as exchange:
            with Client(exchange.url, "deal") as one, Client(exchange.url, "deal") as other:
                assert numbers(one, 50) == numbers(other, 50) == list(range(50))
            with Client(exchange.url, "deal") as one, Client(exchange.url, "deal") as other:
                (first,), (second,) = numbers(one, 1), numbers(other, 1)
        assert first == second >= 50
        assert recording.begun == 3  # only the second reader of what is kept for one has to look for it

    def test_loop_begins_again_and_a_later_client_within_it(self):
        recording = Played(*[0.0] * 4)
        with as_fast_as_it_goes(recording, loop=True, rate=200) as exchange:
            with Client(exchange.url, "deal") as one, Client(exchange.url, "deal") as other:
                assert numbers(one, 12) == numbers(other, 12) == [0, 1, 2, 3, 4] * 2 + [0, 1]
            with Client(exchange.url, "deal") as one, Client(exchange.url, "deal") as other:
                for client in (one, other):
                    first, *rest = numbers(client, 8)
                    assert rest == [(first + at) % 5 for at in range(1, 8)]

    def test_at_the_end_the_connection_stays(self):
        with as_fast_as_it_goes(Played(0)) as exchange, Client(exchange.url, "deal") as client:
            assert numbers(client, 2) == [0, 1]
            client.ask("ping")
            assert client.next()["channel"] == "pong"

    def test_gzip_goes_out_as_a_binary_message(self):
        packed, text = b"\x1f\x8b\x08", b"\xff"
        exchange = Simulator(recording=lambda: iter([(0, packed), (0, text)]))
        with exchange, Client(exchange.url, "deal") as client:
            assert [client.raw(), client.raw()] == [(BINARY, packed), (TEXT, text)]

    def test_what_cannot_be_read_on_ends_the_simulator_with_its_error(self):
        def damaged() -> Iterator[tuple[int, bytes]]:
            yield 0, b"0"
            yield 0, b"1"
            raise Misuse("segment 2 is gone")

        exchange = Simulator(recording=damaged)
        with pytest.raises(Misuse, match="segment 2 is gone"), exchange:  # noqa: SIM117 - the client's end first
            with Client(exchange.url, "deal") as client, pytest.raises(CUT):
                numbers(client, 3)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"speed": -1}, "speed: -1 is not possible"),
            ({"max_pause_s": 0}, "max pause: 0 is not possible"),
            ({"max_pause_s": math.nan}, "max pause: nan is not possible"),
            ({"frames": ["{}"]}, "cannot both be played"),
        ],
    )
    def test_misuse(self, settings, message):
        with pytest.raises(Misuse, match=message):
            Simulator(recording=Played(1), **settings)


class TestTheCommand:
    def test_it_plays_a_stream_and_knows_its_symbol(self, tmp_path):
        folder = journal(tmp_path / "mexc/牛来_USDT", MANY[:1000], MANY[1000:], symbol="牛来_USDT")
        with simulate("--archive", str(folder), "--speed", "0") as process:
            url = process.stdout.readline().split()[-1]
            with Client(url, "deal", symbol="牛来_USDT") as client:
                assert [client.raw()[1] for _ in MANY] == MANY

    def test_pauses_of_the_recording_are_kept_and_cut_down_as_asked(self, tmp_path):
        records = [head(), *(record(FRAME, START_NS + at * 10**12, b"%d" % at) for at in range(3))]
        (tmp_path / "00000001.open").write_bytes(b"".join(records))
        for options in (["--max-pause", "0.2"], ["--max-pause", "inf", "--speed", "1e4"]):
            process = simulate("--archive", str(tmp_path), *options)
            with process as running, Client(running.stdout.readline().split()[-1], "deal") as client:
                assert numbers(client, 3) == [0, 1, 2]

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--archive", "/nowhere/mexc/BTC_USDT"], "/nowhere/mexc/BTC_USDT: there is no journal"),
            (["--archive", "STREAM", "--frames", "FRAMES"], "cannot both be played"),
            (["--archive", "STREAM", "--exponents"], "exponents are for the generated market"),
            (["--archive", "STREAM", "--max-pause", "-1"], "max pause: -1 is not possible"),
            (["--speed", "0"], "speed: 0 is not possible"),
        ],
    )
    def test_misuse_is_one_line_and_exit_2(self, tmp_path, options, words):
        places = {"STREAM": journal(tmp_path / "stream", MANY[:3]), "FRAMES": tmp_path / "frames.jsonl"}
        places["FRAMES"].write_text("{}\n")
        command = [*COMMAND, "--port", "0", *(str(places.get(option, option)) for option in options)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        assert done.returncode == 2
        assert done.stdout == ""
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1
