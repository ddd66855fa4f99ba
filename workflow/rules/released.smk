"""
Released: weights that others have published, of studies that evaluate these and train nothing.

REQUIRED INPUTS:

    params/{study}.yaml     released: each run's file and sha256, or its name on the hub
    networks                results/{study}/networks/all-{digest}/networks.csv, which is waited for and not read

OUTPUTS:

    results/{study}/released/{model}/{supervision}/{resolution}/seed0-{digest}/
                            weights.safetensors, config.json, source.json, provenance.json
"""


rule import_weights:
    """Make a run's folder of published weights, from a file or the hub (the authors' DeiTs and their RegNetY-16GF)."""
    input:
        networks=plan.needs("networks"),
    output:  # update: not deleted by a job that comes late, after another has made the result
        weights=update("results/{study}/released/{name}-{digest}/weights.safetensors"),
        config=update("results/{study}/released/{name}-{digest}/config.json"),
        source=update("results/{study}/released/{name}-{digest}/source.json"),
        provenance=update("results/{study}/released/{name}-{digest}/provenance.json"),
    log:
        "results/{study}/logs/released/{name}-{digest}.log",
    benchmark:
        "results/{study}/benchmarks/released/{name}-{digest}.tsv"
    localrule: True  # in seconds, on the machine that has a network
    resources:
        mem_mb=plan.memory,
        runtime=plan.execution("minutes"),
    params:
        recipe=plan.recipe,
        output=plan.folder,
        launcher=plan.launcher,
    shell:
        "exec &> >(trap '' TERM USR1; exec tee {log:q}); "
        "exec {params.launcher} deit.commands.import_weights --recipe {params.recipe:q} --output {params.output:q}"
