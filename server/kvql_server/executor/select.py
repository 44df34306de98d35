"""SELECT: what is asked, turned into a plan of stages, and its rows, computed while they are read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

from kvql import errors
from kvql.result import Result, ResultColumn
from kvql.v1 import kvql_pb2 as pb
from kvql.values import Json, Type
from kvql_server.catalog import Namespace
from kvql_server.engines.base import Order, Page
from kvql_server.executor import expressions, groups, past, pipeline, turns
from kvql_server.executor.access_path import FULL
from kvql_server.executor.aggregates import AGGREGATES
from kvql_server.executor.call import Call, Pages
from kvql_server.executor.explain import analyzed, described, explained
from kvql_server.executor.expressions import Builder, Grouping, Item, Scope, check_grouped
from kvql_server.executor.expressions import text as sql
from kvql_server.executor.expressions.generated import cells, placed
from kvql_server.executor.expressions.items import PLACE
from kvql_server.executor.pipeline import Memory, Stage
from kvql_server.transaction import Transaction

INTEGER_MAX: Final = 2**63 - 1


async def select(transaction: Transaction, call: Call) -> Result:
    """The rows, computed while they are read."""
    command = call.request.select
    if command.offset > INTEGER_MAX or command.limit > INTEGER_MAX:
        raise errors.error(errors.INVALID, "LIMIT and OFFSET are 64-bit integers")
    if not command.projections:
        raise errors.error(errors.INVALID, "SELECT needs at least one column")
    if not command.namespace and not command.from_session:
        if command.history or command.HasField("as_of"):
            raise errors.error(errors.INVALID, "the past is a namespace's", hint="SELECT … FROM ns AS OF …")
        return await turns.aside(call.work, _weight(command), lambda: _one_row(transaction, call))
    namespace = call.namespace(command.namespace)
    record = await call.access.existing(transaction, call.principal, namespace)
    before = await past.of_select(transaction, call, namespace, record, _bases(command)["as_of"])
    if before is None:
        return await _from(transaction, transaction, call, namespace, record)
    try:
        return await _from(before, transaction, call, namespace, record)
    finally:
        before.close()


async def _from(reader: past.Reader, transaction: Transaction, call: Call, namespace: str, record: Namespace) -> Result:
    """The rows of what ``reader`` reads."""
    weight = _weight(call.request.select)
    planner = Planner(reader, transaction, call, namespace, record)
    if turns.goes_aside(call.work, weight):
        planner.scope.find_kinds()
    plan = await turns.aside(call.work, weight, planner.plan)
    if call.request.mode == pb.MODE_EXPLAIN:
        return explained(plan.stages)
    if call.request.mode == pb.MODE_EXPLAIN_ANALYZE:
        return await analyzed(plan.stages, plan.rows(measured=True), expressions.notices, plan.builder)
    shared = reader.share()
    result = Result(plan.columns, Pages(plan.rows(), shared.release), -1)
    assert isinstance(result.rows, Pages)
    result.rows.on_error = lambda e: _failed(e, transaction, call)
    result.rows.at_end = lambda: result.notices.extend(expressions.notices(plan.builder))
    return result


def _weight(command: pb.SelectCommand) -> int:
    """About how many steps are compiled; aliases may stand for many more than they show."""
    steps = steps_of(command)
    return steps * 10 if any(p.aliased for p in command.projections) else steps


def steps_of(command: pb.SelectCommand) -> int:
    """How many steps the expressions of a SELECT have."""
    end: int = _bases(command)["end"]
    return end


def _failed(error: errors.Error, transaction: Transaction, call: Call) -> errors.Error:
    """An error among the rows is the statement's, however late: an open transaction accepts only ROLLBACK then."""
    if call.lane.transaction is transaction:
        transaction.failed = True
    return placed(error, call.places)


