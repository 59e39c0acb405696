"""What a service of this artifact needs far beyond what can be simulated replica by replica, and what gives out first.

One replica's share of the rate is simulated, as its share stays the same however many there are; the rest is
multiplication, with ``Surroundings`` that are assumed and not measured.
"""

from collections.abc import Sequence

import msgspec

from runtime.capacity.measurement import Measurement
from runtime.capacity.planning import Goal, bytes_each, replica_rate
from runtime.capacity.translation import core_ms

_BITS = 8


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What is around the replicas: assumptions, in gigabits a second, requests a second and seconds.

    ``machine_cores`` are taken to be as fast as the measured ones. A balancer passes bodies on, so they go through its
    link once. ``store_gbit_s`` is what the place that hands out artifacts can send, to all machines together;
    ``rollout_s`` and ``update_s`` are how long handing out an artifact and replacing every replica may take.
    ``updated_at_once`` is how many replicas are replaced at a time.
    """

    machine_cores: int = 64
    machine_gbit_s: float = 25.0
    balancer_gbit_s: float = 25.0
    balancer_per_s: float = 100_000.0
    store_gbit_s: float = 25.0
    rollout_s: float = 300.0
    update_s: float = 3600.0
    updated_at_once: int = 1


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """What a rate needs. ``used`` is, by name, how much of one of each is used; above 1 it takes more than one.

    ``host_cores`` is what decoding, geometry and the server need alone, if the network ran on accelerators.
    """

    rate: float
    replicas: int
    cores: int
    host_cores: int
    machines: int
    ingress_gbit_s: float
    balancers: int
    rollout_s: float
    update_s: float
    used: dict[str, float]

    @property
    def exhausted(self) -> list[str]:
        """What one of is not enough, the worst first."""
        return sorted((name for name, used in self.used.items() if used > 1), key=lambda name: -self.used[name])


def scale(
    measured: Measurement, goal: Goal, rates: Sequence[float], surroundings: Surroundings | None = None
) -> list[Scale]:
    """Return what each rate needs for the promise of ``goal``, whose own rate does not count."""
    around = surroundings or Surroundings()
    each = replica_rate(measured, goal) / (1 + goal.headroom)
    in_bytes, out_bytes = bytes_each(measured)
    parts = core_ms(measured)
    host_ms = sum(parts.values()) - parts["network"]
    total_ms = sum(parts.values())
    found = []
    for rate in rates:
        replicas = max(1, -int(-rate // each)) + goal.tolerate_failures
        cores = replicas * measured.process_cores
        machines = -(-cores // around.machine_cores)
        gbit_s = max(in_bytes, out_bytes) * rate * _BITS / 1e9
        rollout_s = machines * measured.artifact_bytes * _BITS / 1e9 / around.store_gbit_s
        update_s = replicas / around.updated_at_once * (measured.server.start_s + 0.5)
        balancer = {
            "a balancer's link": gbit_s / around.balancer_gbit_s,
            "a balancer's requests": rate / around.balancer_per_s,
        }
        found.append(
            Scale(
                rate=rate,
                replicas=replicas,
                cores=cores,
                host_cores=max(1, round(cores * host_ms / total_ms)),
                machines=machines,
                ingress_gbit_s=rate * in_bytes * _BITS / 1e9,
                balancers=max(1, *(-int(-used // 1) for used in balancer.values())),
                rollout_s=rollout_s,
                update_s=update_s,
                used={
                    "a machine's cores": cores / around.machine_cores,
                    "a machine's link": gbit_s / machines / around.machine_gbit_s,
                    **balancer,
                    "the artifact store": rollout_s / around.rollout_s,
                    "updating one by one": update_s / around.update_s,
                },
            )
        )
    return found
