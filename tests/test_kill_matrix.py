"""The kill matrix: what it restates is what it says, and what goes wrong makes it fail."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import manual_lstm
from manual_lstm import CharModel
from manual_lstm.params import lstm_sizes
from torch_ref import preset

pytestmark = pytest.mark.sampled

SCRIPTS = Path(__file__).parent.parent / "scripts"
OTHERS = (
    "gradcheck, slow",
    "gradcheck, fast",
    "one projection",
    "gradient of x, upstream ones",
    "absolute 2e-2, mean loss",
    "one step, zero state",
)
SMALLER = {"T": 2, "B": 2, "I": 3, "H": 2, "L": 1}


@pytest.fixture
def kill(monkeypatch):
    """The matrix's package and its script, which are beside each other."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import kill_matrix
    from kill import correct, matrix, others, ours, target

    return SimpleNamespace(
        script=kill_matrix, correct=correct, matrix=matrix, others=others, ours=ours, target=target
    )


def loss_and_grads(params, x, targets, h0, c0):
    classes, hidden, layers, _ = lstm_sizes(params)
    head = "linear" if "weight_out" in params else "bounded"
    return CharModel(classes, hidden, layers, head).loss_and_grads(params, x, targets, h0, c0)


def correct_target(kill, form):
    plain = manual_lstm.vjp if form == "vjp" else loss_and_grads
    return kill.target.Target("", form, plain, kill.target.as_implementation("", form, plain))


def planted(kill, form, *identifiers):
    return kill.target.plant(form, kill.target.chosen(form, identifiers))


def test_a_restatement_that_is_not_in_the_matrix(kill):
    """Every check of others is tested here."""
    assert tuple(kill.others.OTHERS) == OTHERS


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("form", ["vjp", "linear"])
def test_a_restatement_that_alarms_what_is_correct_or_sees_nothing(kill, name, form, monkeypatch):
    """It passes a correct LSTM and sees a gross mistake, with a head and without."""
    monkeypatch.setattr(kill.others, "TOY", SMALLER)
    check = kill.others.OTHERS[name]
    assert check(correct_target(kill, form)) is False
    assert check(planted(kill, form, "dc.h[t]")) is True


@pytest.mark.parametrize(
    ("name", "identifier"),
    [
        ("gradcheck, slow", "weight_ih.clipped at 5"),
        ("gradcheck, fast", "weight_ih.clipped at 5"),
        ("one projection", "weight_hh.clipped at 5"),
        ("gradient of x, upstream ones", "weight_hh * 0"),
        ("absolute 2e-2, mean loss", "df.c[t]"),
        ("one step, zero state", "dc_carry[0] * 2"),
    ],
)
def test_a_restatement_that_sees_more_than_the_original(kill, name, identifier):
    """What the original cannot see passes: it is restated, not improved."""
    assert kill.others.OTHERS[name](planted(kill, "vjp", identifier)) is False


def test_a_crash_that_is_counted_as_a_miss(kill):
    """What cannot be run is noticed by everybody."""

    def crash(params, x, h0, c0):
        raise RuntimeError

    target = replace(correct_target(kill, "vjp"), plain=crash)
    for check in kill.others.OTHERS.values():
        assert kill.matrix._notices(check, target)


@pytest.mark.parametrize("name", ["bias_neuron", "mxnet", "columns"])
def test_an_arrangement_that_changes_what_is_computed(kill, name):
    """In another arrangement a correct LSTM stays correct, and a mistake the same mistake."""
    right = correct_target(kill, "vjp")
    wrong = planted(kill, "vjp", "df.c[t]")
    mistakes = kill.target.chosen("vjp", ["df.c[t]"])
    for target, identifiers in ((right, ()), (wrong, ("df.c[t]",))):
        arranged = kill.correct.arrange(target.plain, preset(name), "vjp")
        implementation = kill.target.as_implementation("", "vjp", arranged, layout=preset(name))
        named = kill.ours.name(replace(target, implementation=implementation), mistakes, 0)
        assert named.noticed == named.right == bool(identifiers)
        assert named.found == identifiers


def test_a_correct_lstm_that_is_no_other_than_the_last(kill):
    """They are of every form, dtype and several cells, layouts and ways to add up."""
    targets = [kill.correct.draw_correct(number) for number in range(40)]
    implementations = [target.implementation for target in targets]
    assert {target.form for target in targets} == {"vjp", "linear", "bounded"}
    assert {each.dtype for each in implementations} == {None, "float32", "float64"}
    assert len({target.variant for target in targets}) > 5
    assert len({each.layout.describe() for each in implementations}) > 15
    assert len({target.name.split(", ")[0] for target in targets}) > 5


