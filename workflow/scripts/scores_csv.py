"""Gather the scores of all cells in one long-form table.

Snakemake runs this by `script:`, for the paths of thousands of cells do not fit a command line.
"""

from s4s.atomic import write_text
from s4s.tables import gather

job = snakemake  # noqa: F821  (put here by Snakemake)
scores = gather(job.input.scores, job.params.descriptions, dict(zip(job.params.fitted, job.input.fits, strict=True)))
write_text(job.output[0], scores.to_csv(index=False))
