"""
Teacher logits: every view is shown to a teacher once, whoever learns from it.

REQUIRED INPUTS, all below results/{study}:

    data        data/training-{digest}/manifest.json
    teacher     {teachers,adapted}/{run}-{digest}/weights.safetensors
    views       views/{resolution}/stream{seed}-epochs{n}-{digest}/manifest.json, where the study stores them
    train_pass  passes/{name}-{digest}/provenance.json alone, where a pass fills the cache (passes.smk)

OUTPUTS, all below results/{study}:

    teacher_logits/{teacher}/stream{seed}-epochs{a}-{b}-{digest}/    manifest.json, provenance.json, a file an epoch
"""


rule cache_teacher_logits:
    """Record what a teacher says of every view of some epochs: y_t = argmax Z_t, and Z_t for soft distillation (paper, section 4).

    Where a pass fills the cache, `train_pass` is waited for, and then there is nothing to do.
    """
    input:
        data=plan.needs("data"),
        teacher=plan.needs("teacher"),
        views=plan.needs("views"),
        train_pass=plan.needs("train_pass"),
    output:  # update: not deleted by a job that comes late, after another has made the result
        manifest=update("results/{study}/teacher_logits/{name}-{digest}/manifest.json"),
        provenance=update("results/{study}/teacher_logits/{name}-{digest}/provenance.json"),
    log:
        "results/{study}/logs/teacher_logits/{name}-{digest}.log",
    benchmark:
        "results/{study}/benchmarks/teacher_logits/{name}-{digest}.tsv"
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
        "exec {params.launcher} deit.commands.cache_teacher_logits --recipe {params.recipe:q} "
        "{params.folders[data]} {params.folders[teacher]} {params.folders[views]} --output {params.output:q}"
