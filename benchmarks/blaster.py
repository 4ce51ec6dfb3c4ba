"""The sending side of the benchmarks: a websocket server as cheap as can be, in a process of its own.

    python benchmarks/blaster.py --count 300000 [--rate 2000] [--kind evolving]

It prints its URL, takes one client, acknowledges its subscriptions, waits two seconds (so that the
client can settle and note its CPU time), sends the frames encoded beforehand, all at once or one by
one at `--rate`, and then stays until the client goes away. The kinds aggTrade and depth20 are Binance's;
what collectors ask of its REST beforehand is answered, too.
"""

import argparse
import base64
import hashlib
import json
import socket
import threading
import time

import market_frames
from frames import Generator, as_websocket

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_SETTLE_S = 2.0
_CHUNK_FRAMES = 200


def handshake(client: socket.socket) -> str:
    """Answer the HTTP upgrade, and return the path; or answer a GET, and return ""."""
    request = b""
    while b"\r\n\r\n" not in request:
        part = client.recv(4096)
        if not part:
            return ""
        request += part
    lines = request.decode("latin-1").split("\r\n")
    path = lines[0].split()[1]
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    key = fields.get("sec-websocket-key")
    if key is None:
        body = market_frames.answer(path)
        client.sendall(
            b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
            b"Connection: close\r\n\r\n%b" % (b"200 OK" if body else b"404 Not Found", len(body), body)
        )
        client.close()
        return ""
    accept = base64.b64encode(hashlib.sha1(key.encode() + _MAGIC).digest()).decode()
    client.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept.encode() + b"\r\n\r\n"
    )
    return path


def read_request(client: socket.socket) -> bytes:
    """Return one masked message of the client; b'' when it has gone or closes."""
    try:
        head = client.recv(2, socket.MSG_WAITALL)
    except ConnectionResetError:
        return b""
    if len(head) < 2 or head[0] & 0x0F == 0x8:
        return b""
    size = head[1] & 0x7F
    if size == 126:
        size = int.from_bytes(client.recv(2, socket.MSG_WAITALL), "big")
    mask = client.recv(4, socket.MSG_WAITALL)
    masked = client.recv(size, socket.MSG_WAITALL) if size else b""
    return bytes(byte ^ mask[n % 4] for n, byte in enumerate(masked)) or b"{}"


def answer(client: socket.socket, wanted: threading.Event) -> None:
    """Acknowledge subscriptions and pings until the client goes."""
    while request := read_request(client):
        asked = json.loads(request)
        method = asked.get("method", "")
        now_ms = time.time_ns() // 1_000_000
        if method == "ping":
            client.sendall(as_websocket(b'{"channel":"pong","data":%d,"ts":%d}' % (now_ms, now_ms)))
        elif method == "SUBSCRIBE":
            client.sendall(as_websocket(b'{"result":null,"id":%d}' % asked["id"]))
            wanted.set()
        elif method.startswith("sub."):
            client.sendall(
                as_websocket(b'{"channel":"rs.%s","data":"success","ts":%d}' % (method.encode(), now_ms))
            )
            if method == "sub.depth.full":
                wanted.set()


def send_all(client: socket.socket, frames: list[bytes], rate: float) -> None:
    """Send the frames, all at once or one by one at `rate` a second."""
    if not rate:
        for at in range(0, len(frames), _CHUNK_FRAMES):
            client.sendall(b"".join(frames[at : at + _CHUNK_FRAMES]))
        return
    started = time.perf_counter()
    for number, frame in enumerate(frames):
        ahead = started + number / rate - time.perf_counter()
        if ahead > 0:
            time.sleep(ahead)
        client.sendall(frame)


def encoded(kind: str, count: int, rate: float) -> list[bytes]:
    """Return the frames as they are sent."""
    if kind in market_frames.KINDS:
        return [as_websocket(frame) for frame in market_frames.KINDS[kind](count)]
    interval_ms = 1000.0 / rate if rate else 1.0
    return [as_websocket(frame) for frame in Generator(kind=kind).frames(count, interval_ms=interval_ms)]


def main() -> None:
    """Serve one client."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300_000)
    parser.add_argument("--rate", type=float, default=0.0, help="frames a second; 0: as fast as they go")
    parser.add_argument("--kind", choices=("uniform", "evolving", *market_frames.KINDS), default="uniform")
    options = parser.parse_args()
    frames = encoded(options.kind, options.count, options.rate)
    server = socket.create_server(("127.0.0.1", 0))
    print(f"ws://127.0.0.1:{server.getsockname()[1]}/edge", flush=True)
    path = ""
    while not path:
        client, _ = server.accept()
        path = handshake(client)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    wanted = threading.Event()
    if "streams=" in path:  # that is how Binance is subscribed, too
        wanted.set()
    answering = threading.Thread(target=answer, args=(client, wanted), daemon=True)
    answering.start()
    if wanted.wait(30):
        time.sleep(_SETTLE_S)
        send_all(client, frames, options.rate)
        answering.join()


if __name__ == "__main__":
    main()
