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
            "measures.md",
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
        "python -m s4s.jobs.fork_server {params.script} --scores {input.scores} --metrics {input.metrics} --out {params.out} 2> {log}"


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
        "python -m s4s.jobs.fork_server {params.script} {wildcards.name} --scores {input.scores} --metrics {input.metrics} --out {params.stem} 2> {log}"


rule question:
    """What a question finds out about one model."""
    input:
        model=model_files,
        features=feature_files,
        reference=reference_files,
        embeddings=embedding_files,
        cells=lambda wildcards: [
            cell_file(QUESTIONS[wildcards.question].files, cell)
            for cell in question_cells(wildcards)
        ],
        fits=lambda wildcards: [
            cell_file("fits", cell) for cell in question_fits(wildcards)
        ],
        pairs=question_pairs,
        code=code("questions"),
    output:
        "results/study/{comparison}/{question}/{model}.csv",
    log:
        "results/logs/study/{comparison}/{question}/{model}.log",
    benchmark:
        "results/benchmarks/study/{comparison}/{question}/{model}.jsonl"
    wildcard_constraints:
        comparison=one_of(COMPARISONS),
        question=one_of(QUESTIONS),
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=memory(4000),
        runtime=minutes(states_of_question),
        gpu=1,
    params:
        script=program("question"),
        model=lambda wildcards, input: input.model[0],
        reference=reference_option,
        embeddings=embedding_option,
        cells=lambda wildcards, input: named_cells(
            question_cells(wildcards), input.cells
        ),
        fits=lambda wildcards, input: named_cells(question_fits(wildcards), input.fits),
    shell:
        "python -m s4s.jobs.fork_server --gpus {resources.gpu} {params.script} {wildcards.question} --model {params.model} {params.reference} {params.embeddings} "
        "--cells {params.cells} --fits {params.fits} --pairs {input.pairs} --threads {threads} --out {output} 2> {log}"


rule answer:
    """A question's rows of all models, as a table and a figure; that of an ablation is drawn from the scores."""
    input:
        rows=question_rows,
        scores="results/study/{comparison}/scores.csv",
        metrics="results/study/{comparison}/metrics.csv",
        code=code("questions"),
    output:
        csv="results/study/{comparison}/{question}.csv",
        table=report(
            "results/study/{comparison}/{question}.md",
            category="Tables",
            labels={"table": "{question}", "format": "md", "of": "{comparison}"},
            caption="../workflow/report/question.rst",
        ),
        pdf="results/study/{comparison}/{question}.pdf",
        png=report(
            "results/study/{comparison}/{question}.png",
            category="Figures",
            labels={"figure": "{question}", "of": "{comparison}"},
            caption="../workflow/report/question.rst",
        ),
    log:
        "results/logs/study/{comparison}/{question}.log",
    benchmark:
        "results/benchmarks/study/{comparison}/{question}.jsonl"
    wildcard_constraints:
        comparison=one_of(COMPARISONS),
        question=one_of([*QUESTIONS, "ablation"]),
    localrule: True
    conda:
        "../envs/s4s.yaml"
    params:
        script=program("answer"),
        groups=lambda wildcards: json.dumps(
            CONFIG.comparisons[wildcards.comparison].groups
        ),
        stem=lambda wildcards, output: os.path.splitext(output.csv)[0],
    shell:
        "python -m s4s.jobs.fork_server {params.script} {wildcards.question} --rows {input.rows} --scores {input.scores} --metrics {input.metrics} "
        "--groups {params.groups:q} --out {params.stem} 2> {log}"


use rule html_report as study_report with:
    input:
        scores="results/study/{comparison}/scores.csv",
        figures=lambda wildcards: [
            path for path in study_files(wildcards.comparison) if path.endswith(".png")
        ],
        models=lambda wildcards: on_this_machine(
            *(
                MODEL_FILES[model]
                for model in COMPARED[f"study/{wildcards.comparison}"]
            )
        ),
        saved=lambda wildcards: [
            f"{os.path.splitext(path)[0]}.csv"
            for path in study_files(wildcards.comparison)
            if path.endswith("evaluations_saved.md")
        ],
        code=code("report"),
    output:
        "results/study/{comparison}/report.html",
    log:
        "results/logs/study/{comparison}/report.log",
    benchmark:
        "results/benchmarks/study/{comparison}/report.jsonl"
    wildcard_constraints:
        comparison=one_of(COMPARISONS),
    params:
        script=program("report"),
        config=lambda wildcards: report_config(CONFIG.comparison(wildcards.comparison)),
        models=report_models,
        comparison=lambda wildcards, input: " ".join(
            [f"--comparison {wildcards.comparison}"]
            + [f"--saved {path}" for path in input.saved]
        ),


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
