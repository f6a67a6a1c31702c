"""The commands train, predict and plateau, as somebody types them."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from manual_lstm.checkpoint import load_checkpoint, save_checkpoint
from manual_lstm.predict import predict
from manual_lstm.train import next_window, train_window
from torch_ref.cli import app
from torch_ref.harness import side_by_side

runner = CliRunner()


def call(*words, status=0):
    result = runner.invoke(app, [str(word) for word in words])
    assert result.exit_code == status, (result.output, result.exception)
    return result


def refused(*words):
    result = runner.invoke(app, [str(word) for word in words])
    assert isinstance(result.exception, ValueError), result.output
    return str(result.exception)


SMALL = ("--inputs", 2, "--head", "bounded", "--steps", 4)


def test_a_resume_that_repeats_loses_or_changes_a_window(tmp_path):
    """5 windows and 4 more after a resume leave the files of 9 at once, to the byte."""
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()

    def files(folder):
        return ("--checkpoint", folder / "c.npz", "--history", folder / "h.jsonl")

    call("train", *SMALL, "--windows", 9, *files(one))
    call("train", *SMALL, "--windows", 5, *files(two))
    # Windows that a killed run wrote after its last checkpoint.
    with (two / "h.jsonl").open("a") as file:
        file.write('{"window": 6, "loss": 99.0, "perplexity": 1.0, "norm": 1.0}\n{"win')
    call("train", "--resume", "--windows", 9, *files(two))
    assert (one / "h.jsonl").read_text() == (two / "h.jsonl").read_text()
    assert len((one / "h.jsonl").read_text().splitlines()) == 9
    assert (one / "c.npz").read_bytes() == (two / "c.npz").read_bytes()


def test_a_long_run_that_is_lost_for_want_of_a_word(tmp_path):
    """Without --resume the checkpoint, and the one before it, are replaced by a new run's."""
    path, history = tmp_path / "c.npz", tmp_path / "h.jsonl"
    words = ("train", *SMALL, "--checkpoint", path, "--history", history)
    call(*words, "--windows", 5)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    assert refused(*words, "--windows", 9) == (
        f"checkpoint {str(path)!r} exists already, at window 5: go on from it with --resume, or to "
        "begin anew choose another file or remove it."
    )
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    call(*words, "--windows", 9, "--resume")
    assert load_checkpoint(path)[2].windows == 9
    path.write_bytes(path.read_bytes()[:100])
    assert refused(*words) == (
        f"checkpoint {str(path)!r} exists already: choose another file or remove it."
    )


@pytest.mark.parametrize("option", ["--history", "--monitor"])
def test_a_record_of_a_long_run_that_is_written_over(tmp_path, option):
    """Without a checkpoint nothing else says that the file is another run's."""
    path = tmp_path / "h.jsonl"
    path.touch()  # nothing is lost of an empty one, as mktemp leaves
    words = ("train", *SMALL, "--windows", 2, "--monitor-every", 1, option, path)
    call(*words)
    before = path.read_bytes()
    assert before.count(b"\n") == 2
    assert f"{str(path)!r} exists already: choose another file or remove it." in refused(*words)
    assert path.read_bytes() == before
    call("train", *SMALL, "--windows", 2, "--monitor-every", 1, option, "/dev/null")


def test_a_report_that_is_not_json_or_has_company():
    """--json - prints JSON and nothing else, with the floor, the loss and the rate."""
    report = json.loads(call("train", *SMALL, "--windows", 3, "--json", "-").stdout)
    assert report["windows"] == 3
    assert report["ending"] == "finished"
    assert f"{report['floor']:.4f}" == "0.1269"
    assert report["loss"] > 0.19
    assert report["windows_per_second"] > 0


def test_a_line_that_leaves_out_what_the_loss_can_reach():
    """The last line has loss, perplexity, the head's floor, guessing and the rate."""
    text = call("train", *SMALL, "--windows", 3).stdout
    for words in ("finished after window 3: loss 0.", "perplexity 1.", "floor is 0.12693"):
        assert words in text
    assert "uniform guessing 0.69315" in text
    assert "windows/s" in text


