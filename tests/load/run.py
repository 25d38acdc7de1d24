# SPDX-License-Identifier: Apache-2.0
"""A server under load: ten times more clients than it takes, clients that leave, ends in the middle, thousands that wait.

  PUNA=build/release/puna python3 tests/load/run.py [--quick] [overload|aborts|drain|idle ...]

Prints one line of JSON for each part with what was measured, and fails where a bar is missed. --quick is a sample of 20 seconds
without the bars of time and memory."""

import argparse
import asyncio
import json
import os
import random
import re
import resource
import signal
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from running_server import RunningServer  # noqa: E402: the folder is told above

CHAT = "/v1/chat/completions"
QUESTION = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0}
CORES = os.cpu_count() or 1


class Process:
    """What /proc says of a process."""

    def __init__(self, pid):
        self.pid = pid

    def status(self, name):
        with open("/proc/%d/status" % self.pid) as file:
            return next(int(line.split()[1]) for line in file if line.startswith(name + ":"))

    def figures(self):
        return {"rss_mb": round(self.status("VmRSS") / 1024, 1), "threads": self.status("Threads"),
                "descriptors": len(os.listdir("/proc/%d/fd" % self.pid))}


class Broken(Exception):
    """An answer that did not come whole."""


# One request on a connection of its own: its status, its head and body, seconds to its head. With `leave_after` seconds the client
# goes then, wherever the answer is.
async def ask(server, body, leave_after=None):
    began = time.monotonic()
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        data = json.dumps(body).encode()
        writer.write(b"POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
                     % (CHAT.encode(), len(data), data))
        if leave_after is not None:
            try:
                whole = await asyncio.wait_for(reader.read(-1), leave_after)
                return int(whole.split()[1]), whole, 0.0
            except asyncio.TimeoutError:
                return 0, b"", 0.0  # it has left
        head = await reader.readuntil(b"\r\n\r\n")
        seconds = time.monotonic() - began
        rest = await reader.read(-1)
        if b"chunked" in head and not rest.endswith(b"0\r\n\r\n"):
            raise Broken(rest[-100:])
        return int(head.split()[1]), head + rest, seconds
    except asyncio.IncompleteReadError as error:
        raise Broken(error.partial) from error
    finally:
        writer.close()


async def settle(server, seconds=20):
    end = time.monotonic() + seconds
    names = ("puna_requests_in_flight", "puna_answers_running", "puna_answers_waiting")
    while await asyncio.to_thread(lambda: any(server.metric(name) for name in names)):
        if time.monotonic() > end:
            raise AssertionError("answers are left: %s" % server.get("/metrics").text)
        await asyncio.sleep(0.05)


# So many clients that ask again and again for `seconds`. One that is refused comes again after as long as it was told.
async def clients(server, count, seconds):
    end, done = time.monotonic() + seconds, {"answers": 0, "refused": 0, "broken": 0, "slowest_refusal_ms": 0.0, "refusals_ms": []}

    async def client(number):
        body = {**QUESTION, "max_tokens": 128, "ignore_eos": True, "stream": number % 2 == 0}
        while time.monotonic() < end:
            try:
                status, text, to_head = await ask(server, body)
            except (Broken, OSError):
                done["broken"] += 1
                continue
            if status == 429:
                done["refused"] += 1
                done["refusals_ms"].append(to_head * 1000)
                await asyncio.sleep(int(re.search(rb"(?i)\r\nretry-after-ms: (\d+)", text)[1]) / 1000)
            elif status == 200 and (b"[DONE]" in text or not body["stream"]):
                done["answers"] += time.monotonic() < end
            else:
                raise AssertionError("status %d: %s" % (status, text[:300]))

    await asyncio.gather(*(client(i) for i in range(count)))
    return done


def percentile(values, share, digits=1):
    values = sorted(values)
    return round(values[min(len(values) - 1, int(len(values) * share))], digits) if values else 0.0


# Goodput at ten times what the server takes at once, against as many clients as it takes. A processor is left to the clients, which
# would else take from the server's what they need to come and go.
async def overload(quick):
    seconds = 4 if quick else 10
    with RunningServer("nano", "--parallel", "8", "--max-in-flight", "16", "--threads", str(max(1, CORES - 1))) as server:
        process = Process(server.process.pid)
        began = time.monotonic()
        await clients(server, 16, 2)  # it returns when the last of them has its answer
        seconds = max(seconds, 2 * (time.monotonic() - began))  # an instrumented server may write none in four seconds
        full, loaded = [], []
        memory = []
        for _ in range(1 if quick else 6):
            full.append((await clients(server, 16, seconds))["answers"])
            memory.append(process.figures()["rss_mb"])
            loaded.append(await clients(server, 160, seconds))
            memory.append(process.figures()["rss_mb"])
        await settle(server)
        refusals = [value for one in loaded for value in one["refusals_ms"]]
        # Both in turns, and of their ratios the median: another's work on the machine spoils a turn, not the figure.
        ratios = [one["answers"] / before for one, before in zip(loaded, full)]
        result = {"part": "overload", "goodput": round(statistics.median(ratios), 3), "ratios": [round(ratio, 2) for ratio in ratios],
                  "answers_per_second": round(sum(full) / len(full) / seconds, 1), "refused": len(refusals),
                  "broken": sum(one["broken"] for one in loaded), "refusal_ms_p50": percentile(refusals, 0.5),
                  "refusal_ms_p99": percentile(refusals, 0.99), "rss_mb": memory}
        # A sample of a few seconds is coarse, and instrumented builds keep what they free.
        bars = {"goodput": quick or result["goodput"] >= 0.95, "broken": result["broken"] == 0,
                "memory": quick or memory[-1] <= memory[0] * 1.05 + 8}
        return result, bars


