# Further comparisons, each a target that `comparisons` in the config names, and what their scores say.

SCORE_FIGURES = ["fid", "global_error"]
ANALYSES = ["evaluations_saved", "ranks"]


rule analysis:
    """Evaluations saved, ranks over cells, and tests between neighbours."""
    input:
        scores="results/study/{comparison}/scores.csv",
        metrics="results/study/{comparison}/metrics.csv",
        code=code("analysis"),
    output:
        multiext(
            "results/study/{comparison}/",
            "evaluations_saved.csv",
            "ranks.csv",
            "paired_tests.csv",
        ),
        report(
            "results/study/{comparison}/evaluations_saved.md",
            category="Tables",
            labels={
                "table": "evaluations saved",
                "format": "md",
                "of": "{comparison}",
            },
            caption="../workflow/report/evaluations_saved.rst",
        ),
    log:
        "results/logs/study/{comparison}/analysis.log",
    benchmark:
        "results/benchmarks/study/{comparison}/analysis.jsonl"
    wildcard_constraints:
        comparison=one_of(COMPARISONS),
    localrule: True
    conda:
        "../envs/s4s.yaml"
    params:
        script=program("analysis"),
        out=lambda wildcards: f"results/study/{wildcards.comparison}",
    shell:
        "python -m s4s.warm {params.script} --scores {input.scores} --metrics {input.metrics} --out {params.out} 2> {log}"


rule study_figure:
    """A figure of the scores of a comparison."""
    input:
        scores="results/study/{comparison}/scores.csv",
        metrics="results/study/{comparison}/metrics.csv",
        code=code("analysis"),
    output:
        pdf="results/study/{comparison}/{name}.pdf",
        png=report(
            "results/study/{comparison}/{name}.png",
            category="Figures",
            labels={"figure": "{name}", "of": "{comparison}"},
            caption="../workflow/report/figure.rst",
        ),
    log:
        "results/logs/study/{comparison}/{name}.log",
    benchmark:
        "results/benchmarks/study/{comparison}/{name}.jsonl"
    wildcard_constraints:
        comparison=one_of(COMPARISONS),
        name=one_of([*SCORE_FIGURES, *ANALYSES]),
    localrule: True
    conda:
        "../envs/s4s.yaml"
    params:
        script=program("figure"),
        stem=lambda wildcards, output: os.path.splitext(output.pdf)[0],
    shell:
        "python -m s4s.warm {params.script} {wildcards.name} --scores {input.scores} --metrics {input.metrics} --out {params.stem} 2> {log}"


def study_files(comparison):
    """The files of a comparison: ranks need three solvers and two cells, what is saved needs solvers with and without a fit."""
    if comparison in WRONG:
        raise WorkflowError(WRONG[comparison])
    own = CONFIG.comparisons[comparison]
    learned = {token in LEARNED for token in own.solvers}
    figures = [*SCORE_FIGURES]
    figures += ["evaluations_saved"] if learned == {True, False} else []
    cells = len(own.models) * len(own.nfe)
    figures += ["ranks"] if len(own.solvers) > 2 and cells > 1 else []
    names = ["scores.csv", "metrics.csv", "evaluations_saved.md"]
    names += [f"{metric}.{end}" for metric in SCORE_FIGURES for end in ("md", "tex")]
    names += [f"{figure}.{end}" for figure in figures for end in ("pdf", "png")]
    return [f"results/study/{comparison}/{name}" for name in names]


for comparison in CONFIG.comparisons:
    if comparison in {*(rule.name for rule in workflow.rules), "all", "study"}:
        raise WorkflowError(
            f"config: comparisons.{comparison}: a target of that name is there already; take another name"
        )

    rule:
        name:
            comparison
        input:
            lambda wildcards, comparison=comparison: study_files(comparison),
        localrule: True


rule study:
    """All further comparisons."""
    input:
        lambda wildcards: [
            path for name in CONFIG.comparisons for path in study_files(name)
        ],
    localrule: True
