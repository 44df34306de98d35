"""The clients: statements in, results out, over any transport.

In order of control flow: ``opening`` reads the target and opens its transport; ``base`` is what every statement goes
through and ``lane`` what a client knows of its place in the conversation (namespace in use, transaction), both without
any I/O; ``pipeline`` sends many statements without waiting for each, in ``messages`` that know which outcome belongs to
which of them; ``rows`` are answers on their way to Python.
``sync`` and ``tasks`` are thin drivers of these, and ``drive`` runs coroutines where no event loop is.
"""

from kvql.client.opening import connect
from kvql.client.sync import Client

__all__ = ["Client", "connect"]
