"""What stands before an S3 server, and can keep everybody away from it."""

from __future__ import annotations

import contextlib
import socket
import threading


class Gate:
    """Stands before an S3 server: open, shut (nobody answers), or denying everything."""

    def __init__(self, endpoint: str) -> None:
        host, _, port = endpoint.removeprefix("http://").partition(":")
        self._target = host, int(port)
        self._open: set[socket.socket] = set()
        self._denies = False
        self._listener: socket.socket | None = None
        self.endpoint = ""
        self.let()

    def let(self) -> None:
        """Pass everything on."""
        self._turn(denies=False)

    def deny(self) -> None:
        """Answer every request with AccessDenied."""
        self._turn(denies=True)

    def shut(self) -> None:
        """Cut all connections and take no new ones."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _turn(self, *, denies: bool) -> None:
        self.shut()
        self._denies = denies
        port = int(self.endpoint.rpartition(":")[2] or 0)
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def _serve(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                end, _ = listener.accept()
                serve = self._refuse if self._denies else self._pass
                threading.Thread(target=serve, args=(end,), daemon=True).start()

    def _pass(self, end: socket.socket) -> None:
        with contextlib.suppress(OSError), socket.create_connection(self._target) as other, end:
            self._open |= {end, other}
            back = threading.Thread(target=self._copy, args=(other, end), daemon=True)
            back.start()
            self._copy(end, other)
            back.join()
            self._open -= {end, other}

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _refuse(self, end: socket.socket) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
        head = b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        with contextlib.suppress(OSError), end:
            end.recv(1 << 16)
            end.sendall(head % len(body) + body)
