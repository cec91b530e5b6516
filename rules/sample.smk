# Samples of each cell, from the same noise for every solver. One job draws all of a cell, or a shard of many samples.


rule sample:
    """All samples of one solver at one NFE."""
    input:
        model=model_files,
        embeddings=embedding_files,
        tableau="results/tableaux/{model}/{solver}/nfe~{nfe}.json",
        code=code("sample"),
    output:
        sample_file("results/samples/{model}/{solver}/nfe~{nfe}.h5"),
    log:
        "results/logs/sample/{model}/{solver}/nfe~{nfe}.log",
    benchmark:
        "results/benchmarks/sample/{model}/{solver}/nfe~{nfe}.jsonl"
    wildcard_constraints:
        model=one_of(WHOLE),
        solver=STUDENT,
    group:
        "cells"
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=minutes(states_of_samples),
        gpu=1,
    params:
        script=program("sample"),
        model=lambda wildcards, input: input.model[0],
        embeddings=embedding_option,
        seeds=CONFIG.seeds,
        samples=lambda wildcards: study(wildcards).samples,
        batch_size=lambda wildcards: study(wildcards).batch_size,
    shell:
        "python -m s4s.jobs.fork_server --gpus {resources.gpu} {params.script} --model {params.model} {params.embeddings} --tableau {input.tableau} --seeds {params.seeds} "
        "--count {params.samples} --batch-size {params.batch_size} --code {input.code} --threads {threads} --out {output} 2> {log}"


rule sample_shard:
    """Part of the samples of one solver at one NFE."""
    input:
        model=model_files,
        embeddings=embedding_files,
        tableau="results/tableaux/{model}/{solver}/nfe~{nfe}.json",
        code=code("sample"),
    output:
        sample_file("results/samples/{model}/{solver}/nfe~{nfe}/test~{seed}-{shard}.h5"),
    log:
        "results/logs/sample/{model}/{solver}/nfe~{nfe}/test~{seed}-{shard}.log",
    benchmark:
        "results/benchmarks/sample/{model}/{solver}/nfe~{nfe}/test~{seed}-{shard}.jsonl"
    wildcard_constraints:
        solver=STUDENT,
    group:
        "cells"
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=minutes(states_of_samples),
        gpu=1,
    params:
        script=program("sample"),
        model=lambda wildcards, input: input.model[0],
        embeddings=embedding_option,
        samples=lambda wildcards: study(wildcards).samples,
        shard_size=shard_size,
        batch_size=lambda wildcards: study(wildcards).batch_size,
    shell:
        "python -m s4s.jobs.fork_server --gpus {resources.gpu} {params.script} --model {params.model} {params.embeddings} --tableau {input.tableau} "
        "--seeds {wildcards.seed} --count {params.samples} --shard {wildcards.shard} --shard-size {params.shard_size} "
        "--batch-size {params.batch_size} --code {input.code} --threads {threads} --out {output} 2> {log}"


rule join_samples:
    """The samples of one solver at one NFE in one file, whose data stay in the shards; the teacher's are those of its pairs."""
    input:
        shards=lambda wildcards: [
            shard_path(wildcards, name) for name in TEST_SHARDS[wildcards.model]
        ],
        code=code("join"),
    output:
        sample_file("results/samples/{model}/{solver}/nfe~{nfe}.h5"),
    log:
        "results/logs/sample/{model}/{solver}/nfe~{nfe}.log",
    benchmark:
        "results/benchmarks/sample/{model}/{solver}/nfe~{nfe}.jsonl"
    localrule: True
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        script=program("join_shards"),
    shell:
        "python -m s4s.jobs.fork_server {params.script} {input.shards} --kind samples --keys seeds y_0 condition --out {output} 2> {log}"


ruleorder: sample > join_samples