@pytest.mark.parametrize("engine", ["manual", "torch"])
def test_files_that_are_not_written(engine, tmp_path):
    """Plot, heat map and monitor are there, and the pictures are PNGs."""
    names = ("h.jsonl", "p.png", "m.jsonl", "m.png")
    history, plot, monitor, heat = (tmp_path / name for name in names)
    words = ("--history", history, "--plot", plot, "--monitor", monitor, "--monitor-plot", heat)
    call("train", *SMALL, "--windows", 4, "--monitor-every", 2, "--engine", engine, *words)
    for picture in (plot, heat):
        assert picture.read_bytes().startswith(b"\x89PNG")
    lines = [json.loads(line) for line in monitor.read_text().splitlines()]
    assert [line["window"] for line in lines] == [2, 4]
    assert lines[0]["verdict"] in ("healthy", "vanishing", "exploding", "saturated")


def test_a_comparison_that_agrees_with_a_wrong_side(monkeypatch):
    """--compare ends with 0 where both agree, and with 1 and the window where they part."""
    words = ("train", "--inputs", 2, "--windows", 4, "--compare")
    assert "They agree in all 4 windows" in call(*words).stdout
    true = side_by_side.compare_training

    def planted(schedule, text, state, windows):
        def left(schedule, text, state):
            if state.windows == 2:
                schedule = replace(schedule, carry_state=False)
            return train_window(schedule, text, state)

        return true(schedule, text, state, windows, left=left)

    monkeypatch.setattr(side_by_side, "compare_training", planted)
    result = json.loads(call(*words, "--json", "-", status=1).stdout)
    assert (result["verdict"], result["window"]) == ("disagree", 3)
    assert "They part at window 3" in call(*words, status=1).stdout


@pytest.mark.parametrize(
    "option", [("--engine", "torch"), ("--checkpoint", "c.npz"), ("--history", "h.jsonl")]
)
def test_an_option_that_a_comparison_would_ignore(option):
    """--compare runs both engines and writes nothing but --json."""
    said = refused("train", *SMALL, "--compare", *option)
    assert said.startswith(option[0])
    assert "--compare" in said


def test_a_comparison_of_which_no_window_can_be_judged(tmp_path):
    """It is no agreement where rounding alone decides what comes out, from the first window on."""
    path = tmp_path / "c.npz"
    words = ("train", "--inputs", 5, "--hidden", 20, "--steps", 30, "--checkpoint", path)
    call(*words, "--windows", 1)
    schedule, text, state = load_checkpoint(path)
    large = state.params | {"weight_hh_l0": 8 * state.params["weight_hh_l0"]}
    save_checkpoint(path, schedule, text, replace(state, params=large))
    assert refused(*words, "--windows", 3, "--resume", "--compare").startswith(
        "window 2 cannot be judged in float32: rounding alone decides what comes out."
    )


@pytest.mark.parametrize("option", ["--checkpoint", "--plot", "--json"])
def test_a_training_that_is_lost_for_a_missing_folder(tmp_path, option):
    """It is said before the first window, of which the history would have the loss."""
    history = tmp_path / "h.jsonl"
    words = ["--inputs", 3, "--windows", 3, "--history", history, option, tmp_path / "no/file.npz"]
    assert "file.npz' cannot be written: No such file or directory." in refused("train", *words)
    assert not history.exists()


def test_a_prediction_without_its_probabilities(tmp_path):
    """predict prints each choice with the probabilities, and the text with its prompt."""
    path = tmp_path / "c.npz"
    call("train", "--inputs", 3, "--windows", 300, "--learning-rate", 0.05, "--checkpoint", path)
    text = call("predict", path, "--prompt", "ab", "--count", 4, "--top", 2).stdout
    assert text.splitlines()[0].startswith("'b' -> 'c'   'c' 0.")
    assert text.splitlines()[-1] == "abcabc"
    report = json.loads(call("predict", path, "--count", 2, "--json", "-").stdout)
    assert (report["prompt"], report["text"]) == ("a", "bc")
    assert [len(row) for row in report["probabilities"]] == [3, 3]
    assert "--prompt has 'x'" in refused("predict", path, "--prompt", "axb")
    assert "cannot be read" in refused("predict", tmp_path / "missing.npz")


