"""Torn tables: every whole INSERT before the damage is back, the next one works, nothing is thrown away.

Damage is done to the files of a closed folder, as a power cut or a full disk does it; the rows are then
read by the real engine.
"""

import logging
import shutil
import struct
from pathlib import Path

import lz4.block
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mexcflow.errors import DiskFailed
from mexcflow.store import ensure_table, open_store
from mexcflow.store.folder import repair_folder
from mexcflow.store.repair import inspect
from mexcflow.store.stripelog import DataFile, ends_whole, whole_part
from tests.torn import BATCHES, FILES, T0, append, batch, cut, fill, flat, rows_of, shorter, state, table_in


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A closed folder with ten INSERTs in btc; its tests work on copies."""
    folder = tmp_path_factory.mktemp("made") / "data"
    with open_store(str(folder)) as store:
        fill(store, "btc", BATCHES)
    return folder


@pytest.fixture
def data(made, tmp_path) -> Path:
    shutil.copytree(made, tmp_path / "data", symlinks=True)
    return tmp_path / "data"


DAMAGE = {
    # what is done to the table's folder, how many INSERTs are whole
    "garbage behind data.bin": (lambda table: append(table / "data.bin", b"garbage" * 100), 10),
    "garbage behind index.mrk": (lambda table: append(table / "index.mrk", b"garbage" * 100), 10),
    "data.bin 10 bytes shorter": (lambda table: shorter(table / "data.bin", 10), 9),
    "data.bin 2000 bytes shorter": (lambda table: shorter(table / "data.bin", 2000), 5),
    "index.mrk shorter": (lambda table: shorter(table / "index.mrk", 130), 8),
    "sizes.json empty": (lambda table: cut(table / "sizes.json", 0), 10),
    "sizes.json garbage": (lambda table: (table / "sizes.json").write_bytes(b"\0\0{garbage"), 10),
    "sizes.json of nothing": (lambda table: (table / "sizes.json").write_bytes(b'{"clickhouse":{}}'), 10),
    "sizes.json missing": (lambda table: (table / "sizes.json").unlink(), 10),
    "index.mrk missing": (lambda table: (table / "index.mrk").unlink(), 0),
    "data.bin of length 0": (lambda table: cut(table / "data.bin", 0), 0),
    "data.bin missing": (lambda table: (table / "data.bin").unlink(), 0),
    "zeros at the end of data.bin": (lambda table: zeros(table / "data.bin", 100), 9),
    "zeros at the end of index.mrk": (lambda table: zeros(table / "index.mrk", 100), 9),
    "sizes.json gone, data.bin shorter": (
        lambda table: ((table / "sizes.json").unlink(), shorter(table / "data.bin", 1)),
        9,
    ),
}


def zeros(path: Path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:-count] + bytes(count))


@pytest.mark.parametrize("damage", DAMAGE)
def test_every_whole_insert_before_the_damage_is_back_and_the_next_insert_works(data, damage, caplog):
    harm, whole = DAMAGE[damage]
    table = table_in(data)
    harm(table)
    harmed = {name: (table / name).read_bytes() for name in FILES if (table / name).exists()}
    with open_store(str(data)) as store:
        assert rows_of(store) == flat(BATCHES[:whole])
        kept = {name: (table / name).stat().st_size for name in FILES[:2] if (table / name).exists()}
        store.insert_rows("btc", batch(99))
    with open_store(str(data)) as store:
        assert rows_of(store) == flat(BATCHES[:whole]) + batch(99)
    if damage.startswith("garbage"):  # the engine knows what to do: longer files are its own business
        assert not (data / "torn").exists()
        return
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert f"{whole * 40} rows of {whole} INSERTs" in warning.getMessage()
    (aside,) = (data / "torn").glob("torn-*Z/mexc_data.btc")
    assert str(aside) in warning.getMessage()
    expected = {
        f"{name}.from-{kept[name]}": bytes_[kept[name] :]
        for name, bytes_ in harmed.items()
        if name in kept and len(bytes_) > kept[name]
    }
    expected |= {"sizes.json": harmed["sizes.json"]} if "sizes.json" in harmed else {}
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == expected


ROW = st.one_of(
    st.tuples(
        st.integers(T0, T0 + 10**9),
        st.just("dp"),
        st.integers(1, 9).map(lambda n: f"[84055.{n},12]," * (n * 80)),
    ),
    st.tuples(st.integers(T0, T0 + 10**9), st.just("d"), st.just("84055.1|3|2")),
    st.tuples(
        st.just(T0),
        st.just("dl"),
        st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=300),
    ),
)
PLACE = st.floats(0, 1)
SOME_BATCHES = st.lists(
    st.tuples(st.lists(ROW, min_size=1, max_size=5), st.integers(1, 200)).map(
        lambda made: (made[0] * made[1])[: made[1]]
    ),
    min_size=1,
    max_size=6,
)


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("room")


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(batches=SOME_BATCHES, cuts=st.lists(st.tuples(PLACE, PLACE), min_size=3, max_size=3))
def test_whatever_is_cut_off_the_longest_row_of_whole_inserts_is_left(room, batches, cuts):
    """Three tables of the same rows, each torn at two places: one engine start for all of them."""
    shutil.rmtree(room / "data", ignore_errors=True)
    with open_store(str(room / "data")) as store:
        filled = [fill(store, f"t{number}", batches) for number in range(len(cuts))]
    for (folder, ends), places in zip(filled, cuts, strict=True):
        for name, end, place in zip(FILES, ends[-1], places, strict=False):
            cut(folder / name, round(end * place))
    with open_store(str(room / "data")) as store:
        for number, ((_, ends), places) in enumerate(zip(filled, cuts, strict=True)):
            data_left, index_left = (round(end * place) for end, place in zip(ends[-1], places, strict=True))
            whole = max(n for n, end in enumerate(ends) if end[0] <= data_left and end[1] <= index_left)
            assert rows_of(store, f"t{number}") == flat(batches[:whole])
            store.insert_rows(f"t{number}", batches[0])
            assert rows_of(store, f"t{number}") == flat(batches[:whole]) + batches[0]


def test_at_every_length_of_either_file_the_same_inserts_are_whole_as_by_their_ends(tmp_path):
    with open_store(str(tmp_path)) as store:
        table, ends = fill(store, "btc", BATCHES[:4])
    (finding,) = inspect(tmp_path, every=True)
    assert (finding.inserts, finding.rows, finding.problem, finding.cut_bytes) == (4, 160, "", 0)
    for which, name in enumerate(FILES[:2]):
        content = (table / name).read_bytes()
        for length in range(len(content)):
            cut(table / name, len(content) - 1 - length)
            whole = max(n for n, end in enumerate(ends) if end[which] <= len(content) - 1 - length)
            (finding,) = inspect(tmp_path)
            assert (finding.inserts, finding.rows) == (whole, 40 * whole)
            assert (finding.data_bin_bytes, finding.index_mrk_bytes) == ends[whole]
            assert finding.rows_cut == (0 if which else 160 - 40 * whole)
        (table / name).write_bytes(content)
        assert inspect(tmp_path) == []


def test_an_intact_folder_is_not_touched(data, tmp_path):
    before = state(data)
    assert inspect(data) == []
    assert [finding.problem for finding in repair_folder(data, dry_run=True)] == [""]
    assert state(data) == before
    assert [finding.problem for finding in repair_folder(data, dry_run=False)] == [""]
    assert {**state(data), "status": None} == {**before, "status": None}
    with open_store(str(data)) as store:
        assert rows_of(store) == flat(BATCHES)
    inside = "store/"
    assert {k: v for k, v in state(data).items() if k.startswith(inside)} == {
        k: v for k, v in before.items() if k.startswith(inside)
    }


def test_of_two_tables_only_the_torn_one_is_touched_and_a_table_of_others_is_left_alone(tmp_path):
    with open_store(str(tmp_path / "data")) as store:
        btc, _ = fill(store, "btc", BATCHES[:2])
        fill(store, "eth", BATCHES)
        ensure_table(store, "sol")  # has no files yet
        for name, engine in (("tiny", "TinyLog"), ("wide", "Log"), ("numbers", "StripeLog")):
            store.command(f"CREATE TABLE mexc_data.{name} (data Int64) ENGINE = {engine}")
            store.command(f"INSERT INTO mexc_data.{name} SELECT number FROM numbers(100000)")
        numbers = store.table_folder("numbers")
    shorter(btc / "data.bin", 1)
    shorter(numbers / "data.bin", 1)
    before = state(tmp_path / "data")
    with open_store(str(tmp_path / "data")) as store:
        assert rows_of(store, "btc") == flat(BATCHES[:1])
        assert rows_of(store, "eth") == flat(BATCHES)
        assert store.query("SELECT count() FROM mexc_data.tiny") == [(100_000,)]
    after = state(tmp_path / "data")
    changed = {name for name in after if name in before and after[name] != before[name]}
    assert {Path(name).parent.name for name in changed - {"endpoint.json", "owner.lock"}} == {btc.name}
    assert [path.name for path in (tmp_path / "data/torn").glob("*/*")] == ["mexc_data.btc"]


def test_an_insert_of_several_blocks_is_kept_or_cut_as_a_whole(tmp_path):
    with open_store(str(tmp_path / "data")) as store:
        ensure_table(store, "btc")
        many = "INSERT INTO mexc_data.btc SELECT toDateTime64(number, 3), 'd', repeat('x', number % 9)"
        for _ in range(2):
            store.command(f"{many} FROM numbers(200000) SETTINGS max_block_size = 50000, "
                          "min_insert_block_size_rows = 50000, min_insert_block_size_bytes = 1")  # fmt: skip
        store.insert_rows("btc", batch(0))
        table = store.table_folder("btc")
    (finding,) = repair_folder(tmp_path / "data", dry_run=True)
    assert (finding.problem, finding.inserts, finding.rows) == ("", 3, 400_040)
    shorter(table / "data.bin", 2000)
    with open_store(str(tmp_path / "data")) as store:
        assert store.query("SELECT count() FROM mexc_data.btc") == [(200_000,)]


def test_odd_inserts_are_whole_too(tmp_path):
    """Nothing inserted, one row, strings longer than a frame, the last of them empty; a table used anew."""
    with open_store(str(tmp_path)) as store:
        table, _ = fill(store, "btc", [batch(0)])
        store.command("TRUNCATE TABLE mexc_data.btc")
        store.command("INSERT INTO mexc_data.btc SELECT now64(3), 'd', 'x' WHERE 0")
        rows = [(T0, "dp", "long" * 700_000), (T0, "dp", "y" * 1_500_000), (T0, "d", "")]
        for inserted in (rows[:1], rows, batch(1)):
            store.insert_rows("btc", inserted)
    (finding,) = inspect(tmp_path, every=True)
    assert (finding.problem, finding.inserts, finding.rows) == ("", 3, 44)
    shorter(table / "data.bin", 1)
    with open_store(str(tmp_path)) as store:
        assert sorted(rows_of(store)) == sorted(rows[:1] + rows)


def frame(method: int, raw: bytes) -> bytes:
    compress = {0x82: lambda: lz4.block.compress(raw, store_size=False), 0x02: lambda: raw}
    payload = compress[method]()
    return bytes(16) + struct.pack("<BII", method, len(payload) + 9, len(raw)) + payload


@pytest.mark.parametrize("method", [0x82, 0x02])
def test_files_that_older_engines_wrote_are_read_as_well(method):
    """Built by the description at the top of stripelog.py, in the two other ways to compress."""
    data, index, ends = b"", b"", []
    for texts in ([b"a", b"", b"long" * 30], [b"x"] * 200):
        count = bytes([2]) + (
            bytes([len(texts)]) if len(texts) < 128 else bytes([len(texts) & 0x7F | 0x80, 1])
        )
        data += frame(method, count)
        entry = count
        values = (bytes(8 * len(texts)), b"".join(bytes([len(text)]) + text for text in texts))
        for head, value in zip((b"\x02ts\x0dDateTime64(3)", b"\x01m\x06String"), values, strict=True):
            entry += head + struct.pack("<QQ", len(data), 0)
            data += frame(method, head + value)
        index += frame(method, entry)
        ends.append((len(data), len(index)))
    for kept in range(len(data) + 1):
        part = data[:kept]
        file = DataFile(kept, lambda at, count, part=part: part[at : at + count])
        whole = whole_part(index, file)
        expected = [(0, 0), *ends][sum(end <= kept for end, _ in ends)]
        assert (whole.data_bin_bytes, whole.index_mrk_bytes) == expected
        assert ends_whole(index, file) == (kept == len(data))
        assert whole.rows + whole.rows_behind == 203


def test_damage_in_the_middle_is_found_by_hand_only(data):
    table = table_in(data)
    content = bytearray((table / "index.mrk").read_bytes())
    content[300:320] = bytes(20)
    (table / "index.mrk").write_bytes(content)
    assert inspect(data) == []
    (finding,) = repair_folder(data, dry_run=False)
    assert finding.problem == "data.bin and index.mrk do not agree behind INSERT 2"
    with open_store(str(data)) as store:
        assert rows_of(store) == flat(BATCHES[:2])


def test_what_cannot_be_set_aside_is_not_cut(data):
    table = table_in(data)
    shorter(table / "data.bin", 10)
    (data / "torn").write_text("a file where the folder should be")
    before = state(table)
    with pytest.raises(DiskFailed, match="torn"):
        open_store(str(data))
    assert state(table) == before


def test_on_a_full_disk_nothing_is_cut_and_no_half_copies_pile_up(data, monkeypatch):
    table = table_in(data)
    shorter(table / "data.bin", 10)
    before = state(table)

    def full(_source, target, _chunk):
        target.write(b"as much as fits")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("mexcflow.store.repair.shutil.copyfileobj", full)
        with pytest.raises(DiskFailed, match="No space left"):
            open_store(str(data))
    assert state(table) == before
    assert list((data / "torn").iterdir()) == []
    with open_store(str(data)) as store:
        assert rows_of(store) == flat(BATCHES[:9])


def test_a_second_tear_in_the_same_second_has_a_place_of_its_own(data):
    for left in (9, 8):
        shorter(table_in(data) / "data.bin", 1)
        with open_store(str(data)) as store:
            assert rows_of(store) == flat(BATCHES[:left])
    assert len(list((data / "torn").glob("torn-*/mexc_data.btc/data.bin.from-*"))) == 2


def test_a_repair_that_was_interrupted_is_finished_by_the_next_opening(data, monkeypatch):
    """sizes.json is written before anything is cut: what is longer the engine cuts."""
    shorter(table_in(data) / "data.bin", 10)

    def power_cut(path, size):
        raise OSError(5, "Input/output error", str(path))

    with monkeypatch.context() as broken:
        broken.setattr("mexcflow.store.repair.os.truncate", power_cut)
        with pytest.raises(DiskFailed):
            open_store(str(data))
    with open_store(str(data)) as store:
        assert rows_of(store) == flat(BATCHES[:9])
