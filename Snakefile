# Learned solvers for diffusion models: fit them, score them beside classical ones, draw the tables and figures.
# `snakemake --cores all --resources gpu=4` runs everything that config/config.yaml names.

from snakemake.utils import min_version

min_version("9.20")


configfile: f"{workflow.basedir}/config/config.yaml"


include: "rules/common.smk"
include: "rules/run.smk"
include: "rules/models.smk"
include: "rules/search.smk"
include: "rules/tableaux.smk"
include: "rules/teacher.smk"
include: "rules/fit.smk"
include: "rules/sample.smk"
include: "rules/score.smk"
include: "rules/tables.smk"
include: "rules/figures.smk"
include: "rules/paper.smk"
include: "rules/study.smk"


onstart:
    begin_run()


onsuccess:
    atexit.unregister(explain_failure)


rule all:
    default_target: True
    input:
        asked(lambda: targets.main_files(STUDY)),
