"""Several processes on one training, under torch's own launcher: the same weights as one, killed or
not.
"""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from worlds import FacesSpec, crowd, mien, settings, spec_of, toy

from mien.errors import UsageError
from mien.generators.diffusion.processes import ProcessGroup
from mien.generators.diffusion.resources import Resources
from mien.generators.kinds import fit_generator
from mien.generators.specs import TrainSpec
from mien.generators.train import train_generator
from mien.runs.store import Store

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
SCRIPT = textwrap.dedent("""
    import sys
    from pathlib import Path
    from mien.generators.diffusion import fit
    from mien.generators.diffusion.processes import join_process_group
    from mien.generators.diffusion.resources import Resources
    from mien.generators.specs import TrainSpec
    from mien.generators.train import train_generator
    from mien.runs.store import Store
    fit.CHECKPOINT_S = 0.0
    spec = TrainSpec.model_validate_json(sys.argv[2])
    with join_process_group("cpu") as group:
        resources = Resources(group=group)
        train_generator(spec, Store(Path(sys.argv[1])), device="cpu", resources=resources)
""")


def store_of(folder: Path) -> Store:
    store = Store(folder)
    store.make(FacesSpec(), lambda out, scratch: crowd().save(out), "toy")
    return store


def test_every_piece_is_the_share_of_one():
    for size in (1, 2, 3, 5):
        for count in (size, 7, 16):
            held = [
                place
                for rank in range(size)
                for place in ProcessGroup(rank, size).assign_pieces(count)
            ]
            assert held == list(range(count))


def test_more_processes_than_pieces_are_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="a batch of 12 has 2 pieces; start at most 2 processes"):
        fit_generator(
            toy(),
            spec_of("edm"),
            tmp_path,
            device="cpu",
            resources=Resources(group=ProcessGroup(0, 3)),
        )


@pytest.mark.slow
def test_two_processes_make_the_run_of_one_and_one_speaks(tmp_path: Path):
    home = store_of(tmp_path / "store")
    tiny = [
        "net.width=8",
        "net.multipliers=[1]",
        "net.attention=[]",
        "net.dropout=0.1",
        "batch=40",
        "images_seen=400",
    ]
    train = ["train", "toy", "--preset", "smoke", "--device", "cpu", *settings(*tiny)]
    mien(tmp_path, *train, "--as", "one")
    other = ["--store", str(store_of(tmp_path / "other").root), *train, "--as", "two"]
    done = subprocess.run(
        [*LAUNCH, "2", "-m", "mien", *other], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("million parameters") == 1 and done.stderr.count("learning from") == 1
    assert Store(tmp_path / "other").run("two").content == home.run("one").content
    refused = subprocess.run(
        [*LAUNCH, "2", "-m", "mien", *other, "--minutes", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode != 0 and "--minutes needs a single process" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("then", ["1", "2"])
def test_processes_that_were_killed_go_on_to_the_same_content_in_any_number(
    tmp_path: Path, then: str
):
    script, stores = (
        tmp_path / "script.py",
        [store_of(tmp_path / name) for name in ("killed", "whole")],
    )
    script.write_text(SCRIPT)
    spec = spec_of("edm", faces=stores[0].resolve("toy"), batch=20, images_seen=1200, held_out=0.25)
    given = [str(script), str(stores[0].root), spec.model_dump_json()]
    scratch = stores[0].root / "work" / spec.name / "scratch"
    process = subprocess.Popen(
        [*LAUNCH, "2", *given], stderr=subprocess.DEVNULL, start_new_session=True
    )
    until = time.monotonic() + 120
    while (
        not list(scratch.glob("checkpoint-*[2-9][0-9].json"))
        and process.poll() is None
        and time.monotonic() < until
    ):
        time.sleep(0.002)
    for child in children(process.pid):
        os.kill(child, signal.SIGKILL)
    process.kill()
    process.wait()
    assert list(scratch.glob("checkpoint-*.json"))
    again = subprocess.run([*LAUNCH, then, *given], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "resuming from step" in again.stderr
    whole = train_generator(TrainSpec.model_validate(json.loads(given[2])), stores[1], device="cpu")
    assert stores[0].run(spec.name).content == whole.content


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed]
