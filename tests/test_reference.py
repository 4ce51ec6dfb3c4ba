"""What an exchange's list says when a run begins: no run depends on the database for it."""

import pytest

from mexcflow.clock import SYSTEM_CLOCK
from mexcflow.config import Instance
from mexcflow.errors import StoreUnavailable
from mexcflow.pipeline.reference import look_up_sizes
from mexcflow.simulator import Simulator


class Away:
    """A store whose server was killed a moment ago."""

    def __getattr__(self, name: str) -> object:
        def fail(*_: object, **__: object) -> None:
            raise StoreUnavailable(f"{name}: Connection refused")

        return fail


@pytest.mark.parametrize("rest", [True, False])
def test_a_database_that_goes_away_at_this_moment_ends_no_run(caplog, rest):
    with Simulator(exchange="okx") as exchange:
        instance = Instance(
            exchange="okx",
            symbols=("BTC-USDT-SWAP", "ETH-USDT-SWAP"),
            endpoint=exchange.address if rest else "ws://127.0.0.1:1",
        )
        sizes = look_up_sizes(instance, Away(), SYSTEM_CLOCK)
    assert sizes == ({"BTC-USDT-SWAP": "0.01", "ETH-USDT-SWAP": "0.1"} if rest else {})
    assert "Connection refused" in caplog.text
