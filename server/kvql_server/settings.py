"""Every limit and choice of the server by name, with its default (``config`` fills them in: flag > environment >
file)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator may choose. The same names stand in the TOML file, and in upper case after ``KVQL_SERVER_``."""

    data: str = "data"
    """The folder with the store and ``users.json``."""
    certs: str = "certs"
    """The folder with ``server.pem`` and ``server.key``."""
    listen: str = "127.0.0.1:7443"
    """HOST:PORT, or ``unix:PATH``; port 0 takes a free one."""
    plain_text: bool = False
    """Serve without TLS; allowed on loopback only."""
    engine: str = "hashtable"
    """``hashtable`` (the folder ``data``) or ``memory`` (nothing outlives the process)."""
    sync: Literal["always", "interval", "checkpoint"] = "always"
    """When commits reach the disk: ``always``, ``interval`` (1 s), ``checkpoint``."""
    checkpoint_interval_s: float = 300.0
    values: str = "any"
    """``word`` refuses text with white space in every namespace that does not say otherwise."""
    create_namespaces: str = "everyone"
    """Who may create namespaces: ``everyone`` or ``administrators``."""
    statement_timeout_s: float = 60.0
    transaction_idle_s: float = 300.0
    """An open transaction that no statement came for is rolled back after this."""
    transaction_writes_max: int = 200_000
    transaction_bytes_max: int = 64 * MEBIBYTE
    savepoints_max: int = 1_000
    """Of one transaction."""
    conflict_retries_max: int = 64
    """How often a statement outside a transaction is repeated when others keep changing what it read."""
    message_bytes_max: int = 4 * MEBIBYTE
    expression_steps_max: int = 50_000
    """Operators, operands and calls of one statement's expressions: a flat condition of some 16,000 terms."""
    query_bytes_max: int = 256 * MEBIBYTE
    """What the sorts, groups and distinct rows of one query may hold."""
    statement_bytes_max: int = 512 * MEBIBYTE
    """What one statement outside BEGIN … COMMIT may write, 100 bytes a pair included: some four million small pairs."""
    outcome_bytes_max: int = MEBIBYTE // 16
    """Rows of a request with an idempotency key that are kept for a repeat; of more, only what was done is told."""
    rows_chunk_bytes: int = MEBIBYTE // 4
    sessions_max: int = 1_000
    sessions_per_user_max: int = 200
    requests_in_flight_max: int = 4_096
    """Of one session; what is too much is refused (53400)."""
    lanes_max: int = 4_096
    """Lanes of one session that hold state (a namespace in use, a transaction)."""
    watches_max: int = 2_000
    """Of all clients at once."""
    watches_per_user_max: int = 1_000
    watches_per_session_max: int = 64
    """On the lanes of one session; a call of its own counts as a session."""
    watch_progress_s: float = 10.0
    """How often a watch to which nothing happens is told how far the store has come."""
    calls_max: int = 5_000
    """Calls of all clients at once, sessions included."""
    login_threads: int = 2
    login_queue_max: int = 64
    token_lifetime_s: int = 900
    refresh_lifetime_s: int = 30 * 86_400
    shutdown_grace_s: float = 10.0
    handshake_timeout_s: float = 10.0
    reflection: bool = False
    log_format: str = "text"
    """``text`` or ``json``: one event a line either way."""
    log_level: str = "info"
