"""Rejection: counts stay exact, what the audit would hold against an image is what it is drawn anew
for.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn import people
from worlds import TINY_DIFFUSION, run_inside

from mien.audit import features, rejection
from mien.audit.memorisation.measure import measure_memorisation
from mien.audit.rejection import (
    draw_until_accepted,
    filter_memorised,
    filter_unlike,
    make_reject_spec,
)
from mien.errors import SpecError
from mien.faces import Faces, concatenate
from mien.generators.generate import assemble
from mien.generators.kinds import fit_generator, sample_generator
from mien.generators.orders import plan_images
from mien.generators.specs import CopycatSpec, GenerateSpec, SamplerSpec, TrainSpec
from mien.runs.store import Store


@cache
def side(name: str) -> Faces:
    """The faces of one side, drawn when a test first needs them."""
    return people({"train": range(20), "test": range(20, 30)}[name], clips=1, frames=2)


def test_memorised_is_the_audits_own_alarm():
    made = concatenate([people(range(40, 46), clips=1, frames=1), _copies(20)])
    found = filter_memorised(side("train"), side("test"))(made)
    assert (
        found
        == measure_memorisation(side("train"), side("test"), made, {}).rows["alarm"].to_numpy()
    ).all()
    assert found[-20:].mean() > 0.3 > found[:-20].mean()


def _copies(count: int) -> Faces:
    spec = CopycatSpec.model_validate({"faces": "faces-000000000000"})
    labels = np.resize(np.unique(side("train").number_labels()), count)
    seeds = np.arange(count, dtype=np.int64)
    generator = fit_generator(side("train"), spec, Path())
    images = sample_generator(generator, labels, seeds)
    index = [
        (f"copy/{place}", ["disgust", "happiness", "surprise"][place % 3]) for place in range(count)
    ]
    return assemble(generator, images, index, "generate-000000000000", seeds)


def test_unlike_is_what_lies_among_no_real_faces_of_its_class():
    ask = filter_unlike(side("train"), features.make_pixel_space(side("train").size))
    unseen = people(range(40, 50), clips=1, frames=1)
    noise = np.random.default_rng(0).integers(0, 256, unseen.images.shape, dtype=np.uint8)
    assert (
        ask(Faces(noise, unseen.index)).all()
        and ask(unseen).mean() < 0.5
        and not ask(side("train")).all()
    )


def test_what_is_rejected_is_drawn_anew_under_the_same_key_until_counts_are_exact(tmp_path: Path):
    counts = {"disgust": 20, "surprise": 11}
    fields = {"generator": "copycat-000000000000", "counts": counts, "sampler": "direct"}
    spec = make_reject_spec(GenerateSpec.model_validate(fields), ["unlike"], "faces-000000000000")
    limit = float(np.median(side("train").images.mean(axis=(1, 2, 3))))

    def dark(faces: Faces) -> np.ndarray:
        return np.asarray(faces.images.mean(axis=(1, 2, 3)) < limit)

    generator = fit_generator(side("train"), CopycatSpec(faces="faces-000000000000"), Path())
    faces, thrown = draw_until_accepted(spec, generator, {"unlike": dark}, tmp_path, "cpu", None)
    assert faces.index["emotion"].value_counts().to_dict() == counts and not dark(faces).any()
    assert len(set(faces.index["key"])) == 31 and set(thrown["key"]) < set(faces.index["key"])
    assert len(thrown) > 10 and thrown["unlike"].all() and thrown["round"].max() > 0
    again = sample_generator(generator, faces.number_labels(), faces.index["seed"].to_numpy())
    assert (again == faces.images).all()  # each can be made again alone
    _, labels, numbers = plan_images(spec.name, counts, spec.seed)
    kept = ~faces.index["key"].isin(thrown["key"]).to_numpy()
    assert (sample_generator(generator, labels[kept], numbers[kept]) == faces.images[kept]).all()


def test_an_image_that_is_drawn_again_keeps_its_guidance(tmp_path: Path):
    training = {**TINY_DIFFUSION, "faces": "faces-000000000000", "images_seen": 96}
    generator = fit_generator(side("train"), TrainSpec.model_validate(training), tmp_path)
    wide = {"steps": 2, "guidance_low": 0.0, "guidance_high": 1000.0}
    fields = {
        "generator": "edm-000000000000",
        "counts": {"disgust": 9},
        **wide,
        "guidance_mix": 20.0,
    }
    spec = make_reject_spec(GenerateSpec.model_validate(fields), ["unlike"], "faces-000000000000")
    rounds: list[int] = []

    def reject_every_third(faces: Faces) -> np.ndarray:
        rounds.append(len(faces))
        return (np.arange(len(faces)) % 3 == 1) & (len(rounds) == 1)

    filters = {"unlike": reject_every_third}
    faces, thrown = draw_until_accepted(spec, generator, filters, tmp_path, "cpu", None)
    assert rounds == [9, 3] and len(thrown) == 3
    labels, numbers = faces.number_labels(), faces.index["seed"].to_numpy()
    plain, guided = (
        sample_generator(
            generator, labels, numbers, sampler=SamplerSpec.model_validate({**wide, "guidance": w})
        )
        for w in (1.0, 20.0)
    )
    assert (plain != guided).any(axis=(1, 2, 3)).all()
    odd = np.arange(9) % 2 == 1
    assert (faces.images[odd] == guided[odd]).all() and (faces.images[~odd] == plain[~odd]).all()


def test_the_run_tells_the_rate_of_each_class_beside_that_of_people_never_seen(audit_home: Path):
    command = (
        "generate",
        "copycat",
        "--counts",
        "only,disgust=12,surprise=7",
        "--reject",
        "unlike",
        "--test",
        "test",
    )
    code, text = run_inside(audit_home, *command, "--as", "picky")
    assert code == 0, text
    run = Store(audit_home / "store").run("picky")
    thrown = pd.read_parquet(run.find_file("rejected.parquet"))
    rows = {row["class"]: row for row in run.summary["rejected"]}
    assert Faces.load(run.path).index["emotion"].value_counts().to_dict() == {
        "disgust": 12,
        "surprise": 7,
    }
    assert rows["all"]["drawn"] == 19 + len(thrown) and rows["all"]["rejected"] == len(thrown)
    assert 0 <= rows["disgust"]["unlike_heldout"] < 1 and "of held-out people" in text


def test_a_generator_of_nothing_but_copies_is_given_up_with_4(audit_home: Path):
    command = (
        "generate",
        "copycat",
        "--counts",
        "only,disgust=30",
        "--reject",
        "memorised,unlike",
        "--test",
        "test",
    )
    before = Store(audit_home / "store").list_names()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rejection, "MAX_DRAWS", 2)
        code, text = run_inside(audit_home, *command)
    assert code == 4 and "are still rejected" in text and "disgust" in text
    assert [
        name for name in Store(audit_home / "store").list_names() if name.startswith("generate")
    ] == [name for name in before if name.startswith("generate")]


def test_what_cannot_be_asked_is_refused(audit_home: Path):
    assert run_inside(audit_home, "generate", "copycat", "--reject", "memorised")[0] == 2
    assert run_inside(audit_home, "generate", "copycat", "--test", "test")[0] == 2
    code, text = run_inside(
        audit_home,
        "generate",
        "copycat",
        "--counts",
        "only,disgust=3",
        "--reject",
        "memorized",
        "--test",
        "test",
    )
    assert code == 2 and "'memorised'" in text
    code, text = run_inside(
        audit_home,
        "generate",
        "copycat",
        "--counts",
        "only,disgust=3",
        "--reject",
        "memorised",
        "--test",
        "train",
    )
    assert code == 2 and "whom training has not seen" in text
    spec = GenerateSpec(generator="copycat-000000000000", counts={"fear": 1}, sampler="direct")
    with pytest.raises(SpecError, match="each once"):
        make_reject_spec(spec, ["unlike", "unlike"], "faces-000000000000")
