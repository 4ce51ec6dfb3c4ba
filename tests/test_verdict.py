"""What a table's rows say about a batch, case by case."""

import pytest

from mexcflow.pipeline.fence import Known, Verdict, foreign, judge
from mexcflow.store.fence import TableState

BEFORE = TableState("a", 100)


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        (TableState("a", 100), Verdict.ABSENT),
        (TableState("a", 107), Verdict.PRESENT),
        (TableState("a", 106), Verdict.FOREIGN),
        (TableState("a", 108), Verdict.FOREIGN),
        (TableState("a", 101), Verdict.FOREIGN),
        (TableState("a", 99), Verdict.SHORT),
        (TableState("a", 0), Verdict.SHORT),
        (TableState("b", 100), Verdict.OTHER),
        (TableState("b", 107), Verdict.OTHER),
        (None, Verdict.OTHER),
    ],
)
def test_a_batch_of_seven_rows_is_judged_by_the_rows_that_are_there(now, verdict):
    assert judge(BEFORE, 7, now) is verdict


def test_without_a_batch_the_table_is_as_we_left_it_or_it_is_not():
    verdicts = [judge(BEFORE, 0, TableState("a", rows)) for rows in (99, 100, 101)]
    assert verdicts == [Verdict.SHORT, Verdict.ABSENT, Verdict.FOREIGN]


def test_the_error_names_the_table_and_both_numbers():
    more, fewer = foreign("btc", 100, 1103), foreign("btc", 1100, 103)
    assert "table mexc_data.btc has 1,103 rows and should have 100" in str(more)
    assert "table mexc_data.btc has 103 rows and should have 1,100" in str(fewer)
    assert "--adopt" in more.hint
    assert more.exit_code == fewer.exit_code == 73


def test_what_is_known_of_tables_survives_the_journal():
    known = Known({})
    known.set("btc", BEFORE)
    known.set("eth", TableState("b", 5))
    known.forget("eth")
    again = Known({"tables": known.checkpoint()})
    assert again.get("btc") == BEFORE
    assert again.get("eth") is None
