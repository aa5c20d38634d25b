"""A small Kafka client on Python's standard library, for tests that must see topics from outside the program.

It shares no code with librdkafka, so what it reads back is an independent witness. Speaks the protocol versions that
Kafka 2.1 to 4.x understand; plain text only; reads none, gzip and lz4 compression.

    with Client("127.0.0.1:9092") as kafka:
        kafka.create_topic("requests", partitions=4)
        kafka.produce("requests", [Record(key=b"k", value=b"v", headers=[("a", b"1")])])
        for record in kafka.read("requests"): print(record.offset, record.value)
        kafka.committed("group", "requests")        # {partition: next offset}
"""

import dataclasses
import socket
import struct
import time
import zlib
from typing import Dict, Iterable, List, Optional, Tuple

PRODUCE, FETCH, LIST_OFFSETS, METADATA, OFFSET_FETCH, FIND_COORDINATOR, CREATE_TOPICS, CREATE_ACLS = 0, 1, 2, 3, 9, 10, 19, 30
RETRIABLE = {3, 5, 6, 7, 9, 13, 14, 15, 16}  # unknown topic, no leader, not leader, time-out, coordinator moving


class KafkaError(Exception):
    def __init__(self, code: int, what: str):
        super().__init__(f"{what}: Kafka error {code}")
        self.code = code


@dataclasses.dataclass
class Record:
    value: Optional[bytes]
    key: Optional[bytes] = None
    headers: List[Tuple[str, Optional[bytes]]] = dataclasses.field(default_factory=list)
    timestamp: int = -1  # epoch milliseconds; -1: now
    partition: int = -1  # -1: by turns
    offset: int = -1

    def header(self, name: str) -> Optional[bytes]:
        return next((value for key, value in self.headers if key == name), None)


def _crc32c_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = (n >> 1) ^ 0x82F63B78 if n & 1 else n >> 1
        table.append(n)
    return table


_CRC32C = _crc32c_table()


def _crc32c(data: bytes) -> int:
    crc, table = 0xFFFFFFFF, _CRC32C
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _lz4(data: bytes) -> bytes:
    """One LZ4 frame (format 1.6.x), without checking its checksums."""
    if data[:4] != b"\x04\x22\x4d\x18":
        raise ValueError("not an LZ4 frame")
    flags = data[4]
    at = 7 + (8 if flags & 8 else 0) + (4 if flags & 1 else 0)
    out = bytearray()
    while True:
        (size,) = struct.unpack_from("<I", data, at)
        at += 4
        if size == 0:
            return bytes(out)
        stored, size = size >> 31, size & 0x7FFFFFFF
        block = data[at : at + size]
        at += size + (4 if flags & 16 else 0)
        if stored:
            out += block
            continue
        i = 0
        while i < len(block):
            token = block[i]
            i += 1
            literals = token >> 4
            if literals == 15:
                while True:
                    literals += block[i]
                    i += 1
                    if block[i - 1] != 255:
                        break
            out += block[i : i + literals]
            i += literals
            if i >= len(block):
                break
            back = block[i] | block[i + 1] << 8
            i += 2
            length = token & 15
            if length == 15:
                while True:
                    length += block[i]
                    i += 1
                    if block[i - 1] != 255:
                        break
            length += 4
            start = len(out) - back
            if back >= length:
                out += out[start : start + length]
            else:  # the copy overlaps what it writes: a repeated pattern
                pattern = bytes(out[start:])
                out += (pattern * (length // back + 1))[:length]


def _varint(value: int) -> bytes:
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _var_bytes(data: Optional[bytes]) -> bytes:
    return _varint(-1) if data is None else _varint(len(data)) + data


def _string(text: Optional[str]) -> bytes:
    if text is None:
        return b"\xff\xff"
    data = text.encode()
    return struct.pack(">h", len(data)) + data


class _Reader:
    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, form: str):
        values = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(">" + form)
        return values[0] if len(values) == 1 else values

    def raw(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]

    def string(self) -> Optional[str]:
        size = self.take("h")
        return None if size < 0 else self.raw(size).decode()

    def bytes(self) -> Optional[bytes]:
        size = self.take("i")
        return None if size < 0 else self.raw(size)

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)

    def var_bytes(self) -> Optional[bytes]:
        size = self.varint()
        return None if size < 0 else self.raw(size)

    def array(self):
        return range(max(0, self.take("i")))


