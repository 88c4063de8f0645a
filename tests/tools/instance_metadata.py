"""Azure's instance metadata service, for tests: instance_metadata.py DIRECTORY PORT

DIRECTORY/place.json is what the machine is, DIRECTORY/events.json what is going to happen. Without the header there is no
answer. PORT 0: any; which one is written to DIRECTORY/port.
"""
import http.server
import os
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.headers.get("Metadata") != "true":
            self.send_error(400)
            return
        name = "events.json" if self.path.startswith("/metadata/scheduledevents?api-version=2020") else "place.json"
        with open(os.path.join(sys.argv[1], name), "rb") as file:
            body = file.read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler)
with open(os.path.join(sys.argv[1], "port"), "w") as file:
    file.write(f"{server.server_port}\n")
server.serve_forever()
