"""Instruments: an exchange's list of symbols, fetched over REST, kept for an hour, checked against.

A list is asked for by the same ways as the websocket: through the proxies one after another, or directly
if there are none. It is all pages or nothing. With an endpoint (a simulator's) nothing is kept, and what
was kept is not looked at.

Recording never depends on it: who records without the list goes on with a warning.
"""

import difflib
import logging
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial

import msgspec

from mexcflow.clock import SYSTEM_CLOCK, Clock
from mexcflow.errors import (
    Banned,
    ConnectionLost,
    ExchangeUnavailable,
    MexcflowError,
    ProxyRefused,
    UnknownContract,
)
from mexcflow.exchanges import Exchange, TypedExchange
from mexcflow.exchanges.numbers import exact, plain
from mexcflow.exchanges.typed import Listing
from mexcflow.model import Instrument, Undecodable
from mexcflow.pipeline.dial import TIMEOUT_S, way_to
from mexcflow.pipeline.instrument_cache import Listed, read_cache, write_cache
from mexcflow.pipeline.rest import at_endpoint, fetch

__all__ = [
    "Listed",
    "check_symbols",
    "contract_sizes",
    "fetch_instruments",
    "find_instruments",
    "list_instruments",
    "spelling",
]

logger = logging.getLogger(__name__)

AnyExchange = type[Exchange] | type[TypedExchange]

VALID_S = 3600.0
"""How long a list that was kept is as good as a new one."""
TRADING = "trading"
_PATIENCE_S = 5.0
"""How long a recording waits for the list before it goes on without."""
_MAX_PAGES = 100
_MAX_BYTES = 64 * 1024 * 1024
"""A page of one exchange has some 10 MB."""
_OK = 200
_UNREADABLE = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, msgspec.MsgspecError)
"""What reading an answer of another shape than expected ends in."""
_SUGGESTED = 3
_SAID_CHARS = 300


def fetch_instruments(
    exchange: AnyExchange, *, endpoint: str = "", proxies: Sequence[str] = (), timeout_s: float = TIMEOUT_S
) -> list[Instrument]:
    """Return all pages of an exchange's list; `timeout_s` is for each step of each page.

    Raises `ConnectionLost` (of which `Banned` is one) also for an answer that is no list, `ProxyRefused`
    when no proxy lets us through, and `Permanent` for an answer beyond all measure.
    """
    errors: list[ConnectionLost | ProxyRefused] = []
    for proxy in proxies or ("",):
        try:
            return _all_pages(exchange, endpoint, proxy, timeout_s)
        except (ConnectionLost, ProxyRefused) as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    said = f"none of the {len(errors)} proxies leads there: {'; '.join(error.what for error in errors)}"
    if all(isinstance(error, ProxyRefused) for error in errors):
        raise ProxyRefused(said, hint=errors[0].hint)
    raise ConnectionLost(said)


def list_instruments(
    exchange: AnyExchange,
    *,
    endpoint: str = "",
    proxies: Sequence[str] = (),
    timeout_s: float = TIMEOUT_S,
    refresh: bool = False,
    clock: Clock = SYSTEM_CLOCK,
) -> Listed:
    """Return an exchange's list: the one that was kept if it is young enough, else a new one.

    `refresh` asks for a new one in any case. When the exchange is away, an old one is better than none: a
    warning says its age. Without one, `ExchangeUnavailable`, or `ProxyRefused`.
    """
    kept = None if endpoint else read_cache(exchange.name)
    if kept is not None and not refresh and _is_valid(kept, clock):
        return kept
    try:
        return _fetch_and_keep(exchange, endpoint, proxies, timeout_s, clock)
    except (ConnectionLost, ProxyRefused) as error:
        if kept is not None:
            logger.warning("%s. This list of symbols is %s old", error.what, _age(kept, clock))
            return kept
        if isinstance(error, ProxyRefused):
            raise
        raise ExchangeUnavailable(error.what, hint=_what_to_do(error, proxies)) from error