def test_a_prediction_that_forgets_the_state_of_training(tmp_path):
    """The loss is that of a state that is carried on; from zero the same weights say otherwise."""
    path = tmp_path / "c.npz"
    call("train", "--inputs", 3, "--steps", 4, "--batch", 2, "--windows", 30, "--checkpoint", path)
    schedule, text, state = load_checkpoint(path)
    fed = next_window(schedule, text, state)[0][:, 0]
    words = ("predict", path, "--count", 1, "--json", "-")
    for count, given in ((1, ()), (4, ("--prompt", "".join(text.symbols[k] for k in fed)))):
        carried, zero = (
            next(predict(schedule.model, state.params, fed[:count], 1, h=h, c=c))
            for h, c in ((state.h[:, :1], state.c[:, :1]), (None, None))
        )
        report = json.loads(call(*words, "--carry", *given).stdout)
        assert report["probabilities"][0] == carried.probabilities.tolist()
        assert report["probabilities"][0] != zero.probabilities.tolist()


@pytest.mark.parametrize(
    ("loss", "fall", "said", "pace"),
    [
        (0.41004 + 5e-8, 0.0, "Only other first weights can lower it", None),
        (0.43, 1e-4, "More steps, a higher learning rate or Adam can", "157"),
        (0.3, 0.0, "The loss 0.3 lies ", None),
    ],
)
def test_a_settled_loss_that_is_told_to_train_on(tmp_path, loss, fall, said, pace):
    """A limit is never reached, and in float32 the loss stands still beside it: it is on it all
    the same. Of one that still falls, how long more steps would take is told.
    """
    path = tmp_path / "h.jsonl"
    lines = [{"window": n, "loss": loss + fall * (40 - n), "norm": 0.0} for n in range(1, 41)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = json.loads(call("plateau", "--classes", 2, "--history", path, "--json", "-").stdout)
    assert any(each.startswith(said) for each in report["sentences"])
    paces = [each for each in report["sentences"] if each.startswith("At that pace")]
    told = [] if pace is None else [f"At that pace the level below is {pace} windows away."]
    assert paces == told


def test_a_plateau_that_is_explained_wrongly(tmp_path):
    """The losses that were observed are put where they belong, from a number or a history."""
    text = call("plateau", "--classes", 26, "--loss", "2.35").stdout
    for words in ("1.47782", "3.25810", "<- the loss", "below 1.4778", "a linear layer between"):
        assert words in " ".join(text.split())
    report = json.loads(call("plateau", "--classes", 2, "--loss", "0.27", "--json", "-").stdout)
    assert report["on"] == "one unit flips, one keeps its sign"
    assert report["uncertainty"] == 0.5 * 10.0**-2
    for loss, uncertainty in (("2e0", 0.5), ("235e-2", 0.5 * 10.0**-2), ("0.2E1", 0.5)):
        report = json.loads(call("plateau", "--loss", loss, "--json", "-").stdout)
        assert report["uncertainty"] == uncertainty
    report = json.loads(call("plateau", "--loss", "7.0", "--json", "-").stdout)
    assert "no mean cross-entropy of this head" in report["sentences"][1]

    path = tmp_path / "h.jsonl"
    lines = [
        {"window": n, "loss": loss, "norm": 0.0}
        for n, loss in enumerate([0.9] * 18 + [0.196, 0.2], 1)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = json.loads(call("plateau", "--classes", 2, "--history", path, "--json", "-").stdout)
    assert report["on"] == "both units flip at every step"
    trend = (
        "Over the last 2 of 20 windows the loss lies between 0.196 and 0.2; its mean fell by 0.7"
    )
    assert report["sentences"][-1].startswith(trend)
    path.write_text(path.read_text().replace("0.9", "0.1"))
    report = json.loads(call("plateau", "--history", path, "--json", "-").stdout)
    assert "its mean rose by 0.098 from" in report["sentences"][-1]
    learnt = tmp_path / "text.txt"
    learnt.write_text("aab")
    report = json.loads(call("plateau", "--text", learnt, "--loss", "0.637", "--json", "-").stdout)
    assert report["on"] == "unigram guessing"


@pytest.mark.parametrize(
    ("loss", "advice"),
    [
        ("0.19722", "Nothing can lower it."),
        ("0.23", "More steps, a higher learning rate or Adam can lower it,"),
        ("0.15", "It is no mean cross-entropy of this head, whatever the weights."),
    ],
)
def test_an_advice_on_ab_that_forgets_its_higher_floor(loss, advice):
    """(46) is above the head's own floor: on it, above it and below it."""
    report = json.loads(call("plateau", "--classes", 2, "--loss", loss, "--json", "-").stdout)
    assert report["sentences"][1].startswith(advice)
    assert any("below 0.19722 while" in each for each in report["sentences"]) == (loss != "0.15")


def test_a_loss_that_is_no_number_and_ends_like_any_other(tmp_path):
    """A learning rate of 1e38 stops with the window and the checkpoint that is still good."""
    path, learnt = tmp_path / "c.npz", tmp_path / "text.txt"
    learnt.write_text("abba" * 5 + "aab" * 7)
    words = ("--text", learnt, "--learning-rate", 1e38, "--checkpoint", path)
    message = refused("train", "--windows", 99, *words)
    assert message.startswith(
        "window 1: after the optimiser's step the output layer's bias_out[0] is"
    )
    assert message.endswith("The last good checkpoint is that of window 0.")
    assert load_checkpoint(path)[2].windows == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "--inputs", 2, "--text", "x"), "--inputs and --text both"),
        (("train", "--plot", "x.png"), "--history must be given too"),
        (("train", "--resume"), "--checkpoint must be given too"),
        (("train", "--random-start"), "carry_state and random_start are both given"),
        (("train", "--head", "bounded", "--hidden", 3), "hidden_size is 3 but must be 26"),
        (("plateau",), "needs --loss or --history"),
        (("plateau", "--loss", "x"), "--loss is 'x' but must be a number"),
        (("plateau", "--loss", "nan"), "--loss is nan but must be finite"),
        (("plateau", "--loss", "0e99999999999"), "--loss is 0e99999999999 but must be finite"),
        (("plateau", "--loss", "1", "--classes", 2, "--text", "x"), "--classes and --text both"),
    ],
)
def test_a_usage_that_contradicts_itself(words, message):
    """Each is one sentence."""
    assert message in refused(*words)


