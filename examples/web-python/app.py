"""A page, and a health check."""

import os

from flask import Flask

app = Flask(__name__)


@app.get("/health")
def health() -> str:
    return "ok\n"


@app.get("/")
def page() -> str:
    return os.environ.get("GREETING", "hello") + "\n"


if __name__ == "__main__":
    print("listening on 8000", flush=True)
    app.run(host="127.0.0.1", port=8000)
