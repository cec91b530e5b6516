# Scores of each cell: FID on the model's feature network and global error against the teacher.


rule reference_moments:
    """Moments of the features of the real data, where no file of the model has them."""
    input:
        model=model_yaml,
        features=feature_files,
        code=code("score"),
    output:
        "results/reference/{model}.npz",
    log:
        "results/logs/reference/{model}.log",
    benchmark:
        "results/benchmarks/reference/{model}.jsonl"
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=memory(8000),
        runtime=minutes(lambda wildcards: 100000),
        gpu=1,
    params:
        script=program("reference_moments"),
        model=lambda wildcards, input: input.model[0],
    shell:
        "python -m s4s.jobs.fork_server --gpus {resources.gpu} {params.script} --model {params.model} --threads {threads} --out {output} 2> {log}"


rule score:
    """FID and global error of one solver at one NFE, for each sampling seed."""
    input:
        model=model_files,
        features=feature_files,
        reference=reference_files,
        samples="results/samples/{model}/{solver}/nfe~{nfe}.h5",
        pairs=lambda wildcards: [
            f"results/teacher/{wildcards.model}/shards/{name}.h5"
            for name in TEST_SHARDS[wildcards.model]
        ],
        code=code("score"),
    output:
        "results/scores/{model}/{solver}/nfe~{nfe}.json",
    log:
        "results/logs/score/{model}/{solver}/nfe~{nfe}.log",
    benchmark:
        "results/benchmarks/score/{model}/{solver}/nfe~{nfe}.jsonl"
    wildcard_constraints:
        model=one_of(WHOLE),
    group:
        "cells"
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=minutes(states_of_scores),
        gpu=1,
    params:
        script=program("score"),
        model=lambda wildcards, input: input.model[0],
        reference=reference_option,
    shell:
        "python -m s4s.jobs.fork_server --gpus {resources.gpu} {params.script} --model {params.model} {params.reference} --samples {input.samples} "
        "--pairs {input.pairs} --threads {threads} --out {output} 2> {log}"


rule score_shard:
    """Statistics of a shard of samples: moments of their features, distance from the teacher's end points."""
    input:
        model=model_files,
        features=feature_files,
        reference=reference_files,
        samples=lambda wildcards: shard_path(wildcards, wildcards.name),
        pairs="results/teacher/{model}/shards/{name}.h5",
        code=code("score"),
    output:
        temp("results/scores/{model}/{solver}/nfe~{nfe}/{name}.npz"),
    log:
        "results/logs/score/{model}/{solver}/nfe~{nfe}/{name}.log",
    benchmark:
        "results/benchmarks/score/{model}/{solver}/nfe~{nfe}/{name}.jsonl"
    wildcard_constraints:
        name="test~[0-9]+-[0-9]+",
    group:
        "cells"
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=minutes(states_of_scores),
        gpu=1,
    params:
        script=program("score"),
        model=lambda wildcards, input: input.model[0],
        reference=reference_option,
    shell:
        "python -m s4s.jobs.fork_server --gpus {resources.gpu} {params.script} --model {params.model} {params.reference} --samples {input.samples} "
        "--pairs {input.pairs} --only-statistics --threads {threads} --out {output} 2> {log}"


rule join_scores:
    """FID and global error of one solver at one NFE from the statistics of its shards."""
    input:
        model=model_yaml,
        features=feature_files,
        reference=reference_files,
        statistics=lambda wildcards: [
            f"results/scores/{wildcards.model}/{wildcards.solver}/nfe~{wildcards.nfe}/{name}.npz"
            for name in TEST_SHARDS[wildcards.model]
        ],
        code=code("score"),
    output:
        "results/scores/{model}/{solver}/nfe~{nfe}.json",
    log:
        "results/logs/score/{model}/{solver}/nfe~{nfe}.log",
    benchmark:
        "results/benchmarks/score/{model}/{solver}/nfe~{nfe}.jsonl"
    wildcard_constraints:
        model=one_of(SHARDED),
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        script=program("score"),
        model=lambda wildcards, input: input.model[0],
        reference=reference_option,
    shell:
        "python -m s4s.jobs.fork_server {params.script} --model {params.model} {params.reference} --statistics {input.statistics} "
        "--threads {threads} --out {output} 2> {log}"
