"""From counts to a time: what an operation costs on so many processors.

    time = instructions * ns each + atomics * ns each + transfers * ns each, by kind       (work)
         + what a processor waits, on average, for others that use the same lock or line   (waits)

Work is what a processor would take that never waits. Waits are those of a closed queueing network: each processor works, comes to
a station (a lock, or a line that travels) and is served there alone. Solved exactly by mean value analysis (M. Reiser and S.
Lavenberg, Journal of the ACM 27, 1980), which takes service in turn and exponential times.
"""
KINDS = ("reads", "writes", "modifies")


def transfer_ns(counts, costs):
    return sum(counts.get(kind, 0) * costs[kind] for kind in KINDS)


def service_ns(station, costs, ns_an_access):
    """What an operation takes of a station's time. A lock is two atomic operations."""
    return (station.get("accesses", 0) * ns_an_access + transfer_ns(station, costs) + 2 * station.get("taken", 0) * costs["atomic"])


def waits_ns(cores, work, demands):
    """(waits, utilisation of the busiest station) of an operation of so much work, of which `demands` are at the stations."""
    groups = {}
    for demand in demands:
        key = float("{:.2g}".format(demand))  # stations alike are one with its number
        groups[key] = groups.get(key, 0) + 1
    groups = [(demand, count) for demand, count in groups.items() if demand > 0]
    elsewhere = max(0.0, work - sum(demand * count for demand, count in groups))
    queues = [0.0] * len(groups)
    response, rate = work, 0.0
    for customers in range(1, cores + 1):
        times = [demand * (1 + queue) for (demand, _), queue in zip(groups, queues)]
        response = elsewhere + sum(time * count for time, (_, count) in zip(times, groups))
        rate = customers / response
        queues = [rate * time for time in times]
    least = elsewhere + sum(demand * count for demand, count in groups)
    return max(0.0, response - least), rate * max((demand for demand, _ in groups), default=0.0)


class Prediction:
    """ns of an operation. `parts` sum up to `ns`; `busiest` is the part of the time for which the station in most demand is in use, and
    `station` its name."""

    def __init__(self, parts, busiest, station):
        self.parts, self.busiest, self.station = parts, busiest, station
        self.ns = sum(parts.values())


def accesses(counts):
    return counts["program"]["accesses"] + counts["allocator"]["accesses"]


def atomics(counts):
    return counts["program"]["atomics"] + counts["allocator"]["atomics"]


def calibrate(one_core_ns, counts, costs):
    """ns of an instruction, of what one core took for the same work. Its misses of other kinds are in it."""
    return (one_core_ns - atomics(counts) * costs["atomic"]) / counts["instructions"]


def predict(cores, counts, costs, ns_an_instruction):
    each = counts["instructions"] * ns_an_instruction / accesses(counts)
    parts = {
        "instructions": counts["instructions"] * ns_an_instruction,
        "atomics": atomics(counts) * costs["atomic"],
        "transfers, program": transfer_ns(counts["program"], costs),
        "transfers, allocator": transfer_ns(counts["allocator"], costs),
    }
    demands = [(service_ns(station, costs, each), station["name"]) for station in counts["stations"]]
    parts["waits"], busiest = waits_ns(cores, sum(parts.values()), [demand for demand, _ in demands])
    return Prediction(parts, busiest, max(demands, default=(0, "none"))[1])
