"""``python -m exporter``: the ``export`` command, for shells whose own ``export`` would win."""

from exporter.cli.export import main

main()
