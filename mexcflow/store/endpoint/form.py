"""multipart/form-data: the statement and its parameters as fields, because they are too long for a URL."""

import logging
from typing import TYPE_CHECKING

from mexcflow.store.endpoint.refusal import Refusal

if TYPE_CHECKING:
    from python_multipart.multipart import Field, File

LONGEST_BYTES = 1 << 24
"""A form is held in memory: it is no way to insert rows."""


_NOWHERE = logging.NullHandler()


def is_form(content_type: str) -> bool:
    """Say whether a body is a form; any other body is a statement, whatever its type says."""
    return content_type.lower().startswith("multipart/form-data")


def fields(content_type: str, body: bytes) -> dict[str, str]:
    """Return the fields of a form; raises `Refusal` for one that is broken or has files in it."""
    from python_multipart import create_form_parser
    from python_multipart.exceptions import FormParserError

    logging.getLogger("python_multipart").propagate = False  # what is wrong is told to the client
    logging.getLogger("python_multipart").addHandler(_NOWHERE)
    found: dict[str, str] = {}

    def on_field(field: "Field") -> None:
        name, value = field.field_name or b"", field.value or b""
        found[name.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")

    def on_file(file: "File") -> None:
        name = (file.field_name or b"").decode("utf-8", "replace")
        raise Refusal(48, f"External tables are not taken (file {name[:40]}): insert the rows into a table")

    try:
        parser = create_form_parser({"Content-Type": content_type.encode()}, on_field, on_file)
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Refusal(117, f"The form cannot be read: {error}", status=400) from error
    return found
