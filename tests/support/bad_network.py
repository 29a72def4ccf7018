"""A proxy between us and the store that misbehaves as networks and loaded servers do, by a seed."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = ("500", "503", "slow", "cut")
SLOW_S = 1.0
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect"}
ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>the proxy says so</Message></Error>"


@dataclass
class BadNetwork:
    """What the proxy is to do, and what it has done."""

    endpoint: str = ""
    fault_rate: float = 0.0
    seed: int = 0
    kinds: tuple[str, ...] = FAULTS
    requests: int = 0
    bytes_down: int = 0
    faults: Counter = field(default_factory=Counter)
    """How often each fault was made."""
    seen: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of each request."""
    unsigned: int = 0
    """Requests without a signature."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_fault(self, method: str, path: str, *, signed: bool) -> str:
        with self.lock:
            self.requests += 1
            self.unsigned += not signed
            self.seen.append((method, path))
            draw = random.Random(f"{self.seed} {self.requests}")
            fault = draw.choice(self.kinds) if draw.random() < self.fault_rate else ""
            self.faults[fault] += 1
            return fault

    def count(self, sent: bytes) -> None:
        with self.lock:
            self.bytes_down += len(sent)

    def forget(self) -> None:
        """Count from nothing again."""
        with self.lock:
            self.requests = self.bytes_down = self.unsigned = 0
            self.faults.clear()
            self.seen.clear()


class Proxy(ThreadingHTTPServer):
    """Listens on a free port and forwards to a local server."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, network: BadNetwork, port: int, sign) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.network, self.port, self.sign = network, port, sign

    def handle_error(self, request, client_address) -> None:
        """A client that goes away is no news."""


class Handler(BaseHTTPRequestHandler):
    """Forwards one request, or does what the network's next fault is."""

    protocol_version = "HTTP/1.1"
    server: Proxy

    def do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        signed = "Authorization" in self.headers
        fault = self.server.network.next_fault(self.command, self.path, signed=signed)
        if fault in ("500", "503"):
            self.refuse(fault)
            return
        if fault == "slow":
            time.sleep(SLOW_S)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        if not signed and self.server.sign:
            headers = self.server.sign(self.command, self.path, headers)
        answer, content = forward(self.server.port, self.command, self.path, body, headers)
        self.answer(answer, content, cut=fault == "cut")

    def refuse(self, fault: str) -> None:
        content = ERROR.format(code="SlowDown" if fault == "503" else "InternalError").encode()
        self.send_response(int(fault))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def answer(self, answer: HTTPResponse, content: bytes, *, cut: bool) -> None:
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        if "Content-Length" not in answer.headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        content = b"" if self.command == "HEAD" else content
        sent = content[: len(content) // 2] if cut else content
        self.wfile.write(sent)
        self.server.network.count(sent)
        if cut:
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do  # noqa: N815

    def log_message(self, *arguments) -> None:
        """Say nothing."""


@contextmanager
def between(port: int, *, sign=None) -> Iterator[BadNetwork]:
    """Run a proxy to a local server; it forwards the Host header, which is signed, as it came.

    Parameters
    ----------
    port
        Of the real server.
    sign
        Signs the requests that come without a signature: what makes a bucket public.
    """
    network = BadNetwork()
    proxy = Proxy(network, port, sign)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    network.endpoint = f"http://127.0.0.1:{proxy.server_address[1]}"
    try:
        yield network
    finally:
        proxy.shutdown()
        proxy.server_close()


def forward(port: int, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[HTTPResponse, bytes]:
    """Send a request to the real server."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body=body or None, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()
