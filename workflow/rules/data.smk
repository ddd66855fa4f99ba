"""
Data and networks: checked once, before anything is trained; small views are made once.

REQUIRED INPUTS:

    params/{study}.yaml     data: what the images are to be, and where they lie (data.root); models, resolutions

OUTPUTS, all below results/{study}:

    data/{training,evaluation}-{digest}/manifest.json           names, order and checksums of the images
    networks/all-{digest}/networks.csv                          parameters and operations of every network
    views/{resolution}/stream{seed}-epochs{n}-{digest}/         views of a stream, where the study stores them
"""


rule prepare_data:
    """Check the images against what the params declare (counts, classes, checksums) and write the manifest."""
    output:  # update: not deleted by a job that comes late, after another has made the result
        manifest=update("results/{study}/data/{name}-{digest}/manifest.json"),
        provenance=update("results/{study}/data/{name}-{digest}/provenance.json"),
    log:
        "results/{study}/logs/data/{name}-{digest}.log",
    benchmark:
        "results/{study}/benchmarks/data/{name}-{digest}.tsv"
    threads: plan.cpus
    resources:
        **plan.resources,
    params:
        recipe=plan.recipe,
        output=plan.folder,
        launcher=plan.launcher,
        screen=plan.screen,
    shell:
        "exec &> >(trap '' TERM USR1; exec tee {log:q} {params.screen}); "
        "exec {params.launcher} deit.commands.prepare_data --recipe {params.recipe:q} --output {params.output:q}"


rule check_networks:
    """Build every network without weights, with its heads, at each of its resolutions, and refuse what cannot be trained, kept or resized."""
    output:  # update: not deleted by a job that comes late, after another has made the result
        networks=update("results/{study}/networks/{name}-{digest}/networks.csv"),
        provenance=update("results/{study}/networks/{name}-{digest}/provenance.json"),
    log:
        "results/{study}/logs/networks/{name}-{digest}.log",
    benchmark:
        "results/{study}/benchmarks/networks/{name}-{digest}.tsv"
    localrule: True  # a second a network, before anything is queued
    resources:
        mem_mb=plan.memory,
        runtime=plan.execution("minutes"),
    params:
        recipe=plan.recipe,
        output=plan.folder,
        launcher=plan.launcher,
        screen=plan.screen,
    shell:
        "exec &> >(trap '' TERM USR1; exec tee {log:q} {params.screen}); "
        "exec {params.launcher} deit.commands.check_networks --recipe {params.recipe:q} --output {params.output:q}"


rule store_views:
    """Make the views of a stream once for all runs that see them, where the study says so (stored_views)."""
    input:
        data=plan.needs("data"),
    output:  # update: not deleted by a job that comes late, after another has made the result
        manifest=update("results/{study}/views/{name}-{digest}/manifest.json"),
        provenance=update("results/{study}/views/{name}-{digest}/provenance.json"),
    log:
        "results/{study}/logs/views/{name}-{digest}.log",
    benchmark:
        "results/{study}/benchmarks/views/{name}-{digest}.tsv"
    threads: plan.cpus
    resources:
        **plan.resources,
    params:
        recipe=plan.recipe,
        folders=plan.flags,
        output=plan.folder,
        launcher=plan.launcher,
        screen=plan.screen,
    shell:
        "exec &> >(trap '' TERM USR1; exec tee {log:q} {params.screen}); "
        "exec {params.launcher} deit.commands.store_views --recipe {params.recipe:q} {params.folders[data]} --output {params.output:q}"
