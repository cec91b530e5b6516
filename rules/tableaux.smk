# Classical solvers, written down as tableaux.


rule tableau:
    """One classical solver on its levels at one NFE."""
    input:
        unpack(searched_files),
        model=model_files,
        code=code("tableau"),
    output:
        "results/tableaux/{model}/{solver}/nfe~{nfe}.json",
    log:
        "results/logs/tableau/{model}/{solver}/nfe~{nfe}.log",
    benchmark:
        "results/benchmarks/tableau/{model}/{solver}/nfe~{nfe}.jsonl"
    wildcard_constraints:
        solver="|".join(CLASSICAL),
    priority: 20
    localrule: True
    conda:
        "../envs/s4s.yaml"
    params:
        script=program("tableau"),
        model=lambda wildcards, input: input.model[0],
        definition=lambda wildcards: classical_definition(wildcards, wildcards.solver),
        searched=lambda wildcards, input: " ".join(
            f"--{option} {input[option]}"
            for option in sorted(searched_files(wildcards))
        ),
    shell:
        "python -m s4s.jobs.fork_server {params.script} --model {params.model} --token {wildcards.solver} --nfe {wildcards.nfe} "
        "--definition {params.definition:q} {params.searched} --out {output} 2> {log}"
