"""Tasks: commands that a page has started, while they run and after."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from mien.errors import StoreError
from mien.runs.activity import Activity, find_command, list_activity
from mien.runs.commands import Command, list_commands, read_command, start_command, stop_command
from mien.runs.progress import format_duration
from mien.runs.store import Store
from mien.studio.base import Here, is_partial, render_page
from mien.study.plan_file import read_record
from mien.study.specs import StudySpec

router = APIRouter()

SHOWN_LOG_LINES = 12  # of the end of what a command printed


@dataclass(frozen=True)
class Task:
    """A command with what it works on now; `is_done` says that its run is in the store."""

    command: Command
    is_done: bool
    works: tuple[Activity, ...]

    @property
    def state(self) -> str:
        """What became of the command, in a word."""
        if self.command.running:
            return "running"
        return "done" if self.is_done and self.command.code in (0, None) else "stopped"

    @property
    def lines(self) -> str:
        """The last lines that the command printed."""
        return "\n".join(self.command.log.splitlines()[-SHOWN_LOG_LINES:])

    @property
    def time_left(self) -> str:
        """How long the work that is under way still takes, in words; empty if nobody knows."""
        seconds = [work.reached.seconds_left for work in self.works if work.reached]
        known = [left for left in seconds if left is not None]
        return format_duration(max(known)) if known else ""


def read_task(run: str, store: Store) -> Task | None:
    """Return the command that was started last for a run, or None if there is none."""
    command = read_command(run, store)
    if command is None:
        return None
    own = (
        [work for work in list_activity(store) if work.is_here and _belongs(work, command)]
        if command.running
        else []
    )
    return Task(command, _is_made(run, store), tuple(own))


def list_tasks(stage: str, store: Store) -> list[Task]:
    """Return the commands that were started for runs of a stage, the latest first."""
    runs = [one.run for one in list_commands(store) if one.run.startswith(f"{stage}-")]
    return [task for run in runs if (task := read_task(run, store)) is not None]


def _is_made(run: str, store: Store) -> bool:
    """Whether a run is in the store; of a study, all of its trials."""
    if not store.is_done(run) or not run.startswith(f"{StudySpec.stage}-"):
        return store.is_done(run)
    return all(store.is_done(trial.run) for trial in read_record(store.run(run)).trials)


def _belongs(work: Activity, command: Command) -> bool:
    """Whether a command, or one of its workers, makes a run."""
    return command.pid in (work.pid, find_command(work.pid))


def begin_task(run: str, arguments: Sequence[str], store: Store) -> Task:
    """Start a command of mien for a run, unless it is running, and return it."""
    start_command(run, arguments, store)
    task = read_task(run, store)
    assert task is not None
    return task


def find_task(run: str, store: Store) -> Task:
    """Return the task of a run; raises StoreError if no command was started for it."""
    task = read_task(run, store)
    if task is None:
        raise StoreError(f"no command was started for {run}")
    return task


def go_back(address: str) -> RedirectResponse:
    """Return the answer that leads to an address of the studio, and to no other host."""
    parts = urlsplit(address)
    is_own = address.startswith("/") and not parts.netloc and not address.startswith(("//", "/\\"))
    return RedirectResponse(address if is_own else "/", 303)


@router.get("/tasks/{run}")
def show_task(request: Request, studio: Here, run: str, back: str = "/") -> Response:
    """Show how far a command is; when it ends, the whole page is loaded again."""
    task = find_task(run, studio.store)
    if is_partial(request) and task.state != "running":
        return HTMLResponse("", headers={"HX-Refresh": "true"})
    return render_page(request, "task.html", task=task, back=back)


@router.post("/tasks/{run}/stop")
def stop_task(studio: Here, run: str, back: str = Form("/")) -> RedirectResponse:
    """Ask a command to save its state and stop."""
    stop_command(find_task(run, studio.store).command.run, studio.store)
    return go_back(back)


@router.post("/tasks/{run}/continue")
def continue_task(studio: Here, run: str, back: str = Form("/")) -> RedirectResponse:
    """Start a stopped command again, which resumes its work."""
    words = find_task(run, studio.store).command.words
    begin_task(run, words[1:-2], studio.store)  # without "mien", and without --store DIR
    return go_back(back)
