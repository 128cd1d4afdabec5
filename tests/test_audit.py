"""The audit on drawn faces, where the truth is known: copies fail it, shuffled labels fail it, new
people pass.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from drawn import keep, people
from web_pages import find_faults
from worlds import run_inside

from mien.audit import verdict
from mien.audit.memorisation import matches
from mien.audit.parts import list_jobs, plan_parts
from mien.audit.run import run_audit
from mien.audit.specs import AuditSpec
from mien.errors import DataError
from mien.faces import Faces, concatenate, make_index
from mien.generators import presets
from mien.generators.generate import generate_database
from mien.generators.orders import order_database
from mien.generators.train import train_generator
from mien.runs.engine import run_jobs
from mien.runs.local import Local
from mien.runs.store import Store
from mien.stats import Record


def audited(
    audit_home: Path, name: str, *options: str, columns: int = 120
) -> tuple[int, str, dict[str, dict]]:
    """Audit a set; return exit code, output, and the checks by name."""
    sides = ("--train", "train", "--test", "test", "--as", f"audit-{name}")
    code, text = run_inside(audit_home, "audit", name, *sides, *options, columns=columns)
    told = Store(audit_home / "store").run(f"audit-{name}").read_json("audit.json")
    assert (told["verdict"] in ("fail", "cannot tell")) == (code == 4)
    return code, text, {f"{one['name']} {one['part']}".strip(): one for one in told["checks"]}


def test_faces_of_other_real_people_pass(audit_home: Path):
    code, text, checks = audited(audit_home, "unseen")
    assert code == 0, text
    assert not [one for one in checks.values() if one["verdict"] == "fail"]
    assert checks["labels.kept"]["value"] > 0.7 and checks["memorisation.exact"]["value"] == 0
    assert checks["memorisation.copied.pixels"]["verdict"] == "pass"


def test_the_copycat_fails_for_being_a_copy_and_for_nothing_else(audit_home: Path):
    code, text, checks = audited(audit_home, "copies")
    assert code == 4 and "the audit failed on" in text
    failed = {one["family"] for one in checks.values() if one["verdict"] == "fail"}
    assert failed == {"memorisation"}
    copied = checks["memorisation.copied.pixels"]
    assert copied["low"] > 0.3 and copied["n"] == 60


def test_shuffled_labels_fail_for_their_labels_and_nothing_else(audit_home: Path):
    code, _, checks = audited(audit_home, "shuffled", "--spaces", "pixels")
    assert code == 4
    assert {one["family"] for one in checks.values() if one["verdict"] == "fail"} == {"labels"}
    assert checks["labels.kept"]["high"] < 0.3


def test_the_run_holds_everything_and_the_page_opens_without_a_network(audit_home: Path):
    audited(audit_home, "copies")
    run = Store(audit_home / "store").run("audit-copies")
    assert run.stage == "audit" and run.spec["synthetic"] == Store(audit_home / "store").resolve(
        "copies"
    )
    told = run.read_json("audit.json")
    assert told["content"] == Store(audit_home / "store").run("copies").content
    rows = pd.read_parquet(run.find_file("rows.parquet"))
    assert len(rows) == 60 and {
        "key",
        "nearest",
        "ratio_clip",
        "alarm",
        "predicted",
        "rank",
    } <= set(rows)
    records = pd.read_parquet(run.find_file("records.parquet"))
    assert {name.partition(".")[0] for name in records["metric"]} == set(verdict.FAMILIES) - {
        "movement",
        "recogniser",
    }
    page = run.find_file("index.html").read_text(encoding="utf-8")
    for word in ("src=", "href="):
        targets = [part[1 : 1 + 5] for part in page.split(word)[1:]]
        assert targets and all(one.startswith(("data:", "#")) for one in targets)
    assert "memorisation.copied.pixels" in page and "image/svg+xml" in page and "Is it new?" in page
    assert find_faults(page) == []


def test_the_same_audit_is_not_done_twice_and_other_thresholds_are_another_audit(audit_home: Path):
    audited(audit_home, "copies")
    names = Store(audit_home / "store").list_names()
    audited(audit_home, "copies")
    assert Store(audit_home / "store").list_names() == names
    own = audit_home / "mine.toml"
    own.write_text(
        "".join(
            f'["{name}"]\noff = true\n'
            for name in verdict.read_thresholds()
            if name.startswith("memo")
        )
    )
    code, text, checks = audited(audit_home, "copies", "--thresholds", str(own))
    assert not [name for name in checks if name.startswith("memorisation")]
    assert len(Store(audit_home / "store").list_names()) == len(names) + 1
    # Checks that were taken away are no evidence, and everybody is told that they are missing.
    assert code == 4 and "the audit cannot tell: Is it new?" in text
    assert "memorisation.exact: the check was removed (looser than the default)" in " ".join(
        text.split()
    )
    run = Store(audit_home / "store").run("audit-copies")
    assert "Thresholds were changed" in run.find_file("index.html").read_text(encoding="utf-8")
    changed = run.read_json("audit.json")["thresholds_changed"]
    assert {one["metric"].partition(".")[0] for one in changed} == {"memorisation"}


def test_the_leakage_of_the_real_sides_is_measured_once_for_all_databases(audit_home: Path):
    audited(audit_home, "copies")
    audited(audit_home, "unseen")
    store = Store(audit_home / "store")
    sides = {side: store.resolve(side) for side in ("train", "test")}
    specs = [run.spec for run in map(store.run, store.list_names()) if run.stage == "measures"]
    specs = [spec for spec in specs if {side: spec[side] for side in sides} == sides]
    counts = Counter(spec["part"] for spec in specs)
    assert counts["leakage"] == 1 < counts["labels"]


def unmeasured(audit_home: Path, folder: Path) -> tuple[Store, set[str]]:
    """A copy of the store without the audit of the copies and what that measured, and the names of
    these.
    """
    audited(audit_home, "copies")
    other = Store(folder / "store")
    for name in ("runs", "aliases"):
        shutil.copytree(audit_home / "store" / name, other.root / name)
    stages = ("audit", "measures", "features", "judge", "matches")
    measured = {name for name in other.list_names() if name.split("-")[0] in stages}
    for name in measured:
        shutil.rmtree(other.root / "runs" / name)
    return other, measured


def test_an_audit_by_workers_of_which_one_is_killed_goes_on_to_the_same_last_digit(
    audit_home: Path, tmp_path: Path
):
    """The command ends with the worker; given again, it ends as an audit in one process does."""
    store, measured = unmeasured(audit_home, tmp_path)
    told = ["audit", "copies", "--train", "train", "--test", "test", "--as", "audit-copies"]
    told += ["--workers", "2"]
    environment = {**os.environ, "MIEN_STORE": str(store.root)}
    command = [sys.executable, "-m", "mien", *told]
    audit = subprocess.Popen(
        command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    try:
        (judge,) = [name for name in measured if name.startswith("judge-")]
        while not (claim := store.read_claim(judge)):
            assert audit.poll() is None, "it ended before its worker could be killed"
            time.sleep(0.02)
        os.kill(int(claim.split()[1]), signal.SIGKILL)
        _, text = audit.communicate(timeout=120)
    finally:
        audit.kill()
    assert audit.returncode == 1 and "its process was killed (SIGKILL)" in text
    code, text = run_inside(tmp_path, *told)
    assert code == 4, text
    here = Store(audit_home / "store")
    assert {name: store.run(name).content for name in store.list_names()} == {
        name: here.run(name).content for name in store.list_names()
    }
    # The audit, its six parts, the judge, and for each of three sides its matches and two spaces.
    assert len(measured & set(store.list_names())) == 17


def test_nothing_is_done_twice_and_nothing_that_no_part_needs(audit_home: Path, tmp_path: Path):
    store, _ = unmeasured(audit_home, tmp_path)
    train, test, twice = store.resolve("train"), store.resolve("test"), {}
    for name in (
        "copies",
        "test",
    ):  # the held-out people as their own database: two sides are one run
        plan = plan_parts(store.resolve(name), train, test, ("pixels", "judge"), "bilinear", {})
        twice[name] = [job.run for job in list_jobs(plan, store)]
        assert len(twice[name]) == len(set(twice[name]))
    assert len(twice["copies"]) == len(twice["test"]) + 2  # its features and its matches
    assert run_jobs(list_jobs(plan, store, "cpu"), store, Local(0)) == {}
    for name in store.list_names():
        if name.startswith(("matches-", "features-", "judge-")):
            shutil.rmtree(store.root / "runs" / name)
    assert list_jobs(plan, store) == []


def test_matches_in_blocks_are_those_of_one_search(
    audit_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Each block is a run; what lies nearest is the same, and what blocks found is what a search by
    blocks finds.
    """
    store, other = Store(audit_home / "store"), Store(tmp_path / "store")
    train, test, made = (
        keep(Faces.load(store.run(name).path), other, name) for name in ("train", "test", "copies")
    )
    faces = [Faces.load(run.path) for run in (train, test, made)]
    whole = matches.find_matches(*faces)
    monkeypatch.setattr(matches, "MATCH_BLOCK_IMAGES", 50)
    plan = matches.plan_blocks(train, test, made)
    assert (len(plan.synthetic), len(plan.test), len(plan.within)) == tuple(
        -(-len(side) // 50) for side in faces[::-1]
    )
    for found in (matches.load_or_make(train, test, made, other), matches.find_matches(*faces)):
        for side in ("synthetic", "test"):
            for name, column in asdict(getattr(found, side)).items():
                assert column == pytest.approx(asdict(getattr(whole, side))[name], abs=1e-6), (
                    side,
                    name,
                )
        assert found.nearest_outside_clip == pytest.approx(
            whole.nearest_outside_clip, abs=1e-6, nan_ok=True
        )
    assert sum(name.startswith("matches-") for name in other.list_names()) == sum(
        map(len, vars(plan).values())
    )
    assert (
        len(matches.MatchFinder(faces[0]).match_outside_clip(np.array([], dtype=np.int64)).nearest)
        == 0
    )  # a block that nothing is near


def test_a_part_that_cannot_be_made_stops_the_audit_with_its_own_words(audit_home: Path):
    torch.save({"of another network": torch.zeros(2)}, audit_home / "other.pth")
    sides = ("--train", "train", "--test", "test")
    code, text = run_inside(
        audit_home, "audit", "copies", *sides, "--spaces", "dinov2", "--weights", "dinov2=other.pth"
    )
    assert code == 2 and "the space dinov2" in text and "other.pth" in text
    assert not [
        name for name in Store(audit_home / "store").list_names() if name.startswith("weights-")
    ]


def test_people_whom_the_generator_saw_are_no_yardstick(audit_home: Path):
    """The training side as its own test is refused before anything is measured."""
    code, text = run_inside(
        audit_home, "audit", "copies", "--train", "train", "--test", "train", "--as", "blind"
    )
    assert code == 2 and "must be a set of its own" in text


def test_strangers_as_training_side_fail_the_audit_and_it_is_said(audit_home: Path):
    """Copies cannot be found among people whom the generator never saw."""
    code, _ = run_inside(
        audit_home, "audit", "copies", "--train", "unseen", "--test", "test", "--as", "strangers",
        "--spaces", "pixels",
    )  # fmt: skip
    told = Store(audit_home / "store").run("strangers").read_json("audit.json")
    checks = {one["name"]: one for one in told["checks"]}
    assert code == 4 and checks["leakage.other_training"]["verdict"] == "fail"
    assert checks["leakage.other_training"]["value"] == 1
    assert any("--train is not what the generator was trained on" in note for note in told["notes"])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nobody", "--train", "train", "--test", "test"], "there is no run or alias 'nobody'"),
        (["copies", "--train", "train", "--test", "test", "--spaces", "pixel"], "spaces"),
        (["copies", "--train", "train", "--test", "test", "--filter", "nearest"], "filter"),
        (
            [
                "copies",
                "--train",
                "train",
                "--test",
                "test",
                "--spaces",
                "dinov2",
                "--weights",
                "dinov2=absent.pth",
            ],
            "no file absent.pth",
        ),
        (
            ["copies", "--train", "train", "--test", "test", "--thresholds", "absent.toml"],
            "there must be a TOML file",
        ),
        (["copies", "--train", "copycat", "--test", "test"], "this needs a run of faces"),
    ],
)
def test_wrong_commands_get_one_message_and_2(
    audit_home: Path, arguments: list[str], complaint: str
):
    code, text = run_inside(audit_home, "audit", *arguments)
    assert code == 2 and complaint in text


