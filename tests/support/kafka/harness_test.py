"""The tests' own tools: what they say of topics, metrics and left processes must be true before they judge anything else."""

import os
import pathlib
import signal
import subprocess
import sys
import unittest

SUPPORT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(SUPPORT))
import kafka_client  # noqa: E402
import troupe_test  # noqa: E402
from kafka_client import Record  # noqa: E402


def gone(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


class Formats(unittest.TestCase):
    def test_crc32c(self):
        self.assertEqual(kafka_client._crc32c(b"123456789"), 0xE3069283)

    def test_batch_round_trip(self):
        sent = [Record(b"v", b"k", [("h", b"1"), ("none", None)], 1000), Record(None, None, [], 1500), Record(b"x" * 200, b"", [], 900)]
        data = kafka_client._encode_batch(sent)
        got, after = kafka_client._decode_batches(data + data[:20], 3, 0)
        self.assertEqual([(r.value, r.key, r.headers, r.timestamp) for r in got],
                         [(r.value, r.key, r.headers, r.timestamp) for r in sent])
        self.assertEqual(([r.offset for r in got], after), ([0, 1, 2], 3))
        self.assertEqual([r.offset for r in kafka_client._decode_batches(data, 3, 2)[0]], [2])
        with self.assertRaisesRegex(ValueError, "checksum"):
            kafka_client._decode_batches(data[:-1] + b"?", 3, 0)

    def test_lz4(self):
        block = b"\x3fabc\x03\x00\x05" + b"\x10!"  # abc, then 24 bytes from 3 back (overlapping), then !
        frame = b"\x04\x22\x4d\x18\x60\x40\x00" + len(block).to_bytes(4, "little") + block
        frame += (0x80000002).to_bytes(4, "little") + b"ok" + bytes(4)
        self.assertEqual(kafka_client._lz4(frame), b"abc" * 9 + b"!ok")

    def test_metrics(self):
        metrics = troupe_test.Metrics.parse('# HELP a x\na{m="1",s="ok"} 2\na{m="2",s="ok"} 3\na{m="2",s="b \\"q\\""} 4\nup 1\nh{le="+Inf"} +Inf\n')
        self.assertEqual((metrics.total("a"), metrics.total("a", s="ok"), metrics.total("a", m="2"), metrics.total("up")), (9, 5, 7, 1))
        self.assertEqual((metrics.total("h"), metrics.total("none")), (float("inf"), 0))


class Processes(unittest.TestCase):
    def test_a_killed_test_leaves_nothing(self):
        code = ("import os, signal, troupe_test\nstage = troupe_test.Stage().__enter__()\n"
                "print(stage.start(['sleep', '1000'], 'sleep').pid, stage.folder, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)")
        out = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, timeout=60,
                             env={**os.environ, "PYTHONPATH": str(SUPPORT)})
        self.assertEqual(out.returncode, -signal.SIGKILL)
        pid, folder = out.stdout.split()
        troupe_test.wait_until(lambda: gone(int(pid)), "the process is gone")
        troupe_test.wait_until(lambda: not os.path.exists(folder), "the folder is gone")

    def test_a_failed_test_leaves_nothing(self):
        with self.assertRaises(ZeroDivisionError), troupe_test.Stage() as stage:
            stubborn = stage.start(["bash", "-c", "trap '' TERM; while :; do sleep 0.1; done"], "stubborn").pid
            raise ZeroDivisionError
        self.assertTrue(gone(stubborn))
        self.assertFalse(stage.folder.exists())


class Servers(unittest.TestCase):
    def test_kafka(self):
        with troupe_test.Stage() as stage:
            broker = stage.kafka()
            kafka = broker.client
            kafka.create_topic("four", partitions=4)
            kafka.produce("four", (Record(b"%d" % i, timestamp=i + 1) for i in range(2000)))
            self.assertEqual(kafka.end_offsets("four"), {partition: 500 for partition in range(4)})
            self.assertEqual(sorted(int(r.value) for r in kafka.read("four")), list(range(2000)))
            self.assertEqual(len(kafka.read("four", start={0: 499, 1: 500, 2: 500, 3: 498})), 3)
            self.assertEqual(kafka.committed("nobody", "four"), {})
            broker.kill()
            broker.start()
            self.assertEqual(len(kafka.read("four")), 2000)
            pid = broker.pids[1]
        self.assertTrue(gone(pid))

    def test_redis(self):
        with troupe_test.Stage() as stage:
            redis = stage.redis()
            self.assertEqual(redis.command("SET", "a", "1"), b"+OK\r\n")
            redis.kill()
            redis.start()
            self.assertEqual(redis.command("DBSIZE"), b":0\r\n")


if __name__ == "__main__":
    unittest.main()
