"""
Teachers: what students learn from, at both resolutions. All trainings share command, resources and params: `use rule`.

REQUIRED INPUTS, all below results/{study}:

    networks      networks/all-{digest}/networks.csv, which is waited for and not read
    data          data/training-{digest}/manifest.json
    views         views/{resolution}/stream{seed}-epochs{n}-{digest}/manifest.json, where the study stores them
    initial       {teachers,given}/{run}-{digest}/weights.safetensors, to start from at the higher resolution; or given
                  {model}/initial-{digest}, to start from at all
    train_pass    passes/{name}-{digest}/provenance.json alone, where a pass trains the run (passes.smk)

OUTPUTS, all below results/{study}:

    teachers/{model}/labels/{resolution}/seed{n}-{digest}/      weights.safetensors, history.csv, provenance.json
    adapted/{model}/labels/{resolution}/seed{n}-{digest}/       likewise, at the higher resolution or on another data set
"""


rule train_teacher:
    """Train a network that others learn from: the RegNetYs with SGD, DeiT-B with labels only (paper, section 5.1).

    `networks` is waited for: what cannot be built is refused before anything is trained. Where a pass trains the run,
    `train_pass` is waited for, and then there is nothing to do.
    """
    input:
        networks=plan.needs("networks"),
        data=plan.needs("data"),
        initial=plan.needs("initial"),
        views=plan.needs("views"),
        train_pass=plan.needs("train_pass"),
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
        **plan.training_resources,
    params:
        recipe=plan.recipe,
        folders=plan.flags,
        output=plan.folder,
        launcher=plan.launcher,
        screen=plan.screen,
        resume="results/{study}/resume/{digest}",
    shell:
        "exec &> >(trap '' TERM USR1; exec tee {log:q} {params.screen}); "
        "exec {params.launcher} deit.commands.train --recipe {params.recipe:q} "
        "{params.folders[data]} {params.folders[initial]} {params.folders[views]} {params.folders[teacher_logits]} "
        "--resume {params.resume:q} --output {params.output:q}"


use rule train_teacher as adapt_teacher with:
    """Bring a teacher to the higher resolution, as FixRes does, or to another data set, for the distilled fine-tunings (paper, section 5.2)."""
    input:
        networks=plan.needs("networks"),
        data=plan.needs("data"),
        initial=plan.needs("initial"),
        views=plan.needs("views"),
        train_pass=plan.needs("train_pass"),
    output:  # update: not deleted by a job that comes late, after another has made the result
        weights=update("results/{study}/adapted/{name}-{digest}/weights.safetensors"),
        history=update("results/{study}/adapted/{name}-{digest}/history.csv"),
        provenance=update("results/{study}/adapted/{name}-{digest}/provenance.json"),
    log:
        "results/{study}/logs/adapted/{name}-{digest}.log",
    benchmark:
        "results/{study}/benchmarks/adapted/{name}-{digest}.tsv"
