"""mien builds synthetic facial-expression databases and measures their worth."""

import os

# Threads that wait for each other sleep, where OpenMP would let them spin: on cores that other work
# uses too, spinning made a training three times as dear. It is read when torch is loaded, so it
# must stand here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
