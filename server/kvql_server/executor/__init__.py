"""Carrying out requests, independent of how they came and of which engine keeps the pairs.

One request, in the order of control flow:

1. ``executor.Executor.execute`` takes a typed request, a lane (namespace in use, open transaction) and a principal.
2. Inside a transaction the statement joins it. Outside, reads get a snapshot of their own, writes a transaction of
   their own that is repeated on conflict, and PUT, UPDATE, UPSERT take the short road of ``writes.write_run``, for one
   pair that of ``single``. With an ``idempotency`` key the transaction also reads and writes the request's outcome.
3. The statement's file (``keys``, ``lists``, ``select``, ``writes``, ``insert``, ``changes``, ``namespaces``,
   ``assertions`` with its ``subqueries``, ``watch``) checks the rules, asks ``auth.Access`` for the namespace, reads
   and writes through the transaction, and returns a ``Result``; rows that may be many are ``call.Pages``, computed
   while they are read, and all that may take long is cut by ``turns`` so that others get theirs. ``select`` plans its
   stages (``pipeline``, ``groups``); ``writes`` decodes and judges what it is given in ``runs``; writes share
   ``assignments``, ``returning`` and ``declared``; ``modes`` and ``explain`` are EXPLAIN and DRY RUN; ``past`` is AS OF
   and HISTORY OF, ``restore`` brings it back, and ``retention`` tells the engine how much of it to keep.
   ``expressions`` compiles conditions and projections, ``access_path`` finds out which keys they need; ``operators``,
   ``casts``, ``functions``, ``aggregates``, ``ordering``, ``like`` and ``match`` are what they mean. What the engine
   refuses is an error of the user's by ``refusals``.
   A watch goes on after that: ``watcher`` asks a ``feed`` of the engine's commits and makes ``events`` of them;
   ``watches`` counts those that run.
4. The caller waits until ``Work.revision`` is durable and sends.
"""

from kvql_server.executor.call import Lane, Pages, Work, step
from kvql_server.executor.executor import WRITES, Executor
from kvql_server.executor.refusals import engine_error
from kvql_server.executor.watcher import Watching

__all__ = ["WRITES", "Executor", "Lane", "Pages", "Watching", "Work", "engine_error", "step"]
