# Tables and figures for a paper, at its width: `snakemake paper_figures` makes results/paper.


rule paper_table:
    """Our scores beside published figures, published figures alone, or what fits cost."""
    input:
        scores="results/tables/scores.csv",
        published=on_this_machine(PUBLISHED),
        code=code("paper_tables"),
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
        script=program("paper_table"),
        dataset=lambda wildcards: (
            "" if wildcards.name == "fit_time" else paper_dataset_option(wildcards)
        ),
        models=[
            f"{model}={WEIGHTS[model].published}"
            for model in CONFIG.models
            if WEIGHTS[model].published
        ],
    shell:
        "python -m s4s.jobs.fork_server {params.script} {wildcards.name} --scores {input.scores} --published {input.published} "
        "{params.dataset} --models {params.models} --out {output} 2> {log}"


rule paper_figure:
    """One figure of one model, as PDF at the width of a column or of the page."""
    input:
        scores=lambda wildcards: (
            [] if paper_figure_files(wildcards) else "results/tables/scores.csv"
        ),
        files=lambda wildcards: list(paper_figure_files(wildcards).values()),
        shards=figure_shards,
        model=figure_model,
        code=code("paper_figures"),
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
        script=program("figure"),
        named=lambda wildcards: [
            f"{name}={path}" for name, path in paper_figure_files(wildcards).items()
        ],
        scores=lambda wildcards, input: (
            f"--scores {input.scores} --only {wildcards.name.partition('-')[2]}"
            if input.scores
            else ""
        ),
        model=lambda wildcards, input: (
            f"--model {input.model[0]}" if input.model else ""
        ),
        figure=lambda wildcards: wildcards.name.partition("-")[0],
        width=lambda wildcards: PAPER_WIDTHS[wildcards.name.partition("-")[0]],
        stem=lambda wildcards, output: os.path.splitext(output[0])[0],
    shell:
        "python -m s4s.jobs.fork_server {params.script} {params.figure} {params.named:q} {params.scores} {params.model} "
        "--width {params.width} --out {params.stem} 2> {log}"


rule paper_document:
    """A LaTeX document with all of them: latexmk -cd -pdf results/paper/paper.tex"""
    input:
        code=code("paper_tables"),
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
        script=program("paper_table"),
        tables=[f"{name}.tex" for name in PAPER_TABLES],
        figures=[f"{name}.pdf" for name in PAPER_FIGURES],
    shell:
        "python -m s4s.jobs.fork_server {params.script} paper --tables {params.tables} --figures {params.figures} --out {output} 2> {log}"


rule paper_figures:
    """The tables and figures for a paper, and the document with all of them."""
    input:
        expand("results/paper/{name}.{ending}", name=PAPER_TABLES, ending=["tex", "md"]),
        expand("results/paper/{name}.pdf", name=PAPER_FIGURES),
        "results/paper/paper.tex",
    localrule: True
