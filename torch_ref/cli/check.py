"""`manual-lstm check`: somebody's LSTM against the truth."""

import ctypes
import faulthandler
import os
import pickle
import shlex
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import chdir, contextmanager, redirect_stdout
from dataclasses import replace
from functools import partial
from multiprocessing import active_children, get_context
from typing import Annotated, Literal

import typer
from rich.console import Console

from torch_ref.cli.options import is_given
from torch_ref.cli.page import Html, check_outputs
from torch_ref.cli.progress import counting, doing
from torch_ref.cli.target import load_target, require_unread
from torch_ref.cli.window import DType, HeadOrNone, require_memory
from torch_ref.diagnosis.blind_spots import Blindness, blind_spots
from torch_ref.diagnosis.diagnose import Diagnosis, diagnose
from torch_ref.diagnosis.maps import Maps, maps_of, maps_of_dump
from torch_ref.harness.campaign import PART, CheckReport, check_implementation, crash_report
from torch_ref.harness.check_list import CHECKS
from torch_ref.harness.checks import check_called_twice, check_shapes_and_dtypes
from torch_ref.harness.contract import Implementation
from torch_ref.harness.dump import check_dump
from torch_ref.harness.exchange.files import load_case
from torch_ref.harness.failing import save_failing
from torch_ref.harness.layouts.layout import Layout
from torch_ref.harness.layouts.presets import preset
from torch_ref.harness.program import ProgramTimedOut
from torch_ref.harness.theirs import is_theirs, raised, tell_where_ended
from torch_ref.oracles.case import Case
from torch_ref.reports.as_json import check_json, write_json
from torch_ref.reports.check_text import print_check
from torch_ref.reports.html import check_page, write_html
from torch_ref.reports.text import printable

CRASHED, TIMED_OUT = 3, 4
PAIR_SECONDS = 60.0


def check(
    context: typer.Context,
    target: Annotated[
        str | None, typer.Argument(metavar="package.module:object", help="What to check.")
    ] = None,
    command: Annotated[
        str | None,
        typer.Option(help='A program: "./prog {case} {result}", folders, or .json, .npz of each.'),
    ] = None,
    dump: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="A folder with a case and a result that was made of it."),
    ] = None,
    case: Annotated[
        str | None, typer.Option(metavar="PATH", help="Only this case, from an exchange file.")
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(help="Of it: a preset; auto finds that of a callable."),
    ] = None,
    head: Annotated[
        HeadOrNone, typer.Option(help="Of a program; none: it is given dy and writes y.")
    ] = HeadOrNone.linear,
    dtype: Annotated[DType, typer.Option(help="Of a program.")] = DType.float32,
    without: Annotated[
        list[str] | None,
        typer.Option(
            metavar="h0,c0",
            help="What a program does not take, of h0, c0, dh_n, dc_n; without a head dy.",
        ),
    ] = None,
    sizes: Annotated[
        list[str] | None,
        typer.Option(metavar="H=26,B=1", help="It is bound to these, of T, B, I, H, L."),
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(metavar="stacks,dx", help="A failure if not verified; all: whatever it is."),
    ] = None,
    examples: Annotated[int, typer.Option(min=1, max=10**7, help="How many cases.")] = 200,
    jobs: Annotated[int, typer.Option(min=1, help="How many processes.")] = 1,
    timeout: Annotated[
        float | None,
        typer.Option(min=0.01, help="Of one run, in seconds.  [default: 10, for a program]"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the cases.")] = 0,
    json: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the report here; - is stdout.")
    ] = None,
    html: Html = None,
) -> None:
    """Check your LSTM: every gradient, on cases that are drawn and shrunk.

    Give package.module:object, a callable or an Implementation, or a program with --command, or
    with --dump a folder that holds a case (`manual-lstm case --out DIR/case`) and the result that
    your LSTM wrote for it (DIR/result).

    Exit status 0: it agrees with the truth. 1: it disagrees. 2: wrong usage or input.
    3: it crashed. 4: it ran out of time.
    """
    here = os.getcwd()  # theirs may be another one after an import
    if sum(given is not None for given in (target, command, dump)) != 1:
        raise ValueError("check needs just one of package.module:object, --command and --dump.")
    what = "target" if target is not None else "command" if command is not None else "dump"
    _require_of_use(context, what)
    check_outputs(html, json, {"--case": case, "--dump": dump})
    if dump is not None:
        report = check_dump(dump)
        maps = maps_of_dump(dump) if html is not None else None
        again = shlex.join(["manual-lstm", "check", "--dump", dump])
        _tell(report, again, json, html, maps=maps)
        raise typer.Exit(_status(report))
    if command is not None:
        implementation = Implementation(
            command,
            command=command,
            head=head.inside,
            dtype=dtype.value,
            timeout=timeout,
            without=frozenset(_listed(without)),
        )
    else:
        assert target is not None
        with _prints_to_stderr():
            implementation = load_target(target)
        if timeout is not None:
            implementation = replace(implementation, timeout=timeout)
    if layout is not None:
        if layout == "auto" and command is not None:
            raise ValueError("--layout is auto but must be a preset for --command: none is tried.")
        found: Layout | Literal["auto"] = "auto" if layout == "auto" else preset(layout)
        implementation = replace(implementation, layout=found)
    bound = {**implementation.sizes, **_sizes(sizes)}
    require_memory(bound, implementation.dtype or "float32")
    requires = implementation.requires | {*_listed(require)}
    implementation = replace(implementation, sizes=bound, requires=requires)
    require_unread(implementation, {"--html": html, "--json": json})
    words = ["check", *_same_implementation(target, command, head.value, _joined(without))]
    words += ["--dtype", dtype.value] if command is not None and dtype is not DType.float32 else []
    words += ["--layout", layout] if layout is not None else []
    words += ["--timeout", f"{timeout:g}"] if timeout is not None else []
    words += ["--sizes", _joined(sizes)] if sizes else []
    words += ["--require", _joined(require)] if require else []
    with chdir(here):
        own = load_case(case) if case is not None else None
    if sys.__stderr__ is not None and not faulthandler.is_enabled():
        faulthandler.enable(sys.__stderr__)  # a segmentation fault is told with its line
    tell_where_ended(partial(_ended, implementation.name), CRASHED)
    try:
        with _prints_to_stderr():
            report = _run(implementation, own, examples, jobs, seed)
    except Exception as error:
        if isinstance(error, ValueError | MemoryError) and not is_theirs(error):
            raise
        with _prints_to_stderr():
            report = crash_report(implementation, error)
        said = printable(". ".join([raised(error), *report.notes]))
        sys.stderr.write(f"manual-lstm: {implementation.name}: {said}\n")
        with chdir(here):
            words += ["--case", case] if case is not None else _kept(report, examples, seed)
            _write(report, shlex.join(["manual-lstm", *words]), json, html)
        raise typer.Exit(_status_of(error)) from None

    with chdir(here):
        words += ["--case", case] if case is not None else _kept(report, examples, seed)
    blindness = blind_spots(own) if own is not None else None
    with _prints_to_stderr():
        diagnosis = _diagnosed(implementation, report, seed)
        maps = maps_of(implementation, report, given=own, seed=seed) if html is not None else None
    with chdir(here):
        _tell(report, shlex.join(["manual-lstm", *words]), json, html, diagnosis, blindness, maps)
    raise typer.Exit(_status(report))