@pytest.mark.parametrize(
    "words",
    [
        ("train", "--text", "x", "--json", "x"),
        ("train", "--history", "x", "--monitor", "x"),
        ("train", "--plot", "x", "--monitor-plot", "x", "--history", "h"),
        ("train", "--resume", "--checkpoint", "x", "--json", "x"),
        ("predict", "x", "--json", "x"),
        ("plateau", "--history", "x", "--json", "x"),
        ("plateau", "--loss", "1", "--text", "x", "--json", "x"),
        ("diff", "--text", "x", "--html", "x"),
        ("diff", "--html", "x", "--json", "x"),
        ("check", "a:b", "--case", "x", "--json", "x"),
        ("mistakes", "--case", "x", "--json", "x"),
    ],
)
def test_an_input_or_a_record_that_a_report_replaces(words):
    """It is said before anything is read, trained or written."""
    assert "which is the file of" in refused(*words)


def test_a_plot_without_matplotlib(monkeypatch):
    """What to install is said before anything is trained."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install 'manual-lstm[plots]'" in refused("train", "--history", "h", "--plot", "p")


def test_a_ctrl_c_that_is_a_traceback(tmp_path):
    """SIGINT ends the command with 130, the state saved, and a word about it."""
    path = tmp_path / "c.npz"
    program = (
        "import signal, sys\n"
        "from torch_ref.cli import main\n"
        "train = sys.modules['torch_ref.cli.train']\n"
        "true = train.train_window\n"
        "def window(*given):\n"
        "    if given[2].windows == 3: signal.raise_signal(signal.SIGINT)\n"
        "    return true(*given)\n"
        "train.train_window = window\n"
        f"sys.argv = ['manual-lstm', 'train', '--inputs', '2', '--checkpoint', {str(path)!r}]\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 130, done.stderr
    assert "interrupted after window 4" in done.stdout
    assert "go on with --resume" in done.stdout
    assert "Traceback" not in done.stderr
    assert load_checkpoint(path)[2].windows == 4
