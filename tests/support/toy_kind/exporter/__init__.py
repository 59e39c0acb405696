"""Points: adapter and opener."""
