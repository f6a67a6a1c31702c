"""A program whose files hold the arrays in a layout of its own."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import manual_lstm
from torch_ref import (
    Implementation,
    Layout,
    compare_gradients,
    error_budget,
    preset,
    run_case,
)
from torch_ref.cli import main
from torch_ref.harness.arranged_program import run_arranged_program
from torch_ref.harness.cases import sized_case
from torch_ref.harness.contract import run_implementation
from torch_ref.harness.judge import judge
from torch_ref.harness.program import ProgramCrashed
from torch_ref.harness.subject import subject_of

BEGIN = """
import json, sys
from pathlib import Path
import numpy as np
from manual_lstm import CharModel, vjp

case, result = map(Path, sys.argv[1:])
a = {path.stem: np.load(path) for path in case.glob("*.npy")}
"""
END = """
for name, array in found.items():
    np.save(result / f"{name}.npy", array)
(result / "result.json").write_text(json.dumps({"format": "manual-lstm-result", "version": 1}))
"""
# kernel (I, 4H), recurrent_kernel (H, 4H), batch first, states (B, H)
KERAS = """
params = {"weight_ih_l0": a["kernel"].T, "weight_hh_l0": a["recurrent_kernel"].T}
params["bias_l0"] = a["bias"]
out, back = vjp(params, a["x"].swapaxes(0, 1), a["h0"][None], a["c0"][None])
g = back(a["dy"].swapaxes(0, 1), a["dh_n"][None], a["dc_n"][None])
found = {"y": out[0].swapaxes(0, 1), "h_n": out[1][0], "c_n": out[2][0]}
found |= {"dx": g["dx"].swapaxes(0, 1), "dh0": g["dh0"][0], "dc0": g["dc0"][0]}
found |= {"dkernel": g["dweight_ih_l0"].T, "drecurrent_kernel": g["dweight_hh_l0"].T}
found["dbias"] = g["dbias_l0"]
"""
# a matrix (H, H + I) for each gate, [U|W], biases (H, 1), x (I, B, T), states (H, B)
COLUMNS = """
H = len(a["h0"])
W = np.concatenate([a[f"W{k}"] for k in "ifco"])
params = {"weight_hh_l0": W[:, :H].copy(), "weight_ih_l0": W[:, H:].copy()}
params["bias_l0"] = np.concatenate([a[f"b{k}"] for k in "ifco"])[:, 0]
params |= {"weight_out": a["Wy"], "bias_out": a["by"][:, 0]}
model = CharModel(len(a["x"]), H)
x, h0, c0 = a["x"].transpose(2, 1, 0).copy(), a["h0"].T[None], a["c0"].T[None]
outputs, back = model.vjp(params, x, a["targets"].T, h0, c0)
g = back(float(a["dloss"]), a["dh_n"].T[None], a["dc_n"].T[None])
found = {"loss": outputs[0], "dWy": g["dweight_out"], "dby": g["dbias_out"][:, None]}
dW = np.concatenate([g["dweight_hh_l0"], g["dweight_ih_l0"]], axis=1)
for k, gate in enumerate("ifco"):
    rows = slice(k * H, k * H + H)
    found |= {f"dW{gate}": dW[rows], f"db{gate}": g["dbias_l0"][rows, None]}
