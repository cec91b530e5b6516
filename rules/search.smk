# What optimised schedules (GITS) and DPM-Solver-v3 need to know of a model, from trajectories of the teacher's solver.


rule teacher_trajectories:
    """States and outputs at all steps, on noise of its own."""
    input:
        model=described("weights"),
    output:
        "results/search/{model}/trajectories.h5",
    log:
        "results/logs/search/{model}/trajectories.log",
    benchmark:
        "results/benchmarks/search/{model}/trajectories.jsonl"
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=memory("trajectories"),
        runtime=minutes("trajectories"),
        gpu=1,
    params:
        code=program("teacher_trajectories"),
        model=model(),
        definition=definition("search"),
        own=own_code("search"),
        steps=own("search.steps"),
        samples=own("search.trajectories"),
    shell:
        "python -m s4s.jobs.fork_server --gpus {resources.gpu:q} teacher_trajectories --model {input.model[0]:q} "
        "--definition {params.definition:q} --steps {params.steps:q} --count {params.samples:q} "
        "--threads {threads:q} --out {output:q} 2> {log:q}"


rule gits_costs:
    """Costs of steps between all pairs of levels; the levels for each NFE are found from them in no time."""
    input:
        trajectories="results/search/{model}/trajectories.h5",
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
        code=program("gits_costs"),
    shell:
        "python -m s4s.jobs.fork_server gits_costs --trajectories {input.trajectories:q} --out {output:q} 2> {log:q}"


rule model_statistics:
    """The statistics of DPM-Solver-v3."""
    input:
        unpack(inputs("statistics")),
        model=described("weights"),
    output:
        "results/search/{model}/statistics.json",
    log:
        "results/logs/search/{model}/statistics.log",
    benchmark:
        "results/benchmarks/search/{model}/statistics.jsonl"
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=memory("statistics"),
        runtime=minutes("statistics"),
        gpu=1,
    params:
        code=program("model_statistics"),
        model=model(),
    shell:
        "python -m s4s.jobs.fork_server --gpus {resources.gpu:q} model_statistics --model {input.model[0]:q} "
        "--trajectories {input.trajectories:q} --threads {threads:q} --out {output:q} 2> {log:q}"
