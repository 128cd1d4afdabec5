"""`python -m mien` is the command `mien`; launchers such as torchrun use it."""

from mien.cli import main

if __name__ == "__main__":
    main()
