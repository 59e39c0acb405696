"""What became of the faults, as the page shows it."""

from collections.abc import Sequence

from mutation.judging import FAULTS, ROOMS, Outcome


def summary_of(outcomes: Sequence[Outcome], total: int) -> str:
    """Return the figures in one paragraph."""
    whole = [one for one in outcomes if not one.of_golden]
    caught = [one for one in whole if one.caught]
    owed = [one for one in outcomes if one.verify_owes]
    right = sum(one.right_stage for one in caught)
    found = sum(bool(one.verify) for one in owed)
    broken = sum(one.broken for one in outcomes)
    return (
        f"{len(outcomes)} of {total} faults planted. The gate caught {len(caught)} of {len(whole)}, and named the "
        f"right stage for {right} of them ({right / max(1, len(caught)):.0%}). verify, without PyTorch, found {found} "
        f"of the {len(owed)} that change what the runtime answers or the evidence itself; {broken} changed nothing."
    )


def table_of(outcomes: Sequence[Outcome]) -> str:
    """Return a table a room, in Markdown."""
    by_name = {one.fault: one for one in outcomes}
    parts = [summary_of(outcomes, len(FAULTS))]
    for room in ROOMS:
        title = (room.__doc__ or "").partition(":")[0].strip(".")
        names = [name for name, one in FAULTS.items() if one.plant.__module__ == room.__name__]
        rows = [_row(by_name[name]) for name in names if name in by_name]
        parts.append(
            f"### {title}\n\n| fault | planted in | who ships it | the gate | verify |\n|---|---|---|---|---|\n"
            + "\n".join(rows)
        )
    return "\n\n".join(parts)


def _row(one: Outcome) -> str:
    gate = one.stage if one.caught else "not its matter" if one.of_golden else "**missed**"
    if one.caught and not one.right_stage:
        gate = f"{gate} (not {one.expected[0]})"
    if one.verify:
        found = "damaged file" if one.verify.startswith("ArtifactError") else one.verify.partition(":")[0]
    else:
        reason = (
            "has nothing to compare with"
            if one.whole
            else "runs no TorchScript"
            if one.in_golden
            else "runs the golden inputs, which are small"
        )
        found = "**missed**" if one.verify_owes else reason
    return f"| {one.fault} | {one.subject} | {one.story} | {gate} | {found} |"
