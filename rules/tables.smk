# Tables: scores.csv from the score files, everything else from scores.csv alone.


rule scores_csv:
    """All scores in one long-form table, one row a cell; every measure of every sampling seed in another."""
    input:
        unpack(inputs("tables")),
    output:
        scores=report(
            "results/{tables}/scores.csv",
            category="Tables",
            labels={"table": "all scores", "format": "CSV", "of": "{tables}"},
            caption="../workflow/report/scores.rst",
        ),
        metrics=report(
            "results/{tables}/metrics.csv",
            category="Tables",
            labels={
                "table": "all measures, by seed",
                "format": "CSV",
                "of": "{tables}",
            },
            caption="../workflow/report/metrics.rst",
        ),
        checksums=checksums(
            "results/{tables}/scores.csv", "results/{tables}/metrics.csv"
        ),
    log:
        "results/logs/{tables}/scores.log",
    benchmark:
        "results/benchmarks/{tables}/scores.jsonl"
    localrule: True
    conda:
        "../envs/s4s.yaml"
    params:
        code=program("scores_csv"),
        cells=asked(lambda tables: STUDY.cells(tables)),
        descriptions=asked(lambda tables: targets.describe(STUDY, tables)),
    shell:
        "python -m s4s.jobs.fork_server scores_csv --config results/config.json --of {wildcards.tables:q} "
        "--first {input.scores[0]:q} --scores {output.scores:q} --metrics {output.metrics:q} 2> {log:q}"


rule comparison_table:
    """Solvers x NFE, best in bold."""
    input:
        scores="results/{tables}/scores.csv",
        checksums=checksums("results/{tables}/scores.csv"),
    output:
        report(
            "results/{tables}/{metric}.{ending}",
            category="Tables",
            labels={"table": "{metric}", "format": "{ending}", "of": "{tables}"},
            caption="../workflow/report/comparison.rst",
        ),
    log:
        "results/logs/{tables}/{metric}.{ending}.log",
    benchmark:
        "results/benchmarks/{tables}/{metric}.{ending}.jsonl"
    wildcard_constraints:
        metric=one_of(COMPARED),
        ending="md|tex",
    localrule: True
    conda:
        "../envs/s4s.yaml"
    params:
        code=program("comparison_table"),
    shell:
        "python -m s4s.jobs.fork_server comparison_table --scores {input.scores:q} --metric {wildcards.metric:q} "
        "--out {output:q} 2> {log:q}"