found["dx"] = g["dx"].transpose(2, 1, 0)
"""
SIZES = {"T": 4, "B": 2, "I": 3, "H": 5, "L": 1}


@pytest.fixture
def keras(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(manual_lstm.__file__).parents[1]))
    return command(tmp_path, KERAS)


def command(folder, glue):
    path = folder / "program.py"
    path.write_text(BEGIN + glue + END, encoding="utf-8")
    return f"{sys.executable} {path} {{case}} {{result}}"


def assert_near(found, expected, names, case):
    allowed = error_budget(case, sides=2).allowed
    assert set(found) == set(names)
    wanted = {name: expected[name] for name in names}
    comparison = compare_gradients(found, wanted, {name: allowed[name] for name in names})
    assert comparison.verdict == "agree"


def test_an_axis_or_a_name_that_the_program_does_not_have(keras, tmp_path):
    """With dy, in a layout of one matrix for all gates; then with a loss and one for each gate."""
    case = sized_case(SIZES)
    expected = run_case(case, manual_lstm.vjp)
    found = run_arranged_program(keras, preset("keras"), case, timeout=60)
    assert_near(found, expected, expected, case)

    case = replace(sized_case(SIZES | {"I": 5, "H": 3}, targets=True), dloss=1.0)
    expected = run_case(case, manual_lstm.CharModel(5, 3).vjp)
    columns = command(tmp_path, COLUMNS)
    found = run_arranged_program(columns, preset("columns"), case, timeout=60)
    weights = [f"d{name}" for name in case.params]
    assert_near(found, expected, ["loss", "dx", *weights], case)


def test_a_case_that_does_not_say_how_it_is_arranged(tmp_path):
    """case.json has our sizes and the whole layout, which a program may look at."""
    script = tmp_path / "program"
    script.write_text(f'cp "$1/case.json" "{tmp_path}"; exit 7\n', encoding="utf-8")
    words = f"sh {script} {{case}} {{result}}"
    with pytest.raises(ProgramCrashed, match="exit status 7"):
        run_arranged_program(words, preset("keras"), sized_case(SIZES), timeout=60)
    document = json.loads((tmp_path / "case.json").read_text(encoding="utf-8"))
    assert document["sizes"] == SIZES
    assert Layout.from_json(document["layout"]) == preset("keras")


def test_a_stack_for_a_program_of_one_layer(keras):
    """A layout without a place for a second layer is refused before anything is run."""
    mine = Implementation("mine", command=keras, head=None, layout=preset("keras"))
    with pytest.raises(ValueError, match="h0 has L = 2 but must have L = 1"):
        run_implementation(mine, sized_case(SIZES | {"L": 2}))


@pytest.mark.parametrize(
    ("layout", "what"),
    [(Layout(joined_state="hc"), "a joined"), (Layout(sequence="T:BI"), "a list")],
)
def test_a_layout_that_files_cannot_hold(layout, what):
    """It ends as a traceback of NumPy's, or in files that nobody can read."""
    with pytest.raises(ValueError, match=f"the layout has {what} .* but a program's must have an"):
        run_arranged_program("a {case} {result}", layout, sized_case(SIZES), timeout=1)


def test_a_layout_that_the_command_does_not_hand_on(keras, tmp_path, monkeypatch, capsys):
    """check --layout agrees with a right program, but for auto, and says how to run it again."""
    monkeypatch.chdir(tmp_path)

    def check(*words):
        line = ["check", "--command", keras, "--head", "none", "--layout", *words]
        monkeypatch.setattr(sys, "argv", ["manual-lstm", *line, "--examples", "1"])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr()

    status, said = check("keras", "--json", "-")
    report = json.loads(said.out)
    assert (status, report["verdict"]) == (0, "agree")
    assert " --layout keras " in report["reproduce"]
    assert report["unverified"] == ["stacks (more than one layer)"]
    status, said = check("auto")
    assert status == 2
    assert "--layout is auto but must be a preset for --command" in said.err


def test_a_wrong_program_that_its_layout_hides(keras, tmp_path):
    """A factor in one matrix is a wrong gradient of just that one."""
    program = tmp_path / "program.py"
    text = program.read_text(encoding="utf-8")
    wrong = text.replace('g["dweight_hh_l0"].T', '2 * g["dweight_hh_l0"].T')
    program.write_text(wrong, encoding="utf-8")
    mine = Implementation("mine", command=keras, head=None, layout=preset("keras"))
    comparison = judge(subject_of(mine), sized_case(SIZES))
    assert [t.name for t in comparison.tensors if t.verdict == "disagree"] == ["dweight_hh_l0"]
