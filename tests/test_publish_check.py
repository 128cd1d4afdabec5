"""Damage to a release, of every kind that we could think of, and that the check finds it."""

import hashlib
import io
import json
import os
import shutil
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from release_world import answer, world, write_checksums

from mien.errors import DataError, UsageError
from mien.publish import checking, formats, hub, loading, marks, registry
from mien.publish.formats import ReleaseLayout
from mien.publish.marks import Mark
from mien.publish.release import build

CLASSES = ["disgust", "fear", "happiness"]
SHARD = "webdataset/train-000000.tar"
METADATA = "imagefolder/train/metadata.csv"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = world(tmp_path_factory.mktemp("world"))
    answer(home.answers, home.store, "made", test_share="0.2")
    form = "parquet,imagefolder,webdataset"
    return build("made", home.root / "release", home.store, home.answers, form=form)


@pytest.fixture
def copy(release: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(release, tmp_path / "copy"))


def rows(folder: Path) -> list[dict[str, Any]]:
    return list(formats.read_parquet(ReleaseLayout(folder).name_parquet("train")))


def keep(folder: Path, changed: list[dict[str, Any]]) -> None:
    formats.write_parquet(ReleaseLayout(folder).name_parquet("train"), changed, CLASSES)


def edit_json(path: Path, change: Callable[[Any], None]) -> None:
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def repack(folder: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """Write the shard again, with what `change` makes of each member; nothing leaves one out."""
    with tarfile.open(folder / SHARD) as tar:
        members = [(one.name, file.read()) for one in tar if (file := tar.extractfile(one))]
    with tarfile.open(folder / SHARD, "w") as tar:
        for name, data in members:
            new = change(name, data)
            if new is not None:
                member = tarfile.TarInfo(name)
                member.size = len(new)
                tar.addfile(member, io.BytesIO(new))


def edit_table(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    table = change(pd.read_csv(path, dtype="str", keep_default_na=False))
    table.to_csv(path, index=False)


# Each takes a release and damages it; afterwards the checksums are written anew, so that nothing is
# found by them.


def a_label_in_parquet(folder: Path) -> None:
    changed = rows(folder)
    changed[0]["label"] = 2
    keep(folder, changed)


def a_label_that_is_none(folder: Path) -> None:
    changed = rows(folder)
    changed[0]["label"] = -1
    keep(folder, changed)


def a_row_lost(folder: Path) -> None:
    keep(folder, rows(folder)[1:])


def a_row_twice(folder: Path) -> None:
    changed = rows(folder)
    keep(folder, [changed[1], *changed[1:]])


def images_exchanged(folder: Path) -> None:
    changed = rows(folder)
    changed[0]["image"], changed[1]["image"] = changed[1]["image"], changed[0]["image"]
    keep(folder, changed)


def an_image_saved_anew(folder: Path) -> None:
    changed, out = rows(folder), io.BytesIO()
    Image.open(io.BytesIO(changed[0]["image"]["bytes"])).save(out, "PNG")
    changed[0]["image"]["bytes"], changed[0]["sha256"] = (
        out.getvalue(),
        hashlib.sha256(out.getvalue()).hexdigest(),
    )
    keep(folder, changed)


def remark(row: dict[str, Any], **other: Any) -> None:
    """Give an image another mark, with a digest that fits."""
    seen = marks.read_picture(row["image"]["bytes"], "x")
    assert seen.mark is not None
    data = marks.encode_png(seen.image, Mark(**{**vars(seen.mark), **other}), "mien", "0")
    row["image"]["bytes"], row["sha256"] = data, hashlib.sha256(data).hexdigest()


def a_mark_of_another_label(folder: Path) -> None:
    changed = rows(folder)
    remark(changed[0], label="fear")
    keep(folder, changed)


def a_mark_of_another_licence(folder: Path) -> None:
    changed = rows(folder)
    remark(changed[0], licence="cc0-1.0")
    keep(folder, changed)


def a_mark_for_other_pixels(folder: Path) -> None:
    changed = rows(folder)
    remark(changed[0], pixels="0" * 16)
    keep(folder, changed)


def a_pixel(folder: Path) -> None:
    changed = rows(folder)
    seen = marks.read_picture(changed[0]["image"]["bytes"], "x")
    assert seen.mark is not None
    image = seen.image.copy()
    image[0, 3, 3] ^= 64
    data = marks.encode_png(image, seen.mark, "mien", "0")
    changed[0]["image"]["bytes"], changed[0]["sha256"] = data, hashlib.sha256(data).hexdigest()
    keep(folder, changed)


def an_image_cut_short(folder: Path) -> None:
    changed = rows(folder)
    changed[0]["image"]["bytes"] = changed[0]["image"]["bytes"][:-40]
    keep(folder, changed)


def a_seed(folder: Path) -> None:
    changed = rows(folder)
    changed[2]["seed"] += 1
    keep(folder, changed)


def another_order_of_classes(folder: Path) -> None:
    formats.write_parquet(ReleaseLayout(folder).name_parquet("train"), rows(folder), CLASSES[::-1])


def a_column_lost(folder: Path) -> None:
    path = ReleaseLayout(folder).name_parquet("train")
    pq.write_table(pq.read_table(path).drop_columns(["seed"]), path)


def a_column_of_subjects(folder: Path) -> None:
    path = ReleaseLayout(folder).name_parquet("train")
    table = pq.read_table(path)
    pq.write_table(table.append_column("subject", pa.array(["s1"] * len(table))), path)


def a_split_that_is_another(folder: Path) -> None:
    changed = rows(folder)
    changed[0]["split"] = "test"
    keep(folder, changed)


def a_parquet_file_cut_short(folder: Path) -> None:
    path = ReleaseLayout(folder).name_parquet("train")
    path.write_bytes(path.read_bytes()[:-100])


def a_row_of_the_registry(folder: Path) -> None:
    table = pd.read_parquet(folder / "registry.parquet")
    table.iloc[1:].to_parquet(folder / "registry.parquet", index=False)


def a_hash_in_the_registry(folder: Path) -> None:
    table = pd.read_parquet(folder / "registry.parquet")
    table.loc[0, "phash"] = "0" * 16
    table.to_parquet(folder / "registry.parquet", index=False)


def a_file_without_a_row(folder: Path) -> None:
    edit_table(folder / METADATA, lambda table: table.iloc[1:])


def a_row_without_a_file(folder: Path) -> None:
    next((folder / "imagefolder" / "train" / "fear").rglob("*.png")).unlink()


def a_label_in_the_folder(folder: Path) -> None:
    edit_table(folder / METADATA, lambda table: table.assign(label=["fear", *table["label"][1:]]))


def a_file_in_the_folder(folder: Path) -> None:
    first, second = sorted((folder / "imagefolder" / "train" / "happiness").rglob("*.png"))[:2]
    shutil.copyfile(first, second)


def a_member_of_the_shard(folder: Path) -> None:
    repack(folder, lambda name, data: None if name == "fear-00001.cls" else data)


def a_class_in_the_shard(folder: Path) -> None:
    repack(folder, lambda name, data: b"0" if name == "fear-00001.cls" else data)


def an_image_in_the_shard(folder: Path) -> None:
    png = io.BytesIO()
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(png, "PNG")
    repack(folder, lambda name, data: png.getvalue() if name == "fear-00001.png" else data)


def a_shard_cut_short(folder: Path) -> None:
    path = folder / SHARD
    path.write_bytes(path.read_bytes()[:20_000])


def yaml_that_is_none(folder: Path) -> None:
    replace(folder / "README.md", "license: cc-by-4.0", "license: [cc-by-4.0")


def a_class_in_the_yaml(folder: Path) -> None:
    replace(folder / "README.md", "'1': fear", "'1': sadness")


def a_count_in_the_yaml(folder: Path) -> None:
    replace(folder / "README.md", "num_examples: 20", "num_examples: 21")


def another_licence_in_the_yaml(folder: Path) -> None:
    replace(folder / "README.md", "license: cc-by-4.0", "license: cc0-1.0")


def an_open_question(folder: Path) -> None:
    replace(folder / "README.md", "What a person says about biases.", "[More Information Needed]")


def the_excluded_uses(folder: Path) -> None:
    replace(
        folder / "README.md", "inferring what a person feels, means or intends", "nothing at all"
    )


def an_empty_licence(folder: Path) -> None:
    (folder / "LICENSE").write_text("\n")


def a_citation_without_authors(folder: Path) -> None:
    replace(folder / "CITATION.cff", "authors:", "writers:")


def croissant_that_is_no_json(folder: Path) -> None:
    replace(folder / "croissant.json", "{", "")


def a_digest_in_croissant(folder: Path) -> None:
    edit_json(
        folder / "croissant.json", lambda told: told["distribution"][0].update(sha256="0" * 64)
    )


def that_it_is_synthetic(folder: Path) -> None:
    edit_json(folder / "croissant.json", lambda told: told.pop("rai:hasSyntheticData"))


def a_label_in_croissant(folder: Path) -> None:
    edit_json(folder / "croissant.json", lambda told: told["recordSet"][0]["data"].pop())


def the_audit_of_another(folder: Path) -> None:
    edit_json(folder / "audit" / "audit.json", lambda told: told.update(content="0" * 64))


def a_failed_audit(folder: Path) -> None:
    edit_json(folder / "audit" / "audit.json", lambda told: told.update(verdict="fail"))


def the_end_of_the_lineage(folder: Path) -> None:
    edit_json(folder / "provenance" / "lineage.json", lambda told: told.pop())


def a_gate_that_is_shut(folder: Path) -> None:
    edit_json(folder / "provenance" / "gates.json", lambda told: told[1].update(outcome="private"))


def a_photograph(folder: Path) -> None:
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(folder / "audit" / "worst.png")


def a_sheet_without_a_mark(folder: Path) -> None:
    path = folder / "sheets" / "contact.png"
    Image.open(path).convert("RGB").save(path)


def a_hidden_file(folder: Path) -> None:
    (folder / ".subjects.csv").write_text("subject\n")


def the_citation(folder: Path) -> None:
    (folder / "CITATION.cff").unlink()


DAMAGE = [
    *(
        a_label_in_parquet,
        a_label_that_is_none,
        a_row_lost,
        a_row_twice,
        images_exchanged,
        an_image_saved_anew,
    ),
    *(
        a_mark_of_another_label,
        a_mark_of_another_licence,
        a_mark_for_other_pixels,
        a_pixel,
        an_image_cut_short,
        a_seed,
    ),
    *(
        another_order_of_classes,
        a_column_lost,
        a_column_of_subjects,
        a_split_that_is_another,
        a_parquet_file_cut_short,
    ),
    *(
        a_row_of_the_registry,
        a_hash_in_the_registry,
        a_file_without_a_row,
        a_row_without_a_file,
        a_label_in_the_folder,
    ),
    *(
        a_file_in_the_folder,
        a_member_of_the_shard,
        a_class_in_the_shard,
        an_image_in_the_shard,
        a_shard_cut_short,
    ),
    *(
        yaml_that_is_none,
        a_class_in_the_yaml,
        a_count_in_the_yaml,
        another_licence_in_the_yaml,
        an_open_question,
    ),
    *(
        the_excluded_uses,
        an_empty_licence,
        a_citation_without_authors,
        croissant_that_is_no_json,
        a_digest_in_croissant,
    ),
    *(
        that_it_is_synthetic,
        a_label_in_croissant,
        the_audit_of_another,
        a_failed_audit,
        the_end_of_the_lineage,
    ),
    *(a_gate_that_is_shut, a_photograph, a_sheet_without_a_mark, a_hidden_file, the_citation),
]
# What else changes when a Parquet file does, so that these alone do not find the damage.
FOLLOWS = ("files and their sha256", "does not match its sha256")


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damage_is_found_when_the_checksums_were_written_anew(
    copy: Path, damage: Callable[[Path], None]
):
    damage(copy)
    path = ReleaseLayout(copy).name_parquet("train")
    if damage is not a_digest_in_croissant and damage is not croissant_that_is_no_json:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        edit_json(
            copy / "croissant.json", lambda told: told["distribution"][0].update(sha256=digest)
        )
    write_checksums(copy)
    with pytest.raises(DataError, match="fault") as found:
        checking.check(copy, libraries=False)
    assert damage is a_digest_in_croissant or not any(text in str(found.value) for text in FOLLOWS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda folder: (folder / "DATASHEET.md").write_text("x" * 99),
            "DATASHEET.md does not match its sha256",
        ),
        (lambda folder: (folder / "DATASHEET.md").unlink(), "DATASHEET.md is missing"),
        (lambda folder: (folder / "checksums.sha256").unlink(), "checksums.sha256 is missing"),
        (
            lambda folder: (
                (folder / "results").mkdir() or (folder / "results" / "x.md").write_text("")
            ),
            "is not in",
        ),
    ],
)
def test_damage_is_found_by_checksums(copy: Path, change: Callable[[Path], None], said: str):
    change(copy)
    with pytest.raises(DataError, match=said):
        checking.check(copy, libraries=False)


