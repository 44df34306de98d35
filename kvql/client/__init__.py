"""The clients: statements in, results out, over any transport.

In order of control flow: ``opening`` reads the target and opens its transport; ``lane`` holds what a client knows of
its place in the conversation (namespace in use, transaction) and judges every statement before and after; ``pipeline``
sends many statements without waiting for each; ``sync`` and ``kvql.aio`` are thin drivers of these, ``drive`` runs
coroutines where no event loop is.
"""

from kvql.client.opening import connect
from kvql.client.sync import Client

__all__ = ["Client", "connect"]