def _ended(name: str) -> None:
    sys.stderr.write(f"manual-lstm: {name}: it ends the whole process with exit().\n")
    sys.stderr.flush()


def _joined(given: list[str] | None) -> str:
    """An option's words, which may be given at once or one after the other."""
    return ",".join(given or [])


def _listed(given: list[str] | None) -> list[str]:
    return [word.strip() for word in _joined(given).split(",") if word.strip()]


def _sizes(given: list[str] | None) -> dict[str, int]:
    """The sizes of "H=26,B=1"; what they may be is the Implementation's to say."""
    pairs = [word.partition("=") for word in _listed(given)]
    if not all(value.strip().isdecimal() for _, _, value in pairs):
        raise ValueError(
            f"--sizes is {_joined(given)!r} but must be sizes and whole numbers: "
            "--sizes H=26,I=26,B=1."
        )
    sizes = {name.strip(): int(value) for name, _, value in pairs}
    if len(sizes) < len(pairs):
        raise ValueError(f"--sizes is {_joined(given)!r} but must have each size once.")
    return sizes


def _kept(report: CheckReport, examples: int, seed: int) -> list[str]:
    """The words that run what failed again: its case, kept as a file if it can be."""
    failing = report.failures[0].case if report.failures else None
    if failing is not None:
        try:
            return ["--case", str(save_failing(failing))]
        except ValueError as error:  # the report itself is worth more
            sys.stderr.write(f"manual-lstm: the failing case is not kept: {error}\n")
    return ["--examples", str(examples), "--seed", str(seed)]


def _tell(
    report: CheckReport,
    reproduce: str,
    json: str | None,
    html: str | None,
    diagnosis: Diagnosis | None = None,
    blindness: Blindness | None = None,
    maps: Maps | None = None,
) -> None:
    if json != "-":  # first: what cannot be written must not take the report with it
        print_check(Console(), report, reproduce, diagnosis, blindness)
    _write(report, reproduce, json, html, diagnosis, blindness, maps)


