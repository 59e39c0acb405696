"""Input kinds: decoding, files and tables, wire format.

Each kind has a folder with three files: ``decoder.py`` (from a caller's input to arrays), ``source.py`` (how inputs are
stored in files, lists and tables) and ``payload.py`` (how requests carry them); ``registry.py`` lists the kinds.
"""
