"""Execution: sessions, devices, placement, concurrency."""
