#!/usr/bin/env python3
"""Runs HAProxy with haproxy.cfg in front of two servers and shows that it does what it should.

    cargo build --bin tidings
    deploy/haproxy/try.py [--slow] [PROGRAM]        # target/debug/tidings if none is named

Needs Python 3.9 and haproxy 2.6 or newer. Each server has a store of its own, so a token is good at one of them
only; which one answered is told by a header that only the copy of the configuration for this trial has.
--slow adds what takes a minute and a half: a poll of the longest kind, a WebSocket that says nothing.
"""

import base64
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
NAMES = ["tidings-1", "tidings-2"]
PASSWORD = "correct horse"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.node = response.getheader("x-served-by")
        self.body = response.read()

    def json(self):
        return json.loads(self.body)


def ask(port, method, path, token=None, body=None, headers=None, source=None, wait=15):
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", port, timeout=wait, source_address=(source, 0) if source else None
    )
    headers = dict(headers or {})
    if token:
        headers["authorization"] = f"Bearer {token}"
    if body is not None:
        headers["content-type"] = "application/json"
        body = json.dumps(body)
    connection.request(method, path, body, headers)
    answer = Answer(connection.getresponse())
    connection.close()
    return answer


class WebSocket:
    """A client's half of RFC 6455, as much as is needed here."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=15)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            (
                f"GET /v1/connect HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n"
                f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
                "Sec-WebSocket-Protocol: tidings.v1.json\r\n\r\n"
            ).encode()
        )
        self.file = self.socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.node = None
        while (line := self.file.readline().strip()) != b"":
            name, value = line.decode().split(":", 1)
            if name.lower() == "x-served-by":
                self.node = value.strip()

    def send(self, frame):
        data = json.dumps(frame).encode()
        mask = os.urandom(4)
        size = bytes([0x80 | len(data)]) if len(data) < 126 else struct.pack("!BH", 0x80 | 126, len(data))
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
        self.socket.sendall(b"\x81" + size + mask + masked)

    def receive(self):
        """The next frame, None at the end."""
        head = self.file.read(2)
        if len(head) < 2:
            return None
        size = head[1]
        if size == 126:
            size = struct.unpack("!H", self.file.read(2))[0]
        elif size == 127:
            size = struct.unpack("!Q", self.file.read(8))[0]
        data = self.file.read(size)
        return json.loads(data) if head[0] & 15 == 1 else None

    def hello(self, token, heartbeat_ms=30000):
        self.send({"hello": {"id": 1, "token": token, "heartbeat_ms": heartbeat_ms}})
        return "welcome" in (self.receive() or {})

    def ping(self):
        self.send({"ping": {"id": 7}})
        return "pong" in (self.receive() or {})

    def close(self):
        self.file.close()
        self.socket.close()


class Trial:
    def __init__(self, program, folder):
        self.program = program
        self.folder = folder
        self.ports = {name: free_port() for name in NAMES}
        self.front, self.admin = free_port(), free_port()
        self.processes = {}
        self.failed = 0

    def check(self, what, holds, detail=""):
        self.failed += not holds
        print(f"{'ok    ' if holds else 'FAILED'} {what}{f' ({detail})' if detail else ''}", flush=True)

    # Servers and HAProxy.

    def start(self, name):
        environment = {
            **os.environ,
            "TIDINGS_SERVER_PROXIES_IN_FRONT": "1",
            "TIDINGS_USERS_PASSWORD_MEMORY_KIB": "8",
            "TIDINGS_USERS_ADDRESS_SIGN_UPS_BURST_MAX": "20",
            "TIDINGS_USERS_ADDRESS_SIGN_UP_INTERVAL_MS": "3600000",
        }
        command = [self.program, "serve", "--listen", f"127.0.0.1:{self.ports[name]}", "--metrics-listen", ""]
        with open(f"{self.folder}/{name}.log", "a") as log:
            self.processes[name] = subprocess.Popen(
                [*command, "--data", f"{self.folder}/{name}"], env=environment, stdout=log, stderr=log
            )

    def configuration(self):
        with open(f"{HERE}/haproxy.cfg") as file:
            text = file.read()
        for name, port in self.ports.items():
            text = text.replace(f" {name}:8080", f" 127.0.0.1:{port}")
        text = re.sub(r"(?m)^ *server tidings-3 .*\n", "", text)
        text = text.replace("127.0.0.1:9999", f"127.0.0.1:{self.admin}")
        text = text.replace("bind :8080", f"bind 127.0.0.1:{self.front}\n    http-response set-header x-served-by %s")
        text = text.replace("bind :8404", f"bind 127.0.0.1:{free_port()}")
        # Whoever tries this may open fewer files than a server.
        text = text.replace("maxconn 100000", "maxconn 400")
        with open(f"{self.folder}/haproxy.cfg", "w") as file:
            file.write(text)
        return file.name

    def start_haproxy(self):
        with open(f"{self.folder}/haproxy.log", "w") as log:
            self.processes["haproxy"] = subprocess.Popen(
                ["haproxy", "-db", "-f", self.configuration()], stdout=log, stderr=log
            )

    def end(self):
        for process in self.processes.values():
            process.kill()
            process.wait()

    def haproxy(self, command):
        with socket.create_connection(("127.0.0.1", self.admin), timeout=5) as connection:
            connection.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def state(self, name, backend="requests"):
        for line in self.haproxy("show stat").splitlines():
            fields = line.split(",")
            if fields[:2] == [backend, name]:
                return fields[17]
        return None

    def becomes(self, name, wanted, within=20):
        began = time.monotonic()
        while time.monotonic() < began + within:
            try:
                if all((self.state(name, backend) or "").startswith(wanted) for backend in ("websockets", "requests")):
                    return True
            except OSError:
                pass  # HAProxy is not there yet.
            time.sleep(0.05)
        return False

    # Accounts: made at a node itself, as they are good there only.

    def token(self, name, user):
        made = ask(
            self.ports[name],
            "POST",
            "/v1/accounts",
            body={"username": user, "password": PASSWORD},
            # As if through a proxy: each from an address of its own.
            headers={"x-forwarded-for": f"10.0.0.{len(user) + ord(user[-1])}"},
        )
        return made.json()["token"]

    def token_that_leads_to(self, name):
        """A token that is good at this node, and which HAProxy sends there."""
        for number in range(40):
            token = self.token(name, f"user{number}")
            answer = ask(self.front, "GET", "/v1/me", token)
            if answer.node == name:
                assert answer.status == 200, answer.body
                return token
        raise AssertionError(f"HAProxy sends nobody to {name}")

    # What is to be shown.

    def run(self, slow):
        for name in NAMES:
            self.start(name)
        self.start_haproxy()
        ready = all(self.becomes(name, "UP") for name in NAMES)
        self.check("both servers are ready by /readyz", ready)
        if not ready:
            return
        tokens = {name: self.token_that_leads_to(name) for name in NAMES}
        self.websockets(tokens)
        self.requests(tokens)
        self.by_hand(tokens)
        if slow:
            self.patience(tokens)
        self.shut_down(tokens)

    def websockets(self, tokens):
        opened = [WebSocket(self.front) for _ in range(10)]
        self.check("a WebSocket is let through", all(socket.status == 101 for socket in opened))
        counts = {name: sum(socket.node == name for socket in opened) for name in NAMES}
        self.check("WebSockets go where there are fewest", set(counts.values()) == {5}, str(counts))
        self.check("hello is answered by welcome", all(socket.hello(tokens[socket.node]) for socket in opened))
        for socket_ in opened:
            socket_.close()

    def requests(self, tokens):
        some = {f"{number:043}": None for number in range(100)}
        for token in some:
            some[token] = ask(self.front, "GET", "/v1/me", token).node
        counts = {name: list(some.values()).count(name) for name in NAMES}
        self.check("requests are spread by token", min(counts.values()) > 20, str(counts))
        again = {token: ask(self.front, "GET", "/v1/me", token).node for token in some}
        self.check("one token always leads to one node", again == some)
        cookie = {ask(self.front, "GET", "/v1/me", headers={"cookie": "tidings_session=abc"}).node for _ in range(8)}
        self.check("so does a browser's cookie", len(cookie) == 1)

        name, token = next(iter(tokens.items()))
        events = ask(self.front, "GET", "/v1/events", token).json()
        session, last = events["session"], events["last"]
        polls = [
            ask(self.front, "GET", f"/v1/events?session={session}&after={last}&wait=1", token) for _ in range(5)
        ]
        self.check("polls of a session find it", {(poll.status, poll.node) for poll in polls} == {(200, name)})
        call = ask(self.front, "POST", f"/v1/call?session={session}", token, {"ping": {"id": 3}})
        poll = ask(self.front, "GET", f"/v1/events?session={session}&after={last}&wait=5", token)
        self.check("so do requests beside them", call.status == 204 and b"pong" in poll.body)
        stream = http.client.HTTPConnection("127.0.0.1", self.front, timeout=5)
        stream.request("GET", "/v1/events/stream", headers={"authorization": f"Bearer {token}"})
        response = stream.getresponse()
        lines = [response.readline() for _ in range(4)]
        self.check("server-sent events come at once", any(b"welcome" in line for line in lines))
        stream.close()

    def by_hand(self, tokens):
        one, other = NAMES
        held = WebSocket(self.front)
        while held.node != one:
            held = WebSocket(self.front)
        held.hello(tokens[one])
        self.haproxy(f"set server websockets/{one} state drain")
        self.check("`state drain` holds for both backends", self.becomes(one, "DRAIN"))
        self.check("… an open WebSocket stays", held.ping())
        nodes = {WebSocket(self.front).node for _ in range(6)}
        self.check("… new WebSockets go to the other node", nodes == {other}, str(nodes))
        moved = ask(self.front, "GET", "/v1/me", tokens[one]).node
        self.check("… its devices' requests too", moved == other)
        stays = ask(self.front, "GET", "/v1/me", tokens[other]).node
        self.check("… those of others stay where they are", stays == other)

        # While one node answers everything: addresses.
        def sign_up(user, source, headers=None):
            body = {"username": user, "password": PASSWORD}
            return ask(self.front, "POST", "/v1/accounts", body=body, headers=headers, source=source).status

        statuses = [sign_up(f"mallory{number}", "127.0.0.1") for number in range(21)]
        self.check("limits by address count the client's", statuses[-1] == 429 and max(statuses[:-1]) < 300)
        lied = sign_up("mallory99", "127.0.0.1", {"x-forwarded-for": "9.9.9.9"})
        self.check("… which an invented X-Forwarded-For does not change", lied == 429)
        self.check("… and another client is not held back", sign_up("trudy", "127.0.0.2") < 300)

        self.haproxy(f"set server websockets/{one} state ready")
        self.check("`state ready` brings it back", self.becomes(one, "UP"))
        back = ask(self.front, "GET", "/v1/me", tokens[one]).node
        self.check("… and its devices with it", back == one)
        held.close()

    def patience(self, tokens):
        name, token = next(iter(tokens.items()))
        quiet = WebSocket(self.front)
        quiet.hello(tokens[quiet.node], heartbeat_ms=300000)
        events = ask(self.front, "GET", "/v1/events", token).json()
        began = time.monotonic()
        path = f"/v1/events?session={events['session']}&after={events['last']}&wait=60"
        poll = ask(self.front, "GET", path, token, wait=90)
        waited = time.monotonic() - began
        self.check("a poll of 60 s is not cut off", poll.status == 200 and waited > 59, f"{waited:.0f} s")
        time.sleep(35)
        self.check("a WebSocket that says nothing for 95 s is kept", quiet.ping())
        quiet.close()

    def shut_down(self, tokens):
        one, other = NAMES
        held = WebSocket(self.front)
        while held.node != one:
            held = WebSocket(self.front)
        held.hello(tokens[one])
        upgrades, answers, stop = [], [], threading.Event()

        def knock():
            while not stop.is_set():
                socket_ = WebSocket(self.front)
                upgrades.append((socket_.status, socket_.node))
                socket_.close()
                time.sleep(0.01)

        def get():
            while not stop.is_set():
                answer = ask(self.front, "GET", "/v1/limits", tokens[one])
                answers.append((answer.status, answer.node))
                time.sleep(0.01)

        clients = [threading.Thread(target=work) for work in (knock, get)]
        for client in clients:
            client.start()
        time.sleep(1)
        began = time.monotonic()
        self.processes[one].send_signal(signal.SIGTERM)
        said = held.receive()
        self.check("a node that shuts down tells its sessions", "bye" in (said or {}), json.dumps(said))
        self.check("HAProxy takes it out", self.becomes(one, "DOWN"), f"after {time.monotonic() - began:.1f} s")
        time.sleep(1)
        stop.set()
        for client in clients:
            client.join()
        bad = [upgrade for upgrade in upgrades if upgrade[0] != 101]
        self.check("every new WebSocket was let in all the while", not bad, f"{len(upgrades)} of them, {bad[:3]}")
        bad = [answer for answer in answers if answer[0] != 200]
        self.check("every GET was answered", not bad, f"{len(answers)} of them, {bad[:3]}")
        self.processes[one].wait()
        gone = ask(self.front, "GET", "/v1/me", tokens[one]).node
        self.check("its devices are sent to the other", gone == other)
        self.start(one)
        self.check("it comes back when it is ready", self.becomes(one, "UP"))
        back = ask(self.front, "GET", "/v1/me", tokens[one])
        self.check("… and so do its devices", (back.node, back.status) == (one, 200))


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--slow"]
    program = arguments[0] if arguments else f"{HERE}/../../target/debug/tidings"
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(os.path.abspath(program), folder)
        try:
            trial.run("--slow" in sys.argv)
        finally:
            trial.end()
            if trial.failed:
                with open(f"{folder}/haproxy.log") as log:
                    print("".join(log.readlines()[-20:]), file=sys.stderr)
    sys.exit(1 if trial.failed else 0)


if __name__ == "__main__":
    main()
