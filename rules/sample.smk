# Samples of each cell, from the same noise for every solver. A job draws all of a cell, or a shard where there are many.


rule sample:
    """The samples of one solver at one NFE, or a shard of them."""
    input:
        unpack(inputs("sample")),
        model=described("weights"),
    output:
        sample_file("results/samples/{model}/{solver}/nfe~{nfe}{part}.h5"),
    log:
        "results/logs/sample/{model}/{solver}/nfe~{nfe}{part}.log",
    benchmark:
        "results/benchmarks/sample/{model}/{solver}/nfe~{nfe}{part}.jsonl"
    wildcard_constraints:
        solver="(?!teacher/)[A-Za-z0-9][A-Za-z0-9_-]*",
        part="(/test~[0-9]+-[0-9]+)?",
    group:
        "cells"
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=memory("sample"),
        runtime=minutes("sample"),
        gpu=1,
    params:
        code=program("sample"),
        model=model(),
        seeds=CONFIG.seeds,
        samples=own("samples"),
        shard_size=asked(lambda model, **names: STUDY.shard_size(model)),
        batch_size=own("batch_size"),
    shell:
        "python -m s4s.jobs.fork_server --gpus {resources.gpu:q} sample --model {input.model[0]:q} "
        "--tableau {input.tableau:q} --seeds {params.seeds:q} --count {params.samples:q} "
        "--part {wildcards.part:q} --shard-size {params.shard_size:q} --batch-size {params.batch_size:q} --code {params.code:q} "
        "--threads {threads:q} --out {output:q} 2> {log:q}"


rule join_samples:
    """The samples of one solver at one NFE in one file, whose data stay in the shards; the teacher's are those of its pairs."""
    input:
        unpack(inputs("all_samples")),
    output:
        sample_file("results/samples/{model}/{solver}/nfe~{nfe}.h5"),
    log:
        "results/logs/sample/{model}/{solver}/nfe~{nfe}.log",
    benchmark:
        "results/benchmarks/sample/{model}/{solver}/nfe~{nfe}.jsonl"
    wildcard_constraints:
        model=rf"(?:{one_of(SHARDED)})(?=/)|[\w.-]+(?=/teacher/)",
    localrule: True
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        code=program("join_shards"),
    shell:
        "python -m s4s.jobs.fork_server join_shards {input.shards:q} --kind samples --keys seeds y_0 condition "
        "--out {output:q} 2> {log:q}"


ruleorder: join_samples > sample
