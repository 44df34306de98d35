"""The Database API of PEP 249, written once: for asyncio here, and ``kvql._sync`` is made from it.

``make sync`` (``tools/make_sync.py``) takes the waiting out: ``async`` and ``await`` go, ``AsyncCursor`` becomes
``Cursor``. In order of control flow: ``connection`` begins a transaction where one is due and hands the statement to
its client, ``cursor`` holds what came back, ``transaction`` is BEGIN … COMMIT as a block. What only asyncio has, tasks
that share a connection, is in ``kvql.aio``.
"""

from kvql._async.connection import AsyncConnection
from kvql._async.cursor import AsyncCursor, Description
from kvql._async.transaction import AsyncAttempts

__all__ = ["AsyncAttempts", "AsyncConnection", "AsyncCursor", "Description"]
