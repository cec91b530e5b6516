"""Gather the scores of all cells in one long-form table, and every measure of every sampling seed in another.

Snakemake runs this by `script:`, for the paths of thousands of cells do not fit a command line.
"""

from s4s.files.atomic import write_text
from s4s.reporting.tables import by_seed, gather

job = snakemake  # noqa: F821  (put here by Snakemake)
fits = {job.input.scores[i]: fit for i, fit in zip(job.params.fitted, job.input.fits, strict=True)}
scores = gather(job.input.scores, job.params.descriptions, fits)
write_text(job.output.scores, scores.to_csv(index=False))
write_text(job.output.metrics, by_seed(job.input.scores).to_csv(index=False))
