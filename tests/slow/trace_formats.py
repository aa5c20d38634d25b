#!/usr/bin/env python3
"""What a node exports, read by others' code: the spans by the protocol buffers of opentelemetry-proto (strictly: an unknown
or mistyped member is an error), /metrics with exemplars by prometheus_client's OpenMetrics parser. Needs both packages;
scripts/test-tracing has them."""

import base64
import http.server
import json
import re
import threading
import urllib.error
import urllib.request

import troupe_test as t
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

ROW = [0.04, 0.05, 0.06, 0.02, -0.04, -0.03, -0.04, 0, 0.02, -0.02]
received = []


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        received.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


def parsed(text):
    """OTLP's JSON differs from that of protocol buffers in the ids, which are hexadecimal, not base64."""
    coded = re.sub(r'"(traceId|spanId|parentSpanId)":"([0-9a-f]*)"',
                   lambda m: f'"{m[1]}":"{base64.b64encode(bytes.fromhex(m[2])).decode()}"', text)
    return json_format.Parse(coded, ExportTraceServiceRequest())


with t.Stage() as stage:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    node = stage.troupe({"http": {}, "kafka": {"brokers": "embedded"}, "cache": {"mode": "on"},
                         "tracing": {"endpoint": f"http://127.0.0.1:{server.server_port}", "sample_ratio": 1, "interval": "50ms"}})
    node.wait_ready()
    for k in range(200):
        body = json.dumps({"data": [[0.001 * (k % 50)] + ROW[1:]]}) if k % 10 else '{"data": "no rows"}'
        headers = {"tracestate": "a=1", "User-Agent": 'caf\u00e9 "x"'.encode().decode("latin-1")}
        if k % 3 == 0:
            headers["traceparent"] = f"00-{k + 1:032x}-00f067aa0ba902b7-01"
        request = urllib.request.Request(f"http://127.0.0.1:{node.http_port}/score?k={k}", body.encode(), headers)
        try:
            urllib.request.urlopen(request).read()
        except urllib.error.HTTPError as error:
            assert error.code == 400, error
    request = urllib.request.Request(f"http://127.0.0.1:{node.port}/metrics", headers={"Accept": "application/openmetrics-text"})
    text = urllib.request.urlopen(request).read().decode()
    assert node.stop() == 0, node.stderr()

    spans = [span for one in received for resource in parsed(one).resource_spans for scope in resource.scope_spans for span in scope.spans]
    servers = [span for span in spans if span.kind == span.SPAN_KIND_SERVER]
    assert len(servers) == 200 and len({span.trace_id for span in servers}) == 200, len(servers)
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans)
    for span in spans:
        assert len(span.trace_id) == 16 and len(span.span_id) == 8 and span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.kind == span.SPAN_KIND_SERVER or by_id[span.parent_span_id].trace_id == span.trace_id
    assert {span.name for span in spans} == {"POST /score", "cache", "queue", "score"}

    families = list(text_string_to_metric_families(text))
    shown = [sample.exemplar.labels["trace_id"] for family in families for sample in family.samples if sample.exemplar]
    assert shown and {bytes.fromhex(i) for i in shown} <= {span.trace_id for span in spans}, shown
    print(f"{len(spans)} spans in {len(received)} requests, {len(families)} families, {len(shown)} exemplars: all read")
