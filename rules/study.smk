# Further comparisons, each a target that `comparisons` in the config names, and what their scores say.


rule analysis:
    """NFE speed-ups, ranks over cells, and tests between neighbours."""
    input:
        scores="results/study/{comparison}/scores.csv",
        metrics="results/study/{comparison}/metrics.csv",
        checksums=checksums(
            "results/study/{comparison}/scores.csv",
            "results/study/{comparison}/metrics.csv",
        ),
    output:
        multiext(
            "results/study/{comparison}/",
            "evaluations_saved.csv",
            "ranks.csv",
            "paired_tests.csv",
            "evaluations_saved.csv.sha256",
            "ranks.csv.sha256",
            "paired_tests.csv.sha256",
            "measures.md",
        ),
        report(
            "results/study/{comparison}/evaluations_saved.md",
            category="Tables",
            labels={
                "table": "NFE speed-up",
                "format": "md",
                "of": "{comparison}",
            },
            caption="../workflow/report/evaluations_saved.rst",
        ),
    log:
        "results/logs/study/{comparison}/analysis.log",
    benchmark:
        "results/benchmarks/study/{comparison}/analysis.jsonl"
    localrule: True
    conda:
        "../envs/s4s.yaml"
    params:
        code=program("analysis"),
    shell:
        "python -m s4s.jobs.fork_server analysis --scores {input.scores:q} --metrics {input.metrics:q} --out {output:q} 2> {log:q}"


rule study_figure:
    """A figure of the scores of a comparison."""
    input:
        scores="results/study/{comparison}/scores.csv",
        metrics="results/study/{comparison}/metrics.csv",
        checksums=checksums(
            "results/study/{comparison}/scores.csv",
            "results/study/{comparison}/metrics.csv",
        ),
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
        name=one_of([*COMPARED, *targets.ANALYSES]),
    localrule: True
    conda:
        "../envs/s4s.yaml"
    params:
        code=program("figure"),
    shell:
        "python -m s4s.jobs.fork_server figure {wildcards.name:q} --scores {input.scores:q} --metrics {input.metrics:q} "
        "--out {output.pdf:q} {output.png:q} 2> {log:q}"


rule showcase:
    """Samples of the same noise beside the teacher's, with maps of their errors, and error against NFE."""
    input:
        scores="results/study/{comparison}/scores.csv",
        checksums=checksums("results/study/{comparison}/scores.csv"),
        samples=asked(
            lambda comparison: [
                paths.samples(cell)
                for cell in targets.showcase_cells(STUDY, comparison)
            ]
        ),
        shards=asked(
            lambda comparison: [
                path
                for cell in targets.showcase_cells(STUDY, comparison)
                for path in STUDY.samples(cell)
            ]
        ),
        models=asked(
            lambda comparison: outside(
                *[
                    STUDY.files[model]
                    for model in CONFIG.comparisons[comparison].showcase.models
                ]
            )
        ),
        weights=asked(
            lambda comparison: outside(
                *[
                    fetched(file)
                    for model in CONFIG.comparisons[comparison].showcase.models
                    for file in STUDY.models[model].own_files()
                ]
            )
        ),
    output:
        pdf="results/study/{comparison}/showcase.pdf",
        png=report(
            "results/study/{comparison}/showcase.png",
            category="Figures",
            labels={"figure": "showcase", "of": "{comparison}"},
            caption="../workflow/report/figure.rst",
        ),
    log:
        "results/logs/study/{comparison}/showcase.log",
    benchmark:
        "results/benchmarks/study/{comparison}/showcase.jsonl"
    wildcard_constraints:
        comparison=one_of(
            name for name in COMPARISONS if CONFIG.comparisons[name].showcase
        ),
    localrule: True
    conda:
        "../envs/s4s.yaml"
    params:
        code=program("figure"),
        shown=lambda wildcards: CONFIG.comparisons[
            wildcards.comparison
        ].showcase.model_dump(),
        named=lambda wildcards, input: targets.named_cells(
            targets.showcase_cells(STUDY, wildcards.comparison), input.samples
        ),
    shell:
        "python -m s4s.jobs.fork_server figure showcase {params.named:q} --scores {input.scores:q} --model {input.models:q} "
        "--solvers {params.shown[solvers]:q} --nfe {params.shown[nfe]:q} --out {output.pdf:q} {output.png:q} 2> {log:q}"


