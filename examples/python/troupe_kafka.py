"""Requests to Troupe and their answers over Kafka or Azure Event Hubs: how to connect, how to send rows so that each can be told by its
request_id, and how to find the one answer to each. The scripts and the notebook beside this file use it; docs/formats.md has the formats.

Needs confluent-kafka (requirements.txt); Debian's python3-confluent-kafka will do.
"""

import json
import os
import re
import time
import uuid

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

EPILOG = """\
Without --connection-string-file and EVENTHUB_CONNECTION this is plain Kafka; TLS and SASL are librdkafka properties, such as
--property security.protocol=SASL_SSL --property sasl.mechanism=PLAIN --property sasl.username=me --property-file sasl.password=FILE.
"""


def add_connection_options(parser):
    parser.add_argument("--brokers", default=os.environ.get("KAFKA_BROKER", "localhost:9092"), help="HOST:PORT,... of Kafka (KAFKA_BROKER; %(default)s)")
    parser.add_argument("--connection-string-file", metavar="FILE",
                        help="file of an Event Hubs namespace's connection string (else EVENTHUB_CONNECTION, if set)")
    parser.add_argument("--requests-topic", metavar="TOPIC", help="(EVENTHUB_NAME; inference-requests)")
    parser.add_argument("--results-topic", metavar="TOPIC", help="(EVENTHUB_RESULTS; inference-results; Event Hubs: <requests topic>-results)")
    parser.add_argument("--dead-letter-topic", metavar="TOPIC", help="(<requests topic>-dlq)")
    parser.add_argument("--property", metavar="NAME=VALUE", action="append", default=[], help="a property of librdkafka; may be repeated")
    parser.add_argument("--property-file", metavar="NAME=FILE", action="append", default=[], help="the same, its value in a file: for passwords")


def connection_of(options):
    """The Connection that the options of add_connection_options() ask for; ValueError says what is wrong with them."""
    secret = os.environ.get("EVENTHUB_CONNECTION", "")
    if options.connection_string_file:
        secret = _read(options.connection_string_file)
    properties = {}
    for name, value in map(_pair, options.property):
        properties[name] = value
    for name, path in map(_pair, options.property_file):
        properties[name] = _read(path)
    return connect(brokers=options.brokers, connection_string=secret, requests_topic=options.requests_topic,
                   results_topic=options.results_topic, dead_letter_topic=options.dead_letter_topic, properties=properties)


def connect(brokers="", connection_string="", requests_topic=None, results_topic=None, dead_letter_topic=None, properties=None):
    """A Connection to Kafka at `brokers`, or to the Event Hubs namespace of a connection string, with Troupe's own names of topics."""
    requests = requests_topic or os.environ.get("EVENTHUB_NAME")
    results = results_topic or os.environ.get("EVENTHUB_RESULTS")
    if connection_string:
        found, entity = _event_hubs(connection_string)
        requests = requests or entity
        if not requests:
            raise ValueError("the connection string names no event hub: say --requests-topic, or set EVENTHUB_NAME")
        results = results or requests + "-results"
    else:
        found = {"bootstrap.servers": brokers}
        requests = requests or "inference-requests"
        results = results or "inference-results"
    found.update(properties or {})
    return Connection(found, requests, results, dead_letter_topic or requests + "-dlq")


class Connection:
    """Properties that every client needs, and the three topics."""

    def __init__(self, properties, requests_topic, results_topic, dead_letter_topic):
        self.properties = properties
        self.requests_topic, self.results_topic, self.dead_letter_topic = requests_topic, results_topic, dead_letter_topic

    def producer(self):
        # Nothing is lost or sent twice between this client and the broker: acks=all comes with idempotence.
        return Producer({"request.timeout.ms": 60000, **self.properties, "enable.idempotence": True, "linger.ms": 5})

    def consumer(self, group, **more):
        # read_committed, librdkafka's default, hides what an exactly-once node took back.
        return Consumer({"session.timeout.ms": 30000, "isolation.level": "read_committed", "auto.offset.reset": "earliest", **self.properties,
                         "group.id": group, **more})

    def ends(self):
        """Where the topics of the answers end now: {topic: {partition: offset}}."""
        consumer = self.consumer("unused", **{"enable.auto.commit": False})
        try:
            found = {}
            for topic in (self.results_topic, self.dead_letter_topic):
                described = consumer.list_topics(topic, timeout=30).topics[topic]
                if described.error or not described.partitions:
                    raise ValueError(f"there is no topic {topic}: create it, or name another one")
                found[topic] = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=30)[1] for p in described.partitions}
            return found
        finally:
            consumer.close()


