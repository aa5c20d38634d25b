#!/usr/bin/env python3
"""Sends rows to Troupe over Kafka or Azure Event Hubs, as fast as they go or at a rate, and waits until the broker has them all."""

import argparse
import json
import sys

import troupe_kafka
from confluent_kafka import KafkaException

EXAMPLES = """\
Rows are lines of JSON: a list or an object of features, or a whole request ({"request_id": "r-1", "features": [...], "model": "churn"}).

  echo '[0.04, 0.05, 0.06, 0.02, -0.04, -0.03, -0.04, 0, 0.02, -0.02]' | request_producer.py --sent sent.json
  request_producer.py --rows rows.jsonl --model churn --timeout-ms 60000 --rate 500 --sent sent.json
  result_consumer.py --sent sent.json

"""


def requests(file, options):
    """A request a line, with what the command line adds where the line says nothing of it."""
    for number, line in enumerate(file, 1):
        if line.strip():
            request = troupe_kafka.request_of(line, number)
            for name in ("model", "model_version", "priority", "timeout_ms"):
                if getattr(options, name) is not None:
                    request.setdefault(name, getattr(options, name))
            yield request


def main():
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES + troupe_kafka.EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", metavar="FILE", default="-", help="rows to send; '-', the default: standard input")
    parser.add_argument("--sent", metavar="FILE", help="write the receipt by which result_consumer.py finds the answers")
    parser.add_argument("--model", help="model to ask for (default: the node's)")
    parser.add_argument("--model-version", help="version to ask for")
    parser.add_argument("--priority", type=int, help="1 is most urgent")
    parser.add_argument("--timeout-ms", type=float, help="expiry of each request, from its record's timestamp")
    parser.add_argument("--rate", type=float, default=0, help="requests a second (default: as fast as they go)")
    troupe_kafka.add_connection_options(parser)
    options = parser.parse_args()
    try:
        connection = troupe_kafka.connection_of(options)
        with sys.stdin if options.rows == "-" else open(options.rows, encoding="utf-8") as file:
            receipt = troupe_kafka.send(connection, requests(file, options), options.rate, lambda text: print(text, file=sys.stderr))
        if options.sent:
            with open(options.sent, "w", encoding="utf-8") as file:
                json.dump(receipt, file)
    except (OSError, ValueError, KafkaException) as error:
        sys.exit(f"request_producer.py: {error}")


if __name__ == "__main__":
    main()
