"""An exchange's list of symbols: read, fetched page by page, kept, and checked against."""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mexcflow.errors import Banned, ConnectionLost, ExchangeUnavailable, ProxyRefused, UnknownContract
from mexcflow.exchanges import REGISTRY, TYPED, find_exchange
from mexcflow.exchanges.mexc import Mexc
from mexcflow.exchanges.typed import Listing
from mexcflow.model import Instrument, Undecodable
from mexcflow.pipeline.instrument_cache import read_cache, write_cache
from mexcflow.pipeline.instruments import (
    Listed,
    check_symbols,
    contract_sizes,
    fetch_instruments,
    find_instruments,
    list_instruments,
)
from mexcflow.simulator import Simulator
from mexcflow.simulator.contracts import KNOWN
from mexcflow.simulator.exchanges import EXCHANGES
from mexcflow.simulator.mexc_rest import contract_detail
from tests.proxy import Proxy

FRAMES = Path(__file__).resolve().parents[1] / "../shared/data/frames"
NOW_S = 1_790_000_000
HOUR_S = 3600


class Paged:
    """An exchange of its own kind: pages of {"symbols": [...], "next": "?cursor=1"}."""

    name = "paged"
    instruments_url = "https://paged.example/list?limit=2"

    @staticmethod
    def read_instruments(body: bytes) -> Listing:
        page = json.loads(body)
        following = page.get("next")
        found = [
            Instrument(symbol=name, base=name[:3], quote=name[3:], kind="spot") for name in page["symbols"]
        ]
        return Listing(found, f"https://paged.example/list{following}" if following else "")


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self, now_s: float = NOW_S) -> None:
        self.now_s = now_s

    def time_ns(self) -> int:
        return int(self.now_s * 1e9)


def spot(*names: str) -> list[Instrument]:
    return [Instrument(symbol=name, base=name[:3], quote=name[3:], kind="spot") for name in names]


@contextmanager
def listing(answer: Callable[[str], tuple[int, bytes]]) -> Iterator[tuple[str, list[str]]]:
    """A server of REST: the endpoint to give, and what was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status, body = answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.server_port}/ws", asked
        finally:
            server.shutdown()
            thread.join()


def pages(**bodies: object) -> Callable[[str], tuple[int, bytes]]:
    """Answer by the cursor in the query; `first` without one."""
    return lambda path: (200, json.dumps(bodies[path.partition("cursor=")[2] or "first"]).encode())


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """The user's cache folder, and an address of the exchange that leads nowhere."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(Paged, "instruments_url", "http://127.0.0.1:1/list")
    return tmp_path / "cache" / "mexcflow"


@contextmanager
def online(monkeypatch, answer) -> Iterator[list[str]]:
    """The exchange itself, not an endpoint: what is fetched is kept."""
    with listing(answer) as (endpoint, asked), monkeypatch.context() as patch:
        patch.setattr(Paged, "instruments_url", endpoint.replace("ws:", "http:").replace("/ws", "/list"))
        yield asked


# MEXC's list


def contract(**values):
    known = {"symbol": "ABC_USDT", "baseCoin": "ABC", "quoteCoin": "USDT", "settleCoin": "USDT"}
    sizes = {"contractSize": 10, "priceUnit": 0.5, "volUnit": 1, "futureType": 1, "state": 0, "vid": "x"}
    return {**known, **sizes, **values}


def mexc_list(*contracts, text=""):
    return Mexc.read_instruments(text.encode() or json.dumps({"success": True, "data": contracts}).encode())


def test_contracts_of_mexc_become_instruments():
    coin = contract(symbol="ABC_USD", quoteCoin="USD", settleCoin="ABC", contractSize=100)
    dated = contract(symbol="ABC_USDT_261225", futureType=2, state=1)
    assert mexc_list(contract(), coin, dated) == Listing(
        [
            Instrument(
                symbol="ABC_USDT", base="ABC", quote="USDT", kind="perpetual", contract_size="10",
                tick_size="0.5", quantity_step="1",
            ),
            Instrument(
                symbol="ABC_USD", base="ABC", quote="USD", kind="perpetual", contract_size="100",
                inverse=True, tick_size="0.5", quantity_step="1",
            ),
            Instrument(
                symbol="ABC_USDT_261225", base="ABC", quote="USDT", kind="future", contract_size="10",
                tick_size="0.5", quantity_step="1", state="delivery",
            ),
        ]
    )  # fmt: skip


