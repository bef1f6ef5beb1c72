"""``python -m celeriac.cli``: the command line without the installed script."""

from celeriac.cli import main

if __name__ == "__main__":
    main()
