"""Stands before a server that speaks DynamoDB and fails writes in turn, as the real one does: throttled,
an answer lost after the write, an error after the write, a part of a batch left undone.

    faulty.py PORT UPSTREAM_PORT LOG

Each request is a line of LOG: the fault (or "pass"), the operation, the status (0: no answer), the kind of the
error (or "-"), how many items there were to be put, and how many were left undone.
"""

import http.client
import itertools
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port, upstream, log_path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
turns = itertools.cycle(["pass", "throttled", "pass", "lost", "pass", "error", "pass", "part", "pass"])
lock = threading.Lock()
log = open(log_path, "a", buffering=1)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        fault = "pass"
        if operation in ("PutItem", "BatchWriteItem"):
            with lock:
                fault = next(turns)
        if fault == "part" and operation != "BatchWriteItem":
            fault = "pass"
        request = json.loads(body)
        batch = request.get("RequestItems", {})
        self.about = (fault, operation, sum(map(len, batch.values())) or int(operation == "PutItem"))
        if fault == "throttled":
            return self.fail(400, "ProvisionedThroughputExceededException")
        left = None
        if fault == "part":
            left = {}
            for table, puts in request["RequestItems"].items():
                half = len(puts) // 2
                left[table] = puts[: len(puts) - half]
                request["RequestItems"][table] = puts[len(puts) - half :]
            request["RequestItems"] = {t: puts for t, puts in request["RequestItems"].items() if puts}
            body = json.dumps(request).encode()
            if not request["RequestItems"]:
                return self.answer(200, json.dumps({"UnprocessedItems": left}).encode())
        connection = http.client.HTTPConnection("127.0.0.1", upstream)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "content-length")}
        connection.request("POST", self.path, body, headers)
        answer = connection.getresponse()
        answered = answer.read()
        connection.close()
        if fault == "lost":
            self.note(0, b"")
            self.close_connection = True
            return self.connection.close()
        if fault == "error":
            return self.fail(500, "InternalServerError")
        if left is not None and answer.status == 200:
            answered = json.dumps({"UnprocessedItems": left}).encode()
        self.answer(answer.status, answered)

    def fail(self, status, kind):
        body = {"__type": f"com.amazonaws.dynamodb.v20120810#{kind}", "message": "a test asked for it"}
        self.answer(status, json.dumps(body).encode())

    def note(self, status, body):
        fault, operation, items = self.about
        said = json.loads(body) if body else {}
        kind = said.get("__type", "-").rpartition("#")[2]
        left = sum(map(len, said.get("UnprocessedItems", {}).values()))
        log.write(f"{fault} {operation} {status} {kind} {items} {left}\n")

    def answer(self, status, body):
        self.note(status, body)
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
