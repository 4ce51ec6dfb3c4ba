"""What the endpoint answers in place of a result: ClickHouse's number, name, text and HTTP status."""

import re

_CODE = re.compile(r"Code: (\d+)\.")

_NAMES = {
    36: "BAD_ARGUMENTS",
    48: "NOT_IMPLEMENTED",
    62: "SYNTAX_ERROR",
    115: "UNKNOWN_SETTING",
    117: "INCORRECT_DATA",
    202: "TOO_MANY_SIMULTANEOUS_QUERIES",
    216: "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING",
    243: "NOT_ENOUGH_SPACE",
    372: "SESSION_NOT_FOUND",
    373: "SESSION_IS_LOCKED",
    374: "INVALID_SESSION_TIMEOUT",
    516: "AUTHENTICATION_FAILED",
    1002: "UNKNOWN_EXCEPTION",
}

_STATUS = {
    **dict.fromkeys((192, 193, 497, 516), 403),
    **dict.fromkeys((6, 25, 26, 27, 36, 38, 41, 53, 62, 72, 117, 167, 168, 372, 374, 456, 457), 400),
    **dict.fromkeys((46, 47, 50, 56, 60, 73, 78, 81, 115, 336, 511), 404),
    194: 401,
    425: 413,
    48: 501,
    **dict.fromkeys((76, 202, 209), 503),
}
"""A server's own table, for the codes that come up; whatever is not in it is 500."""


class Refusal(Exception):
    """An answer without a result. `code` is ClickHouse's number, 0 for what only HTTP has a word for."""

    def __init__(self, code: int, text: str, *, status: int | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.status = status or _STATUS.get(code, 500)
        named = f"Code: {code}. DB::Exception: {text} ({_NAMES.get(code, 'ERROR')})"
        self.text = text if not code or _CODE.match(text) else named

    @classmethod
    def of_engine(cls, error: Exception) -> "Refusal":
        """Return what the engine said: `Code: N. DB::Exception: .. (NAME)`."""
        text = str(error)
        start = text.find("Code: ")
        found = _CODE.match(text[start:]) if start >= 0 else None
        return cls(int(found[1]), text[start:].strip()) if found else cls(1002, text)


class ClientGone(Exception):
    """Nobody waits for the answer any more."""
