"""The sending side of the benchmarks: a websocket server as cheap as can be, in a process of its own.

    python benchmarks/blaster.py --count 300000 [--rate 2000] [--kind evolving]

It prints its URL, takes one client, acknowledges its subscriptions, waits two seconds (so that the
client can settle and note its CPU time), sends the frames encoded beforehand, all at once or one by
one at `--rate`, and then stays until the client goes away.
"""

import argparse
import base64
import hashlib
import json
import socket
import threading
import time

from frames import Generator, as_websocket

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_SETTLE_S = 2.0
_CHUNK_FRAMES = 200


def handshake(client: socket.socket) -> None:
    """Answer the HTTP upgrade."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += client.recv(4096)
    lines = request.decode("latin-1").split("\r\n")
    key = next(
        line.split(":", 1)[1].strip() for line in lines if line.lower().startswith("sec-websocket-key")
    )
    accept = base64.b64encode(hashlib.sha1(key.encode() + _MAGIC).digest()).decode()
    client.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept.encode() + b"\r\n\r\n"
    )


def read_request(client: socket.socket) -> bytes:
    """Return one masked message of the client; b'' when it has gone or closes."""
    head = client.recv(2, socket.MSG_WAITALL)
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
        method = json.loads(request).get("method", "")
        now_ms = time.time_ns() // 1_000_000
        if method == "ping":
            client.sendall(as_websocket(b'{"channel":"pong","data":%d,"ts":%d}' % (now_ms, now_ms)))
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


def main() -> None:
    """Serve one client."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300_000)
    parser.add_argument("--rate", type=float, default=0.0, help="frames a second; 0: as fast as they go")
    parser.add_argument("--kind", choices=("uniform", "evolving"), default="uniform")
    options = parser.parse_args()
    interval_ms = 1000.0 / options.rate if options.rate else 1.0
    generator = Generator(kind=options.kind)
    frames = [as_websocket(frame) for frame in generator.frames(options.count, interval_ms=interval_ms)]
    server = socket.create_server(("127.0.0.1", 0))
    print(f"ws://127.0.0.1:{server.getsockname()[1]}/edge", flush=True)
    client, _ = server.accept()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    handshake(client)
    wanted = threading.Event()
    answering = threading.Thread(target=answer, args=(client, wanted), daemon=True)
    answering.start()
    if wanted.wait(30):
        time.sleep(_SETTLE_S)
        send_all(client, frames, options.rate)
        answering.join()


if __name__ == "__main__":
    main()
