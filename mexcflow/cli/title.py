"""The process's title, which every user of the machine can read, without passwords.

`ps` and /proc/PID/cmdline show the command line as it was typed: `--database http://user:password@host`.
So the title is set anew, before anything else is loaded. Between the start of the process and then lie
some tens of milliseconds (Python's own start) in which the kernel shows what was typed: who cannot have
that puts the URL into MEXCFLOW_DATABASE or an instance file, and the password into MEXCFLOW_PASSWORD or
MEXCFLOW_PASSWORD_FILE.

What is hidden, in each argument:

- of anything with an `@`, what stands between `://` (or the beginning) and the last `@`: a password may
  hold any character, also an `@`, and may be typed where no scheme is;
- of a URL, what stands behind `?`: an endpoint's token;
- in SQL, every quoted text: `remote('host', 'user', 'password')`, `IDENTIFIED BY '...'`.
"""

import re
from collections.abc import Sequence

HIDDEN = "***"

_QUOTED = re.compile(r"""'(?:\\.|''|[^'\\])*(?:'|$)|\$(\w*)\$.*?(?:\$\1\$|$)""", re.DOTALL)
_OPTION = re.compile(r"--?[\w-]+=")
_SCHEME = re.compile(r"[A-Za-z][\w+.-]*://")
_IN_TEXT = re.compile(r"([A-Za-z][\w+.-]*://)[^\s'\"`()]*@")


def set_title(arguments: Sequence[str]) -> None:
    """Show this command line as the process's title; `arguments` are those of the process, `sys.argv`."""
    import setproctitle

    setproctitle.setproctitle(" ".join(["mexcflow", *map(hidden, arguments[1:])]))


def hidden(argument: str) -> str:
    """Return an argument without what may be a password."""
    option = _OPTION.match(argument)
    begin = option.group() if option else ""
    value = argument.removeprefix(begin)
    scheme = _SCHEME.match(value)
    if scheme or not re.search(r"\s|'", value):
        return begin + _hidden_in_url(value, scheme.group() if scheme else "")
    return begin + _hidden_in_sql(value)


def hidden_in_message(message: str) -> str:
    """Return a message without what stands before an `@`, or behind a `?`, in the URLs it quotes."""
    return re.sub(r"(://[^\s?]*\?)\S+", rf"\g<1>{HIDDEN}", re.sub(r"(?s)://.*@", f"://{HIDDEN}@", message))


def _hidden_in_sql(text: str) -> str:
    """Return a statement on one line, without its quoted texts and without users and passwords in URLs."""
    text = _QUOTED.sub(f"'{HIDDEN}'", text)
    return " ".join(_IN_TEXT.sub(rf"\g<1>{HIDDEN}@", text).split())


def _hidden_in_url(value: str, scheme: str) -> str:
    user, at, address = value.removeprefix(scheme).rpartition("@")
    address, question, _ = address.partition("?") if scheme else (address, "", "")
    known = f"{HIDDEN}@" if at and user else at
    return f"{scheme}{known}{address}{question and f'?{HIDDEN}'}"
