"""A page, and a health check."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def page(path: str) -> tuple[int, str]:
    if path == "/health":
        return 200, "ok\n"
    if path == "/":
        return 200, os.environ.get("GREETING", "hello") + "\n"
    return 404, "not found\n"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, text = page(self.path)
        body = text.encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    print("listening on 8000", flush=True)
    ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
