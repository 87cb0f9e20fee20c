"""A proxy before a real HTTP server that, when told to, does to an answer what networks and servers do.

``with Proxy(url) as proxy``: ask ``proxy.url`` in place of the server. Each request takes the next of ``proxy.faults``,
a function of the proxy and the true answer that returns what is sent instead; when none is left, answers pass as they
are. ``proxy.asked`` holds the path of each request.
"""

import http.client
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """What is sent; the connection ends after it.

    Attributes:
        length: What the header announces, whatever the body's length is.
        reset_after: Bytes of the body after which the connection is reset; negative: before the first of the head.
        delay_s: What the answer is late.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    length: int
    reset_after: int | None = None
    delay_s: float = 0.0

    def holding(self, body: bytes) -> "Answer":
        """The same with another body, rightly announced."""
        return replace(self, body=body, length=len(body))


class Proxy:
    """The proxy of one server; it asks as its own client, so that the server's links lead through it.

    Attributes:
        before: The true answer to the request before, for faults that give an old one.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream)
        self.faults: list[Fault] = []
        self.asked: list[str] = []
        self.before: Answer | None = None
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fetch(self, path: str) -> Answer:
        """The server's true answer."""
        connection = http.client.HTTPConnection(self.upstream.hostname, self.upstream.port, timeout=60)
        connection.request("GET", path, headers={"Host": urlsplit(self.url).netloc})
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return Answer(response.status, {"Content-Type": response.headers["Content-Type"]}, body, len(body))

    def answer(self, path: str) -> Answer:
        """The answer with the next fault in it."""
        with self._lock:
            self.asked.append(path)
            fault = self.faults.pop(0) if self.faults else as_it_is
            true = self.fetch(path)
            sent = fault(self, true)
            self.before = true
        return sent


Fault = Callable[[Proxy, Answer], Answer]


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy

    def do_GET(self) -> None:
        answer = self.proxy.answer(self.path)
        time.sleep(answer.delay_s)
        try:
            if answer.reset_after is None or answer.reset_after >= 0:
                self.send_response(answer.status)
                for name, value in {**answer.headers, "Content-Length": answer.length, "Connection": "close"}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                self.wfile.write(answer.body[: answer.reset_after])
                self.wfile.flush()
            if answer.reset_after is not None:
                time.sleep(0.05)  # what was sent arrives; then the other side sees a reset
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
        except (BrokenPipeError, ConnectionResetError):  # the client did not wait
            pass

    def log_message(self, *_: object) -> None:
        pass


def as_it_is(proxy: Proxy, answer: Answer) -> Answer:
    """No fault: for the requests before one."""
    return answer


def late(seconds: float) -> Fault:
    """The answer comes so much later."""
    return lambda proxy, answer: replace(answer, delay_s=seconds)


def reset(proxy: Proxy, answer: Answer) -> Answer:
    """Connection reset before the answer."""
    return replace(answer, reset_after=-1)


def reset_within(proxy: Proxy, answer: Answer) -> Answer:
    """Connection reset in the middle of the body."""
    return replace(answer, reset_after=len(answer.body) // 2)


def cut(proxy: Proxy, answer: Answer) -> Answer:
    """Half of the body that was announced."""
    return replace(answer, body=answer.body[: len(answer.body) // 2])


def cut_unnoticed(proxy: Proxy, answer: Answer) -> Answer:
    """Half of the body, announced as the whole."""
    return answer.holding(answer.body[: len(answer.body) // 2])


def no_json(proxy: Proxy, answer: Answer) -> Answer:
    """A page for people, with status 200."""
    return answer.holding(b"<html><body>The database is being maintained.</body></html>")


def changed(**members: object) -> Fault:
    """JSON, but with other members than it should have."""
    return lambda proxy, answer: answer.holding(json.dumps({**json.loads(answer.body), **members}).encode())


def status(code: int, **headers: str) -> Fault:
    """Refused with this status; underscores of header names become hyphens."""

    def fault(proxy: Proxy, answer: Answer) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Answer(code, {"Content-Type": "text/plain", **named}, b"not now", 7)

    return fault


def page_before(proxy: Proxy, answer: Answer) -> Answer:
    """The page before once more, as a cache gives it that ignores the query."""
    return proxy.before


def records_before(proxy: Proxy, answer: Answer) -> Answer:
    """The records of the page before, with the links of this one: its own records never come."""
    return changed(data=json.loads(proxy.before.body)["data"])(proxy, answer)


def page_after(proxy: Proxy, answer: Answer) -> Answer:
    """The page after: this one never comes."""
    link = urlsplit(json.loads(answer.body)["links"]["next"])
    return proxy.fetch(f"{link.path}?{link.query}")
