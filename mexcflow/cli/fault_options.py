"""The options of `mexcflow simulate` for faults; what they do is in `simulator/faults.py`."""

from typing import Annotated

import typer

_FAULTS = "Faults"


def _seconds(option: str, text: str) -> typer.models.OptionInfo:
    info: typer.models.OptionInfo = typer.Option(
        option, metavar="S", help=text, rich_help_panel=_FAULTS, show_default=False
    )
    return info


def _switch(option: str, text: str) -> typer.models.OptionInfo:
    info: typer.models.OptionInfo = typer.Option(option, help=text, rich_help_panel=_FAULTS)
    return info


DropEvery = Annotated[float | None, _seconds("--drop-every", "Cut each connection after S seconds.")]
Lifetime = Annotated[float | None, _seconds("--lifetime", "Close each connection when it is S seconds old.")]
StallAfter = Annotated[
    float | None, _seconds("--stall-after", "No more data S seconds after connecting; pongs go on.")
]
HalfFrameEvery = Annotated[
    float | None, _seconds("--half-frame-every", "Half a message S seconds after connecting, then the cut.")
]
GarbageEvery = Annotated[
    float | None, _seconds("--garbage-every", "Each S seconds a message nobody can decode.")
]
DuplicateEvery = Annotated[float | None, _seconds("--duplicate-every", "Each S seconds a frame comes twice.")]
OutOfOrderEvery = Annotated[
    float | None, _seconds("--out-of-order-every", "Each S seconds two frames change places.")
]
LoseEvery = Annotated[
    float | None, _seconds("--lose-every", "Each S seconds a frame is not sent: a gap in what is numbered.")
]
RefuseEvery = Annotated[
    float | None, _seconds("--refuse-every", "Each S seconds cut everyone and refuse connections ...")
]
RefuseFor = Annotated[float | None, _seconds("--refuse-for", "... for S seconds.")]
HttpStatus = Annotated[
    int | None,
    typer.Option(
        "--http-status",
        metavar="N",
        min=400,
        max=599,
        help="Turn every client away with this HTTP status: 403, 418, 429 and 451 are bans.",
        rich_help_panel=_FAULTS,
        show_default=False,
    ),
]
RetryAfter = Annotated[
    float | None, _seconds("--retry-after", "With --http-status: ask for a pause of S seconds.")
]
Exponents = Annotated[bool, _switch("--exponents", "Numbers like 7.548E+4, 0.080550 and 25329.000000.")]
NoPongs = Annotated[bool, _switch("--no-pongs", "Never answer a ping.")]
NoAcks = Annotated[bool, _switch("--no-acks", "Never acknowledge a subscription.")]
