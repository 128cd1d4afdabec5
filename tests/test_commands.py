"""Commands in processes of their own: found again after a restart, stopped, and resumed."""

import os
import signal
import time
from pathlib import Path

import pytest

from mien.errors import UsageError
from mien.runs import commands
from mien.runs.commands import list_commands, read_command, start_command, stop_command
from mien.runs.store import Store

RUN = "generate-0123456789ab"


def wait_for_end(store: Store, run: str = RUN) -> commands.Command:
    for _ in range(200):
        command = read_command(run, store)
        assert command is not None
        if not command.running:
            return command
        time.sleep(0.1)
    raise AssertionError("the command does not end")


def test_a_command_keeps_what_it_printed_and_its_exit_code(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    started = start_command(RUN, ["ls"], store)
    assert started.text == f"mien ls --store {store.root}"
    command = wait_for_end(store)
    assert command.code == 0 and "no run" in command.log
    assert [one.run for one in list_commands(store)] == [RUN]

    # Another process, such as a studio that was started again, knows no exit code
    monkeypatch.setattr(commands, "_children", {})
    again = read_command(RUN, store)
    assert again is not None and again.code is None and not again.running
    assert again.log == command.log and again.words == command.words


def test_a_running_command_is_found_and_stopped(store: Store, monkeypatch: pytest.MonkeyPatch):
    sleeper = store.root.parent / "sleeper"
    sleeper.write_text("#!/bin/sh\nsleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(commands.sys, "executable", str(sleeper))
    first = start_command(RUN, ["generate", "x"], store)
    assert first.running and start_command(RUN, ["generate", "x"], store).pid == first.pid
    child = commands._children[first.pid]
    monkeypatch.setattr(commands, "_children", {})
    found = read_command(RUN, store)
    assert found is not None and found.running
    assert stop_command(RUN, store, now=True)
    child.wait()
    assert not wait_for_end(store).running and not stop_command(RUN, store)


def test_a_later_process_of_the_same_number_is_not_taken_for_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    start_command(RUN, ["--version"], store)
    wait_for_end(store)
    monkeypatch.setattr(commands, "_children", {})
    path = store.root / commands.COMMANDS_FOLDER / f"{RUN}.json"
    note = commands.read_json(path)
    commands.write_json_file(path, {**note, "pid": os.getpid()})
    command = read_command(RUN, store)
    assert command is not None and not command.running
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert not stop_command(RUN, store)
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("name", ["../../x", "demo", "generate-0123456789ab/../x", ""])
def test_only_the_name_of_a_run_names_a_command(store: Store, name: str):
    with pytest.raises(UsageError, match="name of a run"):
        start_command(name, ["ls"], store)
    with pytest.raises(UsageError, match="name of a run"):
        read_command(name, store)


def test_of_a_long_log_the_end_is_shown(tmp_path: Path):
    log = tmp_path / "long.log"
    log.write_text("".join(f"line {n}\n" for n in range(9000)))
    text = commands._read_end(log)
    assert text.endswith("line 8999\n") and len(text) <= commands.LOG_BYTES
    assert text.startswith("line ")
