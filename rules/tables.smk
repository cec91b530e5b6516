# Tables: scores.csv from the score files, everything else from scores.csv alone.


TABLES = [
    "results/tables/scores.csv",
    "results/tables/metrics.csv",
    *expand(
        "results/tables/{metric}.{ending}",
        metric=["fid", "global_error"],
        ending=["md", "tex"],
    ),
]


rule scores_csv:
    """All scores in one long-form table, one row a cell; every measure of every sampling seed in another."""
    input:
        scores=expand(
            "results/scores/{cell.model}/{cell.solver}/nfe~{cell.nfe}.json", cell=CELLS
        ),
        fits=expand(
            "results/fits/{cell.model}/{cell.solver}/nfe~{cell.nfe}.json", cell=FITS
        ),
        code=code("tables"),
    output:
        scores=report(
            "results/tables/scores.csv",
            category="Tables",
            labels={"table": "all scores", "format": "CSV"},
            caption="../workflow/report/scores.rst",
        ),
        metrics=report(
            "results/tables/metrics.csv",
            category="Tables",
            labels={"table": "all measures, by seed", "format": "CSV"},
            caption="../workflow/report/metrics.rst",
        ),
    log:
        "results/logs/tables/scores.log",
    benchmark:
        "results/benchmarks/tables/scores.jsonl"
    localrule: True
    conda:
        "../envs/s4s.yaml"
    params:
        descriptions={
            model: {
                token: describe(model, token) for token in ["teacher", *CONFIG.solvers]
            }
            for model in STUDIES
        },
        fitted=[i for i, cell in enumerate(CELLS) if cell.solver in LEARNED],
    script:
        "../workflow/scripts/scores_csv.py"


rule comparison_table:
    """Solvers x NFE, best in bold."""
    input:
        scores="results/tables/scores.csv",
        code=code("tables"),
    output:
        report(
            "results/tables/{metric}.{ending}",
            category="Tables",
            labels={"table": "{metric}", "format": "{ending}"},
            caption="../workflow/report/comparison.rst",
        ),
    log:
        "results/logs/tables/{metric}.{ending}.log",
    benchmark:
        "results/benchmarks/tables/{metric}.{ending}.jsonl"
    wildcard_constraints:
        metric="fid|global_error",
        ending="md|tex",
    localrule: True
    conda:
        "../envs/s4s.yaml"
    params:
        script=program("comparison_table"),
    shell:
        "python -m s4s.warm {params.script} --scores {input.scores} --metric {wildcards.metric} --out {output} 2> {log}"
