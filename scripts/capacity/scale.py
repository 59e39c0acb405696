"""Extrapolation to rates beyond what can be simulated replica by replica.

One replica's share of the rate is simulated, as it stays the same however many replicas there are; the rest is
multiplication, with ``Surroundings`` that are assumed and not measured.
"""

from collections.abc import Sequence

import msgspec

from capacity.measurement import Measurement
from capacity.plan import Goal, bytes_each, replica_rate
from capacity.simulation_inputs import core_ms
from runtime.server.limits import NOTICE_S

_BITS = 8


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """Assumptions about everything around the replicas, in Gbit/s, requests per second and seconds.

    ``machine_cores`` are assumed to be as fast as the measured ones. A balancer forwards bodies, so they pass its link
    once. ``store_gbit_s`` is the bandwidth of the store of artifacts, for all machines together; ``rollout_s`` and
    ``update_s`` are how long distributing an artifact and replacing every replica may take. ``updated_at_once`` is the
    number of replicas that are replaced at the same time.
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
    """Needs of one rate. ``used`` is the utilization of one of each resource, by name; above 1 it takes several.

    ``host_cores`` is the number of cores for decoding, geometry and the server alone, if networks ran on accelerators.
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
        """Names of the resources of which one is not enough, the worst first."""
        return sorted((name for name, used in self.used.items() if used > 1), key=lambda name: -self.used[name])


def scale(
    measured: Measurement, goal: Goal, rates: Sequence[float], surroundings: Surroundings | None = None
) -> list[Scale]:
    """Return the needs of each rate under the target of ``goal``, whose own rate is ignored."""
    around = surroundings or Surroundings()
    each = replica_rate(measured, goal) / (1 + goal.headroom)
    in_bytes, out_bytes = bytes_each(measured)
    parts = core_ms(measured)
    host_ms = sum(parts.values()) - parts["network"]
    total_ms = sum(parts.values())
    scales = []
    for rate in rates:
        replicas = max(1, -int(-rate // each)) + goal.tolerate_failures
        cores = replicas * measured.process_cores
        machines = -(-cores // around.machine_cores)
        gbit_s = max(in_bytes, out_bytes) * rate * _BITS / 1e9
        rollout_s = machines * measured.artifact_bytes * _BITS / 1e9 / around.store_gbit_s
        update_s = replicas / around.updated_at_once * (measured.server.start_s + NOTICE_S)
        balancer = {
            "a balancer's link": gbit_s / around.balancer_gbit_s,
            "a balancer's requests": rate / around.balancer_per_s,
        }
        scales.append(
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
    return scales
