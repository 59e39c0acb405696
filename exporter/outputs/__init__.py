"""Postprocessing: what follows the network, up to the label."""