def request_of(line, number=0):
    """One request from a line of JSON: a whole request, or only its features."""
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number}: not JSON: {error}") from None
    return value if isinstance(value, dict) and "features" in value else {"features": value}


def send(connection, requests, rate=0, say=lambda text: None):
    """Sends requests (dicts, docs/formats.md) and waits until the broker has them all. Each without a request_id gets one. Returns the
    receipt by which answers() finds what belongs to them: {"request_ids": [...], "from": {topic: {partition: offset}}}."""
    receipt = {"request_ids": [], "from": connection.ends()}
    producer, run, failed, seen = connection.producer(), uuid.uuid4().hex[:12], [], set()

    def delivered(error, _):
        if error:
            failed.append(error)

    begin = time.monotonic()
    for number, request in enumerate(requests):
        name = str(request.get("request_id") or f"{run}-{number}")
        if name in seen:
            raise ValueError(f"request_id {name!r} was given twice; {number} requests were sent")
        seen.add(name)
        receipt["request_ids"].append(name)
        body = json.dumps({**request, "request_id": name}).encode()
        if rate:
            while (wait := begin + number / rate - time.monotonic()) > 0:
                producer.poll(wait)
        while True:
            try:
                # The id is a header as well: so a dead letter has it, whatever became of the value.
                producer.produce(connection.requests_topic, body, headers=[("request_id", name.encode())], on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    left = producer.flush(60)
    if left or failed:
        reason = failed[0].str() if failed else "the brokers did not answer within 60 s"
        raise KafkaException(f"{left + len(failed)} of {len(receipt['request_ids'])} requests were not delivered: {reason}")
    say(f"sent {len(receipt['request_ids'])} requests to {connection.requests_topic}")
    return receipt


def answer_of(message, dead_letter_topic):
    """What a record of the topic of results or of dead letters says: a dict with request_id, and prediction or error (with `dead_letter`:
    true where there is no result and will be none)."""
    if message.topic() != dead_letter_topic:
        return json.loads(message.value())
    headers = {name: (value or b"").decode(errors="replace") for name, value in message.headers() or []}
    source = "-".join(headers.get("__connect.errors." + part, "") for part in ("topic", "partition", "offset"))
    return {"request_id": headers.get("request_id") or source, "dead_letter": True,
            "error": {"code": headers.get("__connect.errors.exception.class.name"), "message": headers.get("__connect.errors.exception.message")}}


def answers(connection, receipt, patience=60):
    """The answer to each request of a receipt, as they come, one each; ends when all are there, or nothing came for `patience` seconds.
    No consumer group is joined and nothing is committed: any number of readers may look for their own."""
    missing = set(receipt["request_ids"])
    consumer = connection.consumer("unused", **{"enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, int(partition), offset) for topic, partitions in receipt["from"].items()
                     for partition, offset in partitions.items()])
    try:
        until = time.monotonic() + patience
        while missing and time.monotonic() < until:
            message = consumer.poll(0.5)
            if message is None:
                continue
            if message.error():
                raise KafkaException(message.error())
            answer = answer_of(message, connection.dead_letter_topic)
            # At least once: what is answered a second time, after a crash, is the same request.
            if answer["request_id"] in missing:
                missing.discard(answer["request_id"])
                until = time.monotonic() + patience
                yield answer
    finally:
        consumer.close()


def _read(path):
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def _pair(text):
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} is not NAME=VALUE")
    return name, value


def _event_hubs(text):
    """Properties for a connection string, and the event hub that it names, if it does (docs/eventhubs.md)."""
    parts = dict(part.split("=", 1) for part in text.strip().split(";") if "=" in part)
    host = re.fullmatch(r"sb://([^/:]+)(?::(\d+))?/?", parts.get("Endpoint", ""))
    if not host or not parts.get("SharedAccessKey"):
        raise ValueError("the connection string must have Endpoint=sb://HOST/ and SharedAccessKey=...")
    emulator = parts.get("UseDevelopmentEmulator", "").lower() == "true"
    return {
        "bootstrap.servers": f"{host[1]}:{host[2] or (9092 if emulator else 9093)}",
        "security.protocol": "SASL_PLAINTEXT" if emulator else "SASL_SSL",
        "sasl.mechanism": "PLAIN", "sasl.username": "$ConnectionString", "sasl.password": text.strip(),
        # Azure closes connections that are idle for some minutes.
        "socket.keepalive.enable": True, "metadata.max.age.ms": 180000,
    }, parts.get("EntityPath")
