"""Quality of every learned family at every NFE: global error and Fréchet distance, mean and spread over fit seeds.

for seed in 0 1 2; do
  snakemake --cores all --configfile config/families.yaml --config "fit={seed: $seed}" --directory build/families/$seed
done
python benchmarks/fit_quality.py build/families/*/results/tables/scores.csv

A cell's value is that of one fit, a mean over sampling seeds; shown are mean and standard deviation over the files, one a fit
seed.
A learned solver's cell with an error above that of its base solver is marked with an exclamation mark.
"""

import argparse

import pandas as pd

from s4s.metrics.measures import COMPARED
from s4s.reporting.tables import NOT_LEARNED, read_scores

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("scores", nargs="+", help="scores.csv of a run for each fit seed")
args = parser.parse_args()
scores = pd.concat([read_scores(path).assign(file=path) for path in args.scores])
scores = scores[scores.family != "teacher"]
print(f"{len(args.scores)} fit seeds; {scores.n_seeds.iloc[0]} sampling seeds of {scores.n_samples.iloc[0]} samples each\n")

for metric, (_, column, _, digits) in COMPARED.items():
    cells = scores.groupby(["solver", "nfe"], sort=False)[column].agg(["mean", "std", "count"])
    best = cells["mean"].groupby("nfe").min().round(digits)
    bases = scores.set_index(["file", "solver", "nfe"])[column]

    def text(cell, column=column, digits=digits, bases=bases, best=best):
        value = f"{cell['mean']:.{digits}f}" + (f" ± {cell['std']:.{digits}f}" if cell["count"] > 1 and cell["std"] > 0 else "")
        solver, nfe = cell.name
        rows = scores[(scores.solver == solver) & (scores.nfe == nfe) & ~scores.family.isin(NOT_LEARNED)]
        worse = any(row[column] > bases.get((row["file"], row["base"], nfe), float("inf")) for _, row in rows.iterrows())
        value += " !" if worse else ""
        return f"**{value}**" if round(cell["mean"], digits) == best[nfe] else value

    table = cells.apply(text, axis=1).unstack("nfe").reindex(scores.solver.drop_duplicates())
    print(f"{metric}:\n\n{table.to_markdown()}\n")

learned = scores[~scores.family.isin(NOT_LEARNED)]
cost = learned.groupby(["solver", "nfe"], sort=False)[["fit_evaluations", "fit_seconds"]].mean().round(0).astype(int)
print("fit: thousands of evaluations (teacher pairs not counted) / seconds:\n")
shown = cost.apply(lambda cell: f"{cell.fit_evaluations / 1000:.0f} / {cell.fit_seconds}", axis=1)
print(shown.unstack("nfe").reindex(learned.solver.drop_duplicates()).to_markdown())
