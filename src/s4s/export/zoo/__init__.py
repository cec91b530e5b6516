"""Solvers that others have published, as tableaux: one reader for each form of file."""
