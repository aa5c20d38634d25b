"""Just enough of HTTP/2 (RFC 9113) and of gRPC over it to call a server, and to send it what it must refuse; on Python's
standard library. Header blocks are read without Huffman codes and dynamic table: the server is told that there is none.

    with http2.Connection(port) as c:
        reply = c.call("/inference.GRPCInferenceService/ServerLive")
        assert reply.status == 0 and reply.message == b"\\x08\\x01"
"""

import select
import socket
import struct
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = range(6)
PERMISSION_DENIED, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, UNAUTHENTICATED = 7, 8, 12, 13, 14, 16

STATIC_NAMES = """:authority :method :method :path :path :scheme :scheme :status :status :status :status :status :status
:status accept-charset accept-encoding accept-language accept-ranges accept access-control-allow-origin age allow
authorization cache-control content-disposition content-encoding content-language content-length content-location
content-range content-type cookie date etag expect expires from host if-match if-modified-since if-none-match if-range
if-unmodified-since last-modified link location max-forwards proxy-authenticate proxy-authorization range referer refresh
retry-after server set-cookie strict-transport-security transfer-encoding user-agent vary via www-authenticate""".split()
STATIC_VALUES = {8: "200", 9: "204", 10: "206", 11: "304", 12: "400", 13: "404", 14: "500", 16: "gzip, deflate"}


def frame(kind, flags, stream, payload=b"", length=None):
    return struct.pack(">I", len(payload) if length is None else length)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def text(value):
    value = value.encode() if isinstance(value, str) else value
    size, out = len(value), b""
    if size < 127:
        return bytes([size]) + value
    size -= 127
    while size > 127:
        out += bytes([size & 127 | 128])
        size >>= 7
    return b"\x7f" + out + bytes([size]) + value


def block(pairs):
    """Every field as a literal that is not indexed."""
    return b"".join(b"\0" + text(name) + text(value) for name, value in pairs)


def fields(data):
    at = 0

    def number(bits):
        nonlocal at
        value, mask = data[at], (1 << bits) - 1
        value, at = value & mask, at + 1
        shift = 0
        while value >= mask and shift >= 0:
            value, shift, more = value + ((data[at] & 127) << shift), shift + 7, data[at] & 128
            at += 1
            if not more:
                break
        return value

    def string():
        nonlocal at
        packed = data[at] & 128
        size = number(7)
        value, at = data[at:at + size], at + size
        return "(Huffman)" if packed else value.decode("latin-1")

    found = {}
    while at < len(data):
        first = data[at]
        if first & 128:
            index = number(7)
            found[STATIC_NAMES[index - 1]] = STATIC_VALUES.get(index, "")
        elif first & 64 or first & 240 in (0, 16):
            index = number(6 if first & 64 else 4)
            name = STATIC_NAMES[index - 1] if index else string()
            found[name] = string()
        else:
            number(5)  # the size of the dynamic table
    return found


def prefixed(message, length=None, packed=0):
    """gRPC's own frame around a message; `length`: what it says of it."""
    return struct.pack(">BI", packed, len(message) if length is None else length) + message


class Reply:
    status, says, message, reset = None, "", b"", None

    def __init__(self):
        self.headers, self.data = {}, b""

    def __repr__(self):
        return f"<{self.status} {self.says!r} reset={self.reset} {self.headers} {self.data!r}>"


class Closed(Exception):
    """The server has ended the connection; `code`: of its GOAWAY, if there was one."""

    def __init__(self, code, why=b""):
        super().__init__(f"closed: {code} {why!r}")
        self.code = code


class Connection:
    def __init__(self, port, tls=None, name="localhost", greet=True):
        self.socket = socket.create_connection(("127.0.0.1", port), 20)
        if tls:
            tls.set_alpn_protocols(["h2"])
            self.socket = tls.wrap_socket(self.socket, server_hostname=name)
        self.buffer, self.stream, self.goaway, self.why = b"", -1, None, b""
        self.answers_pings, self.pings = True, 0
        if greet:
            # No dynamic table, and a wide window.
            self.send(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HIHI", 1, 0, 4, 1 << 24)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # what the server said before that is still to be read

    def read(self, deadline=20):
        """The next frame: kind, flags, stream, payload. Closed when there is none; TimeoutError."""
        end = time.monotonic() + deadline
        while True:
            size = int.from_bytes(self.buffer[:3], "big") if len(self.buffer) >= 9 else None
            if size is not None and len(self.buffer) >= 9 + size:
                break
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError("no frame")
            if not getattr(self.socket, "pending", lambda: 0)() and not select.select([self.socket], [], [], left)[0]:
                continue
            try:
                more = self.socket.recv(1 << 16)
            except ConnectionResetError:
                more = b""
            if not more:
                raise Closed(self.goaway, self.why)
            self.buffer += more
        kind, flags, stream = struct.unpack(">BBI", self.buffer[3:9])
        payload, self.buffer = self.buffer[9:9 + size], self.buffer[9 + size:]
        if kind == SETTINGS and not flags & ACK:
            self.send(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.pings += 1
            if self.answers_pings:
                self.send(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self.goaway, self.why = int.from_bytes(payload[4:8], "big"), payload[8:]
        return kind, flags, stream, payload

    def watch(self, seconds):
        """Reads what comes in that time; True: until the server closed."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                self.read(max(0.01, end - time.monotonic()))
            except TimeoutError:
                return False
            except Closed:
                return True
        return False

    def begin(self, path, metadata=(), flags=END_HEADERS, method="POST"):
        self.stream += 2
        self.send(frame(HEADERS, flags, self.stream, block([
            (":method", method), (":scheme", "http"), (":path", path), (":authority", "localhost"),
            ("content-type", "application/grpc"), ("te", "trailers"), *metadata])))
        return self.stream

    def end(self, stream, deadline=20):
        """Reads to the end of the call. Closed when the connection ends first."""
        reply = Reply()
        while True:
            kind, flags, on, payload = self.read(deadline)
            if on != stream:
                continue
            if kind == HEADERS:
                reply.headers.update(fields(payload))
            elif kind == DATA:
                reply.data += payload
            elif kind == RST_STREAM:
                reply.reset = int.from_bytes(payload, "big")
            if kind == RST_STREAM or (kind in (HEADERS, DATA) and flags & END_STREAM):
                break
        if "grpc-status" in reply.headers:
            reply.status, reply.says = int(reply.headers["grpc-status"]), reply.headers.get("grpc-message", "")
        reply.message = reply.data[5:]
        return reply

    def call(self, path, message=b"", metadata=(), body=None):
        """A unary call; `body` instead of the message: the bytes of DATA as they are."""
        stream = self.begin(path, metadata)
        self.send(frame(DATA, END_STREAM, stream, prefixed(message) if body is None else body))
        return self.end(stream)
