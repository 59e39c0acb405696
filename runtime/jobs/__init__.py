"""Whole folders, lists and tables as one job: one row an input, in order, resumable, in bounded memory."""
