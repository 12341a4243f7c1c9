#!/usr/bin/env python3
"""A small S3 server in memory, for the scaling bench: objects, ranges, lists. It answers late and fails now
and then, as a busy one does. It checks no signature.

    s3.py PORT

DISSIM_S3_LATENCY   milliseconds until an answer, half of it fixed and half random; 0 by default
DISSIM_S3_FAIL      one in so many requests is answered with 503 SlowDown; 0 is none
GET /-/counts       how many requests of each kind there were
"""

import asyncio
import bisect
import hashlib
import json
import os
import random
import sys
from collections import Counter
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

LATENCY = float(os.environ.get("DISSIM_S3_LATENCY", "0")) / 1000
FAIL = int(os.environ.get("DISSIM_S3_FAIL", "0"))
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
objects = {}
names = []  # sorted
counts = Counter()


def answer(status, body=b"", headers=(), head=False):
    reason = {200: "OK", 204: "No Content", 206: "Partial Content", 404: "Not Found", 503: "Slow Down"}[status]
    lines = [f"HTTP/1.1 {status} {reason}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + (b"" if head else body)


def error(status, code, head=False):
    return answer(status, f"<Error><Code>{code}</Code></Error>".encode(), head=head)


def listed(bucket, query):
    prefix = f"{bucket}/{query.get('prefix', [''])[0]}"
    delimiter = query.get("delimiter", [""])[0]
    after = query.get("continuation-token", [""])[0]
    place = bisect.bisect_left(names, max(prefix, after))
    found, folders, more = [], [], ""
    while place < len(names) and names[place].startswith(prefix):
        name = names[place]
        if len(found) + len(folders) == 1000:
            more = name
            break
        rest = name[len(prefix):]
        if delimiter and delimiter in rest:
            folder = prefix + rest[: rest.index(delimiter) + 1]
            folders.append(folder)
            place = bisect.bisect_left(names, folder + "\U0010ffff")
        else:
            found.append(name)
            place += 1
    key = lambda name: escape(name[len(bucket) + 1:])
    body = "".join(
        f"<Contents><Key>{key(n)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        f"<ETag>&quot;{objects[n][1]}&quot;</ETag><Size>{len(objects[n][0])}</Size></Contents>"
        for n in found
    )
    body += "".join(f"<CommonPrefixes><Prefix>{key(f)}</Prefix></CommonPrefixes>" for f in folders)
    token = f"<NextContinuationToken>{escape(more)}</NextContinuationToken>" if more else ""
    truncated = "true" if more else "false"
    text = f"<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{token}{body}</ListBucketResult>"
    return answer(200, text.encode(), ["Content-Type: application/xml"])


def served(method, target, headers, body):
    url = urlsplit(target)
    query = parse_qs(url.query, keep_blank_values=True)
    name = unquote(url.path).strip("/")
    if name == "-/counts":
        return answer(200, json.dumps(counts).encode())
    kind = "LIST" if "list-type" in query else method
    parts = name.split("/")
    counts[f"{kind} {parts[2] if len(parts) > 2 else query.get('prefix', ['//'])[0].split('/')[1]}"] += 1
    if FAIL and random.randrange(FAIL) == 0:
        counts["503"] += 1
        return error(503, "SlowDown", method == "HEAD")
    if kind == "LIST":
        return listed(name, query)
    if method == "PUT":
        if name not in objects:
            bisect.insort(names, name)
        objects[name] = (body, hashlib.md5(body).hexdigest())
        return answer(200, headers=[f'ETag: "{objects[name][1]}"'])
    if method == "DELETE":
        if objects.pop(name, None) is not None:
            del names[bisect.bisect_left(names, name)]
        return answer(204)
    if name not in objects:
        return error(404, "NoSuchKey", method == "HEAD")
    bytes_, tag = objects[name]
    about = [f'ETag: "{tag}"', f"Last-Modified: {DATE}"]
    if "range" in headers:
        start = int(headers["range"].split("=")[1].split("-")[0])
        about.append(f"Content-Range: bytes {start}-{len(bytes_) - 1}/{len(bytes_)}")
        return answer(206, bytes_[start:], about)
    return answer(200, bytes_, about, method == "HEAD")


async def serve(reader, writer):
    try:
        while True:
            text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *rest = text.strip().split("\r\n")
            method, target, _ = first.split(" ")
            headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in rest if ": " in line)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            if LATENCY:
                await asyncio.sleep(LATENCY * (0.5 + random.random()))
            writer.write(served(method, target, headers, body))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    async with server:
        await server.serve_forever()


asyncio.run(main())
