"""An innocent's process: works on the cluster until its stdin ends, then says how that went, in one JSON line.

Run with the path of a client file and the number of tasks that are to be under way.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import secure_ipp as ipp


def main() -> None:
    path, under_way = sys.argv[1], int(sys.argv[2])
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    client = ipp.Client(path, timeout=30)
    view = client.load_balanced_view()
    client.wait_for_engines(2, timeout=30)
    sent, wrong, slowest = 0, list[str](), 0.0
    print("at work", flush=True)
    while not stop.is_set():
        begun = time.monotonic()
        numbers = range(sent, sent + under_way)
        try:
            found = view.map_async(abs, numbers).get(60)
        except Exception as error:
            wrong.append(repr(error))
            break
        if list(found) != list(numbers):
            wrong.append(f"{found!r} for {numbers!r}")
        sent += under_way
        slowest = max(slowest, time.monotonic() - begun)
    print(json.dumps({"sent": sent, "wrong": wrong[:5], "slowest": slowest}), flush=True)
    client.close()


if __name__ == "__main__":
    main()
