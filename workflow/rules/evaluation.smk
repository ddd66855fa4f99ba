"""
Evaluation: predictions, throughput, tokens; the tables are functions of these alone.

REQUIRED INPUTS, all below results/{study}:

    data        data/evaluation-{digest}/manifest.json
    runs, run   {teachers,adapted,students,finetuned,given}/{run}-{digest}/weights.safetensors

OUTPUTS, all below results/{study}:

    predictions/{model}/{resolution}-{digest}/      a file a run and evaluation set, provenance.json
    throughput/all-{digest}/throughput.csv          images/s, as in Table 1
    tokens/{run}-{digest}/tokens.json               cosines between the two tokens
"""


rule predict:
    """Predict every evaluation set with all runs of one model, through both heads and their fusion (paper, section 4)."""
    input:
        data=plan.needs("data"),
        runs=plan.needs("runs"),
    output:  # update: not deleted by a job that comes late, after another has made the result
        provenance=update("results/{study}/predictions/{name}-{digest}/provenance.json"),
    log:
        "results/{study}/logs/predictions/{name}-{digest}.log",
    benchmark:
        "results/{study}/benchmarks/predictions/{name}-{digest}.tsv"
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
        "exec {params.launcher} deit.commands.predict --recipe {params.recipe:q} {params.folders[data]} {params.folders[runs]} --output {params.output:q}"


rule measure_throughput:
    """Images per second at inference, as in Table 1; the only job that wants the machine for itself."""
    output:  # update: not deleted by a job that comes late, after another has made the result
        throughput=update("results/{study}/throughput/{name}-{digest}/throughput.csv"),
        provenance=update("results/{study}/throughput/{name}-{digest}/provenance.json"),
    log:
        "results/{study}/logs/throughput/{name}-{digest}.log",
    benchmark:
        "results/{study}/benchmarks/throughput/{name}-{digest}.tsv"
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
        "exec {params.launcher} deit.commands.measure_throughput --recipe {params.recipe:q} --output {params.output:q}"


rule compare_tokens:
    """Cosine between class and distillation token, at the input and after every layer (paper, section 4)."""
    input:
        data=plan.needs("data"),
        run=plan.needs("run"),
    output:  # update: not deleted by a job that comes late, after another has made the result
        tokens=update("results/{study}/tokens/{name}-{digest}/tokens.json"),
        provenance=update("results/{study}/tokens/{name}-{digest}/provenance.json"),
    log:
        "results/{study}/logs/tokens/{name}-{digest}.log",
    benchmark:
        "results/{study}/benchmarks/tokens/{name}-{digest}.tsv"
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
        "exec {params.launcher} deit.commands.compare_tokens --recipe {params.recipe:q} {params.folders[data]} {params.folders[run]} --output {params.output:q}"
