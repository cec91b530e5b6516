# Classical solvers, written down as tableaux.


rule tableau:
    """One classical solver on its noise schedule at one NFE."""
    input:
        unpack(inputs("tableau")),
        model=described("weights"),
    output:
        "results/tableaux/{model}/{solver}/nfe~{nfe}.json",
    log:
        "results/logs/tableau/{model}/{solver}/nfe~{nfe}.log",
    benchmark:
        "results/benchmarks/tableau/{model}/{solver}/nfe~{nfe}.jsonl"
    wildcard_constraints:
        solver=one_of(CLASSICAL),
    priority: 20
    localrule: True
    conda:
        "../envs/s4s.yaml"
    params:
        code=program("tableau"),
        model=model(),
        definition=definition(),
        own=own_code(),
    shell:
        "python -m s4s.jobs.fork_server tableau --model {input.model[0]:q} --token {wildcards.solver:q} --nfe {wildcards.nfe:q} "
        "--definition {params.definition:q} --costs {input.costs:q} --statistics {input.statistics:q} --out {output:q} 2> {log:q}"
