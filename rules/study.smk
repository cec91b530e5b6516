# Further comparisons, each a target that `comparisons` in the config names, and what their scores say.


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
        out=lambda wildcards, output: os.path.dirname(output[0]),
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
