# Tables and figures for a paper, at its width: `snakemake paper_figures` makes results/paper.
from s4s.models.published import PUBLISHED

PAPER_TABLES, PAPER_FIGURES = targets.paper_tables(STUDY), targets.paper_figures(STUDY)


rule paper_table:
    """Our scores beside published figures, published figures alone, or what fits cost."""
    input:
        scores="results/tables/scores.csv",
        checksums=checksums("results/tables/scores.csv"),
        published=asked(lambda **names: outside(PUBLISHED)),
    output:
        "results/paper/{name}.{ending}",
    log:
        "results/logs/paper/{name}.{ending}.log",
    benchmark:
        "results/benchmarks/paper/{name}.{ending}.jsonl"
    wildcard_constraints:
        name=one_of(PAPER_TABLES),
        ending="md|tex",
    localrule: True
    conda:
        "../envs/s4s.yaml"
    params:
        code=program("paper_table"),
        published=content.file_digest(PUBLISHED),
        dataset=asked(lambda name, ending: targets.paper_dataset(STUDY, name)),
        models=[
            f"{name}={STUDY.models[name].published}"
            for name in CONFIG.models
            if STUDY.models[name].published
        ],
    shell:
        "python -m s4s.jobs.fork_server paper_table {wildcards.name:q} --scores {input.scores:q} --published {input.published:q} "
        "--dataset {params.dataset:q} --models {params.models:q} --out {output:q} 2> {log:q}"


rule paper_figure:
    """One figure of one model, as PDF at the width of a column or of the page."""
    input:
        scores=scores_of_paper_figure,
        checksums=lambda wildcards: checksums(*scores_of_paper_figure(wildcards)),
        files=lambda wildcards: list(
            targets.paper_figure_files(STUDY, wildcards.name).values()
        ),
        shards=asked(lambda name: targets.figure_shards(STUDY, name)),
        model=asked(decoder),
    output:
        "results/paper/{name}.pdf",
    log:
        "results/logs/paper/{name}.log",
    benchmark:
        "results/benchmarks/paper/{name}.jsonl"
    wildcard_constraints:
        name=one_of(PAPER_FIGURES),
    localrule: True
    conda:
        "../envs/s4s.yaml"
    params:
        code=program("figure"),
        shows=asked(lambda name: targets.paper_figure_files(STUDY, name)),
        named=lambda wildcards, input: targets.named(
            targets.paper_figure_files(STUDY, wildcards.name), input.files
        ),
        width=lambda wildcards: targets.PAPER_WIDTHS[wildcards.name.partition("-")[0]],
    shell:
        "python -m s4s.jobs.fork_server figure {wildcards.name:q} {params.named:q} --scores {input.scores:q} "
        "--model {input.model:q} --width {params.width:q} --out {output:q} 2> {log:q}"


rule paper_document:
    """A LaTeX document with all of them: latexmk -cd -pdf results/paper/paper.tex"""
    output:
        "results/paper/paper.tex",
    log:
        "results/logs/paper/paper.log",
    benchmark:
        "results/benchmarks/paper/paper.jsonl"
    localrule: True
    conda:
        "../envs/s4s.yaml"
    params:
        code=program("paper_table"),
        tables=[f"{name}.tex" for name in PAPER_TABLES],
        figures=[f"{name}.pdf" for name in PAPER_FIGURES],
    shell:
        "python -m s4s.jobs.fork_server paper_table paper --tables {params.tables:q} --figures {params.figures:q} "
        "--out {output:q} 2> {log:q}"


rule paper_figures:
    """The tables and figures for a paper, and the document with all of them."""
    input:
        expand("results/paper/{name}.{ending}", name=PAPER_TABLES, ending=["tex", "md"]),
        expand("results/paper/{name}.pdf", name=PAPER_FIGURES),
        "results/paper/paper.tex",
    localrule: True