async def aborts(quick):
    count = 100 if quick else 2000
    with RunningServer("nano", "--parallel", "8", "--max-in-flight", "2000") as server:
        process, pick, statuses = Process(server.process.pid), random.Random(1), []
        gate = asyncio.Semaphore(48)

        async def leave():
            async with gate:
                body = {**QUESTION, "max_tokens": pick.randrange(1, 400), "ignore_eos": True, "stream": pick.random() < 0.7,
                        "n": pick.choice([1, 1, 1, 2, 4]), "temperature": 1, "seed": pick.randrange(1000)}
                body["messages"] = [{"role": "user", "content": "word " * pick.choice([1, 1, 50, 300])}]
                if pick.random() < 0.2:
                    body["response_format"] = {"type": "json_object"}
                statuses.append((await ask(server, body, leave_after=pick.random() ** 2 * 0.5))[0])

        await asyncio.gather(*(leave() for _ in range(max(50, count // 10))))
        await settle(server)
        statuses.clear()
        before, began = process.figures(), time.monotonic()
        await asyncio.gather(*(leave() for _ in range(count)))
        await settle(server)
        seconds, after = time.monotonic() - began, process.figures()
        await ask(server, {**QUESTION, "max_tokens": 8})
        result = {"part": "aborts", "count": count, "left": statuses.count(0), "ended": statuses.count(200),
                  "refused": sum(status >= 400 for status in statuses), "seconds": round(seconds, 1), "before": before, "after": after}
        held = server.metric("puna_kv_pages") - server.metric("puna_kv_pages_free") - server.metric("puna_kv_pages_cached")
        result["pages_lost"] = held
        bars = {"left": statuses.count(0) > count / 2, "pages": held == 0, "descriptors": after["descriptors"] <= before["descriptors"] + 2, "threads": after["threads"] <= before["threads"],
                "memory": quick or after["rss_mb"] <= before["rss_mb"] * 1.05 + 8}
        return result, bars


# SIGTERM at random moments of a few requests: whatever was taken is answered whole, and the exit code is 0.
async def drain(quick):
    rounds, lost, answered, refused, slowest = 4 if quick else 50, 0, 0, 0, 0.0
    for number in range(rounds):
        pick = random.Random(number)
        server = RunningServer("nano", "--parallel", "4", "--max-in-flight", "16")
        asked = []
        for i in range(6):
            body = {**QUESTION, "max_tokens": pick.randrange(5, 120), "ignore_eos": True, "stream": i % 2 == 0}
            asked.append(asyncio.create_task(ask(server, body)))
        await asyncio.sleep(pick.random() * 0.6)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        for outcome in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(outcome, OSError) and not isinstance(outcome, Broken) or isinstance(outcome, Broken) and not outcome.args[0]:
                refused += 1  # it had not been taken: not a byte of an answer came
            elif isinstance(outcome, Exception):
                lost += 1
            elif outcome[0] == 200:
                answered += 1
            else:
                refused += outcome[0] == 503
                lost += outcome[0] != 503
        code = await asyncio.to_thread(server.stop)
        slowest = max(slowest, time.monotonic() - began)
        lost += code != 0 or "cut off" in server.log()
    result = {"part": "drain", "rounds": rounds, "answered": answered, "refused": refused, "lost": lost,
              "slowest_end_s": round(slowest, 2)}
    return result, {"lost": lost == 0}


# Clients whose answers are streamed, and which wait for them: behind others', so nothing is said to them but heartbeats.
async def idle(quick):
    count = 300 if quick else 5000
    need = count + 512
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * need)), hard))
    with RunningServer("nano", "--parallel", "2", "--max-in-flight", str(need), "--drain", "0") as server:
        await ask(server, {**QUESTION, "max_tokens": 8})
        process = Process(server.process.pid)
        before, writers, began = process.figures(), [], time.monotonic()
        body = json.dumps({**QUESTION, "max_tokens": 900, "ignore_eos": True, "stream": True}).encode()
        for _ in range(count):
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (CHAT.encode(), len(body), body))
            await reader.readuntil(b"\r\n\r\n")  # the answer has begun
            writers.append(writer)
        connected, health = time.monotonic() - began, []
        end = time.monotonic() + (3 if quick else 30)
        while time.monotonic() < end:
            began = time.monotonic()
            assert (await asyncio.to_thread(server.get, "/health")).status == 200
            health.append((time.monotonic() - began) * 1000)
            await asyncio.sleep(0.02)
        during = process.figures()
        waiting = server.metric("puna_requests_in_flight")
        began = time.monotonic()
        for writer in writers:
            writer.close()
        await settle(server, 60)
        result = {"part": "idle", "clients": count, "in_flight": waiting, "before": before, "during": during,
                  "connected_s": round(connected, 1), "health_ms_p50": percentile(health, 0.5), "health_ms_p99": percentile(health, 0.99),
                  "freed_s": round(time.monotonic() - began, 1), "cores": CORES}
        bars = {"memory": during["rss_mb"] - before["rss_mb"] <= 300, "threads": during["threads"] <= CORES + 8,
                "health": quick or result["health_ms_p99"] <= 50, "clients": waiting >= 0.95 * count or quick}
        return result, bars


PARTS = {"overload": overload, "aborts": aborts, "drain": drain, "idle": idle}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    missed = []
    for name in arguments.parts or PARTS:
        result, bars = asyncio.run(PARTS[name](arguments.quick))
        print(json.dumps({**result, "missed": [bar for bar, held in bars.items() if not held]}), flush=True)
        missed += [name + "." + bar for bar, held in bars.items() if not held]
    if missed:
        sys.exit("missed: " + ", ".join(missed))


if __name__ == "__main__":
    main()
