# Published files that are not there yet are fetched. Files that are there have no rule, so that none of a user's is ever removed.

ABSENT = {
    os.path.relpath(file.path): file
    for weights in WEIGHTS.values()
    for file in weights.all_files()
    if not file.path.exists()
}
NEEDED = {
    os.path.relpath(file.path)
    for model in [*CONFIG.models, *(m for name in ASKED for m in COMPARISONS[name])]
    for file in WEIGHTS[model].all_files()
}
for path, file in ABSENT.items():
    if not file.url and path not in NEEDED:
        continue  # of a further comparison that is not asked for
    if not file.url:
        raise WorkflowError(
            f"{path}: no such file; put it there, or change its path in the model's YAML file"
        )

    rule:
        name:
            f"fetch_{os.path.basename(path)}"
        output:
            local(directory(path) if file.url.startswith("hf://") else path),
        log:
            f"results/logs/fetch/{os.path.basename(path)}.log",
        localrule: True
        conda:
            "../envs/s4s.yaml"
        params:
            script=program("fetch"),
            file=file.model_dump_json(include={"path", "url", "member", "sha256"}),
        shell:
            "python {params.script} --file {params.file:q} 2>&1 | tee {log}"


# The embedded models are trained here once and ship in resources/; the default run does not train.


rule train_embedded:
    """Train all embedded models into results/embedded."""
    input:
        [
            f"results/embedded/{model}/{name}"
            for model, names in EMBEDDED_FILES.items()
            for name in names
        ],
    localrule: True


for model, names in EMBEDDED_FILES.items():

    rule:
        name:
            f"train_{model}"
        output:
            [f"results/embedded/{model}/{name}" for name in names],
        log:
            f"results/logs/train_embedded/{model}.log",
        benchmark:
            f"results/benchmarks/train_embedded/{model}.jsonl"
        conda:
            "../envs/s4s.yaml"
        threads: 2
        resources:
            mem_mb=2000,
            runtime=60,
            gpu=0,
        params:
            script=program("train_embedded"),
            model=model,
            out=lambda wildcards, output: os.path.dirname(output[0]),
        shell:
            "python {params.script} --model {params.model} --threads {threads} --out {params.out} 2>&1 | tee {log}"
