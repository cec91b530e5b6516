# Which code a result depends on: the scripts and package files of each stage.

MODEL = [
    f"models/{name}"
    for name in (
        "denoiser",
        "paths",
        "conditions",
        "predicting",
        "python_function",
        "edm",
        "edm_layers",
        "edm_networks",
        "edm_pickle",
        "edm_checkpoint",
        "checkpoint",
        "latent_diffusion",
        "pipeline",
        "stable_diffusion",
        "text_encoders",
        "prompts",
        "noise_embedding",
        "unet",
        "transformer",
        "mlp",
        "autoencoder",
        "mixture",
        "classifier",
        "embedded",
        "files",
        "load",
    )
]
FIXED_LEVELS = sorted(
    {f"levels/{grid.module}" for grid in GRIDS.values() if not grid.searched}
)
SEARCHED_LEVELS = sorted(
    {f"levels/{grid.module}" for grid in GRIDS.values() if grid.searched}
)
CLASSICAL_CODE = ["arguments", "json_file", "lagrange", "levels/__init__"]
CLASSICAL_CODE += [*FIXED_LEVELS, "solvers/__init__"]
CLASSICAL_CODE += [
    f"solvers/{name}" for name in ("exponential", "single_step", "start", *SOLVERS)
]
SAMPLING = ["provenance", "tableau", "sampling", "seeds", "parts", "store", *MODEL]
SCRIPTS = "../../workflow/scripts"
FITTING_FILES = ["fit", "checks", "distances", "drivers", "first_order"]
FITTING_FILES += ["gauss_newton", "loop", "lpips_distance", "objective", "outcome"]
FITTING_FILES += ["parameters", "path", "relaxed", "settings", "state", "tangents"]
FITTING_FILES += ["warm_start"]
FITTING = ["teacher", "fitting/__init__", "torchvision_operators"]
FITTING += [f"fitting/{name}" for name in FITTING_FILES]
FITTING += [f"families/{name}" for name in ("__init__", "family", *FAMILIES)]
FITTING += ["levels/clock", "models/accelerated"]
ANALYSIS = ("analysis", "analysis_figures", "figures", "solver_styles", "tables")
REPORT = ("usage", "tables", "config", "definitions", "models/files", "figures")
REPORT += tuple(f"questions/{name}" for name in ("shown", "ablation", *QUESTIONS))
METRICS = ("score", "features", "fid", "distribution", "global_error")
STAGES = {
    "tableau": [
        f"{SCRIPTS}/tableau",
        "from_spec",
        "provenance",
        "tableau",
        *MODEL,
        *CLASSICAL_CODE,
        *SEARCHED_LEVELS,
    ],
    "teacher": [
        f"{SCRIPTS}/teacher_shard",
        "teacher",
        *SAMPLING,
    ],
    "embeddings": [f"{SCRIPTS}/text_embeddings", "seeds", *MODEL],
    "convergence": [
        f"{SCRIPTS}/teacher_convergence",
        "teacher",
        *SAMPLING,
        *CLASSICAL_CODE,
        "metrics/global_error",
    ],
    "trajectories": [
        f"{SCRIPTS}/teacher_trajectories",
        "teacher",
        *SAMPLING,
        *CLASSICAL_CODE,
    ],
    "costs": [f"{SCRIPTS}/gits_costs", "json_file", "store", "levels/gits"],
    "statistics": [
        f"{SCRIPTS}/model_statistics",
        "json_file",
        "store",
        "statistics",
        "solvers/dpm_v3",
        *MODEL,
    ],
    "fit": [
        f"{SCRIPTS}/fit",
        "from_spec",
        *FITTING,
        *CLASSICAL_CODE,
        *SAMPLING,
    ],
    "sample": [f"{SCRIPTS}/sample", "samples", *SAMPLING],
    "join": [f"{SCRIPTS}/join_shards", "store"],
    "score": [
        f"{SCRIPTS}/score",
        f"{SCRIPTS}/reference_moments",
        "store",
        "parts",
        "sampling",
        "models/datasets",
        *MODEL,
        *(f"metrics/{name}" for name in METRICS),
    ],
    "tables": [f"{SCRIPTS}/scores_csv", f"{SCRIPTS}/comparison_table", "tables"],
    "figures": [f"{SCRIPTS}/figure", "figures", "solver_styles", "tables"],
    "paper_figures": [
        f"{SCRIPTS}/figure",
        "figures",
        "paper_figures",
        "solver_styles",
        "tables",
    ],
    "paper_tables": [f"{SCRIPTS}/paper_table", "paper", "tables"],
    "analysis": [f"{SCRIPTS}/analysis", f"{SCRIPTS}/figure", *ANALYSIS],
    "questions": [
        f"{SCRIPTS}/question",
        f"{SCRIPTS}/answer",
        *(
            f"questions/{name}"
            for name in ("__init__", "job", "shown", "ablation", *QUESTIONS)
        ),
        "from_spec",
        *FITTING,
        *CLASSICAL_CODE,
        *SAMPLING,
        *(f"metrics/{name}" for name in METRICS),
        *ANALYSIS,
    ],
    "report": [f"{SCRIPTS}/report", "report", "report.html", "reading", *REPORT],
}


rule code_fingerprint:
    """Checksums of the scripts and package files that a stage uses: one small input for its jobs instead of many."""
    input:
        lambda wildcards: on_this_machine(
            *(
                f"{REPOSITORY}/src/s4s/{name}{'' if name.endswith('.html') else '.py'}"
                for name in STAGES[wildcards.stage]
            )
        ),
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
