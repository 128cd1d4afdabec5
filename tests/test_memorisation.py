"""Memorisation: planted copies are found and named, clean faces are not, and searches are held against brute force."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from jaxtyping import TypeCheckError
from scipy.stats import mannwhitneyu
from sklearn.neighbors import NearestNeighbors

from mien.audit import copying, membership, memorisation, search
from mien.audit.memorisation import Memorisation
from mien.audit.people import Level, Made, People, shares_below
from mien.errors import DataError, LeakageError
from mien.faces import Faces, make_index
from mien.features import Sides
from mien.stats import Record

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
from audit_power import as_made, copies, fired, people, planted  # noqa: E402  # pyright: ignore[reportMissingImports]

COPIES = 40
