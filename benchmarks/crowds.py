"""Many processes that deploy the same configuration at once: one server, and an answer for each that names it.

python benchmarks/crowds.py --processes 50
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from homes import new_home, write_model
from measuring import print_table, wall

from stackkit.model_deployers import BaseModelDeployer

DEPLOY = """
import sys
from stackkit.model_deployers import LocalModelDeployer
print(LocalModelDeployer.get_active_model_deployer().deploy_model(model_name="tiny", model_uri=sys.argv[1]).uuid)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=50, help="how many deploy at once (50)")
    chosen = parser.parse_args()
    with new_home() as deployer:
        model = write_model(deployer, 1)
        alone = wall(lambda: deploy(model, 1))
        deployer.delete_model_server("tiny")
        begun = time.perf_counter()
        answers = deploy(model, chosen.processes)
        elapsed = time.perf_counter() - begun
        row = chosen.processes, f"{alone:.2f}", f"{elapsed:.2f}", len(set(answers)), *found(deployer)
    print_table(("processes", "one alone, s", "all of them, s", "UUIDs answered", "servers", "starts"), [row])


def deploy(model: str, processes: int) -> list[str]:
    """Deploy from that many processes at once; returns what each of them answered."""
    command = [sys.executable, "-c", DEPLOY, model]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    answers = [process.communicate()[0].strip() for process in running]
    if failed := sum(process.returncode != 0 for process in running):
        raise SystemExit(f"{failed} of {processes} deploys failed")
    return answers


def found(deployer: BaseModelDeployer) -> tuple[int, int]:
    """How many servers there are, and how often one was started."""
    services = list(deployer.find_model_server(running=True))
    return len(services), sum("worker 0 started" in line for service in services for line in service.logs())


if __name__ == "__main__":
    main()
