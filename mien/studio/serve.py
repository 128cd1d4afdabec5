"""The server of the studio: on this machine only, until Ctrl-C."""

import errno
import os
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from mien.errors import UsageError

LOOPBACK = "127.0.0.1"

CLOSING_S = 2  # how long open requests may take when the studio is closed


def bind_port(port: int) -> socket.socket:
    """Return a socket on a port of this machine that no other machine reaches; 0 is any free one.

    Raises UsageError if the port is taken, or may not be used.
    """
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if os.name == "posix":  # elsewhere two programs could then share the port
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((LOOPBACK, port))
    except OSError as error:
        server.close()
        why = {
            errno.EADDRINUSE: "another program uses it, perhaps another studio",
            errno.EACCES: "only the administrator may use it",
        }.get(error.errno or 0, str(error.strerror))
        raise UsageError(
            f"--port must be a free port of this machine, and {port} is not: {why}. Give another "
            "one, or --port 0 for any free port"
        ) from None
    return server


def serve_app(app: FastAPI, server: socket.socket, announce: Callable[[], None]) -> None:
    """Answer requests at a bound socket until Ctrl-C; `announce` is called when that begins.

    A browser that connects before the first request is answered waits for it.
    """
    server.listen(128)
    announce()
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=CLOSING_S,
        ws="none",
    )
    uvicorn.Server(config).run(sockets=[server])
