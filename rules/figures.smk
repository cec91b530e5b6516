# Figures and the report, as PDF and PNG. None needs a model or a GPU.

# figure name -> {name in the figure: file}; what a figure shows of scores.csv it reads from there
FIGURE_FILES = {"fid": {}, "global_error": {}}
FIGURE_FILES["teacher_convergence"] = {
    m: f"results/teacher/{m}/convergence.csv" for m in CONFIG.models
}
if FITS:
    FIGURE_FILES["fit_curves"] = {
        f"{cell.model}/{cell.solver}/{cell.nfe}": f"results/fits/{cell.model}/{cell.solver}/nfe~{cell.nfe}.json"
        for cell in FITS
    }
for model in CONFIG.models:
    shown_nfe = min(STUDIES[model].nfe, key=lambda nfe: abs(nfe - 5))  # nearest to 5
    cells = {
        token: f"{model}/{token}/nfe~{shown_nfe}"
        for token in shown_solvers(model, shown_nfe)
    }
    FIGURE_FILES[f"levels_and_coefficients-{model}"] = {
        t: f"results/tableaux/{cell}.json" for t, cell in cells.items()
    }
    FIGURE_FILES[f"coefficients-{model}"] = FIGURE_FILES[
        f"levels_and_coefficients-{model}"
    ]
    FIGURE_FILES[f"samples-{model}"] = {
        "teacher": f"results/samples/{model}/teacher/nfe~{STUDIES[model].teacher.steps}.h5",
        **{token: f"results/samples/{cell}.h5" for token, cell in cells.items()},
    }
FIGURES = expand(
    "results/figures/{name}.{ending}", name=FIGURE_FILES, ending=["pdf", "png"]
)


rule figure:
    """One figure, as PDF for print and PNG for the screen."""
    input:
        scores=lambda wildcards: (
            []
            if "-" in wildcards.name or wildcards.name == "fit_curves"
            else "results/tables/scores.csv"
        ),
        files=lambda wildcards: list(FIGURE_FILES[wildcards.name].values()),
        shards=figure_shards,
        model=figure_model,
        code=code("figures"),
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
        name="|".join(FIGURE_FILES),
    localrule: True
    conda:
        "../envs/s4s.yaml"
    params:
        script=program("figure"),
        figure=lambda wildcards: wildcards.name.partition("-")[0],
        named=lambda wildcards, input: [
            f"{name}={path}"
            for name, path in zip(FIGURE_FILES[wildcards.name], input.files)
        ],
        scores=lambda wildcards, input: (
            f"--scores {input.scores}" if input.scores else ""
        ),
        model=lambda wildcards, input: (
            f"--model {input.model[0]}" if input.model else ""
        ),
        stem=lambda wildcards, output: os.path.splitext(output.pdf)[0],
    shell:
        "python -m s4s.jobs.fork_server {params.script} {params.figure} {params.named:q} {params.scores} {params.model} --out {params.stem} 2> {log}"


rule html_report:
    """One page on the comparison: what was run, tables, figures, where every number comes from."""
    input:
        scores="results/tables/scores.csv",
        figures=[path for path in FIGURES if path.endswith(".png")],
        models=on_this_machine(*(MODEL_FILES[model] for model in CONFIG.models)),
        saved=[],
        code=code("report"),
    output:
        "results/report.html",
    log:
        "results/logs/report.log",
    benchmark:
        "results/benchmarks/report.jsonl"
    localrule: True
    conda:
        "../envs/s4s.yaml"
    params:
        script=program("report"),
        config=report_config(CONFIG),
        models=report_models,
        comparison=f"--further {' '.join(CONFIG.comparisons)}",
    shell:
        "python -m s4s.jobs.fork_server {params.script} --scores {input.scores} --figures {input.figures} --models {params.models:q} "
        "--logs results/logs --config {params.config:q} {params.comparison} --out {output} 2> {log}"
