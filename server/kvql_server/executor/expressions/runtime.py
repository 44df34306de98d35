"""What generated code calls, by the names under which it calls it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final

from kvql.values import encoded_size, from_micros, interval_of, type_of
from kvql_server import rules
from kvql_server.engines.base import Gone
from kvql_server.executor import operators
from kvql_server.executor.expressions import fields
from kvql_server.executor.like import Like
from kvql_server.executor.match import compiled_regex
from kvql_server.executor.operators import Skipped
from kvql_server.executor.ordering import group_key, order_key
from kvql_server.executor.pipeline import Descending


def type_name(value: Any) -> str:
    return type_of(value).name


def time_of(micros: int | None) -> Any:
    return None if micros is None else from_micros(micros)


def event_of(state: Any) -> str:
    """What made a state of the history."""
    if type(state) is Gone:
        return "EXPIRE" if state.expired else "DELETE"
    return "PUT" if state.version == 1 else "UPDATE"


def ttl_of(now: int) -> Callable[[int | None], timedelta | None]:
    def ttl(expires_at: int | None) -> timedelta | None:
        return None if expires_at is None else interval_of(max(expires_at - now, 0))

    return ttl


@lru_cache(maxsize=256)
def compiled_like(pattern: str, escape: str, insensitive: bool) -> Like:
    """A pattern, compiled once while it is in use; 22023 if it is too long or ends in its escape."""
    rules.check_pattern(pattern)
    return Like(pattern, escape, insensitive=insensitive)


def matches(value: Any, test: Callable[[str], bool], skipped: Skipped, row: Any) -> bool | None:
    """LIKE and ``~`` with a constant pattern."""
    if type(value) is str:
        return test(value)
    if value is not None:
        skipped.note(value, row)
    return None


def like(value: Any, pattern: Any, escape: Any, insensitive: bool, skipped: Skipped, row: Any) -> bool | None:
    """LIKE with a pattern that is computed for each row."""
    if pattern is None or escape is None:
        return None
    if type(pattern) is not str or type(escape) is not str:
        raise operators.no_operator("LIKE", value, pattern)
    return matches(value, compiled_like(pattern, escape, insensitive).matches, skipped, row)


def match(value: Any, pattern: Any, insensitive: bool, skipped: Skipped, row: Any) -> bool | None:
    """``~`` with a pattern that is computed for each row."""
    if pattern is None:
        return None
    if type(pattern) is not str:
        raise operators.no_operator("~", value, pattern)
    return matches(value, compiled_regex(pattern, insensitive), skipped, row)


def among_keys(value: Any, keys: frozenset[Hashable], has_null: bool) -> bool | None:
    """``IN`` over constants: one look-up, whatever their number."""
    if value is None:
        return None
    if group_key(value) in keys:
        return True
    return None if has_null else False


NO_BRANCH: Final = object()
"""What a piece of a long CASE answers where none of its branches is taken."""

NAMES: Final[dict[str, Any]] = {
    "NO_BRANCH": NO_BRANCH,
    "event_of": event_of,
    "type_name": type_name, "time_of": time_of, "size_of": encoded_size, "boolean": operators.boolean,
    "negation": operators.negation, "equal": operators.equal, "distinct": operators.distinct,
    "between": operators.between, "among": operators.among, "among_keys": among_keys,
    "starts_with": operators.starts_with, "matches": matches, "like": like, "match": match,
    "less": operators.less, "less_equal": operators.less_equal, "greater": operators.greater,
    "greater_equal": operators.greater_equal, "add": operators.add, "subtract": operators.subtract,
    "multiply": operators.multiply, "divide": operators.divide, "modulo": operators.modulo,
    "negate": operators.negate, "plus": operators.plus, "concat": operators.concat,
    "concat_all": operators.concat_all, "chain": operators.chain,
    "present": fields.present, "MISSING": fields.MISSING, "index": fields.index, "json_object": fields.json_object,
    "json_array": fields.json_array, "order_key": order_key, "group_key": group_key,
    "Descending": Descending,
}  # fmt: skip
"""Bound by name in every generated function; nothing else can be named there."""
