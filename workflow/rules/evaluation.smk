# Evaluation: predictions, throughput, tokens; the tables are functions of these alone.


rule predict:
    """Predict every evaluation set with all runs of one model, through both heads and their fusion (paper, section 4)."""
    input:
        unpack(plan.needs),
    output:  # update: not deleted by a job that comes late, after another has made the result
        provenance=update("results/{study}/predictions/{name}-{digest}/provenance.json"),
    log:
        "results/{study}/logs/predictions/{name}-{digest}.log",
    benchmark:
        "results/{study}/benchmarks/predictions/{name}-{digest}.tsv"
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
        "exec {params.launcher} deit.commands.predict --recipe {params.recipe:q} {params.folders} --output {params.output:q}"


rule measure_throughput:
    """Images per second at inference, as in Table 1; the only job that wants the machine for itself."""
    input:
        unpack(plan.needs),
    output:  # update: not deleted by a job that comes late, after another has made the result
        throughput=update("results/{study}/throughput/{name}-{digest}/throughput.csv"),
        provenance=update("results/{study}/throughput/{name}-{digest}/provenance.json"),
    log:
        "results/{study}/logs/throughput/{name}-{digest}.log",
    benchmark:
        "results/{study}/benchmarks/throughput/{name}-{digest}.tsv"
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
        "exec {params.launcher} deit.commands.measure_throughput --recipe {params.recipe:q} {params.folders} --output {params.output:q}"


rule compare_tokens:
    """Cosine between class and distillation token, at the input and after every layer (paper, section 4)."""
    input:
        unpack(plan.needs),
    output:  # update: not deleted by a job that comes late, after another has made the result
        tokens=update("results/{study}/tokens/{name}-{digest}/tokens.json"),
        provenance=update("results/{study}/tokens/{name}-{digest}/provenance.json"),
    log:
        "results/{study}/logs/tokens/{name}-{digest}.log",
    benchmark:
        "results/{study}/benchmarks/tokens/{name}-{digest}.tsv"
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
        "exec {params.launcher} deit.commands.compare_tokens --recipe {params.recipe:q} {params.folders} --output {params.output:q}"
