# Teacher logits: every view is shown to a teacher once, whoever learns from it.


rule cache_teacher_logits:
    """Record what a teacher says of every view of some epochs: y_t = argmax Z_t, and Z_t for soft distillation (paper, section 4)."""
    input:
        unpack(plan.needs),
    output:  # update: not deleted by a job that comes late, after another has made the result
        manifest=update("results/{study}/teacher_logits/{name}-{digest}/manifest.json"),
        provenance=update("results/{study}/teacher_logits/{name}-{digest}/provenance.json"),
    log:
        "results/{study}/logs/teacher_logits/{name}-{digest}.log",
    benchmark:
        "results/{study}/benchmarks/teacher_logits/{name}-{digest}.tsv"
    threads: plan.cpus
    resources:
        gpu=plan.gpu,
        gres=plan.gres,
        nodes=plan.execution("nodes"),
        mem_mb=plan.memory,
        runtime=plan.execution("minutes"),
    params:
        recipe=plan.recipe,
        folders=plan.flags,
        output=plan.folder,
        launcher=plan.launcher,
    shell:
        "exec &> >(trap '' TERM USR1; exec tee {log:q}); "
        "exec {params.launcher} deit.commands.cache_teacher_logits --recipe {params.recipe:q} {params.folders} --output {params.output:q}"
