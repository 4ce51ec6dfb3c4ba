"""Holding a symbol: one process records it, whatever other symbols it is recorded with."""

import contextlib
from collections.abc import Callable

import pytest

from mexcflow.errors import Misuse, StreamInUse
from mexcflow.journal import holder, this_run
from mexcflow.pipeline.hold import Hold


@pytest.fixture
def hold(tmp_path):
    """Hold an instance of these symbols; what is returned lets go of it."""
    with contextlib.ExitStack() as held:

        def take(*symbols: str) -> Callable[[], None]:
            name = ",".join(symbols)
            one = Hold(tmp_path / "okx" / name.replace("/", "%2F"), symbols, this_run("okx", name))
            mine = contextlib.ExitStack()
            mine.callback(one.close)
            held.callback(mine.close)
            return mine.close

        yield take


def test_a_symbol_that_is_recorded_with_another_one_is_refused_by_its_name(hold, tmp_path):
    hold("A", "B")
    with pytest.raises(StreamInUse, match=r"^B of okx is recorded already: .*PID \d+ on ") as caught:
        hold("B")
    assert caught.value.exit_code == StreamInUse.exit_code
    assert ".symbols" not in str(caught.value)
    assert holder(tmp_path / "okx" / "B") is None
    hold("C")


def test_who_is_refused_leaves_the_symbols_that_it_had_got(hold):
    hold("B")
    with pytest.raises(StreamInUse):
        hold("A", "B", "C")
    hold("A")
    hold("C")


def test_the_same_instance_twice_is_refused(hold):
    hold("A", "B")
    with pytest.raises(StreamInUse):
        hold("A", "B")


def test_what_is_let_go_can_be_held_again_and_nothing_is_left_behind(hold, tmp_path):
    hold("A", "B/C")()
    hold("B/C")()
    assert [path for path in tmp_path.rglob("*") if path.name not in ("okx", ".symbols")] == []


def test_an_instance_that_has_recorded_keeps_its_folder(hold, tmp_path):
    let_go = hold("A")
    (tmp_path / "okx/A/public").mkdir()
    (tmp_path / "okx/A/public/lock").touch()
    let_go()
    assert (tmp_path / "okx/A/public/lock").exists()
    hold("A")


@pytest.mark.parametrize("symbol", [".", "..", "A/../..", "%2E%2E"])
def test_no_symbol_is_a_way_out_of_the_folder(hold, tmp_path, symbol):
    hold("A", symbol)
    locks = sorted(path.parent.relative_to(tmp_path / "okx").parts for path in tmp_path.rglob("lock"))
    assert [len(parts) for parts in locks] == [2, 2, 1]
    assert [parts[0] for parts in locks[:2]] == [".symbols"] * 2


def test_a_symbol_that_no_file_can_be_named_after_is_misuse(hold, tmp_path):
    symbols = ("BTC", "A" * 300)
    with pytest.raises(Misuse, match=r"^there can be no symbol 'A{40}'"):
        Hold(tmp_path / "okx" / "BTC-and-more", symbols, this_run("okx", ",".join(symbols)))
    hold("BTC")
