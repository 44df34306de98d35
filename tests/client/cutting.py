"""A TCP proxy that cuts its connections when it has carried so many bytes: where that falls is nobody's choice."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Callable


class CuttingProxy:
    """Forwards to ``port()`` of localhost. Each connection is cut after a random number of bytes from the server, until
    ``calm``."""

    def __init__(self, port: Callable[[], int], choose: random.Random, bytes_max: int) -> None:
        self._target = port
        self._choose = choose
        self._bytes_max = bytes_max
        self.cuts = 0
        self.calm = False
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("localhost", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("localhost", self._target()))
            except OSError:
                client.close()
                continue
            self._open |= {client, server}
            left = self._choose.randrange(3_000, self._bytes_max)
            threading.Thread(target=self._carry, args=(client, server, None), daemon=True).start()
            threading.Thread(target=self._carry, args=(server, client, left), daemon=True).start()

    def _carry(self, source: socket.socket, to: socket.socket, left: int | None) -> None:
        """``left``: bytes until the cut; None for no limit."""
        with contextlib.suppress(OSError):
            while data := source.recv(512):
                if left is not None and not self.calm and (left := left - len(data)) < 0:
                    self.cuts += 1
                    break
                to.sendall(data)
        self._drop(source, to)

    def _drop(self, *sockets: socket.socket) -> None:
        for one in sockets:
            self._open.discard(one)
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close(self) -> None:
        self._drop(self._listener, *self._open)
