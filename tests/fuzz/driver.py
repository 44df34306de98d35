"""Throw statements and wire messages at a store: only documented errors may come back.

A case is told by its seed and its number, so that one can be repeated: ``make fuzz N=1 SEED=…``.
"""

from __future__ import annotations

import random
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from kvql_server.local import open_folder

import kvql
from kvql import errors
from kvql.compiler import compile_statement
from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb
from tests.fuzz import statements, wire

DOCUMENTED = frozenset(
    v for k, v in vars(errors).items() if k.isupper() and isinstance(v, str) and len(v) == 5
) - {errors.INTERNAL, errors.CORRUPTED, errors.OUTCOME_UNKNOWN}  # fmt: skip
SLOW_S = 2.0
"""On a processor: what other programs do meanwhile does not count."""
FRESH_EVERY = 400


@dataclass
class Tally:
    """What came of the cases; ``failures`` are the ones that must not be."""

    cases: int = 0
    fine: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


SETUP = """
PUT a 1, b 2, k1 2.5, user:1 'text', é true;
PUT j1 {"name": "ann", "age": 31, "address": {"city": "Ulm"}, "tags": [1, "two", null]};
PUT j2 {"name": "bob", "age": null};
PUT t (now()), f (1e3), x (x'1f'), soon 1 TTL 1h;
CREATE TABLE other (name varchar(20), age INTEGER NOT NULL, price numeric(10, 2), born TIMESTAMP);
INSERT INTO other (name, age, price) VALUES ('ann', 1, 1.5), ('bob', 2, NULL);
"""
ROLLBACK = pb.Request(transaction=pb.TransactionCommand(action=pb.TransactionCommand.ROLLBACK))


class Store:
    """A store in process, made anew now and then so that no case drowns in the pairs of the ones before."""

    def __init__(self, target: str = ":memory:") -> None:
        self.target = target
        self.open()

    def open(self) -> None:
        self.store = open_folder(self.target)
        self.session = self.store.session()
        for statement in kvql.parse(SETUP):
            request = compile_statement(statement)
            request.namespace = "shop"
            self.execute(request)

    def renew(self) -> None:
        self.session.close()
        self.store.close()
        self.open()

    def execute(self, request: Any) -> None:
        for result in self.session.execute(request):
            for n, _ in enumerate(result.rows):
                if n > 1000:
                    break

    def end_failed(self) -> None:
        """ROLLBACK where a transaction has failed: all that follows would be refused."""
        self.session.execute(ROLLBACK)

    def alive(self) -> None:
        """The store still answers."""
        probe = self.store.session()
        try:
            probe.execute(pb.Request(namespaces=pb.NamespacesCommand()))
        finally:
            probe.close()


def one(store: Store, rng: random.Random, good: list[Any]) -> None:
    """One case: parse, print, parse again, compile, carry out; or a message from nobody's client."""
    if rng.random() < 0.4:
        request = wire.request(rng, rng.choice(good) if good else None)
        if request is not None:
            store.execute(request)
        return
    text = statements.statement(rng)
    parsed = kvql.parse(text)
    for statement in parsed:
        again = kvql.unparse(statement)
        if kvql.parse(again) != (statement,):
            raise AssertionError(f"{text!r} prints as {again!r}, which parses to something else")
        request = _bound(statement, rng)
        if not request.namespace:
            request.namespace = "shop"
        if len(good) < 200:
            good.append(request)
        else:
            good[rng.randrange(200)] = request
        store.execute(request)


def _bound(statement: Any, rng: random.Random) -> Any:
    """The statement with as many values as it has places; now and then with what comes to hand."""
    values = rng.choices((1, "two", 3.0, None, "k1", b"\x00", timedelta(seconds=5)), k=4)
    if rng.random() < 0.9:
        for given in ((), *(values[:n] for n in range(1, 5)), {"p": values[0]}):
            try:
                return compile_statement(statement, given)
            except Error as e:
                if e.sqlstate != errors.UNDEFINED_PARAMETER:
                    raise
    return compile_statement(statement, {"p": values[0]} if rng.random() < 0.5 else values)


def run(count: int, seed: int, target: str = ":memory:", report: Any = None) -> Tally:
    """``count`` cases of ``seed``; case n depends on nothing but the seed and the cases before it in its group."""
    tally = Tally()
    store = Store(target)
    group = random.Random(seed)
    good: list[Any] = []
    for number in range(count):
        if number % FRESH_EVERY == 0:
            store.renew()
            good = []
            group = random.Random(f"{seed}/{number // FRESH_EVERY}")
        state = group.getstate()
        start = time.process_time()
        try:
            one(store, group, good)
            tally.fine += 1
        except Error as e:
            tally.refused[e.sqlstate] += 1
            if e.sqlstate == errors.TRANSACTION_ABORTED:
                store.end_failed()
            if e.sqlstate not in DOCUMENTED or not e.message or "Traceback" in e.message:
                tally.failures.append(_told(seed, number, state))
        except Exception:  # noqa: BLE001 - whatever it is, it is the finding
            tally.failures.append(_told(seed, number, state))
        if (took_s := time.process_time() - start) > SLOW_S:
            tally.failures.append(f"seed {seed} case {number} took {took_s:.1f} s of the processor")
        tally.cases += 1
        if report is not None and tally.cases % 1000 == 0:
            report(tally)
        if len(tally.failures) >= 20:
            break
    store.alive()
    return tally


def _told(seed: int, number: int, state: Any) -> str:
    """The case with what it was, built once more from the state of its generator."""
    rng = random.Random()
    rng.setstate(state)
    what = "a wire message" if rng.random() < 0.4 else repr(statements.statement(rng)[:300])
    return f"seed {seed} case {number}: {what}\n{traceback.format_exc(limit=-6)}"


def main(arguments: list[str]) -> int:
    import argparse

    parser = argparse.ArgumentParser(description="fuzz the language and the wire")
    parser.add_argument("count", type=int, nargs="?", default=20_000)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**32)
    print(f"seed {seed}, {options.count} cases")
    tally = run(
        options.count,
        seed,
        report=lambda t: print(f"\r{t.cases} cases, {len(t.failures)} failures", end="", file=sys.stderr),
    )
    print(
        f"\n{tally.cases} cases: {tally.fine} fine, {sum(tally.refused.values())} refused, {len(tally.failures)} failed"
    )
    print(", ".join(f"{state} {n}" for state, n in tally.refused.most_common()))
    for failure in tally.failures:
        print(failure)
    return 1 if tally.failures else 0
