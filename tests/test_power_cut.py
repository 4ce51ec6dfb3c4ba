"""Power cuts: what was synced is in the table once and in order, and a cut takes at most the fsync interval.

The real command records onto a file system of its own (ext4 on a loop device) whose device stops at a random
moment, then starts again on what was on it: here six times, ten times a round in `make torture`.

Two things are asked of it. Without any margin: every message whose append had returned before the last sync
that came to its end is in the table, and with `--fsync 0` every message whose append had returned at all.
And of what is lost the oldest message is no older than the fsync interval and `MARGIN_S`.
"""

import os

import pytest

from tests.disasters.cuts import play_round
from tests.disasters.disk import Disks, why_not

SEED = int(os.environ.get("CUT_SEED", "0")) or int.from_bytes(os.urandom(3), "big")
REASON = why_not()
needs_disks = pytest.mark.skipif(bool(REASON), reason=REASON)


@needs_disks
@pytest.mark.timeout(300)
@pytest.mark.parametrize("half", [0, 1])  # so that two workers share them
def test_after_two_power_cuts_all_that_was_synced_is_in_the_table_once_and_in_order(tmp_path, half):
    outcome = play_round(tmp_path, seed=SEED + half, cuts=2)
    print(outcome)  # noqa: T201 - seen when it fails, and with -rP
    assert outcome.frames > 100
    assert not outcome.problems(), outcome.log


@needs_disks
def test_the_disk_for_the_tests_forgets_what_was_not_synced(tmp_path):
    with Disks(tmp_path) as disks:
        disk = disks.new(30)
        for name, synced in (("synced", True), ("not", False)):
            handle = os.open(disk.folder / name, os.O_WRONLY | os.O_CREAT)
            os.write(handle, b"x" * 1000)
            if synced:
                os.fsync(handle)
            os.close(handle)
        disk.cut()
        with pytest.raises(OSError, match="Input/output error"):
            (disk.folder / "later").write_bytes(b"x")
        found = disks.copy_of(disk)
        assert (found.folder / "synced").read_bytes() == b"x" * 1000
        assert not (found.folder / "not").exists()
        assert not (found.folder / "later").exists()
    assert not os.path.ismount(disk.folder)
    assert not os.path.ismount(found.folder)
