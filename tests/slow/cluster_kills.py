#!/usr/bin/env python3
"""Everything at once on a real cluster of three brokers (KRaft, replication factor 3, min.insync.replicas 2): an open-loop load;
kill -9 of one of the Troupe processes of a group again and again, each time at a random moment after all own partitions, and
the process at once again; brokers stopped or killed one by one and back, the next when all replicas are in sync again;
rebalances by a further process that comes and goes. Nothing may be lost; with exactly_once nothing may be answered twice
either, as a read_committed consumer of ours counts it, once while it all happens and once from the beginning afterwards.

    cluster_kills.py [--delivery at_least_once|exactly_once] [--records 2000000] [--rate 2000] [--kills 50] [--processes 2]
                     [--broker-restarts 3] [--visitors 5] [--seed 1] [--anonymous] [--json FILE] [--smoke]

The load goes on until that many records were sent and everything else has happened. With 2,000,000 records it needs some 5 GB
in TMPDIR. bench_kafka_bridge (the counting reader) must be built. PYTHONPATH=tests/support TROUPE=build/release/troupe
"""

import argparse
import bisect
import collections
import json
import os
import pathlib
import random
import statistics
import struct
import subprocess
import sys
import threading
import time

import troupe_test as t

READER = pathlib.Path(os.environ.get("TROUPE_BUILD_DIRECTORY", t.ROOT / "build/release")) / "bench/bench_kafka_bridge"
TOPICS = ("inference-requests", "inference-results", "inference-requests-dlq")
GROUP = "inference-service"

parser = argparse.ArgumentParser()
parser.add_argument("--delivery", choices=("at_least_once", "exactly_once"), default="at_least_once")
parser.add_argument("--records", type=int, default=2_000_000)
parser.add_argument("--rate", type=int, default=2000)
parser.add_argument("--kills", type=int, default=50)
parser.add_argument("--processes", type=int, default=2)
parser.add_argument("--partitions", type=int, default=4)
parser.add_argument("--broker-restarts", type=int, default=3)
parser.add_argument("--visitors", type=int, default=5, help="times that a further process joins and leaves")
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--config", type=json.loads, default={}, metavar="JSON", help="more settings of the kafka section")
parser.add_argument("--anonymous", action="store_true", help="exactly_once without kafka.transactional_id: a dead process's "
                    "transaction ends when it times out")
parser.add_argument("--json", help="file for the report")
parser.add_argument("--smoke", action="store_true", help="20,000 records, 2 kills, 1 broker restart: about a minute and a half")
o = parser.parse_args()
if o.smoke:
    o.records, o.rate, o.kills, o.broker_restarts, o.visitors = 20_000, 400, 2, 1, 1
if not 1 < o.processes <= o.partitions:
    parser.error("--processes: from 2 to the number of partitions")
MOST = 4 * o.records + 1_000_000  # ids that the ledgers have room for


def owned(node):
    """The partitions that a node reads."""
    metrics = node.metrics()
    found = {int(dict(labels)["partition"]) for (name, labels) in metrics if name == "troupe_credit_in_use_records"}
    return found if len(found) == metrics.total("troupe_assigned_partitions") else set()


def due(number, of, kills):
    """After which kill the number-th of so many events comes: spread evenly."""
    return min(kills, int((number + 0.5) * kills / of) + 1)


class Restarts(threading.Thread):
    """Takes the brokers away and brings them back, one after the other. What it does while others kill is not coordinated with
    them, on purpose; it only keeps in step with their number."""

    def __init__(self, kafka, seed):
        super().__init__(daemon=True)
        self.kafka, self.random = kafka, random.Random(seed)
        self.kills = 0
        self.down = None
        self.done, self.error = [], None
        self.turn = threading.Condition()

    def killed(self):
        with self.turn:
            self.kills += 1
            self.turn.notify()

    def run(self):
        try:
            with self.kafka.new_client() as client:
                for i in range(o.broker_restarts):
                    with self.turn:
                        self.turn.wait_for(lambda: self.kills >= due(i, o.broker_restarts, o.kills))
                    self.restart(i % len(self.kafka.ports) + 1, client)
        except BaseException as error:  # the main thread raises it
            self.error = error

    def restart(self, node, client):
        how = self.random.choice(("stop", "kill"))
        begun = time.time()
        self.down = node
        getattr(self.kafka, how)(node)
        time.sleep(self.random.uniform(1, 5))  # as long as it is away, not a synchronisation
        self.kafka.start(node)
        self.kafka.wait_in_sync(client)
        self.down = None
        self.done.append({"broker": node, "how": how, "from": begun, "seconds": round(time.time() - begun, 2)})


