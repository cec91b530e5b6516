# Scores of each cell: FID on the model's feature network and global error against the teacher.


rule reference_moments:
    """Moments of the features of the real data, where no file of the model has them, or of samples of the teacher."""
    input:
        unpack(inputs("reference")),
        model=described("weights", "features"),
    output:
        "results/reference/{model}.npz",
    log:
        "results/logs/reference/{model}.log",
    benchmark:
        "results/benchmarks/reference/{model}.jsonl"
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=memory("reference"),
        runtime=minutes("reference"),
        gpu=1,
    params:
        code=program("reference_moments"),
        model=model("features"),
    shell:
        "python -m s4s.jobs.fork_server --gpus {resources.gpu:q} reference_moments --model {input.model[0]:q} "
        "--pairs {input.pairs:q} --threads {threads:q} --out {output:q} 2> {log:q}"


rule score_shard:
    """Statistics of a shard of samples: moments of their features, distance from the teacher's final samples."""
    input:
        unpack(inputs("score_shard")),
        model=described("weights", "features"),
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
        mem_mb=memory("score"),
        runtime=minutes("score"),
        gpu=1,
    params:
        code=program("score"),
        model=model("features"),
    shell:
        "python -m s4s.jobs.fork_server --gpus {resources.gpu:q} score --model {input.model[0]:q} "
        "--reference {input.reference:q} --samples {input.samples:q} --pairs {input.pairs:q} --only-statistics "
        "--threads {threads:q} --out {output:q} 2> {log:q}"


rule score:
    """FID and global error of one solver at one NFE, for each sampling seed: from its samples, or the statistics of their shards."""
    input:
        unpack(inputs("score")),
        model=described("weights", "features"),
    output:
        "results/scores/{model}/{solver}/nfe~{nfe}.json",
    log:
        "results/logs/score/{model}/{solver}/nfe~{nfe}.log",
    benchmark:
        "results/benchmarks/score/{model}/{solver}/nfe~{nfe}.jsonl"
    group:
        "cells"
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=memory("score"),
        runtime=minutes("score"),
        gpu=1,
    params:
        code=program("score"),
        model=model("features"),
        seeds=CONFIG.seeds,
    shell:
        "python -m s4s.jobs.fork_server --gpus {resources.gpu:q} score --model {input.model[0]:q} "
        "--reference {input.reference:q} --samples {input.samples:q} --pairs {input.pairs:q} --statistics {input.statistics:q} "
        "--threads {threads:q} --out {output:q} 2> {log:q}"
