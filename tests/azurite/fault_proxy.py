#!/usr/bin/env python3
"""A proxy between an HTTP client and a Blob service on the loopback address that makes mistakes.

    fault_proxy.py --upstream PORT --port-file FILE [--seed N] [--rules FAULT=COUNT,...] [--log FILE]

Of each 50 requests so many meet each fault, in an order that the seed chooses; none meets two:

    busy       503 with Retry-After, the request read          busy-early  the same, its body not read
    error      500                                             reset       reset before the body is read
    reset-in   reset in the middle of the body                 lost        passed on, and reset instead of the answer
    duplicate  passed on twice; the second answer counts       stall       no answer until the client goes
    slow       the answer comes in small pieces                truncate    half of the answer's body, then the end
    spoil-up   a bit of a body sent to the service is flipped  spoil-down  a bit of a blob that is read is flipped
    mixed      the bytes of another read of the same length    lie-crc     a stored blob's CRC64 is told as another one

SIGTERM ends it; the log then ends with a line "requests N faults {...}".
"""
import argparse
import collections
import http.client
import json
import os
import random
import signal
import socket
import socketserver
import struct
import sys
import threading
import time

FAULTS = ("busy busy-early error reset reset-in lost duplicate stall slow truncate spoil-up spoil-down mixed "
          "lie-crc").split()
HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}
HEADERS_MAX = 65536
DECK = 50


class Gone(Exception):
    """The client's connection has come to its end."""


def fits(fault, method, body_bytes):
    if fault in ("reset-in", "spoil-up", "lie-crc"):
        return body_bytes > 0
    return method == "GET" or fault not in ("spoil-down", "mixed", "truncate", "slow")


class Proxy:
    def __init__(self, arguments):
        self.upstream, self.seed, self.log_path = arguments.upstream, arguments.seed, arguments.log
        self.cards = []
        for name, count in (rule.split("=") for rule in arguments.rules.split(",") if rule):
            if name not in FAULTS:
                sys.exit(f"there is no fault {name}")
            self.cards += [name] * int(count)
        if len(self.cards) > DECK:
            sys.exit(f"more than {DECK} faults in {DECK} requests")
        self.cards += [None] * (DECK - len(self.cards))
        self.deck, self.waiting = [], []
        self.lock = threading.Lock()
        self.requests, self.counts = 0, collections.Counter()
        self.read_before = {}  # length: the bytes of a read of that length

    def choose(self, method, body_bytes):
        """The fault of the next request, and a source of random numbers for it."""
        with self.lock:
            source = random.Random(self.seed * 1000003 + self.requests)
            if self.requests % DECK == 0:
                self.deck = source.sample(self.cards, DECK)
            fault = self.deck[self.requests % DECK]
            self.requests += 1
            if fault and not fits(fault, method, body_bytes):  # then the next one that it fits
                self.waiting.append(fault)
                fault = None
            elif fault is None:
                fault = next((one for one in self.waiting if fits(one, method, body_bytes)), None)
                if fault:
                    self.waiting.remove(fault)
            if fault:
                self.counts[fault] += 1
        return fault, source

    def another_read(self, body):
        with self.lock:
            other = self.read_before.get(len(body), body)
            self.read_before[len(body)] = body
        return other

    def finish(self):
        with self.lock:
            text = f"requests {self.requests} faults {json.dumps(self.counts, sort_keys=True)}\n"
        if self.log_path:
            with open(self.log_path, "a", encoding="utf-8") as log:
                log.write(text)


