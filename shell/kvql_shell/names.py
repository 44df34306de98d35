"""The names that completion offers, fetched beside the prompt on a connection of its own.

A second connection, because the user's may be inside a transaction, where looking at keys would count as having read
them. One background thread asks; whoever needs names waits for it 50 ms at most and takes what is known by then.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from typing import Any, Final

from kvql import ast
from kvql.errors import Error

WAIT_S: Final = 0.05
_FRESH_S: Final = 5.0
_KEYS_MAX: Final = 100
_CACHE_MAX: Final = 256
_log = logging.getLogger(__name__)


class ServerNames:
    """``open_client`` makes the connection, at the first question; ``namespace`` tells which is in use right now."""

    def __init__(self, open_client: Callable[[], Any], namespace: Callable[[], str | None]) -> None:
        self._open = open_client
        self._namespace = namespace
        self._client: Any = None
        self._broken = False
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], tuple[float, list[str]]] = {}
        self._asked: dict[tuple[str, str], Future[list[str]]] = {}
        self._thread: ThreadPoolExecutor | None = None

    def namespaces(self) -> list[str]:
        """Those that the user may read."""
        return self._get(("", ""), ast.ShowNamespaces())

    def keys(self, prefix: str) -> list[str]:
        """Some of the keys that start with ``prefix`` in the namespace in use."""
        namespace = self._namespace()
        if not namespace:
            return []
        pattern = ast.Literal(prefix.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%")
        limit = ast.Literal(_KEYS_MAX)
        return self._get((namespace, prefix), ast.ShowKeys(ast.Name(namespace), pattern, limit))

    def forget(self) -> None:
        """Something was written: ask again."""
        with self._lock:
            self._known.clear()

    def close(self) -> None:
        """Stop the thread and its connection."""
        if self._thread is not None:
            self._thread.submit(self._disconnect)
            self._thread.shutdown(wait=False)

    def _get(self, what: tuple[str, str], statement: ast.Statement) -> list[str]:
        now = time.monotonic()
        with self._lock:
            at, known = self._known.get(what, (0.0, []))
            if self._broken or now - at < _FRESH_S:
                return known
            asked = self._asked.get(what)
            if asked is None:
                if self._thread is None:
                    self._thread = ThreadPoolExecutor(1, "kvql-names")
                asked = self._asked[what] = self._thread.submit(self._ask, what, statement)
        try:
            return asked.result(WAIT_S)
        except NotYet:
            return known

    def _ask(self, what: tuple[str, str], statement: ast.Statement) -> list[str]:
        found: list[str] = []
        try:
            if self._client is None:
                self._client = self._open()
            result = self._client.run(statement, timeout=2.0)
            found = [row[0] for row in result.rows]
        except Error as e:
            # no names are no disaster; the statement that the user is typing will tell what is wrong
            _log.debug("no names for completion: %s", e.message)
            if e.sqlstate[:2] in ("08", "28"):
                self._broken = True
        finally:
            with self._lock:
                if len(self._known) >= _CACHE_MAX:
                    self._known.clear()
                self._known[what] = (time.monotonic(), found)
                self._asked.pop(what, None)
        return found

    def _disconnect(self) -> None:
        if self._client is not None:
            try:
                self._client.close()
            except Error as e:
                _log.debug("closing the connection for completion: %s", e.message)
