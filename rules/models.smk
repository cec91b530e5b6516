# Published files that are not there yet are fetched. Files that are there have no rule, so that none of a user's is ever removed.
from s4s.models.model_files import fetch_name
from s4s.models.embedded.recipes import EMBEDDED_FILES

ABSENT = {
    as_argument(file.path): file
    for described_model in STUDY.models.values()
    for file in described_model.all_files()
    if not file.path.exists()
}

for path, file in ABSENT.items():
    try:
        fetched(file)
    except S4SError:
        continue  # an error where it is asked for

    rule:
        name:
            f"fetch_{fetch_name(path)}"
        output:
            local(directory(path) if file.url.startswith("hf://") else path),
        log:
            f"results/logs/fetch/{fetch_name(path)}.log",
        localrule: True
        conda:
            "../envs/s4s.yaml"
        params:
            # from a function, for Snakemake takes braces in other strings for wildcards
            file=lambda wildcards, text=file.model_dump_json(
                include={"path", "url", "member", "sha256"}
            ): text,
            below=lambda wildcards: list(map(str, WEIGHTS)),
        shell:
            "python -m s4s.jobs.fork_server fetch --file {params.file:q} --below {params.below:q} 2>&1 | tee {log:q}"


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


for trained, names in EMBEDDED_FILES.items():

    rule:
        name:
            f"train_{trained}"
        output:
            [f"results/embedded/{trained}/{name}" for name in names],
        log:
            f"results/logs/train_embedded/{trained}.log",
        benchmark:
            f"results/benchmarks/train_embedded/{trained}.jsonl"
        conda:
            "../envs/s4s.yaml"
        threads: 2
        resources:
            mem_mb=2000,
            runtime=60,
            gpu=0,
        params:
            model=trained,
        shell:
            "python -m s4s.jobs.fork_server train_embedded --model {params.model:q} --threads {threads:q} --out results/embedded/{params.model:q} 2>&1 "
            "| tee {log:q}"
