"""The default engine: hash tables in memory, a log and a checkpoint on the disk (DESIGN §6).

A commit's way: ``engine`` takes it, ``record`` turns it into bytes, ``log`` makes sure of space for them; ``store``
checks its guards (and ``growth`` the limit), changes the ``table``\\ s (whose values are ``entries``, whose keys are in
``order``), keeps old states for open ``snapshots``, tells the journal of the namespace, and notes what will be due in
``expiry``; ``log`` writes and syncs, many commits at once, and whoever waits may answer. ``past`` and ``history`` read
from the journal what was. ``checkpointer`` writes a ``checkpoint`` (and its ``checkpoint_history``) now and then, and
lets old log segments go.

Opening: ``recovery`` reads ``manifest``, checkpoint and log through ``files``, and judges what a crash left.

``docs/format/`` describes the bytes.
"""

from kvql_server.engines.hashtable.engine import HashTableEngine

__all__ = ["HashTableEngine"]
