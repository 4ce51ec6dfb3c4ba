"""Recording where the engine takes a batch once for its token: a cluster's Distributed table, and MergeTree.

The engine is the real one; of the cluster there is one node, without Keeper, so its tokens are kept by
MergeTree in place of ReplicatedMergeTree. What matters most is done to a MergeTree table alone as well.
"""

import itertools
import os
from collections.abc import Callable, Iterator

import pytest

from mexcflow.config import Instance
from mexcflow.errors import StatementRefused
from mexcflow.ops.setup import setup
from mexcflow.simulator import Settings, Simulator
from mexcflow.store import open_store
from mexcflow.store.coverage import read_intervals
from mexcflow.store.forms import Kept
from mexcflow.store.tokens import insert_once
from tests.cluster import ClusterServer, MergeTreeServer
from tests.conftest import wait_for
from tests.disasters.away import Server
from tests.disasters.faults import play_faults
from tests.disasters.run import Run
from tests.inserting import ACK, T_MS, FaultyStore, Inserting, deal
from tests.kill.frames import rows_of, without_end

SEED = int(os.environ.get("FAULT_SEED", "0")) or int.from_bytes(os.urandom(3), "big")
COUNT = "SELECT count(), uniqExact(m) FROM mexc_data.btc"
MONTH_MS = 31 * 86_400_000


@pytest.fixture
def server(request, tmp_path) -> Iterator[Server]:
    with getattr(request, "param", ClusterServer)(tmp_path / "server") as server:
        yield server


both = pytest.mark.parametrize("server", [MergeTreeServer, ClusterServer], indirect=True)


@pytest.fixture
def insert(server, tmp_path) -> Iterator[Callable[[], Inserting]]:
    """Start inserters, each as another run of the same stream would be."""
    started: list[Inserting] = []

    def start() -> Inserting:
        store = FaultyStore(open_store(server.url, timeout_s=1))
        started.append(Inserting(tmp_path, store=store, flush_interval_s=0.05).start())
        return started[-1]

    yield start
    for one in started:
        one.close()


def tokens(server: Server) -> list[str]:
    """The token of every INSERT into the string table that arrived, in order."""
    return [one["insert_deduplication_token"] for one in server.front.inserts if "`btc`" in one["query"]]


def counts(server: Server) -> tuple[int, int]:
    return server.store.query(COUNT)[0]


# an outcome that is not known


FAULTS: dict[str, Callable] = {
    "reset before it was executed": lambda proxy: proxy.reset_before(times=1),
    "executed, and reset": lambda proxy: proxy.reset_after(times=1),
    "executed, and no answer": lambda proxy: proxy.stall(times=1),
    "taken, and no answer": lambda proxy: proxy.hold(times=1),
    "HTTP 500": lambda proxy: proxy.answer_500(times=1),
}


@pytest.mark.parametrize(
    ("server", "fault"),
    [(MergeTreeServer, "executed, and reset"), *((ClusterServer, fault) for fault in FAULTS)],
    indirect=["server"],
)
def test_a_batch_whose_answer_is_lost_is_sent_again_and_is_there_once(server, insert, fault):
    placed = FAULTS[fault](server.proxy)
    run = insert()
    run.send(ACK, *(deal(number) for number in range(7)))
    wait_for(lambda: run.total.inserts)
    run.send(deal(7))
    wait_for(lambda: run.total.inserts == 2)
    run.end()
    assert run.error is None
    assert placed.met == 1
    assert counts(server) == (8, 8)
    sent = tokens(server)
    assert len(set(sent)) == 2
    assert len(sent) == (3 if fault.startswith("executed") else 2)


def test_an_insert_that_outlives_its_client_is_there_once_beside_those_that_were_sent_again(server, insert):
    with server.front.holding_inserts():
        run = insert()
        run.send(ACK, *(deal(number) for number in range(7)))
        wait_for(lambda: run.metrics.errors_in_interval >= 2)
        assert counts(server) == (0, 0)
    wait_for(lambda: run.total.inserts)
    run.end()
    wait_for(lambda: not server.front.running)
    assert len(tokens(server)) >= 3
    assert len(set(tokens(server))) == 1
    assert counts(server) == (7, 7)


