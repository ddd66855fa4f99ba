# Passes: runs of one stream that one job trains, where `execution: passes:` says so.


rule train_pass:
    """Train runs that see the same views, which are made once, and fill the caches of their teachers on the way."""
    input:
        unpack(plan.needs),
    output:  # update: not deleted by a job that comes late, after another has made the result
        provenance=update("results/{study}/passes/{name}-{digest}/provenance.json"),
    log:
        "results/{study}/logs/passes/{name}-{digest}.log",
    benchmark:
        "results/{study}/benchmarks/passes/{name}-{digest}.tsv"
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
        output=plan.folder,
        launcher=plan.launcher,
        resume="results/{study}/resume",
    shell:
        "exec &> >(trap '' TERM USR1; exec tee {log:q}); "
        "exec {params.launcher} deit.commands.train_pass --recipe {params.recipe:q} --resume {params.resume:q} --output {params.output:q}"
