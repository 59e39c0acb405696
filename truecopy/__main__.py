"""The command ``truecopy`` as ``python -m truecopy``."""

from runtime.cli.main import main

if __name__ == "__main__":
    main()