# Read as an attacker's work: what disagrees is found, whatever else was made to fit


def other_forms(folder: Path) -> None:
    edit_json(
        folder / "provenance/release.json",
        lambda told: told.update(formats=["parquet", "webdataset"]),
    )


def another_folder_of_images(folder: Path) -> None:
    shutil.copytree(folder / "imagefolder/train", folder / "imagefolder/extra")


def an_unlisted_form(folder: Path) -> None:
    edit_json(
        folder / "provenance/release.json",
        lambda told: told.update(formats=["parquet", "imagefolder"]),
    )
    for path in (folder / "README.md", folder / "DATASHEET.md"):
        path.write_text(path.read_text().replace("webdataset", "x"))


def counts_that_are_huge(folder: Path) -> None:
    edit_json(
        folder / "provenance/release.json", lambda told: told["counts"]["train"].update(fear=10**8)
    )


def html_in_the_card(folder: Path) -> None:
    replace(folder / "README.md", "## Load it", "<img src=x onerror=f()>\n\n## Load it")


def html_in_the_datasheet(folder: Path) -> None:
    replace(folder / "DATASHEET.md", "## Motivation", "<b>x</b>\n\n## Motivation")


def another_licence_text(folder: Path) -> None:
    replace(folder / "LICENSE", "cc-by-4.0", "cc0-1.0")


