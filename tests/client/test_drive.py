"""The event loop of a blocking client: what goes wrong in it is told, but for the end of gRPC's poller."""

from __future__ import annotations

import asyncio
import errno
import logging

import pytest

from kvql.client.drive import Loop


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.EBADF, "bad file descriptor"), False),
        (BlockingIOError(errno.EAGAIN, "resource temporarily unavailable"), False),
        (OSError(errno.EIO, "input/output error"), True),
        (ValueError("a mistake"), True),
    ],
)
def test_what_a_callback_raises(error: Exception, told: bool, caplog: pytest.LogCaptureFixture) -> None:
    drive = Loop()

    def fails() -> None:
        raise error

    with caplog.at_level(logging.ERROR, "asyncio"):
        drive.loop.call_soon(fails)
        drive(asyncio.sleep(0.01))
    drive.close()
    assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [error] * told


def test_what_a_task_raises_is_told_whatever_it_is(caplog: pytest.LogCaptureFixture) -> None:
    drive = Loop()

    async def fails() -> None:
        raise OSError(errno.EBADF, "bad file descriptor")

    async def makes() -> None:
        task = asyncio.ensure_future(fails())
        await asyncio.sleep(0.01)
        del task
        await asyncio.sleep(0)

    with caplog.at_level(logging.ERROR, "asyncio"):
        drive(makes())
    drive.close()
    assert len(caplog.records) == 1
