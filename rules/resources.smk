# Memory and time that jobs ask a cluster for, from the work that they do.
import functools

from s4s.study.plan import fit_evaluations, passes


@functools.cache
def weights_mb(model):
    """Size of a model's weights, as far as they are there."""
    paths = [file.path for file in WEIGHTS[model].own_files()]
    return sum(path.stat().st_size for path in paths if path.is_file()) / 2**20


# MB of activations for a state, times states a second: docs/models.md counts about 0.35 MB a GFLOP, and throughputs assume
# 20 TFLOP/s
ACTIVATIONS = 0.35 * 20_000


def activations_mb(model):
    """Activations of one call of a model's network, as far as its throughput tells its size."""
    own = WEIGHTS[model]
    return own.block * passes(own) * ACTIVATIONS / (own.throughput or float("inf"))


def memory(beside):
    """Memory of a job in MB: what it needs beside three copies of the weights and a block's activations. Grows with each retry."""
    return lambda wildcards, attempt: round(
        attempt
        * (beside + 3 * weights_mb(wildcards.model) + activations_mb(wildcards.model))
    )


def minutes(states):
    """Longest time of a job from the states that go through its model's network. Grows with each retry."""

    def estimate(wildcards, attempt):
        own = WEIGHTS[wildcards.model]
        throughput = own.throughput or (1000 if own.kind == "embedded" else 50)
        seconds = states(wildcards) * passes(own) / throughput
        return round(attempt * (5 + 3 * seconds / 60))

    return estimate


def states_of_pairs(wildcards):
    """States through the network for a shard of teacher pairs."""
    steps = int(getattr(wildcards, "nfe", study(wildcards).teacher.steps))
    return steps * min(split_size(wildcards), shard_size(wildcards))


def states_of_samples(wildcards):
    """States through the network for the samples of a cell, or a shard of them."""
    own = study(wildcards)
    whole = wildcards.model in WHOLE
    rows = len(CONFIG.seeds) * own.samples if whole else shard_size(wildcards)
    return int(wildcards.nfe) * rows


def states_of_scores(wildcards):
    """Samples that are scored, in evaluations of a slow network."""
    return 2 * states_of_samples(wildcards) / int(wildcards.nfe)


def states_of_fit(wildcards):
    """States through the network for a fit."""
    own = study(wildcards)
    settings = own.fit_settings(wildcards.solver)
    return fit_evaluations(settings, int(wildcards.nfe), own.teacher.val)


def states_of_search(wildcards):
    """States through the network for trajectories or statistics."""
    search = study(wildcards).search
    return 3 * search.steps * search.trajectories


def states_of_convergence(wildcards):
    """States through the network for the teacher's own error."""
    return 10 * study(wildcards).teacher.steps * 128


def states_of_question(wildcards):
    """States through the network for a question, about as many as for a few dozen runs of the teacher."""
    return 30 * study(wildcards).teacher.steps * 256