def test_one_contract_of_mexc_comes_without_a_list():
    body = json.dumps({"success": True, "code": 0, "data": contract()}).encode()
    assert Mexc.read_instruments(body) == mexc_list(contract())


@pytest.mark.parametrize(
    ("sent", "size"),
    [("1E-4", "0.0001"), ("1.0E7", "10000000"), ('"0.010"', "0.010"), ("0.10", "0.10"), ("0", "0")]
    + [(odd, "") for odd in ("null", '"much"', "1E-19", "[1]", '"\\u0663"')],
)
def test_a_contract_size_of_mexc_is_exact_or_not_known(sent, size):
    text = json.dumps({"success": True, "data": [contract(contractSize=123)]}).replace("123", sent)
    (found,) = mexc_list(text=text).instruments
    assert (found.symbol, found.contract_size) == ("ABC_USDT", size)


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        *enumerate(("trading", "delivery", "completed", "offline", "pause", "state 5")),
        (-1, "state -1"),
        (None, "unknown"),
    ],
)
def test_the_state_of_a_contract_of_mexc_has_its_manuals_name(state, shown):
    assert [one.state for one in mexc_list(contract(state=state)).instruments] == [shown]


@pytest.mark.parametrize(
    "text",
    [
        '{"success":false,"code":510,"message":"Requests are too frequent"}',
        '{"success":true,"code":0}',
        '{"success":true,"data":[{"baseCoin":"ABC"}]}',
        "<html>blocked</html>",
        "",
    ],
)
def test_what_is_no_list_of_mexc_is_undecodable(text):
    with pytest.raises(Undecodable, match="no list of contracts"):
        Mexc.read_instruments(text.encode())


@pytest.mark.skipif(not FRAMES.is_dir(), reason="no captured frames beside this checkout")
def test_a_captured_contract_of_mexc_is_read_exactly():
    lines = (FRAMES / "mexc_futures.rest.jsonl").read_text(encoding="utf-8").splitlines()
    bodies = [line for line in lines if "contractSize" in line]
    found = [mexc_list(text=f'{{"success":true,"code":0,"data":[{body}]}}') for body in bodies]
    assert found == [
        Listing(
            [
                Instrument(
                    symbol="BTC_USDT", base="BTC", quote="USDT", kind="perpetual", contract_size="0.0001",
                    tick_size="0.1", quantity_step="1",
                )
            ]
        )
    ]  # fmt: skip


def test_the_simulator_lists_what_it_trades():
    with Simulator(generate=False, symbols=["DOGE_USDT"]) as exchange:
        found = {one.symbol: one for one in fetch_instruments(Mexc, endpoint=exchange.url)}
    assert found.keys() == {"BTC_USDT", "ETH_USDT", "SOL_USDT", "DOGE_USDT"}
    assert found["ETH_USDT"] == Instrument(
        symbol="ETH_USDT", base="ETH", quote="USDT", kind="perpetual", contract_size="0.01", tick_size="0.01",
        quantity_step="1",
    )  # fmt: skip


@pytest.mark.parametrize("name", EXCHANGES)
def test_each_simulated_exchange_lists_what_it_trades_in_its_own_spelling(name):
    kind = find_exchange(name, where="test")
    with Simulator(exchange=name, generate=False) as exchange:
        listed = fetch_instruments(kind, endpoint=exchange.url)
    symbol = getattr(kind, "example", "BTC_USDT")
    assert check_symbols(listed, [symbol], name) == []
    (ours,) = [one for one in listed if one.symbol == symbol]
    assert ours.base == "BTC"
    assert all((one.contract_size, one.tick_size, one.quantity_step).count("") == 0 for one in listed)