def _one_row(transaction: Transaction, call: Call) -> Result:
    """SELECT of expressions that need no pair."""
    command = call.request.select
    if command.HasField("where") or command.group_by or command.group_all or command.order_by:
        raise errors.error(errors.INVALID, "a condition needs a namespace to read from", hint="SELECT … FROM ns")
    projections = [(p.name, p.expression) for p in command.projections]
    if any(p.expression.steps[:1] == [_STAR] for p in command.projections):
        raise errors.error(errors.SYNTAX, "SELECT * needs a namespace to read from", hint="SELECT * FROM ns")
    columns, row = expressions.constants(projections, transaction.time, call.settings.expression_steps_max, call.places)
    if call.request.mode:
        return explained([Stage("result", ", ".join(sql.text(e) for _, e in projections))], call.request.mode)
    end = command.limit + command.offset if command.HasField("limit") else None
    rows = [row][command.offset : end]
    return Result(columns, rows, len(rows))


_STAR: Final = pb.Step(op=pb.OP_STAR)


# ── plans ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Plan:
    """The stages of a query, from the pages of pairs that it reads to the rows that leave."""

    def __init__(self, builder: Builder, columns: tuple[ResultColumn, ...], stages: list[Stage]) -> None:
        self.builder = builder
        self.columns = columns
        self.stages = stages

    def rows(self, *, measured: bool = False) -> AsyncIterator[Any]:
        return pipeline.connect(self.stages, None, measured=measured)


