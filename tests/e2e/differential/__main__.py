"""Prints the report: commands covered / total, requests compared, differences with their reason.

Exit code 1 when something is not covered, or differs without being listed.
"""

from __future__ import annotations

import sys

from tests.e2e.differential.allowances import DIFFERENCES, SHAPE_ONLY, TYPE_ONLY, UNORDERED
from tests.e2e.differential.cases import all_cases
from tests.e2e.differential.corpus import dialogues_of
from tests.e2e.differential.coverage import Coverage
from tests.e2e.differential.play import MODES, differences, play
from tests.e2e.redis_process import running_redis
from tests.e2e.terrace_process import running_terrace


def main() -> int:
    with running_redis() as redis, running_terrace(redis.url) as terrace:
        coverage = Coverage(redis)
        cases = all_cases(redis.version) | {"arity": coverage.arity_dialogues()}
        cases["listed"] = [dialogues_of(entry.dialogue)[0] for entry in DIFFERENCES]
        unlisted: list[str] = []
        for name, dialogues in cases.items():
            for proto in (2, 3):
                plain = play(redis.port, proto, MODES[0], dialogues)
                proxied = play(terrace.port, proto, MODES[0], dialogues)
                for dialogue, a, b in zip(dialogues, plain, proxied, strict=True):
                    if name != "listed":
                        coverage.note(dialogue, a)
                        unlisted += differences(dialogue, a, b)
        version = ".".join(map(str, redis.version))
    missing = coverage.missing()
    lacking = {line.partition(":")[0] for line in missing}
    rows = [row.name for row in coverage.rows()]
    for what, names in (("commands", rows), ("subcommands", list(coverage.subcommands))):
        covered = len(names) - len(lacking & set(names))
        print(f"{what} of Redis {version} covered: {covered}/{len(names)}")
    print(f"requests compared: {coverage.requests} (RESP2 and RESP3)")
    print(f"compared by shape, type or as a set: {len(SHAPE_ONLY | TYPE_ONLY | UNORDERED)}")
    print(f"listed differences: {len(DIFFERENCES)}")
    for entry in DIFFERENCES:
        print(f"  {entry.dialogue:36} {entry.explained}")
    for title, lines in (("not covered", missing), ("unlisted differences", unlisted)):
        print(f"{title}: {len(lines)}")
        for line in lines:
            print(f"  {line}")
    return 1 if missing or unlisted else 0


if __name__ == "__main__":
    sys.exit(main())
