# Databricks notebook source
# MAGIC %md
# MAGIC # Scores a table with Troupe, through Kafka or Azure Event Hubs
# MAGIC
# MAGIC Sends each row as a request, waits for its answer, and writes both side by side. Import the whole folder (a Git folder, or
# MAGIC `databricks workspace import-dir examples/python ...`), since the notebook uses `troupe_kafka.py` beside it. For Event Hubs put the
# MAGIC namespace's connection string into a secret scope. Outside Databricks it is a script: `databricks_notebook.py --help`.

# COMMAND ----------

# MAGIC %pip install "confluent-kafka>=1.7"

# COMMAND ----------

# What to do: widgets in Databricks, options elsewhere.
import json

import troupe_kafka

if "dbutils" in globals():
    for name, value, label in (("brokers", "", "Kafka brokers (empty: Event Hubs)"), ("secret", "troupe/eventhub-connection", "SCOPE/KEY of the connection string"),
                               ("requests_topic", "inference-requests", "Topic or event hub of requests"), ("model", "", "Model (empty: the default)"),
                               ("source", "samples.troupe.rows", "Table to score"), ("target", "samples.troupe.scored", "Table to write"),
                               ("id_column", "", "Column that becomes the request_id (empty: none)")):
        dbutils.widgets.text(name, value, label)
    options = {name: dbutils.widgets.get(name) for name in ("brokers", "secret", "requests_topic", "model", "source", "target", "id_column")}
    connection = troupe_kafka.connect(brokers=options["brokers"], requests_topic=options["requests_topic"],
                                      connection_string="" if options["brokers"] else dbutils.secrets.get(*options["secret"].split("/", 1)))
else:
    import argparse
    import sys
    parser = argparse.ArgumentParser(description="Scores a file of rows with Troupe; in Databricks a table.", epilog=troupe_kafka.EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="-", help="JSON object of features a line (standard input)")
    parser.add_argument("--target", default="-", help="JSON object a line: the row and its answer (standard output)")
    parser.add_argument("--model", default="", help="model to ask for (the node's default)")
    parser.add_argument("--id-column", default="", help="field that is the request_id, and no feature")
    troupe_kafka.add_connection_options(parser)
    command_line = parser.parse_args()
    options = vars(command_line)
    connection = troupe_kafka.connection_of(command_line)

# COMMAND ----------

# The rows, as dictionaries by column. They are held here, on the driver: send a large table in slices.
if "spark" in globals():
    rows = [row.asDict() for row in spark.read.table(options["source"]).collect()]
else:
    with sys.stdin if options["source"] == "-" else open(options["source"], encoding="utf-8") as file:
        rows = [json.loads(line) for line in file if line.strip()]


def request(row):
    features = dict(row)
    one = {"features": features}
    if options["id_column"]:
        one["request_id"] = str(features.pop(options["id_column"]))
    if options["model"]:
        one["model"] = options["model"]
    return one


# COMMAND ----------

# Sends them, and waits until each has its answer: a prediction, an error, or a dead letter.
receipt = troupe_kafka.send(connection, map(request, rows))
answered = {answer["request_id"]: answer for answer in troupe_kafka.answers(connection, receipt, patience=120)}
scored = []
for row, name in zip(rows, receipt["request_ids"]):
    answer = answered.get(name, {"error": {"code": "no_answer", "message": "none within 120 s of the last one"}})
    prediction, error = answer.get("prediction"), answer.get("error")
    scored.append({**row, "request_id": name, "prediction": None if prediction is None else json.dumps(prediction),
                   "model_version": answer.get("model_version"), "error": error and f"{error['code']}: {error['message']}"})

# COMMAND ----------

# A prediction may be a number, a label or a list: it is written as JSON.
if "spark" in globals():
    names = list(scored[0]) if scored else []
    table = spark.createDataFrame([tuple(one[name] for name in names) for one in scored],
                                  ", ".join([field.simpleString().replace(":", " ", 1) for field in spark.read.table(options["source"]).schema]
                                            + ["request_id string", "prediction string", "model_version string", "error string"]))
    table.write.mode("overwrite").saveAsTable(options["target"])
else:
    with sys.stdout if options["target"] == "-" else open(options["target"], "w", encoding="utf-8") as file:
        for one in scored:
            print(json.dumps(one), file=file)
print(f"{len(scored)} rows, {sum(one['error'] is not None for one in scored)} without a prediction", file=None if "spark" in globals() else sys.stderr)
