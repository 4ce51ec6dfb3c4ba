"""Contracts: what exchanges said of their symbols, and when, in `market_data.contracts`.

A row is written when a list says something else than the newest row of that symbol, with the time at which
it was read. So the contract size of any day can be asked for, and a year of unchanged lists is one row.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation

from mexcflow.model import Instrument
from mexcflow.store.market import CONTRACTS
from mexcflow.store.store import Store
from mexcflow.store.tsv import spelled_ms
from mexcflow.store.typed import insert_typed

_NEWEST = """
SELECT
    symbol, base, quote, kind, toString(contract_size), inverse, ifNull(toString(tick_size), ''),
    ifNull(toString(quantity_step), ''), state, toUnixTimestamp64Milli(seen)
FROM market_data.contracts FINAL
WHERE exchange = {exchange:String} AND symbol IN {symbols:Array(String)}
ORDER BY seen DESC
LIMIT 1 BY symbol
"""
_MAX_WHOLE, _MAX_FRACTION = 20, 18


def write_contracts(
    store: Store, exchange: str, instruments: Iterable[Instrument], seen_ms: int
) -> list[str]:
    """Write those that are new or have changed, in one INSERT, and return their symbols.

    `seen_ms` (Unix ms) is when the exchange said so: what it said before the newest row of a symbol is no
    news, and is left out. So is a symbol whose contract size the list does not give.
    """
    spelled = {one.symbol: one for one in map(_spelled, instruments) if one.contract_size}
    newest = _read_newest(store, exchange, list(spelled))
    changed = []
    for symbol, instrument in spelled.items():
        known, known_ms = newest.get(symbol, (None, None))
        if known_ms is None or (instrument != known and seen_ms > known_ms):
            changed.append(instrument)
    insert_typed(store, *CONTRACTS, [_row(exchange, one, seen_ms) for one in changed])
    return [instrument.symbol for instrument in changed]


def read_contracts(store: Store, exchange: str, symbols: Sequence[str]) -> list[Instrument]:
    """Return what is known of these symbols, in their order; nothing where there is no such table."""
    if not store.query("SELECT 1 FROM system.tables WHERE database = 'market_data' AND name = 'contracts'"):
        return []
    newest = _read_newest(store, exchange, list(symbols))
    return [newest[symbol][0] for symbol in symbols if symbol in newest]


def _read_newest(store: Store, exchange: str, symbols: list[str]) -> dict[str, tuple[Instrument, int]]:
    """Return the newest row of each symbol, and when it was seen."""
    if not symbols:
        return {}
    found = {}
    for row in store.query(_NEWEST, {"exchange": exchange, "symbols": symbols}):
        symbol, base, quote, kind, contract_size, inverse, tick_size, quantity_step, state, seen_ms = row
        instrument = Instrument(
            symbol=symbol,
            base=base,
            quote=quote,
            kind=kind,
            contract_size=contract_size,
            inverse=bool(inverse),
            tick_size=tick_size,
            quantity_step=quantity_step,
            state=state,
        )
        found[symbol] = (_spelled(instrument), int(seen_ms))
    return found


def _spelled(one: Instrument) -> Instrument:
    """Return an instrument with each number in the one way it is compared and stored in."""
    return Instrument(
        symbol=one.symbol,
        base=one.base,
        quote=one.quote,
        kind=one.kind,
        contract_size=_number(one.contract_size),
        inverse=one.inverse,
        tick_size=_number(one.tick_size),
        quantity_step=_number(one.quantity_step),
        state=one.state,
    )


def _number(text: str) -> str:
    """Return a number above 0 without zeros at its end; "" for none, and for what the column would cut."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return ""
    if not value.is_finite() or value <= 0:
        return ""
    spelled = format(value, "f")
    spelled = spelled.rstrip("0").rstrip(".") if "." in spelled else spelled
    whole, _, fraction = spelled.partition(".")
    return spelled if len(whole) <= _MAX_WHOLE and len(fraction) <= _MAX_FRACTION else ""


def _row(exchange: str, one: Instrument, seen_ms: int) -> tuple[object, ...]:
    return (
        exchange,
        one.symbol,
        one.base,
        one.quote,
        one.kind,
        one.contract_size,
        int(one.inverse),
        one.tick_size or None,
        one.quantity_step or None,
        one.state,
        spelled_ms(seen_ms),
    )
