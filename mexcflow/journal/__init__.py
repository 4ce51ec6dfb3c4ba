"""The journal: every frame as received, on the disk before anything else happens to it.

`format.py` describes the files. Imports only the core; the exchanges and the store are unknown here.
"""

from mexcflow.journal.files import Files
from mexcflow.journal.format import Kind, Position, Record
from mexcflow.journal.journal import Journal
from mexcflow.journal.lock import STATUS, Lock, holder, in_use
from mexcflow.journal.opening import discard, waiting_frames
from mexcflow.journal.reader import Taken
from mexcflow.journal.records import BatchRecord, Stream, read_connected, read_disconnected, this_run
from mexcflow.journal.segments import has_history
from mexcflow.journal.settings import Durability, JournalSettings, Retention
from mexcflow.journal.stream import read_stream

__all__ = [
    "BatchRecord",
    "Durability",
    "Files",
    "Journal",
    "JournalSettings",
    "Kind",
    "Lock",
    "Position",
    "Record",
    "Retention",
    "STATUS",
    "Stream",
    "Taken",
    "discard",
    "has_history",
    "holder",
    "in_use",
    "read_connected",
    "read_disconnected",
    "read_stream",
    "this_run",
    "waiting_frames",
]