class Planner:
    """Makes the plan of one SELECT. ``path``: the keys that need to be read."""

    def __init__(
        self, reader: past.Reader, transaction: Transaction, call: Call, namespace: str, record: Namespace
    ) -> None:
        self.reader = reader
        self.call = call
        self.command = call.request.select
        self.namespace = namespace
        self.fields = record.fields
        self.memory = Memory(call.settings.query_bytes_max)
        aliases = {p.name: p.expression for p in reversed(self.command.projections) if p.aliased and p.name}
        self.history = isinstance(reader, past.History)
        self.scope = Scope(
            namespace, record.fields, aliases=aliases, kinds_of=partial(reader.kinds, namespace), history=self.history
        )
        self.builder = Builder(self.scope, transaction.time, call.settings.expression_steps_max, call.places)
        self.builder.clause = "SELECT"
        self.projections = list(_projections(self.command, self.scope))
        self.bases = _bases(self.command)
        self.path = FULL
        self.condition = ""
        self.stages: list[Stage] = []
        self._places: dict[bytes, int] = {}
        """Of the expressions in the list, by what they are on the wire."""

    def plan(self) -> Plan:
        self._where()
        items = self._grouped() if self._is_grouped() else self._plain()
        command = self.command
        if command.offset or (command.HasField("limit") and self.stages[-1].name != "top"):
            self._limit()
        columns = tuple(
            ResultColumn(name, item.type) for (name, _, _), item in zip(self.projections, items, strict=True)
        )
        return Plan(self.builder, columns, self.stages)

    def _told(self, expression: pb.Expression) -> str:
        """The expression for EXPLAIN; nobody else reads what the stages say of themselves."""
        return sql.text(expression) if self.call.request.mode else ""

    def _is_grouped(self) -> bool:
        command = self.command
        if command.group_by or command.group_all or command.HasField("having"):
            return True
        programs = [p.expression for p in command.projections] + [o.expression for o in command.order_by]
        return any(_has_aggregate(e) for e in programs)

    def _where(self) -> None:
        if not self.command.HasField("where"):
            return
        self.path, self.condition = expressions.condition_of(self.builder, self.command.where, self.bases["where"])
        self.builder.clause = "SELECT"

    def _filter_detail(self) -> str:
        return self._told(self.command.where) if self.condition else ""

    def _read(self, order: Order) -> None:
        """The first stage: pages of pairs."""
        path, reader, call, namespace, builder = self.path, self.reader, self.call, self.namespace, self.builder
        if order == "any" and path != FULL:
            order = "key"

        async def pages(_: None) -> AsyncIterator[Page]:
            # known only now, when all functions over pages are compiled
            way: Order = "entries" if order == "any" and not builder.reads_keys else order
            read = past.read(reader, namespace, path, way)
            kinds = self.scope.kinds if builder.heavy and path.keys is None else None
            async for page in turns.in_turns(read, call.work, builder, kinds):
                yield page

        detail = described(path, namespace + past.told(reader), order) if call.request.mode else ""
        self.stages.append(Stage("read", detail, pages))

    def _limit(self) -> None:
        command = self.command
        limit = command.limit if command.HasField("limit") else None
        shown = ([f"limit {limit}"] if limit is not None else []) + (
            [f"offset {command.offset}"] * bool(command.offset)
        )
        self.stages.append(Stage("limit", " ".join(shown), lambda rows: pipeline.limited(rows, limit, command.offset)))

    # ── a row for each pair ───────────────────────────────────────────────────────────────────────────────────

    def _plain(self) -> list[Item]:
        builder, command = self.builder, self.command
        aliases, self.scope.aliases = self.scope.aliases, {}
        items = [builder.program(expression, base) for _, expression, base in self.projections]
        self.scope.aliases = aliases
        orders = self._orders(items)
        by_key = self._order_of_reading(orders)
        self._read(by_key or ("any" if orders and not command.distinct else "key"))
        if by_key:
            orders = []
        row = cells(builder, items)
        if orders:
            key, reverse = _sort_key(builder, orders, tie=("k", "e.revision") if self.history else ("k",))
            row = f"({key}, {row})"
        self._select(row)
        if command.distinct:
            self._distinct(bool(orders))
        if orders:
            self._sort(reverse)
        return items

    def _select(self, row: str) -> None:
        function = expressions.page_function(self.builder, row, self.condition)

        async def rows(pages: AsyncIterator[Page]) -> AsyncIterator[Any]:
            async for page in pages:
                found = await turns.computed(function, page)
                if found:
                    yield found

        shown = ", ".join(self._told(e) for _, e, _ in self.projections)
        if self.condition:
            self.stages.append(Stage("filter", self._filter_detail(), rows))
            self.stages.append(Stage("project", shown))
        else:
            self.stages.append(Stage("project", shown, rows))

    def _order_of_reading(self, orders: list[tuple[pb.Ordering, Item]]) -> Order | None:
        """Where ORDER BY is the order in which keys can be read, nothing needs to be sorted."""
        if self.history and orders and orders[0][0].descending:
            return None
        if len(orders) != 1 or not orders[0][1].is_key:
            return None
        return "reverse" if orders[0][0].descending else "key"

    # ── a row for each group ──────────────────────────────────────────────────────────────────────────────────

    def _grouped(self) -> list[Item]:
        builder, command = self.builder, self.command
        grouping = Grouping()
        builder.grouping = grouping
        self._group_by(grouping)
        aliases, self.scope.aliases = self.scope.aliases, {}
        items = [check_grouped(builder.program(e, base)) for _, e, base in self.projections]
        self.scope.aliases = aliases
        having = ""
        if command.HasField("having"):
            builder.clause = "HAVING"
            having = check_grouped(builder.program(command.having, self.bases["having"])).truth
        orders = [(o, check_grouped(item)) for o, item in self._orders(items)]
        self._read("any" if self._order_is_free(grouping) else "key")
        self._groups(grouping)
        row = cells(builder, items)
        if orders:
            key, reverse = _sort_key(builder, orders)
            row = f"({key}, {row})"
        function = expressions.group_function(builder, row, having)
        shown = ", ".join(self._told(e) for _, e, _ in self.projections)

        async def rows(pages: groups.Groups) -> AsyncIterator[Any]:
            async for page in pages:
                found = function(page)
                if found:
                    yield found

        if having:
            self.stages.append(Stage("having", self._told(command.having), rows))
            self.stages.append(Stage("project", shown))
        else:
            self.stages.append(Stage("project", shown, rows))
        if command.distinct:
            self._distinct(bool(orders))
        if orders:
            self._sort(reverse)
        return items

    def _group_by(self, grouping: Grouping) -> None:
        """The expressions of GROUP BY: columns, aliases, places in the list, or everything that is no aggregate."""
        builder, command = self.builder, self.command
        builder.clause = "GROUP BY"
        builder.about_rows = True
        programs: list[tuple[pb.Expression, int]] = []
        if command.group_all:
            programs = [(e, base) for _, e, base in self.projections if not _has_aggregate(e)]
        for expression, base in zip(command.group_by, self.bases["group_by"], strict=True):
            place = self._place(expression, "GROUP BY", base)
            programs.append((expression, base) if place is None else self.projections[place][1:])
        for expression, base in programs:
            last = base + len(expression.steps) - 1
            if _has_aggregate(expression):
                raise _at(last, errors.GROUPING, "aggregate functions are not allowed in GROUP BY")
            item = builder.program(expression, base)
            if item.aggregated:  # by the name of an alias
                raise _at(last, errors.GROUPING, "aggregate functions are not allowed in GROUP BY")
            if not item.is_constant:
                item.loose = None
                grouping.add(item)
        builder.clause = "SELECT"
        builder.about_rows = False

    def _order_is_free(self, grouping: Grouping) -> bool:
        """Whether the order of reading decides nothing: which of 1 and 1.0 a group shows, how texts are joined."""
        if not grouping.groups and all(a.name == "count" and not a.distinct for a in grouping.aggregates):
            return True
        kinds = self.scope.kinds
        single = kinds is not None and len(kinds) <= 1 and Json not in kinds
        return single and not any(a.name == "string_agg" for a in grouping.aggregates)

    def _groups(self, grouping: Grouping) -> None:
        builder, condition = self.builder, self.condition
        if self.condition:
            self.stages.append(Stage("filter", self._filter_detail()))
        names = ", ".join(sorted({a.name for a in grouping.aggregates})) or "no aggregates"
        if not grouping.groups and not self.command.group_by and not self.command.group_all:
            if self._is_count(grouping):
                what = f"all pairs of namespace {self.namespace}{past.told(self.reader)}"
                self.stages = [Stage("count", what, self._counted)]
                return
            self.stages.append(Stage("aggregate", names, groups.whole(builder, grouping, condition, self.memory)))
        else:
            shown = [self._told(e) for e in self.command.group_by] or ["ALL"]
            run = groups.grouped(builder, grouping, condition, self.memory, self.call.work)
            self.stages.append(Stage("group", f"by {', '.join(shown)}: {names}", run))

    def _is_count(self, grouping: Grouping) -> bool:
        """SELECT count(*) of everything: the engine knows the number."""
        only = [a for a in grouping.aggregates if a.arguments or a.condition]
        return not only and not self.condition and self.path == FULL

    async def _counted(self, _: None) -> groups.Groups:
        count, grouping = await self.reader.count(self.namespace), self.builder.grouping
        assert grouping is not None, "a plain SELECT has no stage of this kind"
        yield [((), (count,) * len(grouping.aggregates))]

    # ── order ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _orders(self, items: list[Item]) -> list[tuple[pb.Ordering, Item]]:
        """ORDER BY: places in the list, aliases, names of result columns, or any expression."""
        out = []
        names = {name: i for i, (name, _, _) in reversed(list(enumerate(self.projections)))}
        self._places = {_written(e): i for i, (_, e, _) in reversed(list(enumerate(self.projections)))}
        self.scope.aliases_first = True
        self.builder.clause = "ORDER BY"
        for ordering, base in zip(self.command.order_by, self.bases["order_by"], strict=True):
            place = self._place(ordering.expression, "ORDER BY", base)
            if place is None and self.builder.grouping is not None:
                place = names.get(_single_name(ordering.expression))
            if place is None:
                place = self._same(ordering.expression, names)
            if place is None and self.command.distinct and _single_name(ordering.expression) not in self.scope.aliases:
                raise _at(
                    base + len(ordering.expression.steps) - 1, errors.INVALID_REFERENCE,
                    "for SELECT DISTINCT, ORDER BY expressions must appear in the list",
                )  # fmt: skip
            out.append(
                (ordering, items[place] if place is not None else self.builder.program(ordering.expression, base))
            )
        self.scope.aliases_first = False
        self.builder.clause = "SELECT"
        return out

    def _place(self, expression: pb.Expression, clause: str, base: int) -> int | None:
        """``ORDER BY 2``: the place in the list, from 0; None if the expression is no plain number."""
        if (
            len(expression.steps) != 1
            or expression.steps[0].op != pb.OP_CONSTANT
            or not expression.steps[0].flags & PLACE
        ):
            return None
        numbers = expression.constants.integers
        if len(numbers) != 1 or expression.constants.types != b"\x03":
            return None
        if not 1 <= numbers[0] <= len(self.projections):
            raise _at(base, errors.INVALID_REFERENCE, f"{clause} position {numbers[0]} is not in the list")
        return numbers[0] - 1

    def _same(self, expression: pb.Expression, names: dict[str, int]) -> int | None:
        """The place of an equal expression in the list."""
        name = _single_name(expression)
        return names.get(name) if name in self.scope.aliases else self._places.get(_written(expression))

    def _sort(self, reverse: bool) -> None:
        command, memory, work = self.command, self.memory, self.call.work
        shown = ", ".join(
            self._told(o.expression) + (" DESC" if o.descending else "") + _nulls(o) for o in command.order_by
        )
        count = command.limit + command.offset if command.HasField("limit") else None
        if count is not None and 0 < count <= pipeline.TOP_MAX:
            self.stages.append(
                Stage("top", f"{count} by {shown}", lambda rows: pipeline.top(rows, reverse, count, memory))
            )
        else:
            self.stages.append(Stage("sort", shown, lambda rows: pipeline.ordered(rows, reverse, memory, work)))

    def _distinct(self, sorted_later: bool) -> None:
        self.builder.heavy = True  # JSON is compared by its content
        cells_of: Callable[[Any], tuple[Any, ...]] = (lambda row: row[1]) if sorted_later else (lambda row: row)
        self.stages.append(Stage("distinct", "", lambda rows: pipeline.distinct(rows, cells_of, self.memory)))


