"""Draw one figure, as PDF and PNG, or with --width as PDF of this width alone."""

import argparse

from s4s.errors import S4SError
from s4s.jobs.script import run_script


def main(args: argparse.Namespace) -> None:
    from s4s.metrics.measures import COMPARED
    from s4s.reporting import comparison_figures, comparisons, figures, paper_figures
    from s4s.reporting.showcase import showcase
    from s4s.reporting.tables import read_scores

    named = dict(item.split("=", 1) for item in args.named)
    kind, _, model = args.figure.partition("-")
    match kind:
        case _ if kind in COMPARED:
            scores = read_scores(args.scores)
            figure = (
                paper_figures.curves(scores[scores.model == model], kind) if model else figures.score_against_nfe(scores, kind)
            )
        case "evaluations_saved":
            figure = comparison_figures.evaluations_saved(
                comparisons.nfe_saved(comparisons.read_measures(args.metrics, args.scores))
            )
        case "ranks":
            figure = comparison_figures.critical_difference(
                comparisons.ranks(comparisons.read_measures(args.metrics, args.scores))
            )
        case "showcase":
            from s4s.models.model_files import read_model_file

            decoders = {read_model_file(path).name: decoder(path) for path in args.model}
            figure = showcase(named, read_scores(args.scores), args.solvers, args.nfe, decoders)
        case "teacher_convergence":
            figure = figures.teacher_convergence(list(named.values()), read_scores(args.scores))
        case "fit_curves":
            figure = figures.fit_curves(named)
        case "levels_and_coefficients":
            figure = figures.levels_and_coefficients(named)
        case "coefficients":
            figure = figures.coefficients(named)
        case "samples":
            figure = figures.samples_of_solvers(named, decoder(args.model[0]) if args.model else None)
        case "schedules":
            figure = paper_figures.schedules(named)
        case _:
            raise S4SError(f"{args.figure}: no such figure")
    if args.width:
        paper_figures.save_at_width(figure, args.out[0], args.width)
    else:
        figures.save(figure, *args.out)


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
parser.add_argument("figure", help="its kind, or KIND-MODEL")
parser.add_argument("named", nargs="*", help="NAME=FILE, for figures that show files of single cells")
parser.add_argument("--scores", nargs="?", help="results/tables/scores.csv, for figures of scores")
parser.add_argument("--metrics", nargs="?", help="metrics.csv, for figures of what scores say")
parser.add_argument(
    "--model",
    nargs="*",
    help="YAML file of a model whose samples are latent states, and its weights; of a showcase, of each model",
)
parser.add_argument("--solvers", nargs="*", help="solvers of a showcase, beside the best training-free one")
parser.add_argument("--nfe", nargs="*", type=int, help="numbers of evaluations of a showcase")
parser.add_argument("--width", type=float, help="of a figure for a paper, in inches")
parser.add_argument("--out", nargs="+", required=True, help="files to draw, with their endings; with --width a PDF")
run_script(main, parser)
