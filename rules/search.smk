# What GITS levels and DPM-Solver-v3 need to know of a model, from trajectories of the teacher's solver.


rule teacher_trajectories:
    """States and outputs at all steps, on noise of its own."""
    input:
        model=model_files,
        embeddings=embedding_files,
        code=code("trajectories"),
    output:
        not_empty("results/search/{model}/trajectories.h5"),
    log:
        "results/logs/search/{model}/trajectories.log",
    benchmark:
        "results/benchmarks/search/{model}/trajectories.jsonl"
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=memory(4000),
        runtime=minutes(states_of_search),
        gpu=1,
    params:
        script=program("teacher_trajectories"),
        model=lambda wildcards, input: input.model[0],
        embeddings=embedding_option,
        definition=search_definition,
        steps=lambda wildcards: study(wildcards).search.steps,
        samples=lambda wildcards: study(wildcards).search.trajectories,
    shell:
        "python -m s4s.jobs.fork_server --gpus {resources.gpu} {params.script} --model {params.model} {params.embeddings} --definition {params.definition:q} --steps {params.steps} "
        "--count {params.samples} --threads {threads} --out {output} 2> {log}"


rule gits_costs:
    """Costs of steps between all pairs of levels; the levels for each NFE are found from them in no time."""
    input:
        trajectories="results/search/{model}/trajectories.h5",
        code=code("costs"),
    output:
        "results/search/{model}/costs.json",
    log:
        "results/logs/search/{model}/costs.log",
    benchmark:
        "results/benchmarks/search/{model}/costs.jsonl"
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        script=program("gits_costs"),
    shell:
        "python -m s4s.jobs.fork_server {params.script} --trajectories {input.trajectories} --out {output} 2> {log}"


rule model_statistics:
    """The statistics of DPM-Solver-v3."""
    input:
        model=model_files,
        embeddings=embedding_files,
        trajectories="results/search/{model}/trajectories.h5",
        code=code("statistics"),
    output:
        "results/search/{model}/statistics.json",
    log:
        "results/logs/search/{model}/statistics.log",
    benchmark:
        "results/benchmarks/search/{model}/statistics.jsonl"
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=memory(4000),
        runtime=minutes(states_of_search),
        gpu=1,
    params:
        script=program("model_statistics"),
        model=lambda wildcards, input: input.model[0],
        embeddings=embedding_option,
    shell:
        "python -m s4s.jobs.fork_server --gpus {resources.gpu} {params.script} --model {params.model} {params.embeddings} --trajectories {input.trajectories} "
        "--threads {threads} --out {output} 2> {log}"
