"""What stands before the network: one file an input kind, each a ``InputAdapter`` (see ``protocol``)."""
