# Which code a result depends on.


rule code_fingerprint:
    """Checksums of the scripts and package files that a stage uses: one small input for its jobs instead of many."""
    input:
        lambda wildcards: [
            os.path.normpath(f"{REPOSITORY}/src/s4s/{name}.py")
            for name in STAGES[wildcards.stage]
        ],
    output:
        "results/code/{stage}.sha256",
    log:
        "results/logs/code/{stage}.log",
    wildcard_constraints:
        stage="|".join(STAGES),
    priority: 50
    localrule: True
    conda:
        "../envs/s4s.yaml"
    shell:
        "sha256sum {input} > {output} 2> {log}"
