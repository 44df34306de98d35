"""``kvql-server verify``, ``backup`` and ``status``: what is asked, what is printed, the exit codes.

The modules that do the work are imported where they are needed: ``kvql-server start`` has no use for them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from kvql_server import config
from kvql_server.engines import base
from kvql_server.exits import DAMAGED, FAILED, FOLDER, LOCKED, TORN, USAGE, fail
from kvql_server.tools.findings import Effect, count

if TYPE_CHECKING:
    from kvql_server.tools.examine import Examination
    from kvql_server.tools.repair import Plan

_DAMAGE_LINES: Final = 20
"""Of one file; where a disk has died there are thousands."""


@contextlib.contextmanager
def _told(folder: str) -> Iterator[None]:
    """Every way in which a folder cannot be used becomes its sentence and exit code."""
    from kvql_server.tools.examine import NoStore

    try:
        if not os.path.isdir(folder):
            fail(f"there is no folder {folder}", FOLDER)
        yield
    except NoStore as e:
        fail(str(e), FOLDER)
    except base.Locked as e:
        fail(str(e), LOCKED)
    except base.EngineError as e:
        fail(str(e), DAMAGED)
    except OSError as e:
        fail(f"cannot use {e.filename or folder}: {e.strerror or e}", FOLDER)


# ── verify ────────────────────────────────────────────────────────────────────────────────────────────────────────


@click.command()
@click.argument("folder", metavar="DIR")
@click.option("--repair", is_flag=True, help="Put right what can be without guessing; asks first, keeps copies.")
@click.option("--hash", "hashed", is_flag=True, help="Print a hash over all pairs, the same for the same content.")
@click.option("--yes", is_flag=True, help="Repair without asking.")
def verify(folder: str, repair: bool, hashed: bool, yes: bool) -> None:
    """Read a stopped store whole and tell every damage; nothing is changed without --repair."""
    from kvql_server.engines.hashtable.files import OsFiles, OsReader, OsSharedLock
    from kvql_server.tools.examine import examine

    with _told(folder):
        lock = OsFiles().lock(folder) if repair else OsSharedLock(folder)
        try:
            done = examine(OsReader(), folder)
            _report(done)
            if repair:
                done = _repair(done, yes=yes)
            if hashed:
                _print_hash(done)
        finally:
            lock.release()
        if isinstance(lock, OsSharedLock) and lock.came:
            fail(f"a process opened the store in {folder} meanwhile; verify it again when it is stopped", LOCKED)
    raise SystemExit(_code(done))


def _code(done: Examination) -> int:
    match done.effect:
        case None:
            return 0
        case Effect.CUT:
            return TORN
        case _:
            return DAMAGED


def _report(done: Examination) -> None:
    lines = done.lines()
    names = max((len(line.file) for line in lines), default=0)
    sizes = max((len(f"{line.size:,}") for line in lines), default=0)
    for line in lines:
        click.echo(f"{line.file:<{names}}  {line.size:>{sizes},} bytes  {line.what}")
    told: dict[str, int] = {}
    for finding in done.findings:
        told[finding.file] = told.get(finding.file, 0) + 1
        if told[finding.file] <= _DAMAGE_LINES:
            click.echo(f"DAMAGE {finding}")
    for file, number in told.items():
        if number > _DAMAGE_LINES:
            click.echo(f"DAMAGE {file}: {number - _DAMAGE_LINES:,} more places")
    for name in done.leftovers:
        click.echo(f"left over: {name}; the next start removes it")
    click.echo(_verdict(done))


def _verdict(done: Examination) -> str:
    match done.effect:
        case None:
            return f"sound, up to revision {done.revision}"
        case Effect.CUT:
            return (
                "torn: the end of the log is as a crash leaves it; the next start cuts it off and goes on after "
                f"revision {done.revision}"
            )
        case Effect.REFUSED:
            whole = f"; it is whole up to revision {done.revision}" if done.log is not None else ""
            return f"damaged: a start refuses this store{whole}"
        case Effect.UNSEEN:
            return "damaged: a start would not see it, and serve what is there"


def _print_hash(done: Examination) -> None:
    from kvql_server.engines.hashtable.files import OsReader
    from kvql_server.tools.contents import contents

    if done.effect is Effect.REFUSED or done.manifest is None:
        click.echo("no hash: a start refuses this store")
        return
    found = contents(OsReader(), done.folder, done.manifest)
    click.echo(f"sha256:{found.hash} revision {done.revision} pairs {found.pairs}")


# ── repair ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _repair(done: Examination, *, yes: bool) -> Examination:
    from kvql_server.engines.hashtable.files import OsFiles, OsReader
    from kvql_server.tools import repair
    from kvql_server.tools.examine import examine

    try:
        plan = repair.plan(OsReader(), done)
    except repair.Unrepairable as e:
        fail(str(e), DAMAGED)
    if plan.is_empty:
        click.echo("there is nothing to repair")
        return done
    for name in (*plan.copied, *plan.aside):
        if os.path.islink(os.path.join(plan.folder, name)):
            fail(f"{os.path.join(plan.folder, name)} is a symbolic link; a repair changes files of the folder only", 1)
    _show(plan)
    if not yes and not _agreed():
        click.echo("nothing was changed")
        return done
    try:
        copies = repair.carry_out(OsFiles(), plan)
    except OSError as e:
        fail(f"the repair failed ({e.strerror or e}); copies of what it changed end in .before-repair", FAILED)
    click.echo(f"repaired; kept as it was: {', '.join(copies)}" if copies else "repaired")
    done = examine(OsReader(), done.folder)
    _report(done)
    return done


def _show(plan: Plan) -> None:
    click.echo("a repair would do this:")
    for sentence in plan.said:
        click.echo(f"- {sentence}")
    click.echo("every file that it changes or removes is first copied to ….before-repair")


def _agreed() -> bool:
    if not sys.stdin.isatty():
        fail("--repair asks before it changes anything, and there is no terminal to ask on; say --yes", USAGE)
    return click.confirm("repair?", default=False)


# ── backup ────────────────────────────────────────────────────────────────────────────────────────────────────────


@click.command()
@click.argument("folder", metavar="DIR")
@click.argument("to", metavar="TO")
def backup(folder: str, to: str) -> None:
    """Copy the store in DIR, in use or not, to the new folder TO."""
    from kvql_server.engines.hashtable.files import OsFiles, OsReader
    from kvql_server.tools.backup import NoBackup, back_up

    # so that nothing is left of a backup that is told to end
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with _told(folder):
        try:
            done = back_up(OsReader(), OsFiles(), folder, to)
        except NoBackup as e:
            fail(str(e), DAMAGED if e.damaged else FAILED)
    click.echo(f"{to}: store {done.store}, up to revision {done.revision}, {done.size:,} bytes, read back and sound")
    if done.left_out:
        click.echo(f"left out: {done.left_out:,} bytes at the end of the log, as a crash leaves them", err=True)


# ── status ────────────────────────────────────────────────────────────────────────────────────────────────────────


@click.command()
@click.argument("target", required=False)
@click.option("--data", help="Folder of the store (./data).")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def status(target: str | None, data: str | None, form: str) -> None:
    """What the files of a store tell, in use or not; TARGET is its folder."""
    import time

    from kvql_server.engines.hashtable.files import OsReader
    from kvql_server.tools.status import figures

    if target is not None and data is not None:
        fail("name the folder once, as TARGET or with --data", USAGE)
    if target is not None and "://" in target:
        fail(f"a server cannot be asked yet; name the folder of its store instead of {target}", USAGE)
    try:
        folder = target or config.load({"data": data}, os.environ).data
    except config.SettingsError as e:
        fail(str(e), USAGE)
    with _told(folder):
        found = figures(OsReader(), folder, time.time())
    if form == "json":
        click.echo(msgspec.json.encode(found))
    else:
        for name, text in _status_lines(found):
            click.echo(f"{name + ':':<12}{text}")


def _status_lines(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if found["state"] == "stopped":
        yield "state", "stopped, closed in order" if found["closed"] else "stopped, not closed in order"
    else:
        process, url = found["process"], found["url"]
        at = f", a server at {url}" if url is not None else ""
        yield "state", "running" + (f", process {process}" if process is not None else "") + at
    for name in ("folder", "format", "store", "epoch", "revision"):
        yield name, str(found[name])
    yield (
        "log",
        f"{count(found['segments'], 'segment')}, {count(found['records'], 'record')}, {found['log_bytes']:,} bytes "
        f"({found['log_bytes_allocated']:,} on the disk)",
    )
    if found["checkpoint"] is None:
        yield "checkpoint", "none"
        return
    pairs = found["checkpoint_pairs"]
    yield (
        "checkpoint",
        f"revision {found['checkpoint_revision']}, {'no footer' if pairs is None else count(pairs, 'pair')}, "
        f"{found['checkpoint_bytes']:,} bytes, {_age(found['checkpoint_age_s'])} old",
    )
    for namespace, kept in found["history"].items():
        changes = count(kept["changes"], "change")
        yield "history", f"{namespace} {changes}, {kept['bytes']:,} bytes, from revision {kept['oldest_revision']} on"


def _age(seconds: int) -> str:
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if minutes < 2:
        return f"{seconds} s"
    return f"{minutes} min" if hours < 2 else f"{hours} h" if days < 2 else f"{days} d"
