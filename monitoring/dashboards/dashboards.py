#!/usr/bin/env python3
"""Grafana's dashboards of Troupe, from the tables below.

    dashboards.py            writes them to k8s/helm/troupe/files/dashboards, where the Helm chart and Grafana's provisioning
                             (monitoring/grafana) take them from
    dashboards.py --check    exit status 1 when they are not what this would write

$of is the selector of an installation and $node that of its chosen instances; recorded series have no instance.
"""

import json
import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "k8s/helm/troupe/files/dashboards"
OF = 'namespace=~"$namespace",job=~"$job"'
NODE = OF + ',instance=~"$instance"'
MODEL = 'model=~"$model"'


def rate(metric, by="", where="", more=""):
    """A sum of rates; `by`: labels, `where`: further matchers."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{$node{',' + where if where else ''}}}[$__rate_interval])){more}"


def grown(metric, by, where=""):
    return f"sum by ({by}) (increase({metric}{{$node{',' + where if where else ''}}}[$__rate_interval]))"


def quantile(q, histogram, by="", where=""):
    return f"histogram_quantile({q}, {rate(histogram + '_bucket', 'le' + (', ' + by if by else ''), where)})"


def quantiles(histogram, by="", where=""):
    """p50, p95 and p99; with `by` p95 alone, a series each."""
    if by:
        return [(quantile(0.95, histogram, by, where), "p95 " + " ".join("{{%s}}" % label for label in by.split(", ")))]
    return [(quantile(q, histogram, by, where), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)]


def ratio(part, whole):
    return f"{part}\n/\n({whole} > 0)"


def row(title):
    return {"row": title}


def graph(title, queries, unit="short", bound=None, stack=False, about="", width=12):
    """`bound`: an objective, drawn as a line."""
    return {"kind": "timeseries", "title": title, "queries": queries, "unit": unit, "bound": bound, "stack": stack, "about": about,
            "width": width, "height": 8}


def number(title, query, unit="short", bad_above=None, bad_below=None, about="", width=4):
    return {"kind": "stat", "title": title, "queries": [(query, "")], "unit": unit, "above": bad_above, "below": bad_below, "about": about,
            "width": width, "height": 4}


def table(title, query, columns, about="", width=12, value=False):
    """One row a series, with these labels as columns."""
    return {"kind": "table", "title": title, "queries": [(query, "")], "unit": "short", "columns": columns, "value": value, "about": about,
            "width": width, "height": 8}


ANSWERED = 'status="success"'  # what is refused at once is no fast answer
API = 'door=~"http|grpc"'
PIPELINE = 'door=~"kafka|batch"'

SERVICE = [
    number("Ready instances", "sum(troupe_ready{$node})", bad_below=1, about="Instances whose /ready is 200: the others get no requests"),
    number("Requests", rate("inference_requests_total"), "reqps", about="Requests a second that ended, over all doors, with their answers delivered"),
    number("API errors", "max(troupe:api:failures_ratio_rate5m{$of})", "percentunit", bad_above=0.01, about="By the service's fault; objective: below 1 %"),
    number("API p95", "max(troupe:api:latency_p95_rate5m{$of})", "s", bad_above=0.2, about="Of answers; objective: below 200 ms"),
    number("Pipeline p95", "max(troupe:pipeline:latency_p95_rate5m{$of})", "s", bad_above=0.1, about="Of answers; objective: below 100 ms"),
    number("Lag", "max(troupe_consumer_lag_seconds{$node})", "s", bad_above=5, about="Objective: below 5 s"),
    row("Requests"),
    graph("Requests by door and status", [(rate("inference_requests_total", "door, status"), "{{door}} {{status}}")], "reqps", stack=True,
          about="kafka, http, grpc and batch; error: an error result, a dead letter or a refusal"),
    graph("Errors by code", [(rate("inference_errors_total", "door, code"), "{{door}} {{code}}")], "reqps", stack=True,
          about="invalid_*, too_large and model_not_found are the callers' mistakes, the others the service's fault"),
    graph("API latency", quantiles("inference_request_duration_seconds", where=f"{API},{ANSWERED}"), "s", 0.2,
          about="Of answers over HTTP and gRPC; what was refused is not in it. The line: p95 below 200 ms"),
    graph("p95 by door and class", quantiles("inference_request_duration_seconds", "door, class", ANSWERED), "s",
          about="Of answers, from the reading of a request to the delivery of its answer"),
    graph("Late, shed and expired by class", [(rate("troupe_late_requests_total", "class"), "late {{class}}"),
                                              (rate("troupe_shed_requests_total", "class"), "shed {{class}}"),
                                              (rate("troupe_expired_requests_total", "class"), "expired {{class}}")], "reqps",
          about="Answered after the class's target, ended in the queue (on_late: shed), or past their own deadline"),
    graph("Refused by the guard, and callers gone", [(rate("troupe_guard_refusals_total", "door, reason"), "{{door}} {{reason}}"),
                                                    (rate("troupe_callers_gone_total", "door"), "{{door}} gone")], "reqps",
          about="Refused for credentials, limits or quotas before they were read; gone: the caller did not wait"),
    row("Objectives"),
    graph("Failed by the service's fault", [("troupe:availability:errors_ratio_rate5m{$of}", "5m {{job}} {{door}}"),
                                            ("troupe:availability:errors_ratio_rate1h{$of}", "1h {{job}} {{door}}"),
                                            ("troupe:availability:errors_ratio_rate1d{$of}", "1d {{job}} {{door}}")], "percentunit", 0.001,
          about="By door; objective: 99.9 % of each door's requests well answered"),
    table("Alerts that fire", 'ALERTS{alertname=~"Troupe.*",alertstate="firing",$of}', ["severity", "alertname", "job", "door", "instance", "model"],
          about="Those of the chart's rules; docs/alerts.md has a section for each"),
    row("Scheduling"),
    graph("Requests that wait, by class", [("sum by (class) (troupe_queue_depth{$node})", "{{class}}")],
          about="In the scheduler's queue, not in the topic"),
    graph("Age of the oldest, by class", [("max by (class) (troupe_queue_oldest_age_seconds{$node})", "{{class}}")], "s",
          about="How long the request that waits longest has been in the scheduler's queue"),
    graph("Slots busy", [(ratio("sum by (instance) (troupe_scheduler_slots_busy{$node})", "sum by (instance) (troupe_scheduler_slots{$node})"),
                          "{{instance}}")], "percentunit", about="At 100 % for long: more cores or more instances"),
    graph("Batches of files", [("sum by (status) (troupe_batches{$node})", "{{status}}"), (rate("troupe_batch_lines_total", "status"), "lines/s {{status}}")],
          about="Batches that run or are queued, and their lines that end a second"),
    row("Processes"),
    graph("CPU", [("sum by (instance) (rate(process_cpu_seconds_total{$node}[$__rate_interval]) * on (namespace, job, instance) group_left troupe_build_info)",
                   "{{instance}}")], "short", about="Cores that the process uses"),
    graph("Resident memory", [("process_resident_memory_bytes{$node} * on (namespace, job, instance) group_left troupe_build_info", "{{instance}}")], "bytes",
          about="Against the container's limit: at it the process is killed"),
    graph("Open files", [("process_open_fds{$node} * on (namespace, job, instance) group_left troupe_build_info", "{{instance}}")],
          about="Connections and files; growth without end is a leak"),
    graph("Time since the start", [("(time() - process_start_time_seconds{$node}) * on (namespace, job, instance) group_left troupe_build_info", "{{instance}}")],
          "s", about="A fall to 0 is a restart of the process"),
    table("Builds", "troupe_build_info{$node}", ["instance", "version", "revision", "compiler"], width=24,
          about="Which version and revision runs on which instance: two during an update alone"),
]

PIPELINE_BOARD = [
    number("Records answered", rate("inference_requests_total", where='door="kafka"'), "reqps",
          about="Records of the request topic a second whose answers were delivered"),
    number("Lag", "max(troupe_consumer_lag_seconds{$node})", "s", bad_above=5, about="Age of the oldest record without an answer; objective: below 5 s"),
    number("Unread records", "sum(troupe_consumer_lag_records{$node})", about="In the topic, not read by a node yet; those in work are not in it"),
    number("Pipeline errors", "max(troupe:pipeline:errors_ratio_rate5m{$of})", "percentunit", bad_above=0.001, about="Records and lines of batches that ended as an error result or a dead letter; objective: below 0.1 %"),
    number("Nodes with Kafka", "sum(troupe_kafka_up{$node})", bad_below=1,
          about="Where the brokers answer, the group is joined and answers can be written"),
    number("Partitions read", "sum(troupe_assigned_partitions{$node})", bad_below=1,
          about="Partitions of the request topic that instances of the installation have"),
    row("Lag"),
    graph("Lag in seconds by partition", [("max by (partition) (troupe_consumer_lag_seconds{$node})", "{{partition}}")], "s", 5,
          about="Age, by its timestamp, of the oldest record that has no delivered answer, read or not"),
    graph("Unread records by partition", [("max by (partition) (troupe_consumer_lag_records{$node})", "{{partition}}")],
          about="One that is above the others: a hot key, or an instance that is ill"),
    graph("Records in work by partition", [("max by (partition) (troupe_credit_in_use_records{$node})", "{{partition}}")],
          about="At kafka.credit_records the partition is not read further"),
    graph("Bytes in work by partition", [("max by (partition) (troupe_credit_in_use_bytes{$node})", "{{partition}}")], "bytes",
          about="At kafka.credit_bytes the partition is not read further"),
    graph("Age of the oldest in work by partition", [("max by (partition) (troupe_credit_oldest_age_seconds{$node})", "{{partition}}")], "s",
          about="Since it was read: time in the node alone"),
    graph("Partitions by instance", [("sum by (instance) (troupe_assigned_partitions{$node})", "{{instance}}")], stack=True,
          about="Changes are rebalances; an instance with 0 does nothing for Kafka"),
    row("Answers"),
    graph("Latency in the node", quantiles("inference_request_duration_seconds", where=f"{PIPELINE},{ANSWERED}"), "s", 0.1,
          about="From the reading of a record to the delivery of its answer"),
    graph("Errors by code", [(rate("inference_errors_total", "code", PIPELINE), "{{code}}")], "reqps", stack=True,
          about="Of records and lines of batches: error results and dead letters"),
    graph("Dead letters and parked records", [(grown("troupe_dead_letters_total", "code"), "dead {{code}}"),
                                             (grown("troupe_parked_records_total", "instance"), "parked {{instance}}")],
          about="Records that went to the dead-letter topic, by code, and to kafka.parking_topic since their model could not answer"),
    graph("Answers that the brokers refused", [(grown("troupe_delivery_errors_total", "instance"), "{{instance}}")],
          about="Each is sent again, and its partition stands still until it is taken"),
    row("The group"),
    graph("Rebalances", [(grown("troupe_rebalances_total", "instance"), "{{instance}}")],
          about="Records wait during each; without a deployment or scaling there are none"),
    graph("Kafka is there", [("troupe_kafka_up{$node}", "{{instance}}")],
          about="1 while the brokers answer, the group is joined and answers can be written"),
    row("Exactly once and in order"),
    graph("Transactions", [(rate("troupe_transactions_total", "result"), "{{result}}"), (rate("troupe_transaction_records_total", "result"), "answers {{result}}")],
          "ops", about="With exactly once: transactions, and the answers in them, committed and aborted (sent again)"),
    graph("Commit", quantiles("troupe_transaction_commit_seconds"), "s",
          about="How long commits of transactions take: results are visible this much later"),
    graph("Wait for the order", quantiles("troupe_output_order_wait_seconds"), "s", about="With kafka.output_order: partition, how long answers waited for those before them"),
    row("Cache"),
    graph("Hit ratio by level", [(ratio(rate("troupe_cache_hits_total", "level"),
                                        "(" + rate("troupe_cache_hits_total", "level") + " + " + rate("troupe_cache_misses_total", "level") + ")"),
                                  "{{level}}")], "percentunit", about="1: in the process, 2: Redis"),
    graph("Look-ups by level", [(rate("troupe_cache_hits_total", "level"), "hits {{level}}"), (rate("troupe_cache_misses_total", "level"), "misses {{level}}"),
                                (rate("troupe_cache_coalesced_total"), "coalesced")], "ops",
          about="Answered (hits) and not (misses); coalesced: by an equal request that was being scored"),
    graph("Failed calls", [(rate("troupe_cache_errors_total", "level"), "{{level}}")], "ops",
          about="Calls of the cache that failed or exceeded redis.timeout; scoring goes on"),
    graph("Redis is there", [("troupe_redis_up{$node}", "{{instance}}")], about="1 while level 2 of the cache is connected"),
]

MODELS = [
    number("Versions loaded", f"count(count by (model, version) (troupe_model_loaded{{$node,{MODEL}}} == 1))", bad_below=1,
          about="Models and versions that at least one instance has loaded"),
    number("Predictions", f"sum(ml:predictions:rate1m{{$of,{MODEL}}})", "reqps", about="Requests a second that were answered with a prediction"),
    number("Slowest p95", f"max(ml:latency:p95{{$of,{MODEL}}})", "s", about="Execution time of a batch, of the model and version that takes longest"),
    number("Lowest accuracy", f'min(ml:accuracy:avg{{namespace=~"$namespace",{MODEL}}})', "percentunit", bad_below=0.85,
           about="By your evaluation; objective: 85 %"),
    number("Breakers not closed", 'count(troupe_breaker_state{$node,name!="redis"} > 0) or vector(0)', bad_above=1,
          about="Versions that kept failing: their calls get 503, their records wait"),
    number("Can't be loaded", "max(troupe_models_failed{$node})", bad_above=1,
           about="Models and versions in the directory that an instance can't load: its next start ends over them"),
    row("Work"),
    graph("Predictions", [(f"sum by (model, version) (ml:predictions:rate1m{{$of,{MODEL}}})", "{{model}}/{{version}}")], "reqps", stack=True,
          about="Requests a second that were answered with a prediction"),
    graph("Rows", [(rate("troupe_rows_total", "model, version", MODEL), "{{model}}/{{version}}")], "ops",
          about="Rows a second that got a prediction; a request may have several"),
    graph("Execution p95", [(f"max by (model, version) (ml:latency:p95{{$of,{MODEL}}})", "{{model}}/{{version}}")], "s",
          about="Of the batch that a row was scored in, without its wait: compare versions"),
    graph("Execution p99", [(f"max by (model, version) (ml:latency:p99{{$of,{MODEL}}})", "{{model}}/{{version}}")], "s",
          about="As p95: the slowest hundredth of the rows"),
    graph("Rows of a batch", [(ratio(rate("troupe_batch_rows_sum", "model, version", MODEL), rate("troupe_batch_rows_count", "model, version", MODEL)),
                               "{{model}}/{{version}}")], about="Near 1 under load: little gathers"),
    graph("Requests by model and status", [(rate("inference_requests_total", "model, version, status", MODEL), "{{model}}/{{version}} {{status}}")], "reqps",
          about="By the version that answered; error: of any code"),
    row("Quality"),
    graph("Confidence", [(f"ml:confidence:avg{{$of,{MODEL}}}", "{{model}}/{{version}}")], "percentunit", about="Mean of the classifiers' largest probabilities"),
    graph("Accuracy", [(f'ml:accuracy:avg{{namespace=~"$namespace",{MODEL}}}', "{{model}}/{{version}}")], "percentunit", 0.85,
          about="Pushed by your evaluation (docs/alerts.md)"),
    row("Failures"),
    graph("Engine failures", [(rate("inference_exceptions_total", "model, version", MODEL), "{{model}}/{{version}}")], "reqps",
          about="Requests a second on which the model's engine failed; many open its breaker"),
    graph("Breakers", [('max by (name) (troupe_breaker_state{$node,name!="redis"})', "{{name}}"),
                       (grown("troupe_breaker_openings_total", "name", 'name!="redis"'), "{{name}} opened")],
          about="0 closed, 1 half-open, 2 open"),
    graph("Calls that hang", [(f"max by (model, version) (troupe_model_hung_calls{{$node,{MODEL}}})", "{{model}}/{{version}}")],
          about="Calls of the engine beyond models.time_limit that have not returned, of the instance with the most; at models.max_hung a model is given nothing"),
    row("Versions and rollouts"),
    table("Versions", f"count by (model, version, state, engine) (troupe_model_info{{$node,{MODEL}}})", ["model", "version", "state", "engine"], value=True,
          about="Value: on how many instances"),
    graph("Loads", [(grown("troupe_model_loads_total", "result"), "{{result}}")],
          about="Versions that were loaded, and that could not be (model_load_failed in the log)"),
    graph("Share of the new version", [(f"max by (model, version, strategy) (troupe_rollout_share{{$node,{MODEL}}})", "{{model}}/{{version}} {{strategy}}")],
          "percentunit", about="Part of the requests that a rollout gives to the new version"),
    graph("Drift (PSI) of the new version", [(f"max by (model, version) (troupe_rollout_psi{{$node,{MODEL}}})", "{{model}}/{{version}}")],
          about="Population stability index of its predictions against the old version's; 0: alike"),
    graph("Rollouts: requests by side", [(rate("troupe_rollout_requests_total", "model, side, status", MODEL), "{{model}} {{side}} {{status}}"),
                                         (rate("troupe_rollout_shadow_requests_total", "result"), "shadow {{result}}")], "reqps",
          about="Of rollouts that run: the old and the new version's, and rows scored once more for a shadow"),
    graph("Promotions and roll-backs", [(grown("troupe_rollout_promotions_total", "model", MODEL), "{{model}} promoted"),
                                        (grown("troupe_rollout_rollbacks_total", "model, reason", MODEL), "{{model}} rolled back: {{reason}}")],
          about="Versions that became the production version, and rollouts that were taken back, by reason"),
    row("The registry"),
    graph("Registry is there", [("troupe_registry_up{$node}", "{{instance}}")],
          about="1 while the registry answers every reference; what is served stays without it"),
    graph("Polls, and versions that can't be served", [(rate("troupe_registry_polls_total", "result"), "polls {{result}}"),
                                                       (grown("troupe_registry_rejected_versions_total", "model", MODEL), "{{model}} rejected")],
          about="How often the registry was asked, and versions that it names and a node refused"),
]

ACTORS = [
    number("Restarts", "sum(increase(troupe_actor_restarts_total{$node}[1h]))", bad_above=1, about="Of actors that crashed, in an hour"),
    number("Stuck", "sum(troupe_actor_stuck{$node}) or vector(0)", bad_above=1,
          about="Actors that handle one message for longer than supervision.stuck_after and can't be replaced"),
    number("Abandoned", "sum(troupe_actors_abandoned{$node})", bad_above=1, about="Threads in work that does not return, whose actors were replaced"),
    number("Deepest mailbox", "max(troupe_mailbox_depth{$node})", about="Messages that wait in the fullest mailbox of all actors"),
    number("Faults active", "sum(troupe_faults_active{$node})", bad_above=1, about="Injected by somebody who tests (troupe fault list)"),
    number("Started", 'min(time() - process_start_time_seconds{$node} * on (namespace, job, instance) group_left troupe_build_info)', "s",
           about="Ago, the last one"),
    row("Supervision"),
    graph("Restarts by kind", [(grown("troupe_actor_restarts_total", "actor"), "{{actor}}")], stack=True,
          about="Actors that crashed and were started anew: one kind alone points to the culprit"),
    graph("Restarts by instance", [(grown("troupe_actor_restarts_total", "instance"), "{{instance}}")], stack=True,
          about="One instance alone: its machine, its memory"),
    graph("Stuck actors", [("troupe_actor_stuck{$node}", "{{instance}} {{actor}}")], about="One message for longer than supervision.stuck_after"),
    graph("Threads left in work that does not return", [("sum by (instance) (troupe_actors_abandoned{$node})", "{{instance}}")],
          about="They keep memory and CPU until the process ends"),
    row("Mailboxes and batches"),
    graph("Mailboxes", [("max by (actor) (troupe_mailbox_depth{$node})", "{{actor}}")],
          about="Messages that wait, by kind of actor; one that grows without end can't keep up", width=8),
    graph("Urgent batches beside the slots", [(rate("troupe_express_batches_total", "instance"), "{{instance}}")], "ops",
          about="Scored at once, while less urgent batches had all slots", width=8),
    graph("Rows under suspicion", [("troupe_suspect_rows{$node}", "{{instance}}")], width=8,
          about="Of batches that ended their model's shard: tried in halves until the guilty one is found and dead-lettered"),
    row("Faults"),
    graph("Active faults", [("sum by (fault) (troupe_faults_active{$node})", "{{fault}}")], stack=True,
          about="Injected faults that are active now, by kind"),
    graph("Strikes", [(grown("troupe_fault_injections_total", "fault"), "{{fault}}")], about="How often an injected fault struck"),
    row("Around them"),
    graph("All breakers", [("max by (name) (troupe_breaker_state{$node})", "{{name}}")], about="0 closed, 1 half-open, 2 open"),
    graph("Spans of traces", [(rate("troupe_trace_spans_total", "result"), "{{result}}")], "ops",
          about="exported, dropped (the queue was full) or failed (the receiver refused them)"),
]

BOARDS = {
    "service": ("Troupe / Service", "Is it well? Requests, latencies, objectives, processes", SERVICE),
    "pipeline": ("Troupe / Pipeline", "Kafka: lag, credit, delivery, cache", PIPELINE_BOARD),
    "models": ("Troupe / Models", "What is served, how well, and rollouts", MODELS),
    "actors": ("Troupe / Actors", "Supervision, mailboxes, faults", ACTORS),
}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def query_variable(name, label, query, many=True):
    every = {"includeAll": True, "allValue": ".*", "multi": many, "current": {"selected": True, "text": "All", "value": "$__all"}}
    return {"name": name, "label": label, "type": "query", "datasource": SOURCE, "query": {"query": query, "refId": name},
            "refresh": 2, "sort": 1, **every}


def variables(model):
    found = [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {"text": "default", "value": "default"}},
        query_variable("namespace", "Namespace", "label_values(troupe_build_info, namespace)"),
        query_variable("job", "Job", 'label_values(troupe_build_info{namespace=~"$namespace"}, job)'),
        query_variable("instance", "Instance", f"label_values(troupe_build_info{{{OF}}}, instance)"),
    ]
    if model:
        found.append(query_variable("model", "Model", f"label_values(troupe_model_info{{{OF}}}, model)"))
    return found


def thresholds(panel):
    if panel["kind"] == "stat":
        if panel["below"] is not None:
            return [{"color": "red", "value": None}, {"color": "green", "value": panel["below"]}]
        steps = [{"color": "green", "value": None}]
        return steps + [{"color": "red", "value": panel["above"]}] if panel["above"] is not None else steps
    steps = [{"color": "transparent", "value": None}]
    return steps + [{"color": "red", "value": panel["bound"]}] if panel.get("bound") is not None else steps


def make_panel(panel, number, at):
    defaults = {"unit": panel["unit"], "min": 0 if panel["kind"] == "timeseries" else None, "thresholds": {"mode": "absolute", "steps": thresholds(panel)}}
    made = {"id": number, "type": panel["kind"], "title": panel["title"], "description": panel["about"], "datasource": SOURCE, "gridPos": at,
            "fieldConfig": {"defaults": {name: value for name, value in defaults.items() if value is not None}, "overrides": []}}
    made["targets"] = []
    for place, (query, legend) in enumerate(panel["queries"]):
        target = {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": query.replace("$of", OF).replace("$node", NODE)}
        target.update({"legendFormat": legend or "__auto", "range": True} if panel["kind"] == "timeseries" else
                      {"instant": True, "range": False, "format": "table" if panel["kind"] == "table" else "time_series"})
        made["targets"].append(target)
    if panel["kind"] == "timeseries":
        custom = {"fillOpacity": 30 if panel["stack"] else 5, "lineWidth": 1, "showPoints": "never",
                  "stacking": {"mode": "normal" if panel["stack"] else "none", "group": "A"}}
        if panel["bound"] is not None:
            custom["thresholdsStyle"] = {"mode": "line"}
        made["fieldConfig"]["defaults"]["custom"] = custom
        made["options"] = {"legend": {"displayMode": "table", "placement": "right", "calcs": ["lastNotNull", "max"]}, "tooltip": {"mode": "multi", "sort": "desc"}}
    elif panel["kind"] == "stat":
        made["options"] = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "value", "graphMode": "none"}
    else:
        shown = panel["columns"] + (["Value"] if panel["value"] else [])
        made["options"] = {"showHeader": True}
        made["transformations"] = [{"id": "filterFieldsByName", "options": {"include": {"names": shown}}},
                                   {"id": "organize", "options": {"indexByName": {name: place for place, name in enumerate(shown)}}}]
    return made


def make_board(name):
    title, about, content = BOARDS[name]
    panels, x, y, height = [], 0, 0, 0
    for each in content:
        if "row" in each or x + each["width"] > 24:
            x, y, height = 0, y + height, 0
        if "row" in each:
            panels.append({"id": len(panels) + 1, "type": "row", "title": each["row"], "collapsed": False, "panels": [], "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}})
            y += 1
            continue
        panels.append(make_panel(each, len(panels) + 1, {"h": each["height"], "w": each["width"], "x": x, "y": y}))
        x, height = x + each["width"], max(height, each["height"])
    return {
        "uid": f"troupe-{name}", "title": title, "description": about, "tags": ["troupe"], "editable": True, "graphTooltip": 1, "schemaVersion": 39,
        "refresh": "30s", "time": {"from": "now-1h", "to": "now"}, "timezone": "browser",
        "links": [{"type": "dashboards", "tags": ["troupe"], "title": "Troupe", "asDropdown": True, "includeVars": True, "keepTime": True}],
        "annotations": {"list": [{"name": "Alerts", "enable": True, "iconColor": "red", "datasource": SOURCE,
                                  "expr": f'ALERTS{{alertname=~"Troupe.*",alertstate="firing",{OF}}}'}]},
        "templating": {"list": variables(any("$model" in query for each in content for query, _ in each.get("queries", [])))},
        "panels": panels,
    }


def main():
    stale = []
    for name in BOARDS:
        path = FOLDER / f"{name}.json"
        text = json.dumps(make_board(name), indent=1, ensure_ascii=False) + "\n"
        if path.exists() and path.read_text() == text:
            continue
        stale.append(path.name)
        if "--check" not in sys.argv:
            FOLDER.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if stale:
        print(("not up to date: " if "--check" in sys.argv else "written: ") + ", ".join(stale))
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
