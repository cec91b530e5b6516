# `--cache teacher_shard` shares shards between folders, so these rules have no benchmark; logs say what each cost.
# Teacher pairs in shards, joined by a virtual dataset. Splits never share noise (s4s/models/seeds.py).


rule text_embeddings:
    """Embeddings of all prompts that samples, pairs and searches use, computed once."""
    input:
        model=model_files,
        code=code("embeddings"),
    output:
        not_empty("results/teacher/{model}/embeddings.h5"),
    log:
        "results/logs/teacher/{model}/embeddings.log",
    priority: 40
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=memory(4000),
        runtime=minutes(states_of_search),
        gpu=1,
    params:
        script=program("text_embeddings"),
        model=lambda wildcards, input: input.model[0],
        samples=lambda wildcards: study(wildcards).samples,
        train=lambda wildcards: study(wildcards).teacher.train,
        val=lambda wildcards: study(wildcards).teacher.val,
        search=lambda wildcards: study(wildcards).search.trajectories,
    shell:
        "python -m s4s.jobs.fork_server --gpus {resources.gpu} {params.script} --model {params.model} --test {params.samples} --train {params.train} "
        "--val {params.val} --search {params.search} --threads {threads} --out {output} 2> {log}"


rule teacher_shard:
    """The teacher's end points on the noise of a split, or of a part of it."""
    input:
        model=model_files,
        embeddings=embedding_files,
        teacher=teacher_tableau,
        code=code("teacher"),
    output:
        not_empty("results/teacher/{model}/shards/{split}-{shard}.h5"),
    log:
        "results/logs/teacher/{model}/{split}-{shard}.log",
    priority: 30
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=minutes(states_of_pairs),
        gpu=1,
    params:
        script=program("teacher_shard"),
        model=lambda wildcards, input: input.model[0],
        embeddings=embedding_option,
        samples=split_size,
        seed=lambda wildcards: wildcards.split.partition("~")[2] or 0,
        shard_size=shard_size,
        batch_size=lambda wildcards: study(wildcards).batch_size,
        trajectory=lambda wildcards: (
            "--trajectory" if study(wildcards).teacher.trajectory else ""
        ),
    shell:
        "python -m s4s.jobs.fork_server --gpus {resources.gpu} {params.script} --model {params.model} {params.embeddings} --teacher {input.teacher} --split {wildcards.split} "
        "--count {params.samples} --sampling-seed {params.seed} --shard {wildcards.shard} --shard-size {params.shard_size} "
        "--batch-size {params.batch_size} {params.trajectory} --code {input.code} --threads {threads} --out {output} 2> {log}"


use rule teacher_shard as student_teacher_shard with:
    input:
        model=model_files,
        embeddings=embedding_files,
        teacher="results/tableaux/{model}/teacher/nfe~{nfe}.json",
        code=code("teacher"),
    output:
        not_empty("results/teacher/{model}/steps~{nfe}/{split}-{shard}.h5"),
    log:
        "results/logs/teacher/{model}/steps~{nfe}/{split}-{shard}.log",


rule teacher_pairs:
    """All shards of all splits in one file."""
    input:
        shards=lambda wildcards: [
            path
            for split in TEACHER_SPLITS
            for path in teacher_shards(wildcards.model, split)
        ],
        code=code("join"),
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
        script=program("join_shards"),
    shell:
        "python -m s4s.jobs.fork_server {params.script} {input.shards} --kind teacher-pairs --out {output} 2> {log}"


rule teacher_convergence:
    """The teacher's own error against its number of steps."""
    input:
        model=model_files,
        embeddings=embedding_files,
        code=code("convergence"),
    output:
        "results/teacher/{model}/convergence.csv",
    log:
        "results/logs/teacher/{model}/convergence.log",
    benchmark:
        "results/benchmarks/teacher/{model}/convergence.jsonl"
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=minutes(states_of_convergence),
        gpu=1,
    params:
        script=program("teacher_convergence"),
        model=lambda wildcards, input: input.model[0],
        embeddings=embedding_option,
        definition=lambda wildcards: classical_definition(wildcards, "teacher"),
        steps=lambda wildcards: study(wildcards).teacher.steps,
        samples=lambda wildcards: min(study(wildcards).teacher.val, 128),
    shell:
        "python -m s4s.jobs.fork_server --gpus {resources.gpu} {params.script} --model {params.model} {params.embeddings} --definition {params.definition:q} --steps {params.steps} "
        "--count {params.samples} --threads {threads} --out {output} 2> {log}"