def a_set_in_croissant(folder: Path) -> None:
    edit_json(
        folder / "croissant.json", lambda told: told["recordSet"].append({"@id": "x", "name": "x"})
    )


def an_audit_without_checks(folder: Path) -> None:
    edit_json(folder / "audit/audit.json", lambda told: told.update(checks=[]))


def a_check_that_fails(folder: Path) -> None:
    edit_json(folder / "audit/audit.json", lambda told: told["checks"][0].update(verdict="fail"))


def a_page_with_a_script(folder: Path) -> None:
    replace(folder / "audit/index.html", "<h1>", "<script>f()</script><h1>")


def a_page_with_a_face(folder: Path) -> None:
    replace(folder / "audit/index.html", "<h1>", "<img src='data:image/png;base64,AA'><h1>")


def a_field_in_the_lineage(folder: Path) -> None:
    edit_json(
        folder / "provenance/lineage.json",
        lambda told: told[0]["spec"].update(subject_pattern="(Anna)"),
    )


def a_name_in_the_lineage(folder: Path) -> None:
    edit_json(
        folder / "provenance/lineage.json",
        lambda told: told[0]["spec"].update(faces="Olga Petrowna"),
    )


def a_machine_in_the_lineage(folder: Path) -> None:
    edit_json(folder / "provenance/lineage.json", lambda told: told[0].update(machine="olga-pc"))