def find_instruments(  # noqa: PLR0913 - what is looked for, the way there, and how it is told
    exchange: AnyExchange,
    symbols: Sequence[str],
    *,
    endpoint: str = "",
    proxies: Sequence[str] = (),
    timeout_s: float = _PATIENCE_S,
    clock: Clock = SYSTEM_CLOCK,
    away_level: int = logging.WARNING,
) -> Listed | None:
    """Return those of our symbols that the exchange lists; None without a list in time.

    `timeout_s` is for all of it; without a list, the log says so as `away_level`. Raises `UnknownContract`
    when it lists none of them; what else there is to say of them is logged. A list that was kept is only used
    if it has them all: one may be new.
    """
    listed = None if endpoint else read_cache(exchange.name)
    if listed is None or not _is_valid(listed, clock) or not _has_all(listed.instruments, symbols):
        try:
            work = partial(_fetch_and_keep, exchange, endpoint, proxies, TIMEOUT_S, clock)
            listed = _within(timeout_s, work)
        except MexcflowError as error:
            logger.log(
                away_level, "going on without the list of symbols of %s: %s", exchange.name, error.what
            )
            return None
    for warning in check_symbols(listed.instruments, symbols, exchange.name):
        logger.warning("%s", warning)
    ours = [instrument for instrument in listed.instruments if instrument.symbol in symbols]
    return Listed(ours, listed.seen_ms)


def check_symbols(instruments: Iterable[Instrument], symbols: Sequence[str], exchange: str) -> list[str]:
    """Return what is to be said of symbols that are not trading, or not there while others are.

    Raises `UnknownContract` when none of them is there.
    """
    known = {instrument.symbol: instrument for instrument in instruments}
    missing = [symbol for symbol in symbols if symbol not in known]
    if missing and len(missing) == len(symbols):
        names = ", ".join(map(repr, missing))
        raise UnknownContract(f"{exchange} has no symbol {names}", hint=_hint(missing[0], known, exchange))
    warnings = [f"{exchange} has no symbol {name!r}. {_hint(name, known, exchange)}" for name in missing]
    for symbol in symbols:
        if symbol in known and known[symbol].state != TRADING:
            warnings.append(f"{exchange}: {symbol} is not trading: its state is {known[symbol].state!r}")
    return warnings


def contract_sizes(instruments: Iterable[Instrument]) -> dict[str, str]:
    """Return the base units in one contract by symbol; without those of which it cannot be said."""
    return {one.symbol: one.contract_size for one in instruments if one.contract_size and not one.inverse}


def spelling(symbol: str) -> str:
    """Return what is the same in every spelling of a symbol: 'btcusdt' for BTC-USDT and BTC_USDT."""
    return "".join(filter(str.isalnum, symbol)).casefold()


def _all_pages(exchange: AnyExchange, endpoint: str, proxy: str, timeout_s: float) -> list[Instrument]:
    found: dict[str, Instrument] = {}
    asked: set[str] = set()
    url = exchange.instruments_url
    while url:
        if url in asked or len(asked) == _MAX_PAGES:
            raise ConnectionLost(f"{exchange.name}: the list of symbols does not end: {len(asked)} pages")
        asked.add(url)
        page = _page(exchange, at_endpoint(url, endpoint), proxy, timeout_s)
        # a list that changes while it is read may have a symbol on two pages
        found |= {instrument.symbol: _tidy(instrument) for instrument in page.instruments}
        url = page.next_url
    if not found:
        raise ConnectionLost(f"{exchange.name}: the list of symbols is empty")
    return list(found.values())