def test_the_simulated_list_can_be_asked_for_one_contract():
    (btc,) = Mexc.read_instruments(contract_detail(KNOWN, "BTC_USDT")).instruments
    assert (btc.symbol, btc.contract_size, btc.tick_size) == ("BTC_USDT", "0.0001", "0.1")
    with pytest.raises(Undecodable, match="code 1001 Contract does not exist"):
        Mexc.read_instruments(contract_detail(KNOWN, "NOPE_USDT"))


# fetching


def test_all_pages_are_followed_and_a_symbol_on_two_of_them_is_there_once():
    answers = pages(
        first={"symbols": ["AAAUSD", "BBBUSD"], "next": "?cursor=2"},
        **{"2": {"symbols": ["BBBUSD", "CCCUSD"], "next": "?cursor=3"}, "3": {"symbols": ["DDDUSD"]}},
    )
    with listing(answers) as (endpoint, asked):
        found = fetch_instruments(Paged, endpoint=endpoint)
    assert found == spot("AAAUSD", "BBBUSD", "CCCUSD", "DDDUSD")
    assert asked == ["/list", "/list?cursor=2", "/list?cursor=3"]


@pytest.mark.parametrize(
    ("sent", "number"),
    [("0.0010", "0.001"), ("1E-4", "0.0001"), ("10.0", "10"), ("100", "100"), ("0.000", ""), ("-1", "")]
    + [(odd, "") for odd in ("", "none", "1E-19", "NaN", "1e99")],
)
def test_numbers_are_plain_or_not_there(monkeypatch, sent, number):
    one = Instrument(
        symbol="A", base="A", quote="U", kind="spot", contract_size=sent, tick_size=sent, quantity_step=sent
    )
    monkeypatch.setattr(Paged, "read_instruments", lambda body: Listing([one]))
    with listing(lambda _: (200, b"")) as (endpoint, _):
        (found,) = fetch_instruments(Paged, endpoint=endpoint)
    assert (found.contract_size, found.tick_size, found.quantity_step) == (number, number, number)


@pytest.mark.parametrize(
    ("following", "count"), [(lambda n: "?cursor=1", 2), (lambda n: f"?cursor={n + 1}", 100)]
)
def test_a_list_without_an_end_is_given_up(following, count):
    def answer(path):
        number = int(path.partition("cursor=")[2] or 0)
        return 200, json.dumps({"symbols": [f"A{number}"], "next": following(number)}).encode()

    with (
        listing(answer) as (endpoint, asked),
        pytest.raises(ConnectionLost, match=f"paged: the list of symbols does not end: {count} pages"),
    ):
        fetch_instruments(Paged, endpoint=endpoint)
    assert len(asked) == count


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (200, b'{"symbols":[]}', ConnectionLost, "the list of symbols is empty"),
        (200, b"<html>", ConnectionLost, "/list: no list of symbols: Expecting value"),
        (200, b'{"nothing":1}', ConnectionLost, "no list of symbols: 'symbols'"),
        (200, b'{"symbols":[1]}', ConnectionLost, "no list of symbols: 'int'"),
        (503, b"", ConnectionLost, "/list: HTTP 503"),
        (301, b"", ConnectionLost, "/list: HTTP 301"),
        (451, b"", Banned, "/list: HTTP 451"),
    ],
)
def test_an_answer_that_is_no_list_is_told_as_what_it_is(status, body, kind, says):
    with listing(lambda _: (status, body)) as (endpoint, _), pytest.raises(kind, match=says) as raised:
        fetch_instruments(Paged, endpoint=endpoint)
    assert type(raised.value) is kind


@pytest.mark.parametrize("exchange", [*REGISTRY.values(), *TYPED.values()], ids=lambda kind: kind.name)
def test_no_exchange_takes_something_else_for_its_list(exchange):
    bodies = [b"", b"<html>", b"\xff", b"null", b"7", b'"a"', b"[]", b"[7]", b"[[]]", b"{}", b'{"a":[{}]}']
    codes = [b'{"code":-1003,"msg":"no"}', b'{"code":"50011","data":[]}', b'{"retCode":10006,"result":{}}']
    left = [*bodies, *codes, b'{"error":["EGeneral:no"]}', b'{"message":"no"}']
    asked = len(left)
    with listing(lambda _: (200, left.pop())) as (endpoint, _):
        for _ in range(asked):
            with pytest.raises(ConnectionLost, match="list of symbols"):
                fetch_instruments(exchange, endpoint=endpoint)
    assert left == []


