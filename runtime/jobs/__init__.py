"""Batch jobs: one row per input, in order, resumable, in bounded memory."""
