# Figures and the report, as PDF and PNG. None needs a GPU; samples that are latent states need their model's decoder.

FIGURES = targets.figures(STUDY)


rule figure:
    """One figure, as PDF for print and PNG for the screen."""
    input:
        scores=scores_of_figure,
        files=lambda wildcards: list(FIGURES[wildcards.name].values()),
        checksums=lambda wildcards: checksums(
            *scores_of_figure(wildcards), *FIGURES[wildcards.name].values()
        ),
        shards=asked(lambda name: targets.figure_shards(STUDY, name)),
        model=asked(decoder),
    output:
        pdf="results/figures/{name}.pdf",
        png=report(
            "results/figures/{name}.png",
            category="Figures",
            labels={"figure": "{name}"},
            caption="../workflow/report/figure.rst",
        ),
    log:
        "results/logs/figures/{name}.log",
    benchmark:
        "results/benchmarks/figures/{name}.jsonl"
    wildcard_constraints:
        name=one_of(FIGURES),
    localrule: True
    conda:
        "../envs/s4s.yaml"
    params:
        code=program("figure"),
        shows=lambda wildcards: FIGURES[wildcards.name],
        named=lambda wildcards, input: targets.named(
            FIGURES[wildcards.name], input.files
        ),
    shell:
        "python -m s4s.jobs.fork_server figure {wildcards.name:q} {params.named:q} --scores {input.scores:q} "
        "--model {input.model:q} --out {output.pdf:q} {output.png:q} 2> {log:q}"


rule html_report:
    """One page on a comparison: what was run, tables, figures, where every number comes from."""
    input:
        scores=lambda wildcards: f"results/{of_page(wildcards)}/scores.csv",
        checksums=lambda wildcards: checksums(
            f"results/{of_page(wildcards)}/scores.csv", *speed_ups_of_page(wildcards)
        ),
        figures=lambda wildcards: [
            path for path in files_of_page(wildcards) if path.endswith(".png")
        ],
        saved=speed_ups_of_page,
    output:
        "results/{page}report.html",
    log:
        "results/logs/{page}report.log",
    benchmark:
        "results/benchmarks/{page}report.jsonl"
    wildcard_constraints:
        page=f"(study/({one_of(COMPARISONS)})/)?",
    localrule: True
    conda:
        "../envs/s4s.yaml"
    params:
        code=program("report", f"{workflow.basedir}/src/s4s/reporting/report.html"),
        config=lambda wildcards: targets.report_settings(STUDY, of_page(wildcards)),
        models=lambda wildcards: [
            content.file_digest(Path(STUDY.files[name]))
            for name in STUDY.compared[of_page(wildcards)]
        ],
    shell:
        "python -m s4s.jobs.fork_server report --config results/config.json --of {wildcards.page:q} --scores {input.scores:q} "
        "--figures {input.figures:q} --saved {input.saved:q} --logs results/logs --out {output:q} 2> {log:q}"