@pytest.mark.parametrize(
    ("train", "test", "made", "complaint"),
    [
        ("faces", "faces", "small", "need one size.* synthetic 16 x 16, training 32 x 32"),
        ("faces", "faces", "coloured", "the same channels.* synthetic red, green, blue; train"),
        ("lacking", "faces", "faces", "lacks disgust"),
        ("faces", "none", "faces", "the test side has none"),
    ],
)
def test_sides_that_do_not_fit_are_refused(
    tmp_path: Path, train: str, test: str, made: str, complaint: str
):
    store, faces = Store(tmp_path / "store"), people(range(4), clips=1, frames=1)
    sides = {
        "faces": faces,
        "small": people(range(4), clips=1, frames=1, size=16),
        "coloured": Faces(faces.images.repeat(3, axis=1), faces.index),
        "lacking": faces.select(np.flatnonzero(faces.number_labels() != 2)),
        "none": faces.select(np.array([], dtype=np.int64)),
    }
    for name in {train, test, made}:
        keep(sides[name], store, name)
    spec = AuditSpec(synthetic=made, train=train, test=test, thresholds={})
    with pytest.raises(DataError, match=complaint):
        run_audit(spec, store)


def test_real_faces_in_place_of_a_database_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    store, real = Store(tmp_path / "store"), people(range(4), clips=1, frames=1)
    marked = real.index.assign(source=["generate-1"] * 2 + ["real"] * (len(real) - 2))
    for name, faces in (("real", real), ("mixed", Faces(real.images, marked))):
        run = keep(faces, store, name)
        with pytest.raises(DataError, match="the training side has none"):
            none = keep(real.select(np.array([], dtype=np.int64)), store, "none")
            run_audit(AuditSpec(synthetic=name, train=none.name, thresholds={}), store)
        count = "all" if name == "real" else f"{len(real) - 2} of"
        reported = f"{count} {len(real)} images of {run.name} are real faces"
        assert reported in capsys.readouterr().err


