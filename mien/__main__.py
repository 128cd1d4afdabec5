"""`python -m mien` is the command `mien`: what launchers such as torchrun start."""

from mien.cli import main

if __name__ == "__main__":
    main()
