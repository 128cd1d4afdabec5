"""The studio: a page over the store in a browser."""

from pathlib import Path
from typing import Annotated

import typer

from mien.cli.base import DEFAULT_STORE, StoreOption, app, open_store

DEFAULT_PORT = 8712

DEMO_STORE = Path("mien-demo", "store")  # where `mien demo` keeps its runs

STUDIO_PACKAGES = ("fastapi", "starlette", "uvicorn", "multipart", "python_multipart")


@app.command(short_help="Look at the store in a browser.")
def studio(
    port: Annotated[
        int, typer.Option(help="The port of this machine; 0 takes any free one.", min=0, max=65535)
    ] = DEFAULT_PORT,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Change nothing: no tags, no exports, no new runs.")
    ] = False,
    real_faces: Annotated[
        bool | None,
        typer.Option(
            "--real-faces/--no-real-faces",
            help="Show real faces, whatever their licence, or none; by default those with a free "
            "licence.",
        ),
    ] = None,
    no_open: Annotated[
        bool, typer.Option("--no-open", help="Print the address, and open no browser.")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Look at the store in a browser: runs, faces, copies, maps, reviews and results.

    Only this machine can open the address that is printed; it holds the password of this session.
    No page loads anything from another host. Ctrl-C closes the studio.
    """
    import webbrowser

    from mien.errors import UsageError
    from mien.runs.progress import say

    home = open_store(store)
    if not home.list_names() and DEMO_STORE.is_dir():
        say(
            f"{home.root} holds no run yet; the demo's runs are in {DEMO_STORE}: mien studio "
            f"--store {DEMO_STORE}"
        )
    try:
        from mien.studio.app import make_app
        from mien.studio.base import make_token
        from mien.studio.serve import LOOPBACK, bind_port, serve_app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in STUDIO_PACKAGES:
            raise
        raise UsageError(
            "the studio needs FastAPI and uvicorn, which are not installed: pip install "
            "'mien[studio]'"
        ) from None

    # The port first, so that nothing is opened if it is taken
    server = bind_port(port)
    token = make_token()
    address = f"http://{LOOPBACK}:{server.getsockname()[1]}/?token={token}"

    def announce() -> None:
        print(f"studio of {home.root}: {address}", flush=True)
        if not no_open:
            webbrowser.open(address)

    # Ctrl-C is how the studio ends
    made = make_app(home, token=token, read_only=read_only, real_faces=real_faces)
    try:
        serve_app(made, server, announce)
    except KeyboardInterrupt:
        print("the studio is closed")