def looser_limits_in_the_audit(folder: Path) -> None:
    looser = {"metric": "labels.kept", "field": "off", "looser": True, "text": "taken away"}
    edit_json(folder / "audit/audit.json", lambda told: told.update(thresholds_changed=[looser]))


def an_odd_verdict_of_a_check(folder: Path) -> None:
    edit_json(folder / "audit/audit.json", lambda told: told["checks"][0].update(verdict="FAIL"))


def an_override_of_nobody(folder: Path) -> None:
    edit_json(folder / "provenance/gates.json", lambda told: told[0].update(outcome="overridden"))


def aliases_in_the_yaml(folder: Path) -> None:
    replace(folder / "README.md", "license: cc-by-4.0", "license: &a cc-by-4.0\nx: *a")


def a_formula_in_the_results(folder: Path) -> None:
    (folder / "results").mkdir()
    (folder / "results/x.csv").write_text("study\n=1+1\n")


def a_picture_of_another_size(folder: Path) -> None:
    changed, out = rows(folder), io.BytesIO()
    Image.new("L", (4000, 4000)).save(out, "PNG")
    changed[0]["image"]["bytes"], changed[0]["sha256"] = (
        out.getvalue(),
        hashlib.sha256(out.getvalue()).hexdigest(),
    )
    keep(folder, changed)


