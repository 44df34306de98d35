"""The Python Database API 2.0 (PEP 249) over the synchronous client.

A transaction begins before the first statement, as PEP 249 asks; with ``autocommit=True`` every statement is its own.
Parameters are ``?``, ``?2`` or ``:name``, given as a list or a dict. Values come out as Python's: JSON as dict and
list, TIMESTAMP as an aware datetime.

Connections and cursors are in ``kvql._sync``, which is made from their asynchronous twins in ``kvql._async``.
"""

from __future__ import annotations

import os
from typing import Final

from kvql._sync import Attempts as Attempts
from kvql._sync import Connection as Connection
from kvql._sync import Cursor as Cursor
from kvql._sync import Description as Description
from kvql._sync.watch import Watch as Watch
from kvql.client import connect as open_client
from kvql.client.events import Event as Event
from kvql.client.rows import Row as Row
from kvql.dbapi_types import BINARY as BINARY
from kvql.dbapi_types import DATETIME as DATETIME
from kvql.dbapi_types import NUMBER as NUMBER
from kvql.dbapi_types import ROWID as ROWID
from kvql.dbapi_types import STRING as STRING
from kvql.dbapi_types import Binary as Binary
from kvql.dbapi_types import Date as Date
from kvql.dbapi_types import DateFromTicks as DateFromTicks
from kvql.dbapi_types import Time as Time
from kvql.dbapi_types import TimeFromTicks as TimeFromTicks
from kvql.dbapi_types import Timestamp as Timestamp
from kvql.dbapi_types import TimestampFromTicks as TimestampFromTicks
from kvql.errors import DatabaseError as DatabaseError
from kvql.errors import DataError as DataError
from kvql.errors import Error as Error
from kvql.errors import IntegrityError as IntegrityError
from kvql.errors import InterfaceError as InterfaceError
from kvql.errors import InternalError as InternalError
from kvql.errors import NotSupportedError as NotSupportedError
from kvql.errors import OperationalError as OperationalError
from kvql.errors import ProgrammingError as ProgrammingError
from kvql.errors import Warning as Warning
from kvql.transport.fetching import Position as Position

apilevel: Final = "2.0"
threadsafety: Final = 1
paramstyle: Final = "qmark"


def connect(
    target: str | os.PathLike[str],
    *,
    user: str | None = None,
    password: str | None = None,
    ca: str | os.PathLike[str] | None = None,
    namespace: str | None = None,
    autocommit: bool = False,
    insecure: bool = False,
    timeout: float = 10.0,
) -> Connection:
    """Open a server (``kvql://ann@localhost:7443/shop``), a folder in this process, or ``:memory:``.

    The arguments are those of ``kvql.client.connect``. A connection belongs to one thread at a time; connect after a
    fork, not before.
    """
    client = open_client(
        target, user=user, password=password, ca=ca, namespace=namespace, insecure=insecure, timeout=timeout
    )
    return Connection(client, autocommit=autocommit)
