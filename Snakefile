"""The DeiT paper as one DAG: teachers -> their logits -> students -> fine-tuning at 384 -> predictions -> tables.

Every result is named after what it is made from (workflow/plan/plan.py), so a name that exists is right and needs no record.
"""

import sys


configfile: "params/study.yaml"


sys.path[:0] = [f"{workflow.basedir}/src", f"{workflow.basedir}/workflow"]

from call.begin import begin, let_existence_decide, let_jobs_find_our_code, look_ahead, refusals, refuse_clone
from call.gpus import jobs_on_gpus
from call.screen import show
from plan.lookup import Lookup
from study.config import read_config

with refusals():
    refuse_clone()
    let_jobs_find_our_code()
    asked = read_config(config)
    plan = Lookup(
        asked.study,
        workflow.is_main_process,
        elsewhere=workflow.resource_settings.nodes is not None,  # jobs of a cluster are counted, not cores
        as_if_new=asked.as_if_new,
        gres_only=asked.gres_only,
    )
    let_existence_decide(workflow)
    if workflow.is_main_process:
        look_ahead(plan.plan, plan.elsewhere)
        screen = show(plan, workflow)

if "gpu" not in workflow.global_resources and (limit := jobs_on_gpus(plan)):  # else --resources gpu=N says it
    workflow.register_resource("gpu", limit)


wildcard_constraints:
    study=asked.study,
    name="[^.]+",
    digest="[0-9a-f]{10}",


onstart:
    if workflow.is_main_process:
        jobs = list(workflow.dag.needrun_jobs())
        begin(plan, jobs)
        workflow.execution_settings.keep_incomplete = True  # of our profiles, too: what failed is gone on with
        screen.begin(jobs)


onsuccess:
    if workflow.is_main_process:
        screen.succeed()


onerror:
    if workflow.is_main_process:
        screen.give_up()


rule all_tables:
    """Every table and figure of the study, gathered in reports/<study>/index.html."""
    input:
        plan.targets("tables"),  # a clone that holds reports and no results has all to compute
        plan.report,


include: "workflow/rules/data.smk"
include: "workflow/rules/given.smk"
include: "workflow/rules/teachers.smk"
include: "workflow/rules/teacher_logits.smk"
include: "workflow/rules/students.smk"
include: "workflow/rules/passes.smk"
include: "workflow/rules/finetune.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/tables.smk"
