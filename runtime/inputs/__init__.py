"""What callers have, to arrays: one file an input kind, each with a decoder of the same shape (see ``protocol``)."""
