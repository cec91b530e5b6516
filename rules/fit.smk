# Learned solvers. The rounds of an alternation are one resumable job.


rule fit:
    """One learned solver at one NFE, from the tableaux that it may start at and the teacher's pairs."""
    input:
        unpack(inputs("fit")),
        model=described("weights", "perceptual"),
        file=asked(lambda **names: outside(*STUDY.warm_start_file(**names))),
    output:
        tableau="results/tableaux/{model}/{solver}/nfe~{nfe}.json",
        history="results/fits/{model}/{solver}/nfe~{nfe}.json",
    log:
        "results/logs/fit/{model}/{solver}/nfe~{nfe}.log",
    benchmark:
        "results/benchmarks/fit/{model}/{solver}/nfe~{nfe}.jsonl"
    wildcard_constraints:
        solver=one_of(LEARNED),
    priority: 10
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=memory("fit"),
        runtime=minutes("fit"),
        gpu=1,
    params:
        code=program("fit"),
        model=model("perceptual"),
        definition=definition(),
        own=own_code(),
        pairs=asked(lambda model, **names: STUDY.shards(model, "train", "val")),
        files=asked(
            lambda **names: list(map(content.path_digest, STUDY.files_of_fit(**names)))
        ),
        state="results/fits/{model}/{solver}/nfe~{nfe}.state",
    shell:
        "python -m s4s.jobs.fork_server --gpus {resources.gpu:q} fit --model {input.model[0]:q} "
        "--token {wildcards.solver:q} --definition {params.definition:q} --bases {input.bases:q} "
        "--warm-start {input.near:q} {input.file:q} --train {input.train:q} --val {input.val:q} "
        "--state {params.state:q} --threads {threads:q} --out {output.tableau:q} --history {output.history:q} 2> {log:q}"
