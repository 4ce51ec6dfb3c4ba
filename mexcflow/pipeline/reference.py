"""Reference: what the exchange's list says of the symbols that are recorded, looked up when a run begins.

It is written to `market_data.contracts` with its time. Where quantities are contracts, the typed tables
need it to count base units. No run depends on it: when the exchange's REST is away, what the database knows
serves.
"""

import logging
import threading
from collections.abc import Callable

from mexcflow.clock import Clock
from mexcflow.config import Instance
from mexcflow.errors import MexcflowError, Transient, UnknownContract
from mexcflow.exchanges import find_exchange
from mexcflow.pipeline.instrument_cache import Listed
from mexcflow.pipeline.instruments import contract_sizes, find_instruments
from mexcflow.store import Store
from mexcflow.store.contracts import read_contracts, write_contracts
from mexcflow.store.market import ensure_market

logger = logging.getLogger(__name__)

_GRACE_S = 1.0


def look_up_sizes(instance: Instance, store: Store | None, clock: Clock) -> dict[str, str]:
    """Return the contract size of each symbol that is known; raises `UnknownContract` if none of them is.

    `store` is None while the database is away; it may go away just now. Takes five seconds at most.
    """
    listed = _find(instance, clock)
    try:
        if listed is None:
            known = read_contracts(store, instance.exchange, instance.all_symbols) if store else []
            return contract_sizes(known)
        if store is not None:
            _write(store, instance, listed)
    except Transient as error:
        logger.warning("contract sizes are neither read from the database nor written down: %s", error.what)
    return contract_sizes(listed.instruments) if listed else {}


def look_up_behind(instance: Instance, connect: Callable[[], Store], clock: Clock) -> Callable[[], None]:
    """Do the same in a thread of its own, for a recording that does not wait for it; returns what ends it."""
    ending = threading.Event()

    def look_up() -> None:
        try:
            listed = _find(instance, clock)
            if listed is not None and not ending.is_set():
                _write(connect(), instance, listed)
        except UnknownContract as error:  # the exchange's own answer to the subscription decides
            logger.warning("%s", error)
        except MexcflowError as error:
            logger.warning("the contract size of %s is not written down: %s", instance.symbol, error.what)

    thread = threading.Thread(target=look_up, name="reference", daemon=True)
    thread.start()

    def end() -> None:
        ending.set()
        thread.join(_GRACE_S)

    return end


def _find(instance: Instance, clock: Clock) -> Listed | None:
    return find_instruments(
        find_exchange(instance.exchange, where="exchange"),
        instance.all_symbols,
        endpoint=instance.endpoint,
        proxies=instance.all_proxies,
        clock=clock,
    )


def _write(store: Store, instance: Instance, listed: Listed) -> None:
    ensure_market(store)
    changed = write_contracts(store, instance.exchange, listed.instruments, listed.seen_ms)
    for one in listed.instruments:
        if one.symbol in changed:
            logger.info("%s: one contract is %s %s", one.symbol, one.contract_size, one.base)
