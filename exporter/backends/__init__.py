"""Forms of the artifact: each is written, opened for parity and calibrated by one file."""
