"""The statistics block of `mexcflow run` as plain lines: for pipes, files and the journal of systemd."""

from mexcflow.metrics import Snapshot

_MARKET = "market_data"
_TYPED_TABLES = {"trade": "trades", "book": "books", "ticker": "tickers", "candle": "candles"}


def statistics_fields(snapshot: Snapshot) -> list[tuple[str, str]]:
    """Return the block's lines as label and value; the live view shows the same."""
    total = snapshot.total
    fields = [("total records appended", f"{total.rows:,}")]
    fields += [
        (f"{channel} messages", f"{count:,} → {_target(snapshot, channel)}")
        for channel, count in total.messages.items()
    ]
    fields += [
        (
            "skipped",
            f"{_skipped(snapshot):,} (acks {total.acks:,}, pongs {total.pongs:,}, empty {total.skipped:,})",
        ),
        ("dead letters", f"{total.dead_letters:,}"),
        ("sequence", f"{total.duplicates:,} duplicates, {total.backwards:,} backwards"),
        ("errors", f"{total.errors:,}"),
        ("records a second", f"{snapshot.rows_per_s:,.1f}"),
        ("reconnects", _reconnects(snapshot)),
        ("backlog", _backlog(snapshot)),
        ("lag", _lag(snapshot)),
        ("insert time", _insert_time(snapshot)),
    ]
    return fields


def _target(snapshot: Snapshot, channel: str) -> str:
    """Return where a channel's rows are: a string table's file, or a typed table."""
    table = _TYPED_TABLES.get(channel) if snapshot.table == _MARKET else None
    return f"{_MARKET}.{table}" if table else f"{snapshot.table}/data.bin"


def statistics_title(snapshot: Snapshot) -> str:
    """Return the block's heading: symbol, time since the start, and whether it is the last."""
    seconds = round(snapshot.elapsed_s)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{snapshot.symbol} · {clock}{' · final' if snapshot.final else ''}"


def statistics_lines(snapshot: Snapshot) -> list[str]:
    """Return the block as lines of text."""
    fields = statistics_fields(snapshot)
    width = max(len(label) for label, _ in fields)
    return [
        f"── {statistics_title(snapshot)} ──",
        *(f"  {label:<{width}}  {value}" for label, value in fields),
    ]


def _skipped(snapshot: Snapshot) -> int:
    return snapshot.total.acks + snapshot.total.pongs + snapshot.total.skipped


def _reconnects(snapshot: Snapshot) -> str:
    count = f"{snapshot.total.reconnects:,}"
    return f"{count} (last: {snapshot.last_reason})" if snapshot.last_reason else count


def _backlog(snapshot: Snapshot) -> str:
    frames, age_s = snapshot.backlog
    recovered = f", {snapshot.total.recovered_frames:,} recovered" if snapshot.total.recovered_frames else ""
    waiting = f"{frames:,} frame{'s' * (frames != 1)}" + (f", the oldest {age_s:,.1f} s" if frames else "")
    return waiting + recovered


def _lag(snapshot: Snapshot) -> str:
    if snapshot.lag_median_ms is None:
        return "no market data in this interval"
    return f"median {snapshot.lag_median_ms:,} ms, maximum {snapshot.lag_max_ms:,} ms"


def _insert_time(snapshot: Snapshot) -> str:
    if snapshot.insert_mean_ms is None:
        return "no inserts in this interval"
    slowest_ms = snapshot.interval.insert_ms_max
    return (
        f"mean {snapshot.insert_mean_ms:.1f} ms, maximum {slowest_ms:.1f} ms of {snapshot.interval.inserts:,}"
    )
