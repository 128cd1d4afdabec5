"""mien builds synthetic facial-expression databases and measures their worth."""

import os

# Threads that wait for each other sleep; by default OpenMP lets them spin. On cores that other work
# uses too, spinning made a training take three times as long. The variable is read when torch is
# loaded, so it is set before that.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
