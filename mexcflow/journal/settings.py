"""How durable a journal is, and what is kept of it."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Durability:
    """When bytes are forced down (0: at each append, inf: never), and when a segment is sealed."""

    fsync_s: float = 1.0
    segment_bytes: int = 16 * 1024 * 1024
    segment_age_s: float = 600.0


@dataclass(frozen=True)
class Retention:
    """How long the tail is: a time, and bytes or very many segments; and how long the raw archive is kept.

    `keep_raw_s` 0 archives nothing more and leaves what is there, inf keeps it for ever.
    """

    tail_s: float = 600.0
    tail_bytes: int = 64 * 1024 * 1024
    tail_segments: int = 1000
    keep_raw_s: float = 0.0


@dataclass(frozen=True)
class JournalSettings:
    """How durable, and what is kept of what is acknowledged; `taken_bytes` bounds what is in memory."""

    durability: Durability = field(default_factory=Durability)
    retention: Retention = field(default_factory=Retention)
    taken_bytes: int = 32 * 1024 * 1024
