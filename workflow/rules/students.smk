"""
Students: Ti, S, B x labels, soft, hard, token. Command, resources and params are those of train_teacher (teachers.smk).

REQUIRED INPUTS, all below results/{study}:

    networks        networks/all-{digest}/networks.csv, which is waited for and not read
    data            data/training-{digest}/manifest.json
    initial         given/{model}/initial-{digest}/weights.safetensors, where the params say to start from weights
    views           views/{resolution}/stream{seed}-epochs{n}-{digest}/manifest.json, where the study stores them
    teacher_logits  teacher_logits/{teacher}/stream{seed}-epochs{a}-{b}-{digest}/manifest.json; none to learn from labels
    train_pass      passes/{name}-{digest}/provenance.json alone, where a pass trains the run (passes.smk)

OUTPUTS, all below results/{study}:

    students/{model}/{supervision}/{resolution}/seed{n}-{digest}/    weights.safetensors, history.csv, provenance.json
"""


use rule train_teacher as distil_student with:
    """Train a DeiT from labels, or from a teacher: soft, hard or through the distillation token (paper, equations 2 and 3)."""
    input:
        networks=plan.needs("networks"),
        data=plan.needs("data"),
        initial=plan.needs("initial"),
        views=plan.needs("views"),
        teacher_logits=plan.needs("teacher_logits"),
        train_pass=plan.needs("train_pass"),
    output:  # update: not deleted by a job that comes late, after another has made the result
        weights=update("results/{study}/students/{name}-{digest}/weights.safetensors"),
        history=update("results/{study}/students/{name}-{digest}/history.csv"),
        provenance=update("results/{study}/students/{name}-{digest}/provenance.json"),
    log:
        "results/{study}/logs/students/{name}-{digest}.log",
    benchmark:
        "results/{study}/benchmarks/students/{name}-{digest}.tsv"
