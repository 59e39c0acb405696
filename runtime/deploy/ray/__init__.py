"""Ray Data and Ray Serve."""
