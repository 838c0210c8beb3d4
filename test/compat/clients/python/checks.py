"""What the Python clients have in common: steps that are told, counted and timed."""
import sys
import time
import traceback

failed = []


def check(name):
    """Runs a function at once as a step; a failure does not stop the next."""

    def run(step):
        begin = time.time()
        try:
            step()
            print(f"ok   {name} ({time.time() - begin:.1f} s)")
        except Exception:
            failed.append(name)
            print(f"FAIL {name} ({time.time() - begin:.1f} s)")
            traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()

    return run


def until(what, ok, seconds=20):
    deadline = time.time() + seconds
    while not ok():
        if time.time() > deadline:
            raise AssertionError(f"not in time: {what}")
        time.sleep(0.05)


def end():
    sys.stdout.flush()
    sys.exit(1 if failed else 0)