@pytest.mark.slow
def test_one_exact_training_image_among_others_is_found(audit_home: Path):
    store = Store(audit_home / "store")
    train, unseen = (Faces.load(store.run(name).path) for name in ("train", "unseen"))
    one = train.select(np.array([5]))
    planted = concatenate(
        [unseen, Faces(one.images, one.index.assign(key="planted", subject="", clip=""))]
    )
    keep(planted, store, "planted")
    code, _, checks = audited(audit_home, "planted")
    assert code == 4 and checks["memorisation.exact"]["value"] == pytest.approx(1 / len(planted))
    rows = pd.read_parquet(store.run("audit-planted").find_file("rows.parquet")).set_index("key")
    assert rows.loc["planted", "exact"] and rows.loc["planted", "nearest"] == one.index["key"][0]
    assert (
        store.run("audit-planted")
        .summary["holds"]
        .startswith(f"audit of {len(planted)} images: fail")
    )


@pytest.mark.slow
def test_a_generator_trained_on_few_images_for_far_too_long_fails_for_its_copies(tmp_path: Path):
    store = Store(tmp_path / "store")
    few = keep(people(range(8), clips=1, frames=2, size=16), store, "train")
    keep(people(range(8, 24), clips=1, frames=2, size=16), store, "test")
    long = {"images_seen": 30_000, "mirror": False, "net": {"dropout": 0.0}}
    generator = train_generator(presets.read_preset("smoke", few.name, long), store, device="cpu")
    generate_database(
        order_database(generator, "balanced:60", store), store, alias="learnt", device="cpu"
    )
    code, _, checks = audited(tmp_path, "learnt")
    failed = {one["family"] for one in checks.values() if one["verdict"] == "fail"}
    assert code == 4 and "memorisation" in failed
    assert checks["memorisation.copied.pixels"]["low"] > 0.05


