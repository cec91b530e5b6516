# The embedded models are trained here once and ship in resources/; the default run does not train.


rule train_embedded:
    """Train the digits denoiser, its feature network and its perceptual network into results/embedded."""
    output:
        expand(
            "results/embedded/digits/{network}.safetensors",
            network=["denoiser", "classifier", "perceptual"],
        ),
    log:
        "results/logs/train_embedded/digits.log",
    benchmark:
        "results/benchmarks/train_embedded/digits.jsonl"
    conda:
        "../envs/s4s.yaml"
    threads: 2
    resources:
        mem_mb=2000,
        runtime=20,
        gpu=0,
    params:
        script=program("train_embedded"),
        out=lambda wildcards, output: os.path.dirname(output[0]),
    shell:
        "python {params.script} --threads {threads} --out {params.out} 2>&1 | tee {log}"