def a_picture_of_another_kind(folder: Path) -> None:
    changed = rows(folder)
    changed[0]["image"]["bytes"] = b"%!PS-Adobe-3.0 EPSF-3.0\n"
    keep(folder, changed)


HOSTILE = [
    *(
        other_forms,
        another_folder_of_images,
        an_unlisted_form,
        counts_that_are_huge,
        html_in_the_card,
    ),
    *(
        html_in_the_datasheet,
        another_licence_text,
        a_set_in_croissant,
        an_audit_without_checks,
        a_check_that_fails,
    ),
    *(
        a_page_with_a_script,
        a_page_with_a_face,
        a_field_in_the_lineage,
        an_override_of_nobody,
        aliases_in_the_yaml,
    ),
    *(
        a_name_in_the_lineage,
        a_machine_in_the_lineage,
        looser_limits_in_the_audit,
        an_odd_verdict_of_a_check,
    ),
    *(a_formula_in_the_results, a_picture_of_another_size, a_picture_of_another_kind),
]


@pytest.mark.parametrize("forge", HOSTILE, ids=lambda forge: forge.__name__)
def test_a_forged_release_is_found_out(copy: Path, forge: Callable[[Path], None]):
    forge(copy)
    write_checksums(copy)
    with pytest.raises(UsageError) as found:
        checking.check(copy, libraries=False)
    assert found.value.exit_code == 2


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private build, of a set whose terms are not known."""
    home = world(tmp_path_factory.mktemp("hidden"), name="casme2")
    return build("made", home.root / "release", home.store, home.answers, private=True)


@pytest.mark.parametrize("deeper", [False, True])
def test_a_private_build_does_not_become_public_by_a_word(
    hidden: Path, tmp_path: Path, deeper: bool
):
    folder = Path(shutil.copytree(hidden, tmp_path / "x"))
    edit_json(folder / "provenance/release.json", lambda told: told.update(private=False))
    replace(folder / "provenance/gates.json", '"outcome": "private"', '"outcome": "passed"')
    if deeper:  # in two of the three documents, too
        text = (
            (folder / "README.md")
            .read_text()
            .replace("Private build", "Build")
            .replace("| private |", "| passed |")
        )
        (folder / "README.md").write_text(text)
        replace(folder / "LICENSE", "Private build: this folder is not to be passed on.", "")
    write_checksums(folder)
    with pytest.raises(DataError, match=r"DATASHEET\.md must not say that the build is private"):
        hub.push(folder, "me/faces", "public", dry_run=True)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("checksums.sha256", bytes(range(256))),
        ("provenance/release.json", b"[" * 10**5),
        ("provenance/release.json", b'{"counts": ' + b"9" * 6000 + b"}"),
        ("provenance/gates.json", b'{"a":' * 10**5),
        ("provenance/lineage.json", b"null"),
        ("provenance/card.json", b"{}"),
        ("provenance/answers.json", b"\xff"),
        ("README.md", b"---\n" + b"[" * 5000 + b"\n---\n"),
        ("README.md", b"---\na: &x [1]\nb: *x\n---\n"),
        ("CITATION.cff", b"{" * 5000),
        ("croissant.json", b"1" * 5000),
        ("audit/audit.json", b"[]"),
        ("registry.parquet", b"PAR1" * 9),
        ("webdataset/train-000000.tar", b"\0" * 512),
        ("sheets/contact.png", b"\x89PNG"),
    ],
)
def test_files_that_are_nothing_end_in_one_message(copy: Path, name: str, data: bytes):
    (copy / name).write_bytes(data)
    if name != "checksums.sha256":
        write_checksums(copy)
    with pytest.raises(UsageError) as found:
        checking.check(copy, libraries=False)
    assert str(found.value).replace("\n", "").isprintable()


@pytest.mark.parametrize("phash", ["zz", "0x1", "-1", "ABCDEF0123456789", ""])
def test_a_registry_of_other_hashes_is_refused(copy: Path, phash: str):
    table = pd.read_parquet(copy / "registry.parquet")
    table.assign(phash=phash).to_parquet(copy / "registry.parquet", index=False)
    with pytest.raises(DataError, match="16 hexadecimal digits"):
        registry.identify(copy / "sheets/contact.png", copy)
    table.assign(phash=range(len(table))).to_parquet(copy / "registry.parquet", index=False)
    with pytest.raises(DataError, match="16 hexadecimal digits"):
        registry.identify(copy / "sheets/contact.png", copy)


@pytest.mark.parametrize(
    "name", ["README.md", "imagefolder/train/fear/000/fear-00000.png", "pipe.png", "data/x"]
)
def test_pipes_are_not_waited_for(copy: Path, name: str):
    (copy / name).unlink(missing_ok=True)
    os.mkfifo(copy / name)
    with pytest.raises(DataError, match="is a pipe"):
        checking.check(copy, libraries=False)


def test_a_name_does_not_speak_to_the_terminal(copy: Path):
    (copy / "data" / "\x1b[2Jx").write_text("x")
    with pytest.raises(DataError) as found:
        checking.check(copy, libraries=False)
    assert "\x1b" not in str(found.value)


FOREIGN = (
    *(
        ".DS_Store",
        "data/Thumbs.db",
        "imagefolder/train/desktop.ini",
        "imagefolder/train/fear/000/._fear-00000.png",
    ),
    *(
        ".gitattributes",
        ".cache/huggingface/download/README.md.lock",
        ".git/objects/ab/cd",
        "webdataset/.DS_Store",
    ),
)


def test_what_systems_and_hubs_leave_is_passed_over_and_told(copy: Path):
    for name in FOREIGN:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("x")
    found = checking.check(copy, libraries=False)
    assert set(found.foreign) == {
        *FOREIGN[:5],
        ".cache/huggingface",
        ".git",
        "webdataset/.DS_Store",
    }


@pytest.mark.parametrize(
    "name", [".cache/other/x", ".gitx", "data/.concealed", "x/.gitattributes", "notes.txt"]
)
def test_what_only_looks_so_is_no_part_of_a_release(copy: Path, name: str):
    (copy / name).parent.mkdir(parents=True, exist_ok=True)
    (copy / name).write_text("x")
    with pytest.raises(DataError, match="does not belong in a release"):
        checking.check(copy, libraries=False)


def test_links_are_found(copy: Path):
    (copy / "LICENSE").unlink()
    (copy / "LICENSE").symlink_to("/etc/hostname")
    with pytest.raises(DataError, match="LICENSE is a link"):
        checking.check(copy, libraries=False)


def test_a_whole_release_has_no_fault(release: Path):
    found = checking.check(release, libraries=False)
    assert found.counts == {"train": 20, "test": 4} and "imagefolder" in found.compared


def test_what_is_no_release_is_told(tmp_path: Path):
    with pytest.raises(UsageError, match="must be a release"):
        checking.check(tmp_path)


# With the libraries that people load it with, which leave files open for the collector to close

OPEN_FILES = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@OPEN_FILES
@pytest.mark.slow
@pytest.mark.parametrize("name", loading.LOADERS)
def test_libraries_load_the_same(release: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip(name, reason=f"{name} is not installed")
    monkeypatch.setattr("mien.publish.checking.LOADING_LIBRARIES", (name,))
    assert checking.check(release).compared[-1] == name


@OPEN_FILES
@pytest.mark.slow
def test_libraries_find_what_differs(release: Path):
    told = json.loads((release / "provenance" / "release.json").read_text())
    for name, load in loading.LOADERS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pytest.importorskip(name, reason=f"{name} is not installed")
            assert list(load(release, told, [])), f"{name} must miss the rows that are not there"


@OPEN_FILES
@pytest.mark.slow
def test_people_load_it_in_one_line(release: Path, tmp_path: Path):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    loaded = datasets.load_dataset(str(release), cache_dir=str(tmp_path))
    assert {name: len(part) for name, part in loaded.items()} == {"train": 20, "test": 4}
    assert (
        loaded["train"].features["label"].names == CLASSES
        and loaded["train"][0]["image"].mode == "L"
    )


def test_what_is_not_installed_is_said(release: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mien.publish.checking.LOADING_LIBRARIES", ("a_library_that_is_not_there",))
    assert checking.check(release).skipped == ("a_library_that_is_not_there",)