def _nulls(ordering: pb.Ordering) -> str:
    if not ordering.HasField("nulls_first"):
        return ""
    return " NULLS FIRST" if ordering.nulls_first else " NULLS LAST"


def _written(expression: pb.Expression) -> bytes:
    return expression.SerializeToString(deterministic=True)


def _single_name(expression: pb.Expression) -> str:
    if len(expression.steps) == 1 and expression.steps[0].op == pb.OP_COLUMN and len(expression.names) == 1:
        return expression.names[0]
    return ""


def _sort_key(
    builder: Builder, orders: Sequence[tuple[pb.Ordering, Item]], tie: Sequence[str] = ()
) -> tuple[str, bool]:
    """The source of a row's key, and whether the keys sort in reverse. ``tie`` decides between equal ones."""
    reverse = orders[0][0].descending
    parts = []
    for ordering, item in orders:
        builder.heavy = builder.heavy or item.type in (None, Type.JSON)
        key = f"order_key({item.code})"
        if ordering.HasField("nulls_first") and ordering.nulls_first is ordering.descending:
            # not where NULL stands by itself, as the smallest of all
            key = f"({item.code} is None, {key})"
        parts.append(key if ordering.descending is reverse else f"Descending({key})")
    return f"({builder.spread([*parts, *tie])})", reverse


