"""The name of a study: a file, a study that comes with mien, or one of the store."""

import pytest
from worlds import blobs, keep, written_study

from mien.errors import SpecError
from mien.runs.store import Store
from mien.study.file import read_named_study


def test_a_study_of_the_store_is_read_without_its_file(store: Store):
    keep(blobs(), store, "blobs")
    study = written_study(store, name="lost")
    for name in (study.run.name, "lost"):
        spec = read_named_study(name, store)
        assert spec.name == study.run.name and spec.title == "lost"
    with pytest.raises(SpecError, match="must be a TOML file"):
        read_named_study("blobs", store)
    with pytest.raises(SpecError, match="must be a TOML file"):
        read_named_study("study-0123456789ab", store)