# Evidence


def drawn_noise(kind: str, like: Faces) -> Faces:
    """Pictures without a face, with the labels of `like`."""
    rng, shape = np.random.default_rng(5), like.images.shape
    flat = like.images.reshape(len(like), -1)
    pixels = {
        "uniform": lambda: rng.integers(0, 256, shape),
        "soft grey": lambda: rng.normal(140, 12, shape),
        "one grey": lambda: np.full(shape, 90),
        "the mean face": lambda: np.broadcast_to(like.images.mean(axis=0), shape),
        "shuffled pixels": lambda: rng.permuted(flat, axis=1).reshape(shape),
        "stripes": lambda: (
            np.broadcast_to(np.arange(shape[3]) % 4 * 60, shape) + rng.normal(0, 9, shape)
        ),
    }[kind]()
    images = pixels.clip(0, 255).astype(np.uint8)
    keys = [f"noise/{place}" for place in range(len(like))]
    index = make_index(
        images, key=keys, dataset="noise", emotion=list(like.index["emotion"]), source="elsewhere"
    )
    return Faces(images, index)


@pytest.mark.parametrize(
    ("kind", "held_out"),
    [
        ("uniform", 1),
        pytest.param("stripes", 3, marks=pytest.mark.slow),
        ("the mean face", 12),
        pytest.param("soft grey", 1, marks=pytest.mark.slow),
        pytest.param("soft grey", 12, marks=pytest.mark.slow),
        pytest.param("shuffled pixels", 12, marks=pytest.mark.slow),
    ],
)
def test_pictures_without_a_face_are_never_called_good(audit_home: Path, kind: str, held_out: int):
    store = Store(audit_home / "store")
    keep(drawn_noise(kind, Faces.load(store.run("unseen").path)), store, "noise")
    few = people(range(16, 16 + held_out), clips=1, frames=2)
    keep(few, store, f"test-{held_out}")
    # so few people leave the question open in any space
    spaces = ("--spaces", "pixels") if held_out < 10 else ()
    code, text = run_inside(
        audit_home,
        "audit",
        "noise",
        "--train",
        "train",
        "--test",
        f"test-{held_out}",
        *spaces,
        "--as",
        "of-noise",
    )
    told = Store(audit_home / "store").run("of-noise").read_json("audit.json")
    answers = {one["title"]: one for one in told["questions"]}
    assert code == 4 and told["verdict"] in ("fail", "cannot tell")
    good = answers["Is it good?"]
    assert (
        good["verdict"] == "fail" if held_out == 12 else good["verdict"] in ("fail", "cannot tell")
    )
    new = answers["Is it new?"]
    assert new["verdict"] == "cannot tell" if held_out < 10 else new["verdict"] != "fail"
    if held_out == 1:
        words = " ".join(text.split())
        assert "1 person was held out, and 10 are needed" in words
        assert "Enough would be: at least 10 held-out people" in words


