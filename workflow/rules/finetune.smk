"""
Fine-tuning at the higher resolution (384 in the paper), or on another data set (`transfer:`). Command, resources and params: train_teacher (teachers.smk).

REQUIRED INPUTS, all below results/{study}:

    networks        networks/all-{digest}/networks.csv, which is waited for and not read
    data            data/training-{digest}/manifest.json
    initial         {students,finetuned,given}/{run}-{digest}/weights.safetensors
    views           views/{resolution}/stream{seed}-epochs{n}-{digest}/manifest.json, where the study stores them
    teacher_logits  teacher_logits/{teacher}/stream{seed}-epochs{a}-{b}-{digest}/manifest.json, of the adapted teacher
    train_pass      passes/{name}-{digest}/provenance.json alone, where a pass trains the run (passes.smk)

OUTPUTS, all below results/{study}:

    finetuned/{model}/{supervision}/{resolution}/seed{n}-{digest}/    weights.safetensors, history.csv, provenance.json
"""


use rule train_teacher as finetune with:
    """Fine-tune a student at the higher resolution or on another data set, distilled as in pre-training (paper, section 5.2)."""
    input:
        networks=plan.needs("networks"),
        data=plan.needs("data"),
        initial=plan.needs("initial"),
        views=plan.needs("views"),
        teacher_logits=plan.needs("teacher_logits"),
        train_pass=plan.needs("train_pass"),
    output:  # update: not deleted by a job that comes late, after another has made the result
        weights=update("results/{study}/finetuned/{name}-{digest}/weights.safetensors"),
        history=update("results/{study}/finetuned/{name}-{digest}/history.csv"),
        provenance=update("results/{study}/finetuned/{name}-{digest}/provenance.json"),
    log:
        "results/{study}/logs/finetuned/{name}-{digest}.log",
    benchmark:
        "results/{study}/benchmarks/finetuned/{name}-{digest}.tsv"
