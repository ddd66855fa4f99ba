"""
Tables: papermill renders a notebook a table; the report gathers them on one page.

REQUIRED INPUTS, all below results/{study}:

    predictions     predictions/{model}/{resolution}-{digest}/provenance.json
    throughput      throughput/all-{digest}/throughput.csv
    networks        networks/all-{digest}/networks.csv, for Table 1
    tokens          tokens/{run}-{digest}/tokens.json
    runs, given     weights.safetensors of every run, for the report's curves, cost and pictures
    data            data/{training,evaluation}-{digest}/manifest.json, which images the pictures may show

OUTPUTS:

    results/{study}/tables/{table}-{digest}/    executed notebook, HTML, CSV, LaTeX, provenance.json
    reports/{study}/                            index.html, the tables, metrics.json, provenance-{digest}.json
"""


rule render_table:
    """One table or figure of the paper, ours beside theirs: executed notebook, HTML, CSV, LaTeX."""
    input:
        predictions=plan.needs("predictions"),
        throughput=plan.needs("throughput"),
        networks=plan.needs("networks"),
        tokens=plan.needs("tokens"),
    output:  # update: not deleted by a job that comes late, after another has made the result
        provenance=update("results/{study}/tables/{name}-{digest}/provenance.json"),
    log:
        "results/{study}/logs/tables/{name}-{digest}.log",
    benchmark:
        "results/{study}/benchmarks/tables/{name}-{digest}.tsv"
    threads: plan.cpus
    resources:
        mem_mb=plan.memory,
        runtime=plan.execution("minutes"),
    params:
        recipe=plan.recipe,
        folders=plan.flags,
        output=plan.folder,
        launcher=plan.launcher,
        screen=plan.screen,
    shell:
        "exec &> >(trap '' TERM USR1; exec tee {log:q} {params.screen}); "
        "exec {params.launcher} workflow/jobs/render.py --recipe {params.recipe:q} "
        "{params.folders[predictions]} {params.folders[throughput]} {params.folders[networks]} {params.folders[tokens]} "
        "--output {params.output:q}"


rule publish_report:
    """The page of all tables with findings, curves, cost and provenance; the provenance's name is the plan's digest."""
    input:
        tables=plan.needs("tables"),
        runs=plan.needs("runs"),
        given=plan.needs("given"),
        data=plan.needs("data"),
        predictions=plan.needs("predictions"),
        throughput=plan.needs("throughput"),
        networks=plan.needs("networks"),
        tokens=plan.needs("tokens"),
    output:
        provenance="reports/{study}/provenance-{digest}.json",
    log:
        "results/{study}/logs/report-{digest}.log",
    resources:
        mem_mb=plan.memory,
        runtime=plan.execution("minutes"),
    params:
        recipe=plan.recipe,
        folders=plan.flags,
        output="reports/{study}",
        launcher=plan.launcher,
        screen=plan.screen,
    shell:
        "exec &> >(trap '' TERM USR1; exec tee {log:q} {params.screen}); "
        "exec {params.launcher} workflow/jobs/report.py --recipe {params.recipe:q} "
        "{params.folders[tables]} {params.folders[runs]} {params.folders[given]} {params.folders[data]} "
        "{params.folders[predictions]} {params.folders[throughput]} {params.folders[networks]} {params.folders[tokens]} "
        "--output {params.output:q}"


# The phases, as stages of dvc.yaml and for those who want a part: `snakemake teachers`.


rule data:
    input:
        plan.targets("data", "networks", "views"),


rule teachers:
    input:
        plan.targets("teachers", "adapted", "given"),


rule teacher_logits:
    input:
        plan.targets("teacher_logits"),


rule students:
    input:
        plan.targets("students"),


rule finetuned:
    input:
        plan.targets("finetuned"),


rule evaluation:
    input:
        plan.targets("predictions", "throughput", "tokens"),
