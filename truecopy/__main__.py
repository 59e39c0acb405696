"""``python -m truecopy``: the command ``truecopy``."""

from runtime.cli.main import main

if __name__ == "__main__":
    main()
