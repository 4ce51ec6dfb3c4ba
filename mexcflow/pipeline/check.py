"""Check: whether an instance's settings can be, before anything is opened."""

from mexcflow.config import DEFAULT_CANDLE_INTERVAL, Instance
from mexcflow.errors import Misuse
from mexcflow.exchanges import TYPED, check_channels, check_interval, find_exchange
from mexcflow.pipeline.address import check_endpoint, check_proxies


def check_instance(instance: Instance, *, where: str) -> None:
    """Raise `Misuse` for an exchange, a channel, a proxy or an endpoint that cannot be."""
    exchange = find_exchange(instance.exchange, where=where)
    if instance.channels:
        check_channels(exchange, instance.channels, where=where)
    if instance.exchange in TYPED:
        check_interval(TYPED[instance.exchange], instance.candle_interval, where=where)
    elif instance.candle_interval != DEFAULT_CANDLE_INTERVAL:
        raise Misuse(f"{where}: {exchange.name} has no candles here", hint="Leave out the candle interval")
    check_proxies(instance.all_proxies, where=where)
    if instance.endpoint:
        check_endpoint(instance.endpoint, where=where)
