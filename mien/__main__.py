"""`python -m mien` is `mien`."""

if __name__ == "__main__":  # the engine's workers import this file, and have no use for the command line
    from mien.cli import main

    main()
