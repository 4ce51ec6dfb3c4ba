"""Recorded frames: a text file, one message a line, sent exactly as it stands there.

Nothing is parsed: a line may be garbage on purpose. Blank lines are skipped. A line that starts with
`base64:` is sent as a binary message of the bytes it encodes, so that gzip frames can be played.
The file is read whole, once, at the start.
"""

import base64
import binascii
from collections.abc import Iterable
from pathlib import Path

from mexcflow.errors import Misuse
from mexcflow.simulator.exchange import Message

BINARY_PREFIX = b"base64:"


def read_file(path: Path) -> tuple[Message, ...]:
    """Read a file of frames; what cannot be read or has none in it is `Misuse`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Misuse(
            f"{path}: cannot be read: {error.strerror}", hint="Give a file with one frame a line"
        ) from error
    messages = parse(content.split(b"\n"), source=str(path))
    if not messages:
        raise Misuse(f"{path}: no frame in it", hint="Give a file with one frame a line")
    return messages


def parse(lines: Iterable[bytes | str], *, source: str = "frames") -> tuple[Message, ...]:
    """Turn lines into messages, without the blank ones."""
    messages = []
    for number, line in enumerate(lines, start=1):
        payload = (line.encode() if isinstance(line, str) else line).rstrip(b"\r\n")
        if not payload.strip():
            continue
        if payload.startswith(BINARY_PREFIX):
            messages.append(_binary(payload, f"{source}, line {number}"))
        else:
            messages.append(Message(payload))
    return tuple(messages)


def _binary(payload: bytes, where: str) -> Message:
    try:
        return Message(base64.b64decode(payload.removeprefix(BINARY_PREFIX), validate=True), is_text=False)
    except binascii.Error as error:
        hint = "Encode the bytes of a binary message as standard base64 without spaces"
        raise Misuse(f"{where}: not base64: {error}", hint=hint) from error
