"""A web server on this machine that answers as a test wants."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Answer:
    """What a path gets: `status`, and `body`, announced as `announced` bytes."""

    body: bytes = b""
    status: int = 200
    announced: int | None = None


@dataclass
class Served:
    """Where the server is, and the paths asked for."""

    url: str
    asked: list[str] = field(default_factory=list)


@contextmanager
def serving(answers: Mapping[str, list[Answer]]) -> Iterator[Served]:
    """Serve `answers` by name, one after the other; the last again and again; 404 for other names."""
    left = {name: list(each) for name, each in answers.items()}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            served.asked.append(name)
            each = left.get(name, [Answer(status=404)])
            answer = each.pop(0) if len(each) > 1 else each[0]
            self.send_response(answer.status)
            announced = len(answer.body) if answer.announced is None else answer.announced
            self.send_header("Content-Length", str(announced))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served = Served(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield served
        server.shutdown()
