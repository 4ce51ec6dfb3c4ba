"""Exchanges on localhost that speak the real protocol, with faults on request.

    with Simulator(faults=Faults(drop_every_s=5)) as exchange:
        connect(exchange.url)

Pure: `contracts`, `book`, `market`, `candles` (what happens), `exchange` (what an exchange is), `mexc` and
`mexc_frames` (the first one), `typed` and `published` (what the others share), `exchanges` (the registry),
`spelling`, `faults`, `frames`. With asyncio: `line` (one client), `player` (recorded frames), `server` (all
clients). For synchronous code: `thread`.
Another exchange is another file beside `mexc.py`, and a line in `exchanges.py`.
"""

from mexcflow.simulator.faults import Faults
from mexcflow.simulator.settings import Settings
from mexcflow.simulator.thread import Simulator

__all__ = ["Faults", "Settings", "Simulator"]
