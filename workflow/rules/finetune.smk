# Fine-tuning at the higher resolution (384 in the paper).


rule finetune:
    """Fine-tune a student at the higher resolution, distilled as in pre-training (paper, section 5.2)."""
    input:
        unpack(plan.needs),
    output:  # update: not deleted by a job that comes late, after another has made the result
        weights=update("results/{study}/finetuned/{name}-{digest}/weights.safetensors"),
        history=update("results/{study}/finetuned/{name}-{digest}/history.csv"),
        provenance=update("results/{study}/finetuned/{name}-{digest}/provenance.json"),
    log:
        "results/{study}/logs/finetuned/{name}-{digest}.log",
    benchmark:
        "results/{study}/benchmarks/finetuned/{name}-{digest}.tsv"
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