rule question:
    """What a question finds out about one model."""
    input:
        unpack(inputs("question")),
        model=described("weights", "features"),
    output:
        rows="results/study/{comparison}/{question}/{model}.csv",
        checksums=checksums("results/study/{comparison}/{question}/{model}.csv"),
    log:
        "results/logs/study/{comparison}/{question}/{model}.log",
    benchmark:
        "results/benchmarks/study/{comparison}/{question}/{model}.jsonl"
    wildcard_constraints:
        question=one_of(QUESTIONS),
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=memory("question"),
        runtime=minutes("question"),
        gpu=1,
    params:
        code=program("question"),
        model=model("features"),
        asks=asked(lambda **names: STUDY.inputs("question", **names)),
        cells=lambda wildcards, input: targets.named_cells(
            STUDY.question_cells(**wildcards), input.cells
        ),
        fits=lambda wildcards, input: targets.named_cells(
            STUDY.question_fits(**wildcards), input.fits
        ),
    shell:
        "python -m s4s.jobs.fork_server --gpus {resources.gpu:q} question {wildcards.question:q} --model {input.model[0]:q} "
        "--reference {input.reference:q} --cells {params.cells:q} --fits {params.fits:q} "
        "--pairs {input.pairs:q} --threads {threads:q} --out {output.rows:q} 2> {log:q}"


rule answer:
    """A question's rows of all models, as a table and a figure; that of an ablation is drawn from the scores."""
    input:
        rows=asked(lambda **names: targets.question_rows(STUDY, **names)),
        of_rows=asked(lambda **names: checksums(*targets.question_rows(STUDY, **names))),
        scores="results/study/{comparison}/scores.csv",
        metrics="results/study/{comparison}/metrics.csv",
        checksums=checksums(
            "results/study/{comparison}/scores.csv",
            "results/study/{comparison}/metrics.csv",
        ),
    output:
        csv="results/study/{comparison}/{question}.csv",
        checksums=checksums("results/study/{comparison}/{question}.csv"),
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
        question=one_of([*QUESTIONS, targets.ABLATION]),
    localrule: True
    conda:
        "../envs/s4s.yaml"
    params:
        code=program("answer"),
        groups=lambda wildcards: json.dumps(
            CONFIG.comparisons[wildcards.comparison].groups
        ),
        models=asked(lambda **names: targets.question_rows(STUDY, **names)),
    shell:
        "python -m s4s.jobs.fork_server answer {wildcards.question:q} --rows {input.rows:q} --scores {input.scores:q} "
        "--metrics {input.metrics:q} --groups {params.groups:q} --out {output.csv:q} {output.table:q} {output.pdf:q} {output.png:q} 2> {log:q}"


for comparison in CONFIG.comparisons:
    if comparison in {*(rule.name for rule in workflow.rules), "all", "study"}:
        raise WorkflowError(
            f"config: comparisons.{comparison}: a target of that name is there already; take another name"
        )

    rule:
        name:
            comparison
        input:
            asked(
                lambda comparison=comparison: [
                    *targets.comparison_files(STUDY, comparison),
                    *targets.kept(STUDY, folder_of(comparison)),
                ]
            ),
        localrule: True


rule study:
    """All further comparisons."""
    input:
        asked(
            lambda: [
                path
                for name in CONFIG.comparisons
                for path in [
                    *targets.comparison_files(STUDY, name),
                    *targets.kept(STUDY, folder_of(name)),
                ]
            ]
        ),
    localrule: True