RIGHT = {"noticed": {"manual-lstm: the diagnosis": True}, "named": True, "found": ["a"]}


@pytest.mark.parametrize(
    ("column", "changes", "problem"),
    [
        ("vjp", {}, ""),
        ("pairs", {}, ""),
        ("vjp", {"noticed": {}, "named": False, "found": []}, "unseen"),
        ("pairs", {"noticed": {}, "named": False, "found": []}, "unseen"),
        ("vjp", {"named": False}, "misnamed"),
        ("pairs", {"named": False}, "misnamed"),
        ("vjp", {"named": False, "found": []}, "not named"),
        ("pairs", {"named": False, "found": []}, ""),
        ("correct", {"noticed": {}, "named": False, "found": []}, ""),
        ("correct", {"named": False, "found": []}, "false alarm"),
        ("correct", {"noticed": {"manual-lstm: the checks": True}, "found": []}, "false alarm"),
    ],
)
def test_a_problem_that_is_taken_for_success(kill, column, changes, problem):
    """A mistake that ours do not see or name, or name wrongly, and an alarm that is false."""
    fields = RIGHT | {"key": "", "name": "", "detail": "", "seconds": 0.0} | changes
    assert kill.matrix.Record(column=column, **fields).problem == problem


def run(kill, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["kill_matrix.py", "--jobs", "1", *arguments])
    return kill.script.main()


@pytest.mark.thorough
def test_a_matrix_that_prints_no_figures(kill, monkeypatch, capsys, tmp_path):
    """A sample runs through everything; the table fits in 80 columns, the JSON has it too."""
    monkeypatch.setattr(kill.others, "TOY", SMALLER)
    monkeypatch.setattr(kill.matrix, "FORMS", ("vjp",))
    file = tmp_path / "kill.json"
    options = ("--sample", "1", "--pairs", "1", "--correct", "1", "--examples", "1")
    assert run(kill, monkeypatch, *options, "--json", str(file)) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    report = json.loads(file.read_text())
    header, diagnosis, named, *checkers = report["table"]
    assert header[1:] == ["vjp", "linear", "bounded", "pairs", "correct"]
    assert diagnosis[1:] == ["1/1", "-", "-", "1/1", "0/1"]
    assert named[1:] == ["1/1", "-", "-", "1/1", ""]
    assert [row[0] for row in checkers] == ["manual-lstm: the checks", *OTHERS]
    for checker, *cells in checkers:
        assert checker in printed
        assert [cell[-2:] for cell in cells] == ["/1", "-", "-", "/1", "/1"]
    assert len(report["records"]) == 3


def test_a_misnamed_mistake_with_exit_status_0(kill, monkeypatch, capsys):
    """A diagnosis that names another mistake than the one that is there."""
    right = kill.ours.diagnose
    (other,) = kill.target.chosen("vjp", ["df.c[t]"])

    def wrong(implementation, **options):
        diagnosis = right(implementation, **options)
        return replace(diagnosis, finding=replace(diagnosis.finding, mistakes=(other,)))

    monkeypatch.setattr(kill.ours, "diagnose", wrong)
    monkeypatch.setattr(kill.matrix, "FORMS", ("vjp",))
    options = ("--sample", "1", "--pairs", "0", "--correct", "0")
    assert run(kill, monkeypatch, *options) == 1
    assert "misnamed: vjp, " in capsys.readouterr().out


def test_an_interrupted_run_that_is_lost(kill, monkeypatch, capsys, tmp_path):
    """What was done so far is printed and written, and --resume does the rest only."""
    right, asked = kill.script.measure, []

    def measure(task, **options):
        asked.append(task)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return right(task, **options)

    monkeypatch.setattr(kill.script, "measure", measure)
    monkeypatch.setattr(kill.matrix, "FORMS", ("vjp",))
    options = ("--sample", "3", "--pairs", "0", "--correct", "0", "--one-in", "100")
    options += ("--json", str(tmp_path / "kill.json"))
    assert run(kill, monkeypatch, *options) == 130
    assert "interrupted: 1 of 3" in capsys.readouterr().out
    assert run(kill, monkeypatch, *options, "--resume") == 0
    assert len(asked) == 4
    assert len(json.loads((tmp_path / "kill.json").read_text())["records"]) == 3