def _encode_batch(records: List[Record]) -> bytes:
    now = int(time.time() * 1000)
    times = [now if record.timestamp < 0 else record.timestamp for record in records]
    body = bytearray()
    for i, record in enumerate(records):
        one = b"\x00" + _varint(times[i] - times[0]) + _varint(i) + _var_bytes(record.key) + _var_bytes(record.value)
        one += _varint(len(record.headers))
        for name, value in record.headers:
            one += _var_bytes(name.encode()) + _var_bytes(value)
        body += _varint(len(one)) + one
    tail = struct.pack(">hiqqqhii", 0, len(records) - 1, times[0], max(times), -1, -1, -1, len(records)) + bytes(body)
    tail_and_crc = struct.pack(">ibI", -1, 2, _crc32c(tail)) + tail
    return struct.pack(">qi", 0, len(tail_and_crc)) + tail_and_crc


def _decode_batches(data: bytes, partition: int, first: int) -> Tuple[List[Record], int]:
    """-> data records from offset `first` on, and the offset after the last whole batch."""
    found, at, after = [], 0, first
    while at + 61 <= len(data):
        base, size = struct.unpack_from(">qi", data, at)
        end = at + 12 + size
        if end > len(data):
            break  # the broker may cut the last batch
        reader = _Reader(data[at + 12 : end])
        reader.take("ib")
        crc = reader.take("I")
        if _crc32c(reader.data[reader.at :]) != crc:
            raise ValueError(f"partition {partition}, offset {base}: checksum of the batch is wrong")
        attributes, last_delta, base_time, _, _, _, _, count = reader.take("hiqqqhii")
        at, after = end, base + last_delta + 1
        if attributes & 0x20:
            continue  # a transaction's marker
        body = reader.raw(len(reader.data) - reader.at)
        kind = attributes & 7
        if kind == 1:
            body = zlib.decompress(body, 31)
        elif kind == 3:
            body = _lz4(body)
        elif kind:
            raise ValueError(f"compression {kind} cannot be read here: configure none, gzip or lz4")
        reader = _Reader(body)
        for _ in range(count):
            reader.varint()
            reader.take("b")
            timestamp, offset = base_time + reader.varint(), base + reader.varint()
            key, value = reader.var_bytes(), reader.var_bytes()
            headers = [(reader.var_bytes().decode(), reader.var_bytes()) for _ in range(reader.varint())]
            if offset >= first:
                found.append(Record(value, key, headers, timestamp, partition, offset))
    return found, after


