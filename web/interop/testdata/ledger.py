"""Writes numbered documents to the blog's database with an unmodified PyMongo.

ledger.py ADDRESS PASSWORD_FILE SECONDS

It says "ready" once the first write is acknowledged, writes one document every
5 ms for SECONDS, reads everything back with read concern majority, and prints
one line of JSON.
"""

import json
import sys
import time

import pymongo
from pymongo import read_concern, write_concern


def main():
    address, password_file, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    with open(password_file) as f:
        password = f.read().strip()
    # Everything but the way is PyMongo's default; retryable writes are among it.
    client = pymongo.MongoClient(
        "mongodb://%s/?directConnection=true" % address,
        username="web", password=password, authSource="blog", appname="ledger.py",
    )
    ledger = client.get_database("blog", write_concern=write_concern.WriteConcern(w="majority")).get_collection(
        "interop_%d" % time.time_ns()
    )
    ledger.insert_one({"_id": -1})
    print("ready", flush=True)
    acknowledged, errors, last, gap = [], [], time.monotonic(), 0.0
    number, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            ledger.insert_one({"_id": number})
            acknowledged.append(number)
            now = time.monotonic()
            gap, last = max(gap, now - last), now
        except Exception as e:
            errors.append(type(e).__name__ + ": " + str(e)[:200])
        number += 1
        time.sleep(0.005)
    stored = {d["_id"] for d in ledger.with_options(read_concern=read_concern.ReadConcern("majority")).find()}
    ledger.drop()
    print(json.dumps({
        "driver": pymongo.version, "acknowledged": len(acknowledged), "errors": errors[:5], "error_count": len(errors),
        "lost": len([n for n in acknowledged if n not in stored]), "longest_gap_ms": round(gap * 1000, 1),
    }), flush=True)


main()
