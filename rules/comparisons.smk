# What tables, figures, reports and questions of a comparison are made from. No rules here.


def schedule_of(model, token):
    """Name of a solver's schedule: its grid, or that the schedule is learned."""
    definition = STUDIES[model].definition(token)
    if token in LEARNED:
        return (
            CONFIG.definition(definition.base).levels
            if definition.recipe.driver == "coefficients"
            else "learned"
        )
    return definition.levels


def search_evaluations(model, token):
    """Evaluations of trajectories (and for statistics a gradient, which counts 2 more) that a solver or its base is based on."""
    if token == "teacher":
        return 0
    search = STUDIES[model].search
    size = search.trajectories * search.steps * passes(WEIGHTS[model])
    files = CONFIG.classical(token).files
    return size * (len(files) > 0) + 3 * size * ("statistics" in files)


def describe(model, token):
    """What scores.csv says of a solver of a model beside its scores."""
    definition = STUDIES[model].definition(token)
    family = "teacher" if token == "teacher" else definition.family
    return {
        "family": family,
        "base": getattr(definition, "base", ""),
        "schedule": schedule_of(model, token),
        "search_evaluations": search_evaluations(model, token),
    }


def shown_solvers(model, model_nfe):
    """Solvers of the figures that show single cells: each learned one after its base."""
    own = STUDIES[model]
    tokens = []
    for token in own.solvers:
        if token in LEARNED and model_nfe in own.nfe_of(token):
            tokens += [CONFIG.definition(token).base, token]
    return (
        list(dict.fromkeys(tokens))
        or [token for token in own.solvers if model_nfe in own.nfe_of(token)][:8]
    )


def report_models(wildcards, input):
    """NAME=FILE of each model of a report."""
    comparison = getattr(wildcards, "comparison", None)
    compared = COMPARED[f"study/{comparison}" if comparison else "tables"]
    return [f"{model}={path}" for model, path in zip(compared, input.models)]


def report_config(own):
    """What the report says of the config as JSON: without other comparisons and definitions that no solver of its own uses."""
    used = {*own.solvers}
    used |= {CONFIG.definition(token).base for token in used & {*LEARNED}}
    own = own.model_copy(
        update={
            "comparisons": {},
            "per_model": CONFIG.per_model,
            "definitions": {
                token: definition
                for token, definition in CONFIG.definitions.items()
                if token in used
            },
        }
    )
    return own.model_dump_json(exclude_defaults=True)


SCORE_FIGURES = ["fid", "global_error"]
ANALYSES = ["evaluations_saved", "ranks"]


def study_files(comparison):
    """The files of a comparison: ranks need three solvers and two cells, what is saved needs solvers with and without a fit."""
    if comparison in WRONG:
        raise WorkflowError(WRONG[comparison])
    own = CONFIG.comparisons[comparison]
    learned = {token in LEARNED for token in own.solvers}
    figures = [*SCORE_FIGURES]
    saved = learned == {True, False} and len({*own.nfe, *own.more_nfe}) > 1
    figures += ["evaluations_saved"] if saved else []
    cells = len(own.models) * len(own.nfe)
    figures += ["ranks"] if len(own.solvers) > 2 and cells > 1 else []
    asked = [*own.questions, *(["ablation"] if own.groups else [])]
    figures += asked
    names = [
        "report.html",
        "scores.csv",
        "metrics.csv",
        *(["evaluations_saved.md"] if saved else []),
        "measures.md",
    ]
    names += [f"{question}.md" for question in asked]
    names += [f"{metric}.{end}" for metric in SCORE_FIGURES for end in ("md", "tex")]
    names += [f"{figure}.{end}" for figure in figures for end in ("pdf", "png")]
    return [f"results/study/{comparison}/{name}" for name in names]


def cell_file(files, cell):
    """The tableau, the samples or the course of the fit of a cell."""
    ending = "h5" if files == "samples" else "json"
    return f"results/{files}/{cell.model}/{cell.solver}/nfe~{cell.nfe}.{ending}"


def question_cells(wildcards):
    """The cells that a question about one model of a comparison reads."""
    question = QUESTIONS[wildcards.question]
    return [
        cell
        for cell in COMPARED_CELLS[f"study/{wildcards.comparison}"]
        if (
            cell.model == wildcards.model
            or (question.foreign and cell.solver in LEARNED)
        )
        and (not question.fits or cell.solver in [*LEARNED, "teacher"])
    ]


def question_fits(wildcards):
    """The fits whose courses a question reads."""
    return (
        [cell for cell in question_cells(wildcards) if cell.solver in LEARNED]
        if QUESTIONS[wildcards.question].fits
        else []
    )


def question_pairs(wildcards):
    """The teacher's pairs of the test noise, for a question about samples."""
    if QUESTIONS[wildcards.question].files != "samples":
        return []
    return [
        f"results/teacher/{wildcards.model}/shards/{name}.h5"
        for name in TEST_SHARDS[wildcards.model]
    ]


def named_cells(cells, paths):
    """Arguments of a script: cells with their files."""
    return [
        f"{cell.model}/{cell.solver}/{cell.nfe}={path}"
        for cell, path in zip(cells, paths, strict=True)
    ]


def question_rows(wildcards):
    """What a question's table and figure are drawn from, but for the scores: the rows of each model."""
    if wildcards.question not in QUESTIONS:
        return []
    folder = f"results/study/{wildcards.comparison}/{wildcards.question}"
    return [f"{folder}/{model}.csv" for model in COMPARISONS[wildcards.comparison]]


# width of a paper's figures, in inches: a column or the page
PAPER_WIDTHS = {"fid": 3.25, "global_error": 3.25, "schedules": 3.25}
PAPER_WIDTHS |= {"samples": 6.75, "coefficients": 6.75}
# names of the files in results/paper without their endings, in the order of its document
PAPER_TABLES = [f"fid-{model}" for model in CONFIG.models]
PAPER_TABLES += [f"published-{dataset}" for dataset in datasets()]
PAPER_TABLES += ["fit_time"] if any(cell.solver in LEARNED for cell in CELLS) else []
PAPER_FIGURES = [f"{kind}-{model}" for model in CONFIG.models for kind in PAPER_WIDTHS]


def paper_figure_files(wildcards):
    """Name in the figure and file of what a figure for a paper shows of single cells."""
    kind, _, model = wildcards.name.partition("-")
    kind = {"schedules": "coefficients"}.get(kind, kind)
    return FIGURE_FILES.get(f"{kind}-{model}", {})


def paper_dataset_option(wildcards):
    """Option of a script for the data set that a table's model has published figures for, or that the table is of."""
    kind, _, name = wildcards.name.partition("-")
    dataset = WEIGHTS[name].published if kind == "fid" else name
    return f"--dataset {dataset}" if dataset else ""
