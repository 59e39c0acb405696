"""Options of an export: how one is described, what it is for, and its values as text."""