class Client:
    def __init__(self, bootstrap: str, timeout: float = 30):
        self.addresses, self.timeout = bootstrap.split(","), timeout
        self.connections: Dict[str, socket.socket] = {}
        self.correlation = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def bootstrap(self) -> str:
        return self.addresses[0]

    def close(self):
        for connection in self.connections.values():
            connection.close()
        self.connections.clear()

    def _call(self, address: str, api: int, version: int, body: bytes) -> _Reader:
        try:
            if address not in self.connections:
                host, port = address.rsplit(":", 1)
                self.connections[address] = socket.create_connection((host, int(port)), self.timeout)
            connection = self.connections[address]
            self.correlation += 1
            request = struct.pack(">hhi", api, version, self.correlation) + _string("troupe-test") + body
            connection.sendall(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", self._receive(connection, 4))
            reader = _Reader(self._receive(connection, size))
        except OSError:
            lost = self.connections.pop(address, None)
            if lost:
                lost.close()
            if address == self.bootstrap:  # the next try asks another node
                self.addresses.append(self.addresses.pop(0))
            raise
        if reader.take("i") != self.correlation:
            raise ValueError("the answer is not to this request")
        return reader

    @staticmethod
    def _receive(connection: socket.socket, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = connection.recv(size - len(data))
            if not part:
                raise ConnectionError("the broker closed the connection")
            data += part
        return bytes(data)

    def _retry(self, action):
        """Runs action again, within the time-out, while Kafka says that it settles."""
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                return action()
            except (KafkaError, OSError) as error:
                retriable = not isinstance(error, KafkaError) or error.code in RETRIABLE
                if not retriable or time.monotonic() > deadline:
                    raise
            time.sleep(0.05)

    def _leaders(self, topic: str, create: bool) -> Dict[int, str]:
        body = struct.pack(">i", 1) + _string(topic) + struct.pack(">b", create)
        reader = self._call(self.bootstrap, METADATA, 4, body)
        reader.take("i")
        nodes = {}
        for _ in reader.array():
            node, host, port = reader.take("i"), reader.string(), reader.take("i")
            reader.string()
            nodes[node] = f"{host}:{port}"
        reader.string(), reader.take("i")
        leaders = {}
        for _ in reader.array():
            code, _, _ = reader.take("h"), reader.string(), reader.take("b")
            if code:
                raise KafkaError(code, f"topic {topic}")
            for _ in reader.array():
                code, partition, leader = reader.take("hii")
                for _ in range(2):
                    for _ in reader.array():
                        reader.take("i")
                if code and code != 9:  # a replica that is down does not matter here
                    raise KafkaError(code, f"{topic}-{partition}")
                leaders[partition] = nodes[leader]
        return leaders

    def partitions(self, topic: str, create: bool = False) -> Dict[int, str]:
        """Partition -> address of its leader. With `create` the broker makes a missing topic with its defaults."""
        return self._retry(lambda: self._leaders(topic, create))

    def in_sync(self) -> Dict[Tuple[str, int], Tuple[int, int]]:
        """Of each partition of each topic, Kafka's own ones too: how many replicas are in sync, and how many there are."""

        def ask():
            reader = self._call(self.bootstrap, METADATA, 4, struct.pack(">ib", -1, 0))
            reader.take("i")
            for _ in reader.array():
                reader.take("i"), reader.string(), reader.take("i"), reader.string()
            reader.string(), reader.take("i")
            found = {}
            for _ in reader.array():
                _, topic, _ = reader.take("h"), reader.string(), reader.take("b")
                for _ in reader.array():
                    _, partition, _ = reader.take("hii")
                    replicas = [reader.take("i") for _ in reader.array()]
                    found[topic, partition] = len([reader.take("i") for _ in reader.array()]), len(replicas)
            return found

        return self._retry(ask)

    def create_topic(self, topic: str, partitions: int = 4, replicas: int = 1, config: Optional[Dict[str, str]] = None):
        """Waits until every partition has a leader. An existing topic is left as it is."""
        settings = b"".join(_string(name) + _string(value) for name, value in (config or {}).items())
        body = struct.pack(">i", 1) + _string(topic) + struct.pack(">ihii", partitions, replicas, 0, len(config or {}))
        body += settings + struct.pack(">ib", 10000, 0)

        def create():
            reader = self._call(self.bootstrap, CREATE_TOPICS, 2, body)
            reader.take("i")
            for _ in reader.array():
                _, code, message = reader.string(), reader.take("h"), reader.string()
                if code not in (0, 36):
                    raise KafkaError(code, f"topic {topic}: {message}")

        self._retry(create)
        self.partitions(topic)

    def allow_transactional_ids(self, prefix: str, user: str):
        self.allow("transactional id", prefix, user)

    def allow(self, kind: str, prefix: str, user: str):
        """An ACL: topics, groups or transactional ids that begin so are this user's (where an authorizer runs: and nobody
        else's)."""
        prefixed, anything, allow = 4, 2, 3
        resource = {"topic": 2, "group": 3, "transactional id": 5}[kind]
        body = struct.pack(">ib", 1, resource) + _string(prefix) + struct.pack(">b", prefixed)
        body += _string(f"User:{user}") + _string("*") + struct.pack(">bb", anything, allow)

        def create():
            reader = self._call(self.bootstrap, CREATE_ACLS, 1, body)
            reader.take("i")
            for _ in reader.array():
                code, message = reader.take("h"), reader.string()
                if code:
                    raise KafkaError(code, f"ACL: {message}")

        self._retry(create)

    def produce(self, topic: str, records: Iterable[Record], batch: int = 500):
        """Sends with acks=all and waits for the acknowledgement. At least once: a retry may repeat a batch."""
        leaders = self.partitions(topic, create=True)
        queues: Dict[int, List[Record]] = {partition: [] for partition in leaders}
        for i, record in enumerate(records):
            queues[record.partition if record.partition >= 0 else i % len(leaders)].append(record)
        for partition, queue in queues.items():
            for start in range(0, len(queue), batch):
                data = _encode_batch(queue[start : start + batch])
                body = _string(None) + struct.pack(">hii", -1, 30000, 1) + _string(topic)
                body += struct.pack(">iii", 1, partition, len(data)) + data

                def send():
                    reader = self._call(self.partitions(topic)[partition], PRODUCE, 3, body)
                    reader.take("i"), reader.string(), reader.take("i"), reader.take("i")
                    code = reader.take("h")
                    if code:
                        raise KafkaError(code, f"{topic}-{partition}")

                self._retry(send)

    def offset(self, topic: str, partition: int, at: int = -1) -> int:
        """The end of a partition (at=-1) or its beginning (at=-2)."""
        body = struct.pack(">ii", -1, 1) + _string(topic) + struct.pack(">iiq", 1, partition, at)

        def ask():
            reader = self._call(self.partitions(topic)[partition], LIST_OFFSETS, 1, body)
            reader.take("i"), reader.string(), reader.take("i")
            _, code, _, offset = reader.take("ihqq")
            if code:
                raise KafkaError(code, f"{topic}-{partition}")
            return offset

        return self._retry(ask)

    def end_offsets(self, topic: str) -> Dict[int, int]:
        return {partition: self.offset(topic, partition) for partition in self.partitions(topic)}

    def read(self, topic: str, start: Optional[Dict[int, int]] = None, committed_only: bool = True) -> List[Record]:
        """All records of a topic up to the end of each partition as it is now, from `start` or from the beginning.

        With committed_only records of open and aborted transactions are held back as a read_committed consumer's would
        be up to the last stable offset; aborted records below it are not filtered out.
        """
        found = []
        for partition in sorted(self.partitions(topic)):
            at = (start or {}).get(partition, -1)
            at = self.offset(topic, partition, -2) if at < 0 else at
            end = self.offset(topic, partition)
            while at < end:
                records, after = self._retry(lambda: self._fetch(topic, partition, at, committed_only))
                if after == at:
                    break
                found += [record for record in records if record.offset < end]
                at = after
        return found

    def _fetch(self, topic: str, partition: int, at: int, committed_only: bool) -> Tuple[List[Record], int]:
        body = struct.pack(">iiiib", -1, 500, 1, 8 << 20, committed_only) + struct.pack(">i", 1) + _string(topic)
        body += struct.pack(">iiqi", 1, partition, at, 8 << 20)
        reader = self._call(self.partitions(topic)[partition], FETCH, 4, body)
        reader.take("i"), reader.take("i"), reader.string(), reader.take("i")
        _, code, _, _ = reader.take("ihqq")
        if code:
            raise KafkaError(code, f"{topic}-{partition}")
        for _ in reader.array():
            reader.take("qq")
        return _decode_batches(reader.bytes() or b"", partition, at)

    def committed(self, group: str, topic: str) -> Dict[int, int]:
        """The group's committed offset of each partition that has one."""

        def ask():
            reader = self._call(self.bootstrap, FIND_COORDINATOR, 1, _string(group) + b"\x00")
            reader.take("i")
            code = reader.take("h")
            reader.string(), reader.take("i")
            if code:
                raise KafkaError(code, f"coordinator of {group}")
            address = f"{reader.string()}:{reader.take('i')}"
            partitions = sorted(self.partitions(topic))
            body = _string(group) + struct.pack(">i", 1) + _string(topic) + struct.pack(">i", len(partitions))
            body += b"".join(struct.pack(">i", partition) for partition in partitions)
            reader = self._call(address, OFFSET_FETCH, 1, body)
            found = {}
            for _ in reader.array():
                reader.string()
                for _ in reader.array():
                    partition, offset = reader.take("iq")
                    reader.string()
                    code = reader.take("h")
                    if code:
                        raise KafkaError(code, f"{group}: {topic}-{partition}")
                    if offset >= 0:
                        found[partition] = offset
            return found

        return self._retry(ask)
