"""What a caller hands in, to what the graphs take: one file an input kind."""
