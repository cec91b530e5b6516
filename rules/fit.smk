# Learned solvers. The rounds of an alternation are one resumable job.


rule fit:
    """One learned solver at one NFE, from its base's tableau and the teacher's pairs."""
    input:
        model=model_files,
        embeddings=embedding_files,
        base=lambda wildcards: f"results/tableaux/{wildcards.model}/{CONFIG.definition(wildcards.solver).base}/nfe~{wildcards.nfe}.json",
        warm=warm_start,
        train=fit_pairs("train"),
        val=fit_pairs("val"),
        perceptual=perceptual_files,
        code=code("fit"),
    output:
        tableau="results/tableaux/{model}/{solver}/nfe~{nfe}.json",
        history="results/fits/{model}/{solver}/nfe~{nfe}.json",
    log:
        "results/logs/fit/{model}/{solver}/nfe~{nfe}.log",
    benchmark:
        "results/benchmarks/fit/{model}/{solver}/nfe~{nfe}.jsonl"
    wildcard_constraints:
        solver="|".join(LEARNED) or "none-is-learned",
    priority: 10
    conda:
        "../envs/s4s.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=minutes(states_of_fit),
        gpu=1,
    params:
        script=program("fit"),
        model=lambda wildcards, input: input.model[0],
        embeddings=embedding_option,
        definition=fit_definition,
        warm=lambda wildcards, input: (
            f"--warm-start {input.warm}" if input.warm else ""
        ),
        state="results/fits/{model}/{solver}/nfe~{nfe}.state",
    shell:
        "python -m s4s.jobs.fork_server --gpus {resources.gpu} {params.script} --model {params.model} {params.embeddings} --token {wildcards.solver} --definition {params.definition:q} "
        "--base {input.base} {params.warm} --train {input.train} --val {input.val} "
        "--state {params.state} --threads {threads} --out {output.tableau} --history {output.history} 2> {log}"
