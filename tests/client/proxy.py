"""A TCP proxy that can keep what the server says from the client, and cut the line."""

from __future__ import annotations

import contextlib
import socket
import threading
import time


class Proxy:
    """Listens on ``port`` and passes bytes on to ``target`` (another port of this machine)."""

    def __init__(self, target: int, delay_s: float = 0) -> None:
        """``delay_s``: how long what the server says is on its way."""
        self.target = target
        self.delay_s = delay_s
        self.answers = threading.Event()
        """While it is not set, what the server says waits here."""
        self.answers.set()
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
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
                server = socket.create_connection(("localhost", self.target))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._sockets += [client, server]
            threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if answers:
                    self.answers.wait()
                    time.sleep(self.delay_s)
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Break every connection; what waited here is lost."""
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self.answers.set()

    def close(self) -> None:
        self._listener.close()
        self.cut()
