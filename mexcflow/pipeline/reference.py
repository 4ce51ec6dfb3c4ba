"""Reference: what the exchange's list says of the symbols that are recorded, looked up when a run begins.

It is written to `market_data.contracts` with its time. Where quantities are contracts, the typed tables
need it to count base units. No run depends on it: when the exchange's REST is away, what the database knows
serves, and once a minute it is looked for again. The views then count what could not be counted before.
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

_AGAIN_S = 60.0
_GRACE_S = 1.0


class Reference:
    """The list of one run: found, and written down, once."""

    def __init__(self, instance: Instance, clock: Clock) -> None:
        self._instance = instance
        self._clock = clock
        self._listed: Listed | None = None
        self._is_written = self._was_away = False
        self._ending = threading.Event()

    def sizes(self, store: Store | None) -> dict[str, str]:
        """Return the contract size of each symbol that is known; raises `UnknownContract` if none of them is.

        `store` is None while the database is away; it may go away just now. Takes five seconds at most.
        """
        listed = self._find()
        try:
            if listed is None:
                return self._known_to(store) if store is not None else {}
            if store is not None:
                self._write(store, listed)
        except Transient as error:
            logger.warning(
                "contract sizes are neither read from the database nor written down: %s", error.what
            )
        finally:
            self._was_away = not self._is_written
        return contract_sizes(listed.instruments) if listed else {}

    def keep_looking(self, connect: Callable[[], Store]) -> Callable[[], None]:
        """Find it and write it down in a thread of its own, unless that is done; returns what ends it."""
        thread = threading.Thread(target=self._run, args=(connect,), name="reference", daemon=True)
        if not self._is_written:
            thread.start()

        def end() -> None:
            self._ending.set()
            if thread.ident is not None:
                thread.join(_GRACE_S)

        return end

    def _run(self, connect: Callable[[], Store]) -> None:
        try:
            while not self._is_written:
                if self._was_away and self._clock.wait(self._ending, _AGAIN_S):
                    return
                self._try(connect)
        except UnknownContract as error:  # the exchange's own answer to the subscription decides
            logger.warning("%s", error)
        except MexcflowError as error:
            symbol = self._instance.symbol
            logger.warning("the contract size of %s is not written down: %s", symbol, error.what)

    def _try(self, connect: Callable[[], Store]) -> None:
        again, self._was_away = self._was_away, True
        listed = self._find(again=again)
        if listed is None or self._ending.is_set():
            return
        try:
            self._write(connect(), listed)
        except Transient as error:
            level = logging.DEBUG if again else logging.WARNING
            symbol = self._instance.symbol
            logger.log(level, "the contract size of %s is not yet written down: %s", symbol, error.what)

    def _find(self, *, again: bool = False) -> Listed | None:
        """Return our part of the list, or None; only the first None is worth a warning."""
        if self._listed is None:
            instance = self._instance
            self._listed = find_instruments(
                find_exchange(instance.exchange, where="exchange"),
                instance.all_symbols,
                endpoint=instance.endpoint,
                proxies=instance.all_proxies,
                clock=self._clock,
                away_level=logging.DEBUG if again else logging.WARNING,
            )
        return self._listed

    def _known_to(self, store: Store) -> dict[str, str]:
        return contract_sizes(read_contracts(store, self._instance.exchange, self._instance.all_symbols))

    def _write(self, store: Store, listed: Listed) -> None:
        ensure_market(store)
        changed = write_contracts(store, self._instance.exchange, listed.instruments, listed.seen_ms)
        self._is_written = True
        for one in listed.instruments:
            if one.symbol in changed:
                logger.info("%s: one contract is %s %s", one.symbol, one.contract_size, one.base)