class Arrivals:
    """When results became visible to the read_committed reader, by the partition of their request."""

    def __init__(self, path):
        self.times = collections.defaultdict(list)  # epoch seconds
        with open(path) as lines:
            for line in lines:
                ms, partition, _ = line.split()
                self.times[int(partition)].append(int(ms) / 1000)

    def takeover(self, killed_at, partitions):
        """Seconds from a kill to the first result of the slowest of these partitions. What comes within half a second is the
        dead process's: the group needs far longer to notice."""
        slowest = 0.0
        for partition in partitions:
            times = self.times[partition]
            at = bisect.bisect_right(times, killed_at + 0.5)
            if at == len(times):
                return None  # nothing came any more: the load had ended
            slowest = max(slowest, times[at] - killed_at)
        return slowest

    @staticmethod
    def longest_gap(times):
        return max((b - a for a, b in zip(times, times[1:])), default=0.0)

    def stalls(self):
        """The longest time without any result, and without one of some partition."""
        return (self.longest_gap(sorted(x for times in self.times.values() for x in times)),
                max(self.longest_gap(times) for times in self.times.values()))


def rebalances(kafka):
    """The group's generation, as it is written to its log at each rebalance."""
    generation = 0
    for record in kafka.client.read("__consumer_offsets"):
        if record.key and record.value and struct.unpack_from(">h", record.key) == (2,):
            (size,) = struct.unpack_from(">h", record.key, 2)
            if record.key[4:4 + size].decode() == GROUP:
                (skip,) = struct.unpack_from(">h", record.value, 2)
                generation = max(generation, struct.unpack_from(">i", record.value, 4 + skip)[0])
    return generation


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def count(kafka):
    done = subprocess.run([str(READER), "read", "--brokers", kafka.bootstrap, "--topic", "inference-results", "--records", str(MOST)],
                          capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


if not READER.exists():
    raise SystemExit(f"{READER} is not built")
moments = random.Random(o.seed)
began = time.monotonic()
with t.Stage() as stage:
    kafka = stage.cluster(TOPICS, o.partitions)
    config = {"kafka": {"brokers": kafka.bootstrap, "group": GROUP, **o.config}}
    if o.delivery != "at_least_once":
        config["kafka"]["delivery"] = o.delivery

    def start(name):
        """A process of the group; with exactly_once the next of that name ends its predecessor's transaction at once."""
        named = {"transactional_id": f"{GROUP}-{name}"} if o.delivery == "exactly_once" and not o.anonymous else {}
        return stage.troupe({"kafka": {**config["kafka"], **named}})

    nodes = [start(i) for i in range(o.processes)]

    def all_own():
        for node in nodes:
            assert node.running, f"{node.name} ended with {node.process.returncode}:\n{node.stderr()[-2000:]}"
        sets = [owned(node) for node in nodes]
        return all(sets) and len(set().union(*sets)) == sum(map(len, sets)) == o.partitions and sets

    t.wait_until(all_own, "every process owns partitions", 120, 0.2)
    arrivals = stage.path("arrivals")
    reader = stage.start([READER, "read", "--brokers", kafka.bootstrap, "--topic", "inference-results", "--records", MOST,
                          "--partitions", o.partitions, "--arrivals", arrivals], "reader")
    load = stage.start([t.TROUPE, "load", "--brokers", kafka.bootstrap, "--records", MOST, "--rate", o.rate,
                        "--wait-for", "120s", "--json"], "load",
                       # A record that has lingered and waits behind its partition's request makes librdkafka poll without
                       # a pause: three brokers' worth of that would leave no core for anything else.
                       {"TROUPE_KAFKA_PROPERTIES_LINGER_MS": "100"})
    load_began = time.monotonic()
    t.wait_until(lambda: arrivals.stat().st_size > 0, "the first results", 60)

    brokers = Restarts(kafka, o.seed)
    brokers.start()
    kills, visits, deaths = [], 0, 0
    visit_after = [due(i, o.visitors, o.kills) for i in range(o.visitors)]
    while len(kills) < o.kills:
        sets = t.wait_until(all_own, f"every process owns partitions before kill {len(kills) + 1}", 180, 0.2)
        # The random moment, not a synchronisation: in this kill's share of the whole time, if that is not over yet.
        moment = load_began + (len(kills) + moments.random()) * o.records / o.rate / o.kills
        time.sleep(max(moments.uniform(0.2, 3), moment - time.monotonic()))
        victim = moments.randrange(o.processes)
        sets = all_own() or sets
        away = brokers.down
        assert nodes[victim].kill(), "it had ended by itself"
        kills.append({"at": time.time(), "partitions": sorted(sets[victim])})
        nodes[victim] = start(victim)
        say(f"kill {len(kills)} of {o.kills}: process {victim} with partitions {kills[-1]['partitions']}" +
            (f", broker {away} away" if away else ""))
        brokers.killed()
        for _ in range(visit_after.count(len(kills))):
            visitor = start("visitor")
            t.wait_until(lambda: owned(visitor), "the visitor owns partitions", 180, 0.2)
            assert visitor.stop(60) == 0, visitor.stderr()
            visits += 1
            say(f"visit {visits} of {o.visitors}")
        if brokers.error:
            raise brokers.error
    brokers.join(600)
    if brokers.error:
        raise brokers.error
    assert len(brokers.done) == o.broker_restarts, "a broker restart has not ended"
    t.wait_until(all_own, "every process owns partitions at the end", 180, 0.2)
    kafka.wait_in_sync()
    say("waiting for the rest of the records")
    while time.monotonic() - load_began < o.records / o.rate + 2:  # it began a moment after us
        assert load.running and reader.running and all(node.running for node in nodes), "something ended"
        time.sleep(0.5)
    load.signal(2)
    status = load.wait(300)
    assert load.stdout(), load.stderr()
    sent = json.loads(load.stdout())
    for node in nodes:
        assert node.stop(60) == 0, node.stderr()
    total = count(kafka)
    assert reader.stop() == 0, reader.stderr()
    live = json.loads(reader.stdout())

    seen = Arrivals(arrivals)
    takeovers = [seen.takeover(kill["at"], kill["partitions"]) for kill in kills]
    took = sorted(x for x in takeovers if x is not None)
    calm = sorted(x for x, kill in zip(takeovers, kills) if x is not None and not any(
        away["from"] < kill["at"] + x and kill["at"] < away["from"] + away["seconds"] for away in brokers.done))
    any_stall, partition_stall = seen.stalls()
    report = {
        "delivery": o.delivery, "records": sent["sent"], "lost": sent["sent"] - total["answered"], "doubled": total["doubled"],
        "errors": total["errors"], "dead_letters": sent["dead_letters"], "strange": total["strange"],
        "as_seen_live": {"results": live["results"], "doubled": live["doubled"]},
        "as_seen_by_load": {k: sent[k] for k in ("predicted", "lost", "duplicated", "refused")},
        "rate": o.rate, "processes": o.processes, "kills": len(kills), "visits": visits, "rebalances": rebalances(kafka),
        "broker_restarts": [{k: x[k] for k in ("broker", "how", "seconds")} for x in brokers.done],
        "takeover_s": {"median": round(statistics.median(took), 2), "worst": round(took[-1], 2),
                       "worst_with_all_brokers": round(calm[-1], 2) if calm else None,
                       "with_all_brokers": len(calm),
                       "each": [x and round(x, 2) for x in takeovers]},
        "worst_stall_s": {"of_all": round(any_stall, 2), "of_a_partition": round(partition_stall, 2)},
        "p50_ms": sent["p50_ms"], "p99_ms": sent["p99_ms"], "max_ms": sent["max_ms"],
        "seed": o.seed, "seconds": round(time.monotonic() - began, 1),
    }
    text = json.dumps(report)
    if o.json:
        pathlib.Path(o.json).write_text(text + "\n")
    print(text)
    print(f"""{o.delivery}: {report['records']:,} records at {o.rate}/s, {report['kills']} kill -9, {len(brokers.done)} broker restarts, {report['rebalances']} rebalances
  lost {report['lost']}, doubled {report['doubled']}, errors {report['errors']}, dead letters {report['dead_letters']}
  takeover after a kill: median {report['takeover_s']['median']} s, worst {report['takeover_s']['worst']} s; with all brokers in sync meanwhile ({len(calm)}) {report['takeover_s']['worst_with_all_brokers']} s
  worst stall of the read_committed reader: {report['worst_stall_s']['of_all']} s; of one partition {report['worst_stall_s']['of_a_partition']} s
  latency from when it was due: p50 {report['p50_ms']:.1f} ms, p99 {report['p99_ms']:.0f} ms, worst {report['max_ms']:.0f} ms""")
    assert report["lost"] == 0 and sent["lost"] == 0 and sent["refused"] == 0, report
    assert total["answered"] == sent["predicted"] == sent["sent"], report
    assert report["errors"] == report["dead_letters"] == report["strange"] == 0, report
    assert status == 0, load.stderr()
    if o.delivery == "exactly_once":
        assert report["doubled"] == live["doubled"] == sent["duplicated"] == 0, report
