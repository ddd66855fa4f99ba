# Teachers: what students learn from, at both resolutions.


rule train_teacher:
    """Train a network that others learn from: the RegNetYs with SGD, DeiT-B with labels only (paper, section 5.1)."""
    input:
        unpack(plan.needs),
    output:  # update: not deleted by a job that comes late, after another has made the result
        weights=update("results/{study}/teachers/{name}-{digest}/weights.safetensors"),
        history=update("results/{study}/teachers/{name}-{digest}/history.csv"),
        provenance=update("results/{study}/teachers/{name}-{digest}/provenance.json"),
    log:
        "results/{study}/logs/teachers/{name}-{digest}.log",
    benchmark:
        "results/{study}/benchmarks/teachers/{name}-{digest}.tsv"
    threads: plan.cpus
    resources:
        gpu=plan.gpu,
        nodes=plan.execution("nodes"),
        mpi=plan.on_several_nodes("srun"),
        tasks=plan.on_several_nodes(),
        tasks_per_gpu=plan.on_several_nodes(0),
        gres=plan.gres,
        mem_mb=plan.memory,
        runtime=plan.execution("minutes"),
    params:
        recipe=plan.recipe,
        folders=plan.flags,
        output=plan.folder,
        launcher=plan.launcher,
        resume="results/{study}/resume/{digest}",
    shell:
        "exec &> >(trap '' TERM USR1; exec tee {log:q}); "
        "exec {params.launcher} deit.commands.train --recipe {params.recipe:q} {params.folders} --resume {params.resume:q} --output {params.output:q}"


rule adapt_teacher:
    """Bring a teacher to the higher resolution, as FixRes does, for the distilled fine-tunings (paper, section 5.2)."""
    input:
        unpack(plan.needs),
    output:  # update: not deleted by a job that comes late, after another has made the result
        weights=update("results/{study}/adapted/{name}-{digest}/weights.safetensors"),
        history=update("results/{study}/adapted/{name}-{digest}/history.csv"),
        provenance=update("results/{study}/adapted/{name}-{digest}/provenance.json"),
    log:
        "results/{study}/logs/adapted/{name}-{digest}.log",
    benchmark:
        "results/{study}/benchmarks/adapted/{name}-{digest}.tsv"
    threads: plan.cpus
    resources:
        gpu=plan.gpu,
        nodes=plan.execution("nodes"),
        mpi=plan.on_several_nodes("srun"),
        tasks=plan.on_several_nodes(),
        tasks_per_gpu=plan.on_several_nodes(0),
        gres=plan.gres,
        mem_mb=plan.memory,
        runtime=plan.execution("minutes"),
    params:
        recipe=plan.recipe,
        folders=plan.flags,
        output=plan.folder,
        launcher=plan.launcher,
        resume="results/{study}/resume/{digest}",
    shell:
        "exec &> >(trap '' TERM USR1; exec tee {log:q}); "
        "exec {params.launcher} deit.commands.train --recipe {params.recipe:q} {params.folders} --resume {params.resume:q} --output {params.output:q}"
