# Teacher pairs in shards, joined by a virtual dataset. Splits never share noise (s4s/models/seeds.py).
# `--cache teacher_shard` shares shards between folders, so that rule has no benchmark; logs say what each cost.


rule teacher_shard:
    """The final samples of a teacher on the noise of a split, or of a part of it: of the model's own teacher, or of N steps."""
    input:
        unpack(inputs("pairs")),
        model=described("weights"),
    output:
        "results/teacher/{model}/{folder}/{split}-{shard}.h5",
    log:
        "results/logs/teacher/{model}/{folder}/{split}-{shard}.log",
    wildcard_constraints:
        folder="shards|steps~[0-9]+",
    priority: 30
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=memory("pairs"),
        runtime=minutes("pairs"),
        gpu=1,
    params:
        code=program("teacher_shard"),
        model=model(),
        # what a shared cache tells shards apart by
        split=lambda wildcards: wildcards.split,
        shard=lambda wildcards: wildcards.shard,
        samples=asked(lambda model, split, **names: STUDY.split_size(model, split)),
        shard_size=asked(lambda model, **names: STUDY.shard_size(model)),
        batch_size=own("batch_size"),
        trajectory=own("teacher.trajectory"),
    shell:
        "python -m s4s.jobs.fork_server --gpus {resources.gpu:q} teacher_shard --model {input.model[0]:q} "
        "--teacher {input.teacher:q} --split {params.split:q} --count {params.samples:q} "
        "--shard {params.shard:q} --shard-size {params.shard_size:q} --batch-size {params.batch_size:q} --trajectory {params.trajectory:q} "
        "--code {params.code:q} --threads {threads:q} --out {output:q} 2> {log:q}"


rule teacher_pairs:
    """All shards of all splits in one file."""
    input:
        unpack(inputs("all_pairs")),
    output:
        "results/teacher/{model}/pairs.h5",
    log:
        "results/logs/teacher/{model}/pairs.log",
    benchmark:
        "results/benchmarks/teacher/{model}/pairs.jsonl"
    localrule: True
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        code=program("join_shards"),
        shards=asked(lambda model: STUDY.inputs("all_pairs", model=model)["shards"]),
    shell:
        "python -m s4s.jobs.fork_server join_shards {input.shards:q} --kind teacher-pairs --out {output:q} 2> {log:q}"


rule teacher_convergence:
    """The teacher's own error against its number of steps."""
    input:
        model=described("weights"),
    output:
        rows="results/teacher/{model}/convergence.csv",
        checksums=checksums("results/teacher/{model}/convergence.csv"),
    log:
        "results/logs/teacher/{model}/convergence.log",
    benchmark:
        "results/benchmarks/teacher/{model}/convergence.jsonl"
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=memory("convergence"),
        runtime=minutes("convergence"),
        gpu=1,
    params:
        code=program("teacher_convergence"),
        model=model(),
        definition=definition("teacher"),
        own=own_code("teacher"),
        steps=own("teacher.steps"),
        samples=asked(lambda model: plan.convergence_samples(STUDY, model)),
    shell:
        "python -m s4s.jobs.fork_server --gpus {resources.gpu:q} teacher_convergence --model {input.model[0]:q} "
        "--definition {params.definition:q} --steps {params.steps:q} --count {params.samples:q} "
        "--threads {threads:q} --out {output.rows:q} 2> {log:q}"
