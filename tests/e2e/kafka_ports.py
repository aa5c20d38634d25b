"""Source, sink and admin on a real broker. Runs the tests that need one, and kills and restarts it when they ask."""

import os
import pathlib

import troupe_test as t

BUILD = pathlib.Path(os.environ.get("TROUPE_BUILD_DIRECTORY") or t.ROOT / "build/release")

with t.Stage() as stage:
    kafka = stage.kafka(tls=True)
    orders = stage.path("orders")
    orders.mkdir()
    tests = stage.start(
        [BUILD / "tests/test_runtime_kafka", "--gtest_filter=RealBroker*.*"], "tests",
        {"TROUPE_TEST_KAFKA": kafka.bootstrap, "TROUPE_TEST_KAFKA_TLS": kafka.tls_bootstrap,
         "TROUPE_TEST_KAFKA_CA": str(kafka.authority), "TROUPE_TEST_KAFKA_PASSWORD": kafka.secret,
         "TROUPE_TEST_KAFKA_ORDERS": str(orders)})
    does = {"kill": kafka.kill, "start": kafka.start}

    def ended():
        for name, do in does.items():
            if (orders / name).exists():
                (orders / name).unlink()
                do()
                (orders / f"{name}.done").touch()
        return not tests.running

    t.wait_until(ended, "the tests have ended", 400)
    status = tests.wait()
    print(tests.stdout())
    assert status == 0, tests.stderr()
    assert "[  SKIPPED ]" not in tests.stdout(), "nothing may be skipped here"
