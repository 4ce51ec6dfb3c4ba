"""The journal in memory: order, bounds, and who waits for whom."""

import threading
import time

from mexcflow.model import Frame
from mexcflow.pipeline.journal import MemoryJournal
from tests.conftest import wait_for


def payloads(frames: list[Frame]) -> list[bytes]:
    return [frame.payload for frame in frames]


def test_frames_come_out_in_order_with_their_receive_times():
    journal = MemoryJournal()
    journal.append(1, [b"a", b"b"])
    journal.append(2, [b"c"])
    assert journal.take(10) == [Frame(1, b"a"), Frame(1, b"b"), Frame(2, b"c")]


def test_what_was_not_acknowledged_is_taken_again():
    journal = MemoryJournal()
    journal.append(1, [b"a", b"b", b"c"])
    assert payloads(journal.take(2)) == [b"a", b"b"]
    assert payloads(journal.take(2)) == [b"a", b"b"]
    assert journal.backlog == 3
    journal.acknowledge()
    assert payloads(journal.take(2)) == [b"c"]
    journal.acknowledge()
    assert journal.take(2) == []
    assert journal.backlog == 0


def test_a_full_journal_makes_the_receiver_wait_and_drops_nothing():
    journal = MemoryJournal(limit_bytes=1000)
    sent = [b"%03d" % number + bytes(400) for number in range(20)]
    receiving = threading.Thread(target=lambda: [journal.append(1, [payload]) for payload in sent])
    receiving.start()
    wait_for(lambda: journal.backlog == 2)
    time.sleep(0.1)
    assert journal.backlog == 2  # it waits
    got = []
    while len(got) < len(sent):
        got += payloads(journal.take(1))
        journal.acknowledge()
        time.sleep(0.001)
    receiving.join(5)
    assert got == sent


def test_closing_frees_a_receiver_that_waits_for_room():
    journal = MemoryJournal(limit_bytes=10)
    journal.append(1, [bytes(100)])
    receiving = threading.Thread(target=journal.append, args=(2, [b"last"]))
    receiving.start()
    journal.close()
    receiving.join(5)
    assert not receiving.is_alive()
    assert journal.backlog == 2


def test_waiting_ends_when_enough_is_there_not_before():
    journal = MemoryJournal()
    ended = threading.Event()

    def reader() -> None:
        journal.wait(3, 60)
        ended.set()

    thread = threading.Thread(target=reader)
    thread.start()
    journal.append(1, [b"a", b"b"])
    assert not ended.wait(0.2)
    journal.append(1, [b"c"])
    assert ended.wait(5)
    thread.join()


def test_waiting_ends_with_its_time_and_with_close():
    journal = MemoryJournal()
    journal.wait(1, 0.01)
    journal.close()
    started = time.monotonic()
    journal.wait(1, 60)
    assert time.monotonic() - started < 30