def test_it_is_the_token_that_keeps_them_single(server, insert):
    """The same fault at an engine that does not look at tokens: the rows are there twice."""
    run = insert()
    run.send(ACK, deal(0))
    wait_for(lambda: run.total.inserts)
    server.command("SET deduplicate_insert = 'disable'")
    server.proxy.reset_after(times=1)
    run.send(*(deal(number) for number in range(1, 8)))
    wait_for(lambda: run.total.inserts == 2)
    run.end()
    assert counts(server) == (15, 8)


def test_a_profile_that_switches_tokens_off_is_refused(server, insert):
    server.command("SET deduplicate_insert = 'disable'")
    run = insert()
    wait_for(lambda: run.error)
    assert isinstance(run.error, StatementRefused)
    assert "deduplicate_insert = 'disable' in the user's profile" in run.error.what


@both
@pytest.mark.parametrize("executed", [True, False])
def test_a_batch_that_a_run_left_in_doubt_is_finished_by_the_next_under_the_same_name(
    server, insert, executed
):
    with server.proxy.reset_after() if executed else server.proxy.reset_before():
        first = insert()
        first.send(ACK, *(deal(number) for number in range(5)))
        wait_for(lambda: first.metrics.errors_in_interval >= 2)
        first.send(*(deal(number) for number in range(5, 9)))
        first.close()
    assert counts(server)[0] == (5 if executed else 0)
    name = first.journal.pending.name
    arrived = len(tokens(server))
    assert set(tokens(server)) == ({name} if executed else set())
    second = insert()
    wait_for(lambda: second.total.inserts >= 2)
    second.end()
    assert second.error is None
    assert counts(server) == (9, 9)
    assert tokens(server)[arrived] == name
    assert name not in tokens(server)[arrived + 1 :]


def test_of_a_batch_over_two_months_the_part_that_lacks_is_added(server):
    rows = [(T_MS + number * MONTH_MS, "d", f"{number}|1|1") for number in range(3)]
    with open_store(server.url) as store:
        insert_once(store, "btc", rows, token="one")
        table = "btc_local" if isinstance(server, ClusterServer) else "btc"
        server.command(f"ALTER TABLE mexc_data.{table} DROP PARTITION 202610")  # as if it had never come
        assert counts(server) == (2, 2)
        insert_once(store, "btc", rows, token="one")
        assert counts(server) == (3, 3)


def test_times_of_many_months_are_no_reason_to_refuse_a_batch(server):
    rows = [(T_MS + number * MONTH_MS, "d", f"{number}|1|1") for number in range(4)]
    server.command("SET max_partitions_per_insert_block = 3")
    with open_store(server.url) as store:
        insert_once(store, "btc", rows, token="one")
    assert counts(server) == (4, 4)


def test_coverage_is_there_once_however_often_it_was_sent(server, insert):
    table = "coverage_local" if isinstance(server, ClusterServer) else "coverage"
    server.command(f"SYSTEM STOP MERGES market_data.{table}")  # which would hide it
    run = insert()
    run.send(ACK, deal(1))
    wait_for(lambda: run.total.inserts)
    server.proxy.reset_after(times=2)
    run.end()  # writes the live interval once more
    assert run.error is None
    sent = [one["insert_deduplication_token"] for one in server.front.inserts if "coverage" in one["query"]]
    assert len(sent) == len(set(sent)) + 2
    assert server.store.query(f"SELECT count() FROM market_data.{table}") == [(len(set(sent)),)]
    assert [one.rows for one in read_intervals(server.store, "mexc", "BTC_USDT")] == [1]


# a real process


@pytest.mark.timeout(300)
def test_through_seconds_of_random_faults_and_kills_every_row_is_there_once(tmp_path):
    outcome = play_faults(tmp_path, seed=SEED, seconds=5, kind=ClusterServer)
    print(outcome)  # noqa: T201 - seen when it fails, and with -rP
    assert outcome.frames > 300
    assert (outcome.verdict.lost, outcome.verdict.doubled) == ([], []), outcome.faults


