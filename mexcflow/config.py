"""Instance files, and where the files that ship with the package lie.

An instance file (`instances/btc.toml`) describes one recording: the defaults of
`mexcflow run --symbol BTC_USDT`. Flags win over it. An unknown key or a value of the wrong type is
an error that names the file, the key and what would be right.
"""

import difflib
import math
import os
import re
import tomllib
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from mexcflow.errors import Misuse

DEFAULT_EXCHANGE = "mexc"
DEFAULT_CANDLE_INTERVAL = "1m"
NEVER = "never"
FOREVER = "forever"
DEFAULT_DATABASE = "./data"
DATABASE_VARIABLE = "MEXCFLOW_DATABASE"
CONFIG_VARIABLE = "MEXCFLOW_CONFIG"
PASSWORD_VARIABLE = "MEXCFLOW_PASSWORD"  # noqa: S105 - a name
PASSWORD_FILE_VARIABLE = "MEXCFLOW_PASSWORD_FILE"  # noqa: S105 - a name
CA_FILE_VARIABLE = "MEXCFLOW_CA_FILE"
STARTED_BY = "--started-by"
"""How `mexcflow up` tells an engine who started it: its own PID."""
UP_VARIABLE = "MEXCFLOW_UP"
"""Set by `mexcflow up` for what it starts: its own PID."""
TABLE_NAME = re.compile(r"[a-z0-9_]{1,64}")
_LONGEST_INTERVAL_S = 86_400.0
_SHORTEST_SAMPLE_S = 0.1
_LONGEST_NAME = 200
_SECONDS = {"": 0, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_BYTES = {"k": 1000, "M": 1_000_000, "G": 1_000_000_000}
VIEW_SUFFIXES = ("_ticker", "_deals", "_depth", "_candles_1m")


class Instance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One recording: which stream of which exchange goes into which table, and how.

    Intervals are in seconds; `fsync` is one, too, or 'never'. `journal` is a folder, `journal_tail` a
    time, a size or both ('10m,64MB'), `keep_raw` a time ('7d'), 'forever' or '0'. `proxy` is a URL
    (`http://user:password@host:port`, `https://...`, `socks5://...`, `socks5h://...`), `proxies` are
    several, of which the next is taken when one fails. `endpoint` replaces the exchange's own websocket
    URL, `database` is a folder or a URL. `source` is the file it was read from, for error messages.

    Several `symbols` of one exchange with typed tables may share an instance; `symbol` then names them all,
    with commas. No `channels` means all that the exchange has. `book_interval` is a time ('1s'): one snapshot
    of a book in it, and not every change.
    """

    symbol: str = ""
    symbols: tuple[str, ...] = ()
    exchange: str = DEFAULT_EXCHANGE
    table: str = ""
    channels: tuple[str, ...] = ()
    candle_interval: str = DEFAULT_CANDLE_INTERVAL
    book_interval: str | int = "0"
    proxy: str = ""
    proxies: tuple[str, ...] = ()
    endpoint: str = ""
    database: str = ""
    flush_interval: float = 1.0
    fsync: float | str = 1.0
    stats_interval: float = 15.0
    ping_interval: float = 15.0
    max_errors: int = 100
    journal: str = ""
    journal_tail: str | int = "10m,64MB"
    keep_raw: str | int = "0"
    source: str = ""

    @property
    def all_proxies(self) -> tuple[str, ...]:
        """Every proxy in the order to be tried; none means a direct connection."""
        return (self.proxy,) if self.proxy else self.proxies

    @property
    def all_symbols(self) -> tuple[str, ...]:
        """Every symbol of it."""
        return self.symbols or (self.symbol,)

    @property
    def is_typed(self) -> bool:
        """Whether its rows go into the typed tables of `market_data`, and not into a table of its own."""
        return self.exchange != DEFAULT_EXCHANGE

    def checked(self) -> "Instance":
        """Return this instance with symbols and table filled in, or raise `Misuse` for a bad value."""
        where = self.source or "command line"
        symbols = _read_symbols(self, where)
        self._check_times(where)
        if self.is_typed:
            if self.table:
                raise Misuse(f"{where}: {self.exchange} goes into market_data", hint="Leave out the table")
            return msgspec.structs.replace(self, symbol=",".join(symbols))
        if len(symbols) > 1:
            named = f"{where}: several symbols of {self.exchange}: {', '.join(symbols)}"
            raise Misuse(named, hint="A table holds one symbol: one instance for each")
        if read_duration(str(self.book_interval), where=f"{where}: book_interval"):
            raise Misuse(f"{where}: book_interval is for typed tables; {self.exchange} stores every frame")
        table = self.table or default_table(symbols[0])
        if not self.table and not TABLE_NAME.fullmatch(table):
            raise Misuse(
                f"{where}: no table can be named after the symbol {symbols[0]!r}",
                hint="Is it spelt as the exchange does (BTC_USDT)? If so, name a table with --table",
            )
        check_table_name(table, where=where)
        return msgspec.structs.replace(self, symbol=symbols[0], symbols=(), table=table)

    def _check_times(self, where: str) -> None:
        intervals = (self.flush_interval, self.stats_interval, self.ping_interval)
        if not all(0 <= seconds <= _LONGEST_INTERVAL_S for seconds in intervals) or 0 in intervals[1:]:
            raise Misuse(f"{where}: an interval is above 0 and at most a day (flush_interval may be 0)")
        if self.fsync != NEVER and not (
            isinstance(self.fsync, float | int) and 0 <= self.fsync <= _LONGEST_INTERVAL_S
        ):
            raise Misuse(f"{where}: fsync is {self.fsync!r}", hint="Give seconds, 0 or more, or never")
        if self.proxy and self.proxies:
            raise Misuse(f"{where}: proxy and proxies are both given", hint="Put all of them into proxies")
        read_tail(str(self.journal_tail), where=where)
        read_duration(str(self.keep_raw), where=f"{where}: keep_raw")
        book_interval_s = read_duration(str(self.book_interval), where=f"{where}: book_interval")
        if book_interval_s and not _SHORTEST_SAMPLE_S <= book_interval_s <= _LONGEST_INTERVAL_S:
            raise Misuse(f"{where}: book_interval is {self.book_interval!r}", hint="From 0.1s to a day, or 0")
        if self.max_errors < 0:
            raise Misuse(f"{where}: max_errors is {self.max_errors}", hint="It counts errors: 0 or more")


def _read_symbols(instance: Instance, where: str) -> tuple[str, ...]:
    """Return the symbols of an instance, each once; raises `Misuse`."""
    if instance.symbols and instance.symbol not in ("", ",".join(instance.symbols)):
        raise Misuse(f"{where}: symbol and symbols are both given", hint="Put all of them into symbols")
    symbols = instance.all_symbols
    if not all(symbol.strip() for symbol in symbols):
        raise Misuse(f"{where}: the symbol is empty", hint="Write it as the exchange does: BTC_USDT")
    if len(set(symbols)) < len(symbols):
        raise Misuse(f"{where}: a symbol is named twice: {', '.join(symbols)}")
    return symbols


def read_duration(text: str, *, where: str) -> float:
    """Return a time in seconds: 90s, 10m, 6h, 7d, 0, forever (inf); raises `Misuse`."""
    if text == FOREVER:
        return math.inf
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)", text.strip())
    if match is None or (not match[2] and float(match[1])):
        raise Misuse(f"{where}: {text!r} is no time", hint="Write 90s, 10m, 6h, 7d, 0 or forever")
    return float(match[1]) * _SECONDS[match[2]]


def read_tail(text: str, *, where: str) -> tuple[float, int]:
    """Return what '10m,64MB' says, in seconds and bytes; what is not in it is 0; raises `Misuse`."""
    seconds: float | None = None
    size: int | None = None
    for word in (one.strip() for one in text.split(",")):
        match = re.fullmatch(r"([0-9]+)\s*([kMG])B", word)
        if match and size is None:
            size = int(match[1]) * _BYTES[match[2]]
        elif not match and seconds is None and re.fullmatch(r"0|[0-9.]+[smhd]", word):
            seconds = read_duration(word, where=where)
        else:
            raise Misuse(
                f"{where}: journal_tail {text!r} is neither a time nor a size",
                hint="Write 10m, 64MB, or both: 10m,64MB; 0 keeps nothing",
            )
    return seconds or 0.0, size or 0


def journal_folder(given: str, database: str, exchange: str, symbol: str) -> Path:
    """Return a stream's folder: in the one that was given, else in the data folder, else in ./journal."""
    root = Path(given) if given else Path("journal") if "://" in database else Path(database) / "journal"
    name = quote(symbol, safe="")
    if len(name) > _LONGEST_NAME and "," in symbol:  # several of them
        digest = blake2b(symbol.encode(), digest_size=8).hexdigest()
        name = f"{quote(symbol[:40].rpartition(',')[0], safe='')}-and-more-{digest}"
    if name.startswith(".") or len(name) > _LONGEST_NAME:
        raise Misuse(f"no journal can be named after the symbol {symbol[:40]!r}", hint="Is it spelt right?")
    return root / exchange / name


def default_table(symbol: str) -> str:
    """Return the table of a symbol: `btc` for BTC_USDT, `btc_usd` for BTC_USD."""
    lower = symbol.lower()
    return lower.removesuffix("_usdt")


def check_table_name(table: str, *, where: str) -> None:
    """Raise `Misuse` unless `table` can be a string table with its views beside it."""
    if not TABLE_NAME.fullmatch(table):
        raise Misuse(
            f"{where}: {table!r} cannot be a table's name",
            hint="Give one with --table: small letters, digits and _, at most 64",
        )
    if table.endswith(VIEW_SUFFIXES) or "_typed_" in table:
        raise Misuse(
            f"{where}: the table's name {table!r} is reserved for a view",
            hint=f"A name may not end in {', '.join(VIEW_SUFFIXES)} nor have _typed_ in it: see --table",
        )


def load_instance(path: Path) -> Instance:
    """Read one instance file; every error names the file and the key."""
    if path.exists() and not path.is_file():  # a pipe would keep us waiting
        raise Misuse(f"{path}: this is no file", hint="An instance file is a TOML file")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise Misuse(f"{path}: cannot be read: {error}", hint="Is it a TOML file you may read?") from error
    except tomllib.TOMLDecodeError as error:
        raise Misuse(f"{path}: not TOML: {error}", hint='A line looks like: symbol = "BTC_USDT"') from error
    allowed = [field for field in Instance.__struct_fields__ if field != "source"]
    for key in raw:
        if key not in allowed:
            raise Misuse(f"{path}: unknown key {key!r}", hint=_suggest(key, allowed))
    return _convert({**raw, "source": str(path)}).checked()


def _convert(raw: dict[str, Any]) -> Instance:
    try:
        return msgspec.convert(raw, Instance)
    except msgspec.ValidationError as error:
        # msgspec writes "Expected `str`, got `int` - at `$.symbol`": the path is the key
        what, _, key = str(error).partition(" - at `$.")
        named = f"key {key.rstrip('`')!r}: {what}" if key else what
        raise Misuse(f"{raw['source']}: {named}", hint="See instances/btc.toml for an example") from error


def _suggest(key: str, allowed: list[str]) -> str:
    close = difflib.get_close_matches(key, allowed, n=1)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Known keys: {', '.join(allowed)}"


def load_instances(config: Path) -> list[Instance]:
    """Read every instance file of a folder (or the one file `config` is), in the order of their names."""
    if config.is_file():
        return [load_instance(config)]
    if not config.is_dir():
        raise Misuse(f"{config}: no such folder of instance files", hint="Give one with --config")
    return [load_instance(path) for path in sorted(config.glob("*.toml"))]


def told(path: Path, error: Misuse) -> str:
    """Return an error's text with the file that it is about."""
    text = str(error)
    return text if text.startswith(f"{path}: ") else f"{path}: {text}"


def conflict(instance: Instance, others: Iterable[Instance]) -> str:
    """Return why an instance cannot run beside these; '' when it can."""
    for other in others:
        both = set(other.all_symbols) & set(instance.all_symbols)
        if other.exchange == instance.exchange and both:
            named = ", ".join(sorted(both))
            return f"{instance.source}: {named} is recorded by {other.source} already. Keep one"
        if other.table == instance.table and not instance.is_typed:
            return (
                f"{instance.source}: table {instance.table!r} is that of {other.symbol} ({other.source}). "
                "A table holds one symbol: give it another"
            )
    return ""


def config_folder(given: Path | None) -> Path:
    """Return where instance files are: what was given, else `./instances`, else those that ship."""
    if given is not None:
        return given
    from_environment = os.environ.get(CONFIG_VARIABLE)
    if from_environment:
        return Path(from_environment)
    here = Path("instances")
    return here if here.is_dir() else shipped("instances")


def database_location(given: str | None, instance: Instance | None = None) -> str:
    """Return the folder or URL of the database: flag, environment, instance file, `./data`."""
    if given is not None:
        return given
    return os.environ.get(DATABASE_VARIABLE) or (instance.database if instance else "") or DEFAULT_DATABASE


def shipped(name: str) -> Path:
    """Return a folder that ships with the package ('sql', 'instances'): in a wheel or in a checkout."""
    package = Path(__file__).resolve().parent
    for candidate in (package / "_shipped" / name, package.parent / name):
        if candidate.is_dir():
            return candidate
    raise Misuse(f"the folder {name!r} that ships with mexcflow is missing", hint="Install it again")