class Connection(socketserver.BaseRequestHandler):
    def setup(self):
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def handle(self):
        try:
            while True:
                self.one_request()
        except (Gone, OSError, http.client.HTTPException):
            pass

    # --- The client's side -------------------------------------------------------------------------------------------

    def more(self):
        data = self.request.recv(1 << 18)
        if not data:
            raise Gone
        self.buffer += data

    def read_head(self):
        while b"\r\n\r\n" not in self.buffer:
            if len(self.buffer) > HEADERS_MAX:
                raise Gone
            self.more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ", 2)
        return method, path, [tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:]]

    def read_body(self, count):
        parts, have = [self.buffer], len(self.buffer)
        while have < count:
            data = self.request.recv(1 << 18)
            if not data:
                raise Gone
            parts.append(data)
            have += len(data)
        whole = b"".join(parts)
        self.buffer = whole[count:]
        return whole[:count]

    def reset(self):
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.request.close()
        raise Gone

    def stall(self):
        """Until the client has enough of it."""
        self.request.settimeout(120)
        while self.request.recv(1 << 16):
            pass
        raise Gone

    def send_answer(self, status, reason, headers, body, *, head_only=False, fault=None):
        lines = [f"HTTP/1.1 {status} {reason}"] + [f"{name}: {value}" for name, value in headers]
        if not head_only:
            lines.append(f"Content-Length: {len(body)}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        if fault == "truncate" and body:
            self.request.sendall(head + body[:len(body) // 2])
            raise Gone
        if fault == "slow" and body:
            self.request.sendall(head)
            size = max(1, len(body) // 8)
            for at in range(0, len(body), size):
                time.sleep(0.02)
                self.request.sendall(body[at:at + size])
            return
        self.request.sendall(head + (b"" if head_only else body))

    # --- The service's side ------------------------------------------------------------------------------------------

    def ask(self, method, path, headers, body):
        service = http.client.HTTPConnection("127.0.0.1", self.server.proxy.upstream, timeout=60)
        try:
            service.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers:
                if name.lower() not in HOP and name.lower() != "expect":
                    service.putheader(name, value)
            if body or method in ("PUT", "POST"):
                service.putheader("Content-Length", str(len(body)))
            service.endheaders(body)
            answer = service.getresponse()
            keep = [(name, value) for name, value in answer.getheaders()
                    if name.lower() not in HOP or (method == "HEAD" and name.lower() == "content-length")]
            return answer.status, answer.reason, keep, answer.read()
        finally:
            service.close()

    # --- What goes wrong ---------------------------------------------------------------------------------------------

    def one_request(self):
        method, path, headers = self.read_head()
        count = int(next((value for name, value in headers if name.lower() == "content-length"), 0))
        fault, source = self.server.proxy.choose(method, count)
        if fault in ("busy-early", "reset", "reset-in"):
            if fault == "busy-early":
                self.refuse(503)
                raise Gone
            if fault == "reset-in":
                self.read_body(source.randrange(count))
            self.reset()
        body = self.read_body(count)
        if fault in ("busy", "error"):
            return self.refuse(503 if fault == "busy" else 500)
        if fault == "stall":
            self.stall()
        if fault == "spoil-up":
            body = self.flip(body, source)
        if fault == "duplicate":
            self.ask(method, path, headers, body)
        status, reason, answer, content = self.ask(method, path, headers, body)
        if fault == "lost":
            self.reset()
        return self.answer(method, fault, source, status, reason, answer, content)

    def answer(self, method, fault, source, status, reason, answer, content):
        if fault == "spoil-down" and status in (200, 206) and content:
            content = self.flip(content, source)
        if status == 206:
            other = self.server.proxy.another_read(content)
            content = other if fault == "mixed" else content
        if fault == "lie-crc" and status == 201:
            answer = [(name, value) for name, value in answer if name.lower() != "x-ms-content-crc64"]
            answer.append(("x-ms-content-crc64", "AAECAwQFBgc="))
        self.send_answer(status, reason, answer, content, head_only=method == "HEAD", fault=fault)

    def refuse(self, status):
        code = "ServerBusy" if status == 503 else "InternalError"
        headers = [("x-ms-error-code", code), ("x-ms-request-id", "of-the-proxy")]
        if status == 503:
            headers.append(("Retry-After", "1"))
        self.send_answer(status, "Trouble", headers, b"")

    @staticmethod
    def flip(data, source):
        spoilt = bytearray(data)
        spoilt[source.randrange(len(spoilt))] ^= 1 << source.randrange(8)
        return bytes(spoilt)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", type=int, required=True)
    parser.add_argument("--port-file", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rules", default="")
    parser.add_argument("--log")
    arguments = parser.parse_args()
    proxy = Proxy(arguments)
    with Server(("127.0.0.1", 0), Connection) as server:
        server.proxy = proxy
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
        with open(arguments.port_file + "~", "w", encoding="utf-8") as file:
            file.write(f"{server.server_address[1]}\n")
        os.rename(arguments.port_file + "~", arguments.port_file)
        server.serve_forever(poll_interval=0.1)
        proxy.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
