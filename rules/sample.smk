# Samples of each cell. One job draws all sampling seeds, from the same noise for every solver.


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
        solver="(?!teacher/)[A-Za-z0-9][A-Za-z0-9_-]*",
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=minutes(120),
        gpu=1,
    params:
        script=program("sample"),
        model=lambda wildcards, input: input.model[0],
        embeddings=embedding_option,
        seeds=CONFIG.seeds,
        samples=lambda wildcards: study(wildcards).samples,
        batch_size=lambda wildcards: study(wildcards).batch_size,
    shell:
        "python -m s4s.warm {params.script} --model {params.model} {params.embeddings} --tableau {input.tableau} --seeds {params.seeds} "
        "--count {params.samples} --batch-size {params.batch_size} --threads {threads} --out {output} 2> {log}"


rule teacher_samples:
    """The teacher's end points on the test noise, in the form of samples."""
    input:
        pairs="results/teacher/{model}/pairs.h5",
        code=code("sample"),
    output:
        sample_file("results/samples/{model}/teacher/nfe~{nfe}.h5"),
    log:
        "results/logs/sample/{model}/teacher/nfe~{nfe}.log",
    benchmark:
        "results/benchmarks/sample/{model}/teacher/nfe~{nfe}.jsonl"
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=memory(1000),
        runtime=minutes(5),
    params:
        script=program("teacher_samples"),
        seeds=CONFIG.seeds,
    shell:
        "python -m s4s.warm {params.script} --pairs {input.pairs} --seeds {params.seeds} --out {output} 2> {log}"
