#!/usr/bin/env python3
"""Reads Troupe's answers from Kafka or Azure Event Hubs: those to the requests of a receipt, one each, or all that come, in a consumer group."""

import argparse
import json
import signal
import sys

import troupe_kafka
from confluent_kafka import KafkaException

EXAMPLES = """\
Each answer is a line of JSON on standard output: a result or error value (docs/formats.md), or {"request_id", "dead_letter": true, "error"}.
With --sent the exit status is 1 when a request has no answer.

  result_consumer.py --sent sent.json > answers.jsonl
  result_consumer.py --group billing --max 1000

"""


def matched(connection, options):
    """The answer to each request of the receipt."""
    with open(options.sent, encoding="utf-8") as file:
        receipt = json.load(file)
    count = {"prediction": 0, "error": 0, "dead_letter": 0}
    for answer in troupe_kafka.answers(connection, receipt, options.wait_for):
        print(json.dumps(answer), flush=True)
        count[next(kind for kind in ("dead_letter", "error", "prediction") if kind in answer)] += 1
    missing = len(receipt["request_ids"]) - sum(count.values())
    print(f"{len(receipt['request_ids'])} requests: {count['prediction']} predictions, {count['error']} errors, "
          f"{count['dead_letter']} dead letters, {missing} without an answer", file=sys.stderr)
    return 1 if missing else 0


def followed(connection, options):
    """All that comes, shared with the others of the group. An offset counts as done when its line was written: after a crash some lines
    come again, none is left out."""
    running = [True]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: running.clear())
    consumer = connection.consumer(options.group, **{"enable.auto.offset.store": False})
    consumer.subscribe([connection.results_topic, connection.dead_letter_topic])
    count = 0
    try:
        while running and not (options.max and count >= options.max):
            message = consumer.poll(0.5)
            if message is None:
                continue
            if message.error():
                raise KafkaException(message.error())
            try:
                line = json.dumps(troupe_kafka.answer_of(message, connection.dead_letter_topic))
            except ValueError:
                print(f"{message.topic()}-{message.partition()}-{message.offset()}: not a result of Troupe", file=sys.stderr)
                line = None
            if line:
                print(line, flush=True)
                count += 1
            consumer.store_offsets(message=message)
    finally:
        consumer.close()  # commits what was stored
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES + troupe_kafka.EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--sent", metavar="FILE", help="the receipt of request_producer.py")
    what.add_argument("--group", help="consumer group of those who share the answers; a new one begins at the earliest")
    parser.add_argument("--wait-for", type=float, default=60, metavar="SECONDS", help="with --sent: without any answer so long it ends (%(default)g)")
    parser.add_argument("--max", type=int, help="with --group: end after so many")
    troupe_kafka.add_connection_options(parser)
    options = parser.parse_args()
    try:
        connection = troupe_kafka.connection_of(options)
        sys.exit(matched(connection, options) if options.sent else followed(connection, options))
    except (OSError, ValueError, KafkaException) as error:
        sys.exit(f"result_consumer.py: {error}")


if __name__ == "__main__":
    main()