def test_what_the_exchange_says_cannot_steer_the_terminal():
    body = b'{"success":false,"code":510,"message":"\\u001b[2J\\u009b31mfoo"}'
    with listing(lambda _: (200, body)) as (endpoint, _), pytest.raises(ConnectionLost) as raised:
        fetch_instruments(Mexc, endpoint=endpoint)
    assert raised.value.what.endswith(r"code 510 \x1b[2J\x9b31mfoo")


def test_the_next_proxy_is_taken_when_one_fails_and_none_is_left_out_of_the_error():
    dead = ["http://me:secret@127.0.0.1:1", "http://127.0.0.1:2"]
    with listing(pages(first={"symbols": ["AAAUSD"]})) as (endpoint, asked), Proxy("http") as proxy:
        assert fetch_instruments(Paged, endpoint=endpoint, proxies=[*dead, proxy.url]) == spot("AAAUSD")
        assert asked == ["/list"]
        with pytest.raises(ProxyRefused, match="none of the 2 proxies leads there: ") as raised:
            fetch_instruments(Paged, endpoint=endpoint, proxies=dead)
    assert asked == ["/list"]  # and nothing went another way
    assert "127.0.0.1:1: Connection refused; proxy http://127.0.0.1:2: C" in raised.value.what
    assert "secret" not in str(raised.value)


# keeping


def test_a_list_is_kept_for_an_hour(monkeypatch, cache):
    clock = Clock()
    first = Listed(spot("AAAUSD"), NOW_S * 1000)
    with online(monkeypatch, pages(first={"symbols": ["AAAUSD"]})) as asked:
        assert list_instruments(Paged, clock=clock) == first
        clock.now_s += HOUR_S - 1
        assert list_instruments(Paged, clock=clock) == first
        assert asked == ["/list"]
        assert list_instruments(Paged, refresh=True, clock=clock).seen_ms == (NOW_S + HOUR_S - 1) * 1000
        clock.now_s += HOUR_S
        assert list_instruments(Paged, clock=clock).seen_ms == (NOW_S + 2 * HOUR_S - 1) * 1000
        clock.now_s -= 10  # set back: what was kept comes from the future
        assert list_instruments(Paged, clock=clock).seen_ms == (NOW_S + 2 * HOUR_S - 11) * 1000
        assert asked == ["/list"] * 4
    assert [path.name for path in cache.iterdir()] == ["symbols-paged.json"]


@pytest.mark.parametrize(
    ("age_s", "shown"),
    [(HOUR_S, "1 h 0 min"), (47 * HOUR_S + 90, "47 h 2 min"), (72 * HOUR_S, "3 days"), (-5, "0 min")],
)
def test_an_old_list_is_used_with_a_warning_while_the_exchange_is_away(caplog, age_s, shown):
    old = Listed(spot("AAAUSD"), NOW_S * 1000)
    write_cache("paged", old)
    with caplog.at_level(logging.WARNING):
        assert list_instruments(Paged, clock=Clock(NOW_S + age_s)) == old
    assert [record.getMessage() for record in caplog.records] == [
        f"http://127.0.0.1:1/list: Connection refused. This list of symbols is {shown} old"
    ]


def test_without_any_list_the_error_says_what_to_do(monkeypatch):
    with pytest.raises(ExchangeUnavailable, match="Connection refused") as raised:
        list_instruments(Paged)
    assert raised.value.exit_code == 69
    assert "Is this machine online?" in raised.value.hint
    with (
        online(monkeypatch, lambda _: (451, b"")),
        pytest.raises(ExchangeUnavailable, match=r"HTTP 451\. This address is banned"),
    ):
        list_instruments(Paged)


