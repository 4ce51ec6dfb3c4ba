"""`mexcflow proxy-check`: which proxies work, how long the way is, and why one does not work."""

import json
from contextlib import contextmanager

import pytest

from mexcflow.config import Instance
from mexcflow.ops.proxycheck import STEPS, Checked, Way, check, ways_of
from mexcflow.pipeline.rest import at_endpoint
from mexcflow.simulator import Simulator
from tests.conftest import mexcflow
from tests.proxy import Proxy

DEAD = "socks5://me:secret@127.0.0.1:1"


def checked(exchange: Simulator, *proxies: str, count: int = 2, symbol: str = "BTC_USDT") -> list[Checked]:
    instance = Instance(symbol=symbol, endpoint=exchange.url)
    return check([Way(proxy, instance) for proxy in proxies], count=count, timeout_s=1)


@contextmanager
def five():
    """One that works and four that do not."""
    with (
        Proxy("http", user="me", password="secret") as good,
        Proxy("socks5") as stalled,
        Proxy("http") as cutting,
        Proxy("http") as banned,
        stalled.stalling(),
        cutting.cutting_after(20),
        banned.answering(429, Retry_After="60"),
    ):
        yield good, [good.url, stalled.url, cutting.url, banned.url, DEAD]


def test_each_step_of_each_attempt_through_a_good_proxy_is_timed(exchange):
    with Proxy("socks5h") as proxy:
        found = checked(exchange, proxy.url, "", count=3)
        assert len(proxy.callers) == 9
        assert set(exchange.callers) & set(proxy.callers) == set(proxy.callers) - {
            proxy.callers[at] for at in (0, 3, 6)
        }
    assert [one.proxy for one in found] == [f"socks5h://127.0.0.1:{proxy.port}", "direct"]
    for one in found:
        assert (one.ok, one.attempts, one.succeeded, one.reasons) == (True, 3, 3, [])
        for step in STEPS:
            times = one.steps[step]
            assert times.succeeded == 3
            assert 0 < times.min_ms <= times.median_ms <= times.max_ms


def test_the_reason_of_each_failure_is_told_without_a_password(exchange):
    with five() as (_, proxies):
        good, stalled, cutting, banned, dead = checked(exchange, *proxies)
    assert good.ok
    assert not any(one.ok for one in (stalled, cutting, banned, dead))
    assert "no answer within 1 s" in stalled.reasons[0]
    assert cutting.steps["connect"].succeeded == 2
    assert cutting.steps["ping"].succeeded == cutting.steps["stream"].succeeded == 0
    assert len(cutting.reasons) == 2
    assert "HTTP 429" in banned.reasons[0]
    assert (banned.attempts, banned.reasons[1]) == (1, "no further attempt: 1 of 2")
    assert "refused" in dead.reasons[0]
    assert dead.attempts == 2
    assert "secret" not in str([good, stalled, cutting, banned, dead])


def test_a_proxy_that_carries_rest_and_no_stream_is_half_well():
    with Simulator(generate=False) as exchange, exchange.no_acks():
        (one,) = checked(exchange, "", count=1)
    assert [one.steps[step].succeeded for step in STEPS] == [1, 1, 0]
    assert one.succeeded == 0
    assert one.reasons == ["neither acknowledgement nor data within 1 s"]


def test_what_the_exchange_says_is_a_reason_and_after_a_ban_nobody_asks_again(exchange):
    (one,) = checked(exchange, "", symbol="NOPE_USDT")
    assert one.reasons == ["the exchange says: Contract [NOPE_USDT] not exists"]
    before = len(exchange.callers)
    with exchange.banned(403):
        (one,) = checked(exchange, "", count=5)
    assert "HTTP 403" in one.reasons[0]
    assert len(exchange.callers) == before + 1


def test_a_proxy_that_several_instances_share_is_checked_once():
    shared = "http://a:1"
    btc = Instance(symbol="BTC_USDT", proxies=(shared, "http://b:1"), source="btc.toml")
    eth = Instance(symbol="ETH_USDT", proxy=shared, source="eth.toml")
    sol = Instance(symbol="SOL_USDT", proxy=shared, source="sol.toml", endpoint="ws://127.0.0.1:1/edge")
    found = ways_of([btc, eth, sol], direct=False)
    assert [(way.proxy, way.used_by) for way in found] == [
        (shared, ["BTC_USDT", "ETH_USDT"]),
        ("http://b:1", ["BTC_USDT"]),
        (shared, ["SOL_USDT"]),
    ]
    assert [way.proxy for way in ways_of([btc, eth], direct=True)] == [shared, "http://b:1", ""]


def test_rest_goes_where_the_endpoint_points():
    own = "https://exchange.example/api/ping"
    assert at_endpoint(own, "") == own
    assert at_endpoint(own, "ws://127.0.0.1:8765/edge?x=1") == "http://127.0.0.1:8765/api/ping"
    assert at_endpoint(own, "wss://other/edge") == "https://other/api/ping"


def test_the_command_shows_a_table_and_its_exit_code_says_whether_all_work(exchange, tmp_path):
    with five() as (good, proxies):
        (tmp_path / "instances").mkdir()
        (tmp_path / "instances/btc.toml").write_text(
            f'symbol = "BTC_USDT"\nproxies = {json.dumps(proxies)}\n'
        )
        (tmp_path / "instances/eth.toml").write_text(f'symbol = "ETH_USDT"\nproxy = "{good.url}"\n')
        options = ("--endpoint", exchange.url, "--timeout", "0.5")
        done = mexcflow("proxy-check", *options, "--count", "2", cwd=tmp_path)
        assert done.returncode == 1, done.stderr
        rows = {line.split()[0]: line for line in done.stdout.splitlines() if "://" in line.split()[0]}
        assert len(rows) == 5
        shown = rows[f"http://127.0.0.1:{good.port}"]
        assert "BTC_USDT, ETH_USDT" in shown
        assert "2/2" in shown
        assert "refused" in rows["socks5://127.0.0.1:1"]
        as_json = mexcflow("proxy-check", *options, "--proxy", good.url, "--direct", "--json", cwd=tmp_path)
    assert as_json.returncode == 0
    report = json.loads(as_json.stdout)
    assert report["ok"]
    assert [one["proxy"] for one in report["proxies"]] == [f"http://127.0.0.1:{good.port}", "direct"]
    assert report["proxies"][0]["steps"].keys() == set(STEPS)
    assert "secret" not in done.stdout + done.stderr + as_json.stdout + as_json.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "no proxy to check"),
        (("--proxy", "me:secret@host:1"), "'host:1' is no proxy's URL"),
    ],
)
def test_misuse_is_one_line(tmp_path, options, says):
    done = mexcflow("proxy-check", *options, cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert says in line
    assert "secret" not in line
