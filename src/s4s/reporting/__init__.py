"""Scores as tables, figures, LaTeX and a report."""
