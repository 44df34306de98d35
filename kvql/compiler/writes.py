"""INSERT, UPDATE … SET, DELETE FROM, RESTORE."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kvql import ast, errors
from kvql.compiler.expressions import compile_expression, encode_constants
from kvql.compiler.operands import commented, name_of, pair_value, projections
from kvql.compiler.parameters import Parameters, encodable, key_of, ttl_ms_of
from kvql.compiler.reads import as_of
from kvql.v1 import kvql_pb2 as pb


def insert(statement: ast.Insert, bound: Parameters) -> pb.Request:
    """42601 if the rows differ in length, or do not fit the columns that are named."""
    request = pb.Request()
    command = request.insert
    command.namespace = name_of(statement.namespace)
    command.columns.extend([encodable(column.text, column.span) for column in statement.columns])
    command.width = len(statement.rows[0])
    if statement.columns and command.width != len(statement.columns):
        more = (
            "expressions than target columns"
            if command.width > len(statement.columns)
            else "target columns than expressions"
        )
        raise errors.error(errors.SYNTAX, f"INSERT has more {more}", span=statement.rows[0][-1].span)
    for row in statement.rows:
        if len(row) != command.width:
            raise errors.error(errors.SYNTAX, "VALUES lists must all be of the same length", span=row[-1].span)
    encode_constants([pair_value(value, bound) for row in statement.rows for value in row], command.values)
    if statement.ttl is not None:
        command.ttl_ms = ttl_ms_of(statement.ttl, bound)
    conflict = statement.on_conflict
    if conflict is not None:
        command.on_conflict.SetInParent()
        _assignments(conflict.assignments, bound, command.on_conflict.assignments)
        command.on_conflict.target.extend(conflict.target)
        if conflict.where is not None:
            compile_expression(conflict.where, bound, command.on_conflict.where)
    projections(statement.returning, bound, command.returning)
    return commented(request, statement.comment, bound)


def update(statement: ast.Update, bound: Parameters) -> pb.Request:
    request = pb.Request()
    command = request.update_rows
    command.namespace = name_of(statement.namespace)
    _assignments(statement.assignments, bound, command.assignments)
    if statement.where is not None:
        compile_expression(statement.where, bound, command.where)
    projections(statement.returning, bound, command.returning)
    return commented(request, statement.comment, bound)


def delete(statement: ast.Delete, bound: Parameters) -> pb.Request:
    request = pb.Request()
    command = request.delete_rows
    command.namespace = name_of(statement.namespace)
    if statement.where is not None:
        compile_expression(statement.where, bound, command.where)
    projections(statement.returning, bound, command.returning)
    return commented(request, statement.comment, bound)


def restore(statement: ast.Restore, bound: Parameters) -> pb.Request:
    request = pb.Request()
    command = request.restore
    command.keys.extend([key_of(key, bound) for key in statement.keys])
    if statement.namespace is not None:
        command.namespace = name_of(statement.namespace)
    if statement.where is not None:
        compile_expression(statement.where, bound, command.where)
    as_of(statement.as_of, bound, command.as_of)
    return commented(request, statement.comment, bound)


def _assignments(assignments: Iterable[ast.Assignment], bound: Parameters, into: Any) -> None:
    for assignment in assignments:
        out = into.add()
        out.path.extend([encodable(part, assignment.span) for part in assignment.path])
        compile_expression(assignment.value, bound, out.expression)