def test_with_an_endpoint_nothing_is_kept_and_nothing_that_was_kept_is_used(cache):
    write_cache("paged", Listed(spot("OLDUSD"), NOW_S * 1000))
    before = (cache / "symbols-paged.json").read_bytes()
    with listing(pages(first={"symbols": ["NEWUSD"]})) as (endpoint, _):
        assert list_instruments(Paged, endpoint=endpoint, clock=Clock()).instruments == spot("NEWUSD")
    assert (cache / "symbols-paged.json").read_bytes() == before
    with pytest.raises(ExchangeUnavailable):
        list_instruments(Paged, endpoint="ws://127.0.0.1:1/ws", clock=Clock())


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"seen_ms":1}', b'{"seen_ms":1,"instruments":[{}]}', b"\xff"]
)
def test_a_damaged_file_of_the_cache_is_as_good_as_none(monkeypatch, cache, content):
    cache.mkdir(parents=True)
    (cache / "symbols-paged.json").write_bytes(content)
    assert read_cache("paged") is None
    with online(monkeypatch, pages(first={"symbols": ["AAAUSD"]})):
        listed = list_instruments(Paged)
    assert read_cache("paged") == listed


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_folder_that_cannot_be_written_is_no_error(monkeypatch, cache):
    cache.parent.mkdir()
    cache.parent.chmod(0o500)
    with online(monkeypatch, pages(first={"symbols": ["AAAUSD"]})):
        assert list_instruments(Paged).instruments == spot("AAAUSD")


def test_a_file_in_the_cache_folders_place_is_no_error(monkeypatch, cache):
    cache.parent.mkdir()
    cache.write_text("not a folder")
    with online(monkeypatch, pages(first={"symbols": ["AAAUSD"]})):
        assert list_instruments(Paged).instruments == spot("AAAUSD")


def test_a_list_is_replaced_as_a_whole_while_others_read_it(cache):
    lists = [Listed(spot(*(f"{letter}{n:05}" for n in range(500))), 1) for letter in "AB"]
    write_cache("paged", lists[0])
    done = threading.Event()
    seen = []

    def read() -> None:
        while not done.is_set():
            seen.append(read_cache("paged"))

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(100):
        write_cache("paged", lists[n % 2])
    done.set()
    reader.join()
    assert seen
    assert all(one in lists for one in seen)
    assert [path.name for path in cache.iterdir()] == ["symbols-paged.json"]


