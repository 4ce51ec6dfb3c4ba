"""The statements that run, by their query ids; the engine knows only ids of its own.

An id counts from the moment when the head of its request is there until its statement has ended, whether
or not the client still waits: `store/fence.py` relies on that.
"""

import uuid

from mexcflow.store.endpoint.handles import Pool, Wishes
from mexcflow.store.endpoint.refusal import Refusal


class Running:
    """One statement that runs. `mark` is a text in it and in no other: the engine's id is found by it."""

    def __init__(self, query_id: str) -> None:
        self.query_id = query_id
        self.mark = ""


class Statements:
    """All that run, in this endpoint."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._running: dict[str, Running] = {}

    def __len__(self) -> int:
        return len(self._running)

    def enter(self, query_id: str) -> Running:
        """Note a statement; raises `Refusal` when one with this id runs already."""
        query_id = query_id or str(uuid.uuid4())
        if query_id in self._running:
            raise Refusal(216, f"Query with id = {query_id} is already running.")
        self._running[query_id] = running = Running(query_id)
        return running

    def leave(self, running: Running) -> None:
        """Forget a statement that has ended."""
        self._running.pop(running.query_id, None)

    def executing(self) -> list[Running]:
        """Return those that the engine has by now; of the others the body is still on its way."""
        return [running for running in list(self._running.values()) if running.mark]

    def engine_id(self, query_id: str) -> str:
        """Return the engine's own id of a statement, or what was given when it is none of ours."""
        running = self._running.get(query_id)
        return (self._found(running) if running else "") or query_id

    def kill(self, running: Running) -> bool:
        """Tell the engine to end a statement; False when it does not run (yet, or any more)."""
        found = self._found(running)
        if found:
            self._control(f"KILL QUERY WHERE query_id = '{found}' ASYNC", {})
        return bool(found)

    def _found(self, running: Running) -> str:
        if not running.mark:
            return ""
        # the mark is a parameter, so that this query does not find itself
        sql = "SELECT query_id FROM system.processes WHERE position(query, {mark:String}) > 0 LIMIT 1"
        return self._control(sql, {"mark": running.mark})

    def _control(self, sql: str, bound: dict[str, str]) -> str:
        wishes = Wishes({})
        handle = self._pool.take(wishes)
        try:
            answer: bytes = handle.run(sql, "TSVRaw", bound).bytes()
        finally:
            self._pool.give(handle, wishes)
        return answer.decode().strip()
