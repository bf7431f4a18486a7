"""What the machine is, and who used it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

from bench import machine

NO_PROCESS = 2**22 + 1
"""More than Linux gives out."""


def test_description_names_processor_cores_versions_and_day() -> None:
    found = machine.describe(["pytest", "no-such-package"])

    assert json.loads(json.dumps(found)) == found
    assert found["cores"] == len(os.sched_getaffinity(0))
    assert isinstance(found["versions"], dict)
    assert found["versions"]["no-such-package"] == "absent"
    assert found["versions"]["pytest"] != "absent"
    assert {"cpu", "flags", "memory_gib", "kernel", "python", "date"} <= found.keys()


def test_a_family_has_the_children_of_children() -> None:
    program = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1, text=True) as child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())

        found = machine.family(os.getpid())

        os.kill(grandchild, 9)
    assert {os.getpid(), child.pid, grandchild} <= found
    assert 1 not in found


def test_use_tells_own_work_from_that_of_others() -> None:
    """The work takes a known amount of processor time, however long that takes."""
    program = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1) as child:
        assert child.stdout is not None
        with machine.usage([child.pid]) as own, machine.usage([os.getppid()]) as with_parent:
            child.stdout.readline()
        with machine.usage([child.pid]) as idle:
            pass
        child.kill()

    assert own.own >= 0.2
    assert with_parent.own >= own.own - 0.02  # /proc counts in hundredths
    assert idle.own == 0


def test_a_process_that_is_gone_has_used_nothing() -> None:
    with subprocess.Popen(["true"]) as child:
        child.wait()

    assert machine.cpu_seconds([child.pid]) == 0
    assert machine.peak_bytes([child.pid]) == 0
    assert machine.peak_bytes([os.getpid()]) > 1 << 20


def test_more_than_a_tenth_of_a_core_for_others_disturbs() -> None:
    assert machine.Usage(others_cores=0.2).is_disturbed
    assert not machine.Usage(others_cores=0.05).is_disturbed


def test_memory_that_a_process_has_to_itself_is_told() -> None:
    before = machine.own_bytes([os.getpid()])
    kept = bytearray(os.urandom(1 << 20) * 32)

    assert machine.own_bytes([os.getpid()]) - before > 0.9 * len(kept)
    assert machine.own_bytes([NO_PROCESS]) == 0


def test_processor_time_of_the_first_thread_leaves_out_the_others() -> None:
    def work() -> None:
        end = time.thread_time() + 0.3
        while time.thread_time() < end:
            pass

    whole, first = machine.cpu_seconds([os.getpid()]), machine.main_thread_seconds(os.getpid())
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert machine.cpu_seconds([os.getpid()]) - whole > 0.2
    assert machine.main_thread_seconds(os.getpid()) - first < 0.2
    assert machine.main_thread_seconds(NO_PROCESS) == 0
