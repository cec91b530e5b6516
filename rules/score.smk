# Scores of each cell: FID on the model's feature network and global error against the teacher.


rule reference_moments:
    """Moments of the features of the real images, for models whose reference is a folder of them."""
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
        runtime=minutes(120),
        gpu=1,
    params:
        script=program("reference_moments"),
        model=lambda wildcards, input: input.model[0],
    shell:
        "python -m s4s.warm {params.script} --model {params.model} --threads {threads} --out {output} 2> {log}"


rule score:
    """FID and global error of one solver at one NFE, for each sampling seed."""
    input:
        model=model_files,
        features=feature_files,
        reference=reference_files,
        samples="results/samples/{model}/{solver}/nfe~{nfe}.h5",
        pairs="results/teacher/{model}/pairs.h5",
        code=code("score"),
    output:
        "results/scores/{model}/{solver}/nfe~{nfe}.json",
    log:
        "results/logs/score/{model}/{solver}/nfe~{nfe}.log",
    benchmark:
        "results/benchmarks/score/{model}/{solver}/nfe~{nfe}.jsonl"
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30),
        gpu=1,
    params:
        script=program("score"),
        model=lambda wildcards, input: input.model[0],
        reference=lambda wildcards, input: (
            f"--reference {input.reference}" if input.reference else ""
        ),
        batch_size=lambda wildcards: study(wildcards).batch_size,
    shell:
        "python -m s4s.warm {params.script} --model {params.model} {params.reference} --batch-size {params.batch_size} --samples {input.samples} --pairs {input.pairs} "
        "--threads {threads} --out {output} 2> {log}"
