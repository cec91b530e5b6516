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
        scores=lambda wildcards: [
            f"results/scores/{cell.model}/{cell.solver}/nfe~{cell.nfe}.json"
            for cell in COMPARED_CELLS[wildcards.folder]
        ],
        fits=lambda wildcards: [
            f"results/fits/{cell.model}/{cell.solver}/nfe~{cell.nfe}.json"
            for cell in COMPARED_CELLS[wildcards.folder]
            if cell.solver in LEARNED
        ],
        code=code("tables"),
    output:
        scores=report(
            "results/{folder}/scores.csv",
            category="Tables",
            labels={"table": "all scores", "format": "CSV", "of": "{folder}"},
            caption="../workflow/report/scores.rst",
        ),
        metrics=report(
            "results/{folder}/metrics.csv",
            category="Tables",
            labels={
                "table": "all measures, by seed",
                "format": "CSV",
                "of": "{folder}",
            },
            caption="../workflow/report/metrics.rst",
        ),
    log:
        "results/logs/{folder}/scores.log",
    benchmark:
        "results/benchmarks/{folder}/scores.jsonl"
    wildcard_constraints:
        folder=one_of(COMPARED),
    localrule: True
    conda:
        "../envs/s4s.yaml"
    params:
        descriptions=lambda wildcards: {
            model: {
                token: describe(model, token) for token in ["teacher", *own.solvers]
            }
            for model, own in COMPARED[wildcards.folder].items()
        },
        fitted=lambda wildcards: [
            i
            for i, cell in enumerate(COMPARED_CELLS[wildcards.folder])
            if cell.solver in LEARNED
        ],
    script:
        "../workflow/scripts/scores_csv.py"


rule comparison_table:
    """Solvers x NFE, best in bold."""
    input:
        scores="results/{folder}/scores.csv",
        code=code("tables"),
    output:
        report(
            "results/{folder}/{metric}.{ending}",
            category="Tables",
            labels={"table": "{metric}", "format": "{ending}", "of": "{folder}"},
            caption="../workflow/report/comparison.rst",
        ),
    log:
        "results/logs/{folder}/{metric}.{ending}.log",
    benchmark:
        "results/benchmarks/{folder}/{metric}.{ending}.jsonl"
    wildcard_constraints:
        folder=one_of(COMPARED),
        metric="fid|global_error",
        ending="md|tex",
    localrule: True
    conda:
        "../envs/s4s.yaml"
    params:
        script=program("comparison_table"),
    shell:
        "python -m s4s.jobs.fork_server {params.script} --scores {input.scores} --metric {wildcards.metric} --out {output} 2> {log}"