def _page(exchange: AnyExchange, url: str, proxy: str, timeout_s: float) -> Listing:
    answer = fetch(url, proxy=proxy, timeout_s=timeout_s, max_bytes=_MAX_BYTES)
    if answer.status != _OK:
        raise ConnectionLost(f"{way_to(url, proxy)}: HTTP {answer.status}")
    try:
        return exchange.read_instruments(answer.body)
    except _UNREADABLE as error:
        said = repr(str(error)[:_SAID_CHARS])[1:-1]  # the exchange's text may be in it
        raise ConnectionLost(f"{way_to(url, proxy)}: no list of symbols: {said}") from error


def _tidy(one: Instrument) -> Instrument:
    return msgspec.structs.replace(
        one,
        contract_size=_number(one.contract_size),
        tick_size=_number(one.tick_size),
        quantity_step=_number(one.quantity_step),
    )


def _number(text: str) -> str:
    """Return a number above 0 without the zeros at its end; "" where there is none that can be stored."""
    try:
        number = plain(exact(text))
    except Undecodable:
        return ""
    return "" if number == "0" or number.startswith("-") else number


def _fetch_and_keep(
    exchange: AnyExchange, endpoint: str, proxies: Sequence[str], timeout_s: float, clock: Clock
) -> Listed:
    seen_ms = clock.time_ns() // 1_000_000
    instruments = fetch_instruments(exchange, endpoint=endpoint, proxies=proxies, timeout_s=timeout_s)
    listed = Listed(instruments, seen_ms)
    if not endpoint:
        write_cache(exchange.name, listed)
    return listed


def _within(seconds: float, work: Callable[[], Listed]) -> Listed:
    """Return what `work` returns, or raise what it raises; `ConnectionLost` when it takes too long.

    Then it goes on in its thread: what comes late is kept for the next time.
    """
    result: Future[Listed] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except MexcflowError as error:
            result.set_exception(error)

    threading.Thread(target=run, name="instruments", daemon=True).start()
    try:
        return result.result(seconds)
    except TimeoutError as error:
        raise ConnectionLost(f"no list within {seconds:g} s") from error


def _is_valid(kept: Listed, clock: Clock) -> bool:
    return 0 <= clock.time_ns() / 1e6 - kept.seen_ms < VALID_S * 1000  # below 0: the clock was set back


def _has_all(instruments: Iterable[Instrument], symbols: Sequence[str]) -> bool:
    return set(symbols) <= {instrument.symbol for instrument in instruments}


def _age(kept: Listed, clock: Clock) -> str:
    minutes = max(0, round((clock.time_ns() / 1e6 - kept.seen_ms) / 60_000))
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 48 * 60 else f"{minutes // 1440} days"


def _what_to_do(error: ConnectionLost, proxies: Sequence[str]) -> str:
    if isinstance(error, Banned):
        return "This address is banned: wait, or go through another proxy with --proxy URL"
    way = "Does the proxy lead there (mexcflow proxy-check)?" if proxies else "Is this machine online?"
    return f"{way} Try again later, or go through another proxy with --proxy URL"


def _hint(symbol: str, known: dict[str, Instrument], exchange: str) -> str:
    close = _close(symbol, known)
    asked = "Did you mean " + " or ".join(map(repr, close)) + "? " if close else ""
    base = known[close[0]].base if close else next(iter(re.findall(r"[^\W_]+", symbol)), "")
    word = "".join(filter(str.isalnum, base))
    return f"{asked}See: mexcflow symbols --exchange {exchange}" + (f" --search {word}" if word else "")


def _close(symbol: str, known: Iterable[str]) -> list[str]:
    """Return the symbols that may have been meant: in another spelling, longer ones, similar ones."""
    wanted = spelling(symbol)
    if not wanted:
        return []
    by_form = {spelling(name): name for name in known}
    if wanted in by_form:
        return [by_form[wanted]]
    forms = sorted((form for form in by_form if form.startswith(wanted)), key=len)
    forms += difflib.get_close_matches(wanted, by_form, n=_SUGGESTED)
    return [by_form[form] for form in dict.fromkeys(forms)][:_SUGGESTED]
