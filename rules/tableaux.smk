# Solvers without a fit, classical and published ones, written down as tableaux.


rule tableau:
    """One classical solver on its noise schedule, or one published solver, at one NFE."""
    input:
        unpack(inputs("tableau")),
        model=described("weights"),
        published=asked(lambda **names: outside(*STUDY.files_of_tableau(**names))),
    output:
        "results/tableaux/{model}/{solver}/nfe~{nfe}.json",
    log:
        "results/logs/tableau/{model}/{solver}/nfe~{nfe}.log",
    benchmark:
        "results/benchmarks/tableau/{model}/{solver}/nfe~{nfe}.jsonl"
    wildcard_constraints:
        solver=one_of(NOT_FITTED),
    priority: 20
    localrule: True
    conda:
        "../envs/s4s.yaml"
    params:
        code=program("tableau"),
        model=model(),
        definition=definition(),
        own=own_code(),
        published=asked(
            lambda **names: list(
                map(content.path_digest, STUDY.files_of_tableau(**names))
            )
        ),
    shell:
        "python -m s4s.jobs.fork_server tableau --model {input.model[0]:q} --token {wildcards.solver:q} --nfe {wildcards.nfe:q} "
        "--definition {params.definition:q} --costs {input.costs:q} --statistics {input.statistics:q} --out {output:q} 2> {log:q}"
