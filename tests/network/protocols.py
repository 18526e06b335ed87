"""Hosts of the world that speak more than HTTP/1: WebSocket, and HTTP/2 alone."""

import asyncio
import json

import h2.config
import h2.connection
import h2.events
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def web_socket(listener, context, note):
    """Says what the handshake was, then sends back each message, and closes when it is asked to."""

    async def talk(connection):
        request = connection.request
        headers = {name.lower(): value for name, value in request.headers.raw_items()}
        note("websocket", path=request.path, headers=headers)
        await connection.send(json.dumps({"path": request.path, "authorization": headers.get("authorization")}))
        try:
            async for message in connection:
                if message == "close":
                    return await connection.close(4321, "as you wish")
                await connection.send(message)
        except ConnectionClosed:
            pass
        note("websocket over")

    await serve(talk, sock=listener, ssl=context, subprotocols=["chat"], max_size=1 << 24)


async def http2(listener, context, note):
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: Http2(note), sock=listener, ssl=context)


class Http2(asyncio.Protocol):
    """One connection. Says what was asked, or does what the path says."""

    def __init__(self, note):
        self.note = note
        self.state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.requests, self.lengths, self.unsent = {}, {}, {}

    def connection_made(self, transport):
        self.transport = transport
        self.note("http2 connection", protocol=transport.get_extra_info("ssl_object").selected_alpn_protocol())
        self.state.initiate_connection()
        self.flush()

    def flush(self):
        self.transport.write(self.state.data_to_send())

    def data_received(self, data):
        for event in self.state.receive_data(data):
            stream = getattr(event, "stream_id", None)
            if isinstance(event, h2.events.RequestReceived):
                self.requests[stream], self.lengths[stream] = dict(event.headers), 0
            elif isinstance(event, h2.events.DataReceived):
                self.lengths[stream] += len(event.data)
                self.state.acknowledge_received_data(event.flow_controlled_length, stream)
            elif isinstance(event, h2.events.StreamEnded):
                self.answer(stream)
            elif isinstance(event, h2.events.StreamReset):
                self.note("http2 reset")
                self.unsent.pop(stream, None)
        for stream in list(self.unsent):
            self.pour(stream)
        self.flush()

    def answer(self, stream):
        headers = self.requests.pop(stream)
        path, said = headers[":path"], headers.get("authorization", "")
        self.note("http2", headers=headers, length=self.lengths[stream])
        if path == "/away":
            self.state.close_connection()
            self.flush()
            return self.transport.close()
        if path == "/never":
            return
        if path == "/reset":
            return self.state.reset_stream(stream)
        if path == "/cut":
            # Frames end amid what a sandbox must not see.
            body, part = (b"." * 1000 + said.encode()) * 200, 1013
        else:
            told = {"path": path, "host": headers[":authority"], "headers": headers, "length": self.lengths[stream]}
            body, part = json.dumps(told).encode() + b"\n", 16384
        named = [(f"x-{path.rpartition('=')[2].lower()}", "told")] if "=" in path else []
        self.state.send_headers(stream, [(":status", "200"), ("x-echo", said), *named])
        self.unsent[stream] = (body, part, [("x-trailer", said or "none"), *named])

    def pour(self, stream):
        body, part, trailers = self.unsent[stream]
        while body:
            room = min(part, len(body), self.state.local_flow_control_window(stream))
            if room <= 0:
                break
            self.state.send_data(stream, body[:room])
            body = body[room:]
        if body:
            self.unsent[stream] = (body, part, trailers)
        else:
            del self.unsent[stream]
            self.state.send_headers(stream, trailers, end_stream=True)
