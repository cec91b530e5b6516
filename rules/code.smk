# Which code a result depends on: the scripts of each stage and what they import.
from pathlib import Path as _Path

from s4s.study.code import closure

# stage -> scripts
STAGES = {
    "tableau": ["tableau"],
    "teacher": ["teacher_shard"],
    "embeddings": ["text_embeddings"],
    "convergence": ["teacher_convergence"],
    "trajectories": ["teacher_trajectories"],
    "costs": ["gits_costs"],
    "statistics": ["model_statistics"],
    "fit": ["fit"],
    "sample": ["sample"],
    "join": ["join_shards"],
    "score": ["score", "reference_moments"],
    "tables": ["scores_csv", "comparison_table"],
    "figures": ["figure"],
    "paper_figures": ["figure"],
    "paper_tables": ["paper_table"],
    "analysis": ["analysis", "figure"],
    "questions": ["question", "answer"],
    "report": ["report"],
}


def code_files(stage):
    """The scripts of a stage and the package files that they import."""
    scripts = [
        _Path(f"{workflow.basedir}/workflow/scripts/{name}.py")
        for name in STAGES[stage]
    ]
    return [*scripts, *closure(*scripts)]


rule code_fingerprint:
    """Checksums of the scripts and package files that a stage uses: one small input for its jobs instead of many."""
    input:
        lambda wildcards: on_this_machine(*code_files(wildcards.stage)),
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
        "(sha256sum {input} > {output}.partial && sync {output}.partial && mv {output}.partial {output}) 2> {log}"
