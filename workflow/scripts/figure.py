"""Draw one figure, as PDF and PNG, or with --width as PDF of this width alone."""

import argparse

from s4s.jobs.script import run_script


def main(args: argparse.Namespace) -> None:
    from s4s.reporting import comparison_figures, comparisons, figures, paper_figures
    from s4s.reporting.tables import read_scores

    named = dict(item.split("=", 1) for item in args.named)
    match args.figure:
        case "fid" | "global_error":
            metric = {"fid": "fid_mean", "global_error": "global_error"}[args.figure]
            scores = read_scores(args.scores)
            figure = (
                paper_figures.curves(scores[scores.model == args.only], metric)
                if args.only
                else figures.score_against_nfe(scores, metric)
            )
        case "evaluations_saved":
            figure = comparison_figures.evaluations_saved(
                comparisons.nfe_saved(comparisons.read_measures(args.metrics, args.scores))
            )
        case "ranks":
            figure = comparison_figures.critical_difference(
                comparisons.ranks(comparisons.read_measures(args.metrics, args.scores))
            )
        case "teacher_convergence":
            figure = figures.teacher_convergence(list(named.values()), read_scores(args.scores))
        case "fit_curves":
            figure = figures.fit_curves(named)
        case "levels_and_coefficients":
            figure = figures.levels_and_coefficients(named)
        case "coefficients":
            figure = figures.coefficients(named)
        case "samples":
            figure = figures.samples_of_solvers(named, decoder(args.model) if args.model else None)
        case "schedules":
            figure = paper_figures.schedules(named)
    if args.width:
        paper_figures.save_at_width(figure, f"{args.out}.pdf", args.width)
    else:
        figures.save(figure, args.out)


def decoder(model: str):
    """What turns states of a model into images, on the CPU."""
    import torch

    from s4s.models.load import load_model

    denoiser = load_model(model)

    def decode(states):
        with torch.inference_mode():
            return denoiser.decode(torch.from_numpy(states)).numpy()

    return decode


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument(
    "figure",
    choices=[
        "fid",
        "global_error",
        "evaluations_saved",
        "ranks",
        "teacher_convergence",
        "fit_curves",
        "levels_and_coefficients",
        "coefficients",
        "samples",
        "schedules",
    ],
)
parser.add_argument("named", nargs="*", help="NAME=FILE, for figures that show files of single cells")
parser.add_argument("--scores", help="results/tables/scores.csv, for figures of scores")
parser.add_argument("--metrics", help="metrics.csv, for figures of what scores say")
parser.add_argument("--model", help="YAML file of a model whose samples are latent states")
parser.add_argument("--only", help="name of the one model to show, in a figure of scores for a paper")
parser.add_argument("--width", type=float, help="of a figure for a paper, in inches")
parser.add_argument("--out", required=True, help="path of the figure without .pdf and .png")
run_script(main, parser)