def _has_aggregate(expression: pb.Expression) -> bool:
    return any(
        step.op == pb.OP_CALL and step.argument < len(expression.names)
        and expression.names[step.argument].lower() in AGGREGATES
        for step in expression.steps
    )  # fmt: skip


def _projections(command: pb.SelectCommand, scope: Scope) -> Iterator[tuple[str, pb.Expression, int]]:
    """(name, program, where its steps start) of each result column; ``*`` as the columns that it stands for."""
    base = 0
    for projection in command.projections:
        steps = projection.expression.steps
        if len(steps) == 1 and steps[0].op == pb.OP_STAR:
            for name in expressions.star(scope.fields):
                parts = ["value", name] if scope.hides(name) else [name]
                yield name, pb.Expression(steps=[pb.Step(op=pb.OP_COLUMN, arity=len(parts))], names=parts), base
        else:
            yield projection.name, projection.expression, base
        base += len(steps)


def _bases(command: pb.SelectCommand) -> dict[str, Any]:
    """Where the steps of each program start among the statement's, in the order of the message's fields."""
    base = sum(len(p.expression.steps) for p in command.projections)
    out: dict[str, Any] = {"where": base}
    base += len(command.where.steps)
    out["group_by"] = []
    for group in command.group_by:
        out["group_by"].append(base)
        base += len(group.steps)
    out["having"] = base
    base += len(command.having.steps)
    out["order_by"] = []
    for ordering in command.order_by:
        out["order_by"].append(base)
        base += len(ordering.expression.steps)
    out["as_of"] = base
    point = command.as_of.WhichOneof("point")
    out["end"] = base + (len(getattr(command.as_of, point).steps) if point else 0)
    return out


def _at(base: int, sqlstate: str, message: str) -> errors.Error:
    return errors.error(sqlstate, message, item=base + 1, part=pb.PART_STEP)