def test_the_cache_is_in_the_home_folder_by_default(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write_cache("paged", Listed(spot("AAAUSD"), 1))
    assert (tmp_path / "home/.cache/mexcflow/symbols-paged.json").is_file()


# checking

OKX_LIKE = [
    Instrument(symbol="BTC-USDT-SWAP", base="BTC", quote="USDT", kind="perpetual"),
    Instrument(symbol="BTC-USDC-SWAP", base="BTC", quote="USDC", kind="perpetual"),
    Instrument(symbol="ETH-USDT-SWAP", base="ETH", quote="USDT", kind="perpetual", state="suspend"),
    Instrument(symbol="DOGE-USDT-SWAP", base="DOGE", quote="USDT", kind="perpetual"),
]


@pytest.mark.parametrize(
    ("symbol", "hint"),
    [
        ("btc_usdt", "Did you mean 'BTC-USDT-SWAP' or 'BTC-USDC-SWAP'? "),
        ("BTC-USDT_SWAP", "Did you mean 'BTC-USDT-SWAP'? "),
        ("BTC-USTD-SWAP", "Did you mean 'BTC-USDT-SWAP' or 'BTC-USDC-SWAP' or 'ETH-USDT-SWAP'? "),
    ],
)
def test_an_unknown_symbol_is_told_with_those_that_may_be_meant(symbol, hint):
    with pytest.raises(UnknownContract) as raised:
        check_symbols(OKX_LIKE, [symbol], "okx")
    assert raised.value.what == f"okx has no symbol {symbol!r}"
    assert raised.value.hint == f"{hint}See: mexcflow symbols --exchange okx --search BTC"
    assert raised.value.exit_code == 2


def test_a_symbol_unlike_any_is_told_with_the_way_to_the_list():
    for symbol, search in (("PEPE_USDT", " --search PEPE"), ("///", ""), ("x'; rm -rf $HOME", " --search x")):
        with pytest.raises(UnknownContract) as raised:
            check_symbols(OKX_LIKE[:1], [symbol], "okx")
        assert raised.value.hint == f"See: mexcflow symbols --exchange okx{search}"


def test_one_unknown_symbol_is_not_fatal_to_the_others():
    known = check_symbols(OKX_LIKE, ["BTC-USDT-SWAP", "DOGE-USDT-SWAP"], "okx")
    assert known == []
    warnings = check_symbols(OKX_LIKE, ["BTC-USDT-SWAP", "DOGE-USDT", "ETH-USDT-SWAP"], "okx")
    assert warnings == [
        "okx has no symbol 'DOGE-USDT'. Did you mean 'DOGE-USDT-SWAP'? See: mexcflow symbols --exchange okx "
        "--search DOGE",
        "okx: ETH-USDT-SWAP is not trading: its state is 'suspend'",
    ]
    with pytest.raises(UnknownContract, match="okx has no symbol 'A', 'B'"):
        check_symbols(OKX_LIKE, ["A", "B"], "okx")


def test_contract_sizes_are_those_that_are_base_units():
    listed = [
        Instrument(symbol="A", base="A", quote="U", kind="perpetual", contract_size="0.01"),
        Instrument(symbol="B", base="B", quote="U", kind="perpetual", contract_size="100", inverse=True),
        Instrument(symbol="C", base="C", quote="U", kind="perpetual", contract_size=""),
        Instrument(symbol="D", base="D", quote="U", kind="spot"),
    ]
    assert contract_sizes(listed) == {"A": "0.01", "D": "1"}


# for a recording


def test_a_recording_is_given_its_own_symbols(monkeypatch, caplog):
    clock = Clock()
    with online(monkeypatch, pages(first={"symbols": ["AAAUSD", "BBBUSD", "CCCUSD"]})) as asked:
        for _ in range(2):
            found = find_instruments(Paged, ["CCCUSD", "AAAUSD"], clock=clock)
            assert found == Listed(spot("AAAUSD", "CCCUSD"), NOW_S * 1000)
        assert asked == ["/list"]  # the second time the list was kept
        with pytest.raises(UnknownContract, match=r"paged has no symbol 'AAAUSDT'\. Did you mean 'AAAUSD'"):
            find_instruments(Paged, ["AAAUSDT"], clock=clock)
    assert caplog.records == []


def test_a_symbol_that_is_newer_than_the_list_that_was_kept_is_found(monkeypatch):
    write_cache("paged", Listed(spot("AAAUSD"), NOW_S * 1000))
    clock = Clock(NOW_S + 60)
    with online(monkeypatch, pages(first={"symbols": ["AAAUSD", "NEWUSD"]})):
        found = find_instruments(Paged, ["NEWUSD"], clock=clock)
    assert found == Listed(spot("NEWUSD"), (NOW_S + 60) * 1000)


def test_a_recording_goes_on_with_a_warning_while_the_list_is_away(caplog):
    write_cache("paged", Listed(spot("AAAUSD"), NOW_S * 1000))
    old = Clock(NOW_S + 2 * HOUR_S)
    assert find_instruments(Paged, ["AAAUSD"], clock=old) is None  # it may have another size by now
    assert find_instruments(Paged, ["AAAUSD"], proxies=["http://me:secret@127.0.0.1:1"], clock=old) is None
    begin = "going on without the list of symbols of paged: "
    assert [record.getMessage() for record in caplog.records] == [
        f"{begin}http://127.0.0.1:1/list: Connection refused",
        f"{begin}proxy http://127.0.0.1:1: Connection refused",
    ]


def test_a_recording_does_not_wait_longer_than_told_and_what_comes_late_is_kept(monkeypatch, caplog):
    late = threading.Event()

    def answer(path):
        late.wait(5)
        return pages(first={"symbols": ["AAAUSD"]})(path)

    with online(monkeypatch, answer):
        started = time.monotonic()
        assert find_instruments(Paged, ["AAAUSD"], timeout_s=0.2) is None
        assert time.monotonic() - started < 2
        assert [record.getMessage() for record in caplog.records] == [
            "going on without the list of symbols of paged: no list within 0.2 s"
        ]
        late.set()
        for thread in threading.enumerate():
            if thread.name == "instruments":
                thread.join(5)
    assert read_cache("paged").instruments == spot("AAAUSD")
