"""
Given: weights in place of a training, or where trainings start; studies with `released:` have no others.

REQUIRED INPUTS:

    params/{study}.yaml     weights, initial, released: timm's tag, a file and its sha256, or a run of another study
    run                     results/{other study}/{section}/{run}-{digest}/weights.safetensors, where that is given
    networks                results/{study}/networks/all-{digest}/networks.csv, which is waited for and not read

OUTPUTS:

    results/{study}/given/{model}/{supervision}/{resolution}/seed{n}-{digest}/, or given/{model}/initial-{digest}/
                            weights.safetensors, config.json, source.json, provenance.json
"""


rule import_weights:
    """Make a run's folder of given weights, from the hub, a file or another study (the authors' DeiTs and RegNetY-16GF).

    `networks` is waited for: what cannot be built is refused before anything is fetched.
    """
    input:
        networks=plan.needs("networks"),
        run=plan.needs("run"),
    output:  # update: not deleted by a job that comes late, after another has made the result
        weights=update("results/{study}/given/{name}-{digest}/weights.safetensors"),
        config=update("results/{study}/given/{name}-{digest}/config.json"),
        source=update("results/{study}/given/{name}-{digest}/source.json"),
        provenance=update("results/{study}/given/{name}-{digest}/provenance.json"),
    log:
        "results/{study}/logs/given/{name}-{digest}.log",
    benchmark:
        "results/{study}/benchmarks/given/{name}-{digest}.tsv"
    localrule: True  # in seconds, on the machine that has a network
    resources:
        mem_mb=plan.memory,
        runtime=plan.execution("minutes"),
    params:
        recipe=plan.recipe,
        folders=plan.flags,
        output=plan.folder,
        launcher=plan.launcher,
        screen=plan.screen,
    shell:
        "exec &> >(trap '' TERM USR1; exec tee {log:q} {params.screen}); "
        "exec {params.launcher} deit.commands.import_weights --recipe {params.recipe:q} {params.folders[run]} --output {params.output:q}"
