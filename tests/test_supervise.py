"""What is done about a process that ends: every transition, without a process and without a clock."""

import pytest

from mexcflow.ops.supervise import GOOD_RUN_S, STOP_LIMIT_S, Action, State, Supervision


def supervised(*, jitter: float = 0.0) -> Supervision:
    return Supervision(0.0, jitter=lambda: jitter)


def running(*, jitter: float = 0.0) -> Supervision:
    one = supervised(jitter=jitter)
    assert one.tick(0.0) is Action.START
    one.started(0.0)
    return one


def crash(one: Supervision, now: float, *, after: float = 0.0, code: int = 1) -> float:
    """Start it and let it end; returns how long it then waits."""
    one.started(now)
    one.ended(now + after, code, "gone")
    return one.due - now - after


def test_it_is_started_at_once_and_only_once():
    one = running()
    assert one.state is State.RUNNING
    assert one.tick(1.0) is None
    assert one.restarts == 0


def test_waits_double_up_to_a_minute():
    one = supervised()
    assert [crash(one, 0.0) for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert one.restarts == 9


def test_a_good_run_makes_the_next_wait_short_again():
    one = supervised()
    waits = [crash(one, 0.0), crash(one, 0.0), crash(one, 0.0, after=GOOD_RUN_S - 1)]
    assert waits == [1, 2, 4]
    assert [crash(one, 0.0, after=GOOD_RUN_S), crash(one, 0.0)] == [1, 2]


def test_jitter_shortens_a_wait_by_up_to_a_half():
    assert crash(supervised(jitter=1.0), 0.0) == 0.5
    assert crash(supervised(jitter=0.5), 0.0) == 0.75


@pytest.mark.parametrize("code", [0, 1, 69, 73, 74, 75, 137])
def test_whatever_ends_unasked_is_started_again_when_it_is_due(code):
    one = running()
    one.ended(10.0, code, "gone")
    assert (one.state, one.exit_code, one.problem) == (State.WAITING, code, "gone")
    assert one.tick(10.9) is None
    assert one.tick(11.0) is Action.START


def test_misuse_waits_for_its_file():
    one = running()
    one.ended(1.0, 2, "no such contract")
    assert one.state is State.REFUSED
    assert one.tick(1e6) is None
    one.mended(1e6)
    assert one.tick(1e6) is Action.START
    assert one.restarts == 0


def test_a_changed_file_restarts_what_runs_in_order_and_at_once():
    one = running()
    assert one.changed(5.0) is Action.STOP
    assert one.state is State.STOPPING
    assert one.changed(5.5) is None  # again: it is on its way
    one.ended(6.0, 0, "")
    assert one.tick(6.0) is Action.START
    assert one.restarts == 0


def test_a_changed_file_ends_a_wait_and_a_refusal():
    one = supervised()
    for _ in range(5):
        crash(one, 0.0)
    assert one.changed(1.0) is None
    assert one.tick(1.0) is Action.START
    assert crash(one, 2.0, code=2) < 0
    assert one.changed(3.0) is None
    assert one.tick(3.0) is Action.START


def test_what_somebody_else_does_is_left_to_him_and_taken_over_when_he_is_gone():
    one = supervised()
    assert one.tick(0.0, elsewhere="recorded by PID 7") is None
    assert (one.state, one.problem) == (State.ELSEWHERE, "recorded by PID 7")
    assert one.tick(50.0, elsewhere="recorded by PID 8") is None
    assert (one.since, one.problem) == (0.0, "recorded by PID 8")
    assert one.tick(60.0) is Action.START
    assert one.problem == ""


def test_stopping_is_for_good_and_keeps_the_exit_code():
    one = running()
    assert one.stop(1.0) is Action.STOP
    assert one.stop(1.1) is None
    one.ended(2.0, 69, "the database does not answer")
    assert (one.state, one.exit_code) == (State.ENDED, 69)
    assert one.tick(1e6) is None


def test_a_stop_while_it_restarts_for_a_changed_file_is_for_good_too():
    one = running()
    one.changed(1.0)
    assert one.stop(2.0) is None  # it has been told already
    one.ended(3.0, 0, "")
    assert one.state is State.ENDED


def test_what_is_ended_before_it_had_begun_ended_well():
    one = running()
    one.stop(0.1)
    one.ended(0.2, 143, "exit code 143")
    assert (one.state, one.exit_code, one.problem) == (State.ENDED, 0, "")


@pytest.mark.parametrize("code", [0, 2, 69])
def test_what_does_not_run_is_stopped_without_a_signal_and_keeps_its_code(code):
    one = supervised()
    if code:
        crash(one, 0.0, code=code)
    assert one.stop(5.0) is None
    assert (one.state, one.exit_code) == (State.ENDED, code)


def test_what_does_not_end_is_killed_once_after_a_generous_time():
    one = running()
    one.stop(10.0)
    assert one.tick(10.0 + STOP_LIMIT_S - 1) is None
    assert one.tick(10.0 + STOP_LIMIT_S) is Action.KILL
    assert one.tick(11.0 + STOP_LIMIT_S) is None
    one.ended(12.0 + STOP_LIMIT_S, 137, "killed")
    assert one.state is State.ENDED


def test_what_hangs_over_a_changed_file_is_killed_and_started_again():
    one = running()
    one.changed(0.0)
    assert one.tick(STOP_LIMIT_S) is Action.KILL
    one.ended(STOP_LIMIT_S, 137, "killed")
    assert one.tick(STOP_LIMIT_S) is Action.START


def test_a_kill_reaches_what_runs_and_what_stops_and_nothing_else():
    assert running().kill(1.0) is Action.KILL
    stopping = running()
    stopping.stop(1.0)
    assert stopping.kill(2.0) is Action.KILL
    waiting = supervised()
    assert waiting.kill(1.0) is None
    assert waiting.state is State.ENDED
