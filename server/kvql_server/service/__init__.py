"""The wire's side of the server, and the only one that knows gRPC.

A request, in the order of control flow: ``serving`` has bound the port and started ``calls.Service``; ``status.Net``
stands around every call and lets nothing unforeseen out; ``calls`` settles who calls (tokens) and answers single calls;
``session`` is the bidirectional stream with its ``lanes``, ``watches`` the stream of a single WATCH; all hand requests
to the executor and put what comes back into messages with ``answers``.
"""

from kvql_server.service.calls import Service

__all__ = ["Service"]
