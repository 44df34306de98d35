# Made by tools/make_sync.py from kvql/_async/__init__.py. Never edit: run `make sync`.
"""The Database API of PEP 249 without an event loop; made from ``kvql._async``, which see."""

from kvql._sync.connection import Connection
from kvql._sync.cursor import Cursor, Description
from kvql._sync.transaction import Attempts

__all__ = ["Attempts", "Connection", "Cursor", "Description"]