def _write(
    report: CheckReport,
    reproduce: str,
    json: str | None,
    html: str | None,
    diagnosis: Diagnosis | None = None,
    blindness: Blindness | None = None,
    maps: Maps | None = None,
) -> None:
    if json is not None:
        write_json(check_json(report, reproduce, diagnosis, blindness), json)
    if html is not None:
        write_html(check_page(report, reproduce, diagnosis, blindness, maps), html)


# What each of the options is for, and why not for the rest.
_NOT_OF_USE = {
    "layout": (("target", "command"), "its files are in manual_lstm's own"),
    **dict.fromkeys(
        ("head", "dtype", "without"),
        (
            ("command",),
            "a callable tells by its arguments, or by its Implementation(...)",
        ),
    ),
    **dict.fromkeys(
        ("case", "examples", "jobs", "timeout", "seed", "sizes", "require"),
        (("target", "command"), "nothing is run for --dump"),
    ),
}
_WORDS = {"target": "package.module:object", "command": "--command"}


def _require_of_use(context: typer.Context, what: str) -> None:
    """ValueError for an option that would be ignored."""
    for name, (of_use, reason) in _NOT_OF_USE.items():
        if what not in of_use and is_given(context, name):
            targets = " and ".join(_WORDS[each] for each in of_use)
            raise ValueError(f"--{name} is for {targets}: {reason}.")


@contextmanager
def _prints_to_stderr() -> Iterator[None]:
    """What an implementation prints, in whatever language, is no part of the report."""
    sys.stdout.flush()
    try:
        kept = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # one of the two is closed
        kept = -1
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stderr.flush()
        ctypes.CDLL(None).fflush(None)  # what a C library still holds back
        if kept >= 0:
            os.dup2(kept, 1)
            os.close(kept)


def _run(
    implementation: Implementation, case: Case | None, examples: int, jobs: int, seed: int
) -> CheckReport:
    if case is not None:
        with counting("checks", len(CHECKS)) as progress:
            return check_implementation(implementation, case=case, progress=progress)
    if jobs > 1:
        _require_sendable(implementation, jobs)
    parts = len(CHECKS) + examples // PART  # more processes would have nothing to do
    with _pool(min(jobs, parts)) as executor, counting("cases", examples) as progress:
        return check_implementation(
            implementation, examples=examples, seed=seed, executor=executor, progress=progress
        )


def _diagnosed(implementation: Implementation, report: CheckReport, seed: int) -> Diagnosis | None:
    """What is wrong, where a gradient is and the first of the failed checks is no crash.

    Of an implementation whose answers cannot be read, if they can be with I = H.
    """
    wrong = report.failures
    if not report.dtypes:
        with doing("looking for what explains this, with I = H"):
            try:
                return diagnose(implementation, seed=seed, seconds=0)
            except Exception:  # its report says what cannot be read
                return None
    numbers = any(
        failure.comparison is not None or failure.check == check_called_twice.__name__
        for failure in wrong
    )
    if not numbers or (wrong[0].error is not None and wrong[0].check not in report.raising):
        return None
    simpler = report.scale is not None or report.clipping is not None
    simpler |= wrong[0].check == check_shapes_and_dtypes.__name__
    compared = [failure.case for failure in wrong if failure.comparison is not None]
    looking = "looking for what explains this"
    with doing(looking) as tell:
        return diagnose(
            implementation,
            seconds=0.0 if simpler else PAIR_SECONDS,
            seed=seed,
            case=compared[0] if compared else None,
            tell=lambda what: tell(f"{looking}: {what}"),
        )


def _require_sendable(implementation: Implementation, jobs: int) -> None:
    try:
        pickle.dumps(implementation)
    except Exception as error:
        raise ValueError(
            f"--jobs is {jobs} but {implementation.name} cannot be sent to another process "
            f"({error}): define it at the top of its module, or leave out --jobs."
        ) from None


@contextmanager
def _pool(jobs: int) -> Iterator[Executor | None]:
    if jobs == 1:
        yield None
        return
    # Not forked: a forked child of a process in which torch has started threads may hang. Ctrl-C
    # is for this process alone, which ends the others.
    executor = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for _ in range(jobs):
                executor.submit(int)  # starts a process, which inherits what is ignored
        finally:
            signal.signal(signal.SIGINT, before)
        yield executor
    except KeyboardInterrupt:
        for process in active_children():  # they are not waited for
            process.kill()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _same_implementation(
    target: str | None, command: str | None, head: str, without: str
) -> list[str]:
    if command is None:
        return [str(target)]
    return ["--command", command, "--head", head, *(["--without", without] if without else [])]


def _status(report: CheckReport) -> int:
    if report.verdict == "agree":
        return 0
    errors = [failure.error for failure in report.failures if failure.error is not None]
    return _status_of(errors[0]) if errors else 1


def _status_of(error: Exception) -> int:
    return TIMED_OUT if isinstance(error, ProgramTimedOut | TimeoutError) else CRASHED
