"""Gunzip: the text of a message that an exchange may have compressed, told by its magic number."""

import zlib

from mexcflow.model import Undecodable

_MAX_UNZIPPED_BYTES = 16 * 1024 * 1024


def gunzipped(payload: bytes) -> bytes:
    """Return a message as it is, or what is inside if it is gzip; `Undecodable` when that is damaged."""
    if not payload.startswith(b"\x1f\x8b"):
        return payload
    text = b""
    while payload:  # a file of gzip may have several members, one behind the other
        gunzip = zlib.decompressobj(wbits=31)
        try:
            text += gunzip.decompress(payload, _MAX_UNZIPPED_BYTES)
        except zlib.error as error:
            raise Undecodable(f"damaged gzip: {error}") from error
        if not gunzip.eof or len(text) > _MAX_UNZIPPED_BYTES:
            raise Undecodable("gzip cut short, or larger than 16 MiB")
        payload = gunzip.unused_data
    return text
