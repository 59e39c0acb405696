"""Runs the attacks and prints their costs beside the floors; exits with 1 where one is missed."""

import argparse
import sys

from rich.console import Console
from support.serving import DATA, serving

from attacks import cases, measurement


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="text that the names contain")
    parser.add_argument("--size-mb", type=float, default=31, help="megabytes of one request")
    options = parser.parse_args()
    size = int(options.size_mb * cases.MIB)
    console = Console(width=120)
    costs = []
    with serving(DATA / "tiny", "--log-format", "none") as server:
        warm_up = cases.Attack(name="", path=cases.PREDICT, body=(DATA / "cat.jpg").read_bytes())
        for _ in range(20):
            measurement.send_http(server.url, warm_up)
        idle_mb = server.resident_mb
        for attacks in (cases.http_attacks, cases.grpc_attacks):
            for attack in attacks(size):
                if options.only in attack.name:
                    cost = measurement.measure(server, attack, idle_mb)
                    costs.append(cost)
                    console.print(
                        f"{cost.attack:45}{cost.status:>20}{cost.memory_mb:8.0f} MB{cost.seconds:7.2f} s"
                        f"{cost.health_s * 1000:7.0f} ms{'' if cost.passed else '  *'}",
                        highlight=False,
                    )
    missed = [cost for cost in costs if not cost.passed]
    console.print(
        f"{len(costs)} attacks, {len(missed)} above the floors: {measurement.MOST_MEMORY_MB:.0f} MB above idle, "
        f"{measurement.MOST_SECONDS:.0f} s until the response, {measurement.MOST_HEALTH_S * 1000:.0f} ms of health.",
        highlight=False,
    )
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
