"""KVQL: one language for key-value data.

``connect`` opens a store (PEP 249, see ``kvql.dbapi``), ``kvql.aio.connect`` the same for asyncio, ``parse`` and
``unparse`` go from text to syntax tree and back. Everything is imported when it is first used: ``import kvql`` costs
nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from kvql import aio as aio
    from kvql.dbapi import BINARY as BINARY
    from kvql.dbapi import DATETIME as DATETIME
    from kvql.dbapi import NUMBER as NUMBER
    from kvql.dbapi import ROWID as ROWID
    from kvql.dbapi import STRING as STRING
    from kvql.dbapi import Binary as Binary
    from kvql.dbapi import Connection as Connection
    from kvql.dbapi import Cursor as Cursor
    from kvql.dbapi import Date as Date
    from kvql.dbapi import DateFromTicks as DateFromTicks
    from kvql.dbapi import Event as Event
    from kvql.dbapi import Position as Position
    from kvql.dbapi import Time as Time
    from kvql.dbapi import TimeFromTicks as TimeFromTicks
    from kvql.dbapi import Timestamp as Timestamp
    from kvql.dbapi import TimestampFromTicks as TimestampFromTicks
    from kvql.dbapi import Watch as Watch
    from kvql.dbapi import connect as connect
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
    from kvql.parser import parse as parse
    from kvql.printer import unparse as unparse

__version__: Final = "0.1.0"

apilevel: Final = "2.0"
threadsafety: Final = 1
paramstyle: Final = "qmark"

_HOME: Final = {
    name: module
    for module, names in {
        "kvql.dbapi": "connect Connection Cursor Binary Date Time Timestamp DateFromTicks TimeFromTicks "
        "TimestampFromTicks STRING BINARY NUMBER DATETIME ROWID Watch Event Position",
        "kvql.errors": "Warning Error InterfaceError DatabaseError DataError OperationalError IntegrityError "
        "InternalError ProgrammingError NotSupportedError",
        "kvql.parser": "parse",
        "kvql.printer": "unparse",
    }.items()
    for name in names.split()
}

__all__ = ["__version__", "aio", "apilevel", "paramstyle", "threadsafety", *_HOME]


def __getattr__(name: str) -> Any:
    if name == "aio":
        return import_module("kvql.aio")
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'kvql' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
