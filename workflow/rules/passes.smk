"""
Passes: runs of one stream that one job trains, where `execution: passes:` says so.

REQUIRED INPUTS, all below results/{study}: what its runs and caches need, but for what the pass makes itself:

    networks        networks/all-{digest}/networks.csv, which is waited for and not read
    data            data/training-{digest}/manifest.json
    initial         {teachers,students}/{run}-{digest}/weights.safetensors
    views           views/{resolution}/stream{seed}-epochs{n}-{digest}/manifest.json
    teacher_logits  teacher_logits/{teacher}/stream{seed}-epochs{a}-{b}-{digest}/manifest.json
    teacher         {teachers,adapted}/{run}-{digest}/weights.safetensors

OUTPUTS, all below results/{study}:

    passes/{name}-{digest}/     outcome.json, provenance.json
    and the folders of its runs and caches, which the rules of these declare as their own, and find finished
"""


rule train_pass:
    """Train runs that see the same views, which are made once, and fill the caches of their teachers on the way.

    Its command finds `data`, `initial`, `views`, `teacher_logits` and `teacher` in the recipes of the runs and caches, as
    each of them may be given others. `networks` is waited for: what cannot be built is refused before.
    """
    input:
        networks=plan.needs("networks"),
        data=plan.needs("data"),
        initial=plan.needs("initial"),
        views=plan.needs("views"),
        teacher_logits=plan.needs("teacher_logits"),
        teacher=plan.needs("teacher"),
    output:  # update: not deleted by a job that comes late, after another has made the result
        provenance=update("results/{study}/passes/{name}-{digest}/provenance.json"),
    log:
        "results/{study}/logs/passes/{name}-{digest}.log",
    benchmark:
        "results/{study}/benchmarks/passes/{name}-{digest}.tsv"
    threads: plan.cpus
    resources:
        **plan.training_resources,
    params:
        recipe=plan.recipe,
        output=plan.folder,
        launcher=plan.launcher,
        screen=plan.screen,
        resume="results/{study}/resume",
    shell:
        "exec &> >(trap '' TERM USR1; exec tee {log:q} {params.screen}); "
        "exec {params.launcher} deit.commands.train_pass --recipe {params.recipe:q} --resume {params.resume:q} --output {params.output:q}"