def test_killed_while_its_answers_are_lost_and_every_row_is_there_once(tmp_path):
    """SIGKILL between an INSERT that was executed and the answer, which never came."""
    settings = Settings(recording=without_end, rate=500.0, keep_sent=True)
    received = []
    with ClusterServer(tmp_path / "server") as server, Simulator.of(settings) as exchange:
        options = ("--database", server.url, "--flush-interval", "0.1", "--stats-interval", "0.2",
                   "--log-format", "json", "--max-errors", "1000")  # fmt: skip
        for last in (False, True):
            with Run(exchange, tmp_path, *options, PATIENCE="1") as run:
                wait_for(lambda: run.statistics().get("rows"), seconds=40, what=run.log)
                if last:
                    assert run.stop() == 0, run.log
                else:
                    with server.proxy.reset_after():
                        server.front.requests.clear()
                        wait_for(lambda: len(tokens(server)) >= 2)
                        run.kill()
                sent = list(run.sent())
                received.append((sent[: run.appended()], sent))
        stored = server.rows()
    sure = {row for some, _ in received for row in rows_of(some)}
    possible = {row for _, all_of_them in received for row in rows_of(all_of_them)}
    assert len(stored) == len(set(stored))
    assert sure <= set(stored) <= possible


# the order of rows


@both
def test_rows_of_one_millisecond_stay_in_the_order_they_came_in_over_inserts_and_merges(server):
    rows = [(T_MS + number // 700, "td"[number % 2], f"{number}") for number in range(12_000)]
    with open_store(server.url) as store:
        for begin in range(0, len(rows), 400):
            insert_once(store, "btc", rows[begin : begin + 400], token=f"{begin}")
    for merged in (False, True):
        if merged:
            table = "btc_local" if isinstance(server, ClusterServer) else "btc"
            server.command(f"OPTIMIZE TABLE mexc_data.{table} FINAL")
        for mt in "td":
            found = [(ms, int(m)) for ms, kind, m in server.rows() if kind == mt]
            assert len(found) == 6000
            same_ms = [(one, other) for one, other in itertools.pairwise(found) if one[0] == other[0]]
            assert len(same_ms) > 5000
            assert all(one[1] < other[1] for one, other in same_ms)


# another table


def test_a_batch_for_another_table_is_inserted_here_and_the_log_says_so(server, insert, tmp_path, caplog):
    server.command("CREATE TABLE mexc_data.eth (ts DateTime64(3), mt Enum8('t' = 1, 'd' = 2, 'dp' = 3, "
                   "'dl' = 4), m String) ENGINE = StripeLog")  # fmt: skip
    with server.proxy.reset_before(), open_store(server.url) as store:
        first = Inserting(tmp_path, store=FaultyStore(store), table="eth", flush_interval_s=0.05).start()
        first.send(ACK, *(deal(number) for number in range(5)))
        wait_for(lambda: first.journal.pending)
        first.close()
    second = insert()
    wait_for(lambda: second.total.inserts)
    second.end()
    assert second.error is None
    assert counts(server) == (5, 5)
    assert "was meant for another table than this btc" in caplog.text


def test_a_batch_for_another_table_that_takes_tokens_goes_there(server, insert, tmp_path):
    more = [Instance(symbol="BTC_USDT", table="btc"), Instance(symbol="ETH_USDT", table="eth")]
    with open_store(f"http://127.0.0.1:{server.front.port}") as store:
        cluster = "market" if isinstance(server, ClusterServer) else ""
        setup(store, more, cluster=cluster, kept=None if cluster else Kept.MERGETREE)
    with server.proxy.reset_after(), open_store(server.url) as store:
        first = Inserting(tmp_path, store=FaultyStore(store), table="eth", flush_interval_s=0.05).start()
        first.send(ACK, *(deal(number) for number in range(5)))
        wait_for(lambda: first.metrics.errors_in_interval >= 2)
        first.close()
    second = insert()
    second.send(deal(6))
    wait_for(lambda: second.total.inserts >= 2)
    second.end()
    assert server.store.query("SELECT count() FROM mexc_data.eth") == [(5,)]
    assert counts(server) == (1, 1)


def test_back_in_a_stripelog_table_of_that_name_recording_goes_on(server, insert, tmp_path):
    first = insert()
    first.send(ACK, *(deal(number) for number in range(5)))
    wait_for(lambda: first.total.inserts)
    first.end()
    server.command("RENAME TABLE mexc_data.btc TO mexc_data.btc_sorted")
    server.command("CREATE TABLE mexc_data.btc (ts DateTime64(3), mt Enum8('t' = 1, 'd' = 2, 'dp' = 3, "
                   "'dl' = 4), m String) ENGINE = StripeLog")  # fmt: skip
    server.command("INSERT INTO mexc_data.btc SELECT ts, mt, m FROM mexc_data.btc_sorted")
    second = insert()
    second.send(deal(5))
    wait_for(lambda: second.total.inserts or second.error)
    second.end()
    assert second.error is None
    assert counts(server) == (6, 6)