def test_the_terminal_never_breaks_the_name_of_a_check(audit_home: Path):
    audited(audit_home, "copies")  # so that the next one measures nothing, and reports no progress
    _, text, checks = audited(audit_home, "copies", columns=80)
    beyond = [one for one in checks.values() if one["verdict"] != "pass"]
    assert all(
        len(line) <= 80
        for line in text.splitlines()
        if not line.startswith(("the page", "mien:", "audit-"))
    )
    assert all(one["name"] in text for one in beyond[:12])


@pytest.mark.parametrize("held_out", [1, pytest.param(3, marks=pytest.mark.slow), 12])
def test_planted_copies_fail_however_few_people_were_held_out(audit_home: Path, held_out: int):
    store = Store(audit_home / "store")
    train, others = (Faces.load(store.run(name).path) for name in ("train", "unseen"))
    images, emotions = others.images.copy(), others.index["emotion"].to_numpy(dtype=object)
    rng, places = np.random.default_rng(held_out), [5, 17, 40]
    for number, place in enumerate(places):
        copied = train.images[7 * number + 3].astype(float) + rng.normal(
            0, 3, train.images.shape[1:]
        )
        images[place] = (copied[:, :, ::-1] if number else copied).clip(0, 255).round()
        emotions[place] = train.index["emotion"][7 * number + 3]
    keys = [f"planted/{number}" for number in range(len(images))]
    index = make_index(
        images, key=keys, dataset="planted", emotion=list(emotions), source="elsewhere"
    )
    keep(Faces(images, index), store, f"planted-{held_out}")
    keep(people(range(16, 16 + held_out), clips=1, frames=2), store, f"test-{held_out}")

    sides = ("--train", "train", "--test", f"test-{held_out}", "--spaces", "pixels")
    code, _ = run_inside(audit_home, "audit", f"planted-{held_out}", *sides, "--as", "of-planted")
    told = Store(audit_home / "store").run("of-planted").read_json("audit.json")
    new = next(one for one in told["questions"] if one["title"] == "Is it new?")
    found = next(one for one in told["checks"] if one["name"] == "memorisation.copies")
    assert code == 4 and new["verdict"] == "fail" and "memorisation.copies" in new["why"]
    assert found["value"] == pytest.approx(len(places) / len(images))


@pytest.mark.parametrize("size", [12, 160, 700])
def test_one_equal_copy_fails_a_set_of_any_size(size: int):
    limits = {
        name: fields
        for name, fields in verdict.read_thresholds().items()
        if name.startswith("memorisation.")
    }
    records = [
        Record(f"memorisation.{name}", 1 / size, size, unit="images")
        for name in ("exact", "copies")
    ]
    checks = verdict.judge(records, limits, verdict.HeldOut(1))
    failed = {one.name for one in checks if one.verdict == "fail"}
    assert failed == {"memorisation.exact", "memorisation.copies"}
