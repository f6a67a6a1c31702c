"""Training: the same bits after a resume, what stops it, and what a checkpoint refuses."""

import errno
import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from agreement import assert_same_bits
from hypothesis import given
from hypothesis import strategies as st

from manual_lstm import CharModel, Text, alphabet, clip_grad_norm, clip_grad_value, one_hot, window
from manual_lstm.checkpoint import load_checkpoint, save_checkpoint
from manual_lstm.history import open_history, read_history, recorded, write_history
from manual_lstm.optim import METHODS, Optimizer
from manual_lstm.train import (
    Schedule,
    Trained,
    TrainingDiverged,
    check_finite_window,
    start,
    train,
    train_window,
)

AB = alphabet(2)


def bits_of(state):
    """Everything that the next window depends on, as arrays."""
    parts = {"params": state.params, "m": state.optimizer.first, "s": state.optimizer.second}
    numbers = [state.position, state.windows, state.optimizer.steps]
    return {
        **{
            f"{part}.{name}": value
            for part, arrays in parts.items()
            for name, value in arrays.items()
        },
        "h": state.h,
        "c": state.c,
        "numbers": np.array(numbers),
        "random": np.array(json.dumps(dict(state.random))),
    }


@st.composite
def schedules(draw):
    """Schedules of every kind, and a text of as many symbols."""
    symbols, length = draw(st.integers(1, 4)), draw(st.integers(2, 9))
    head = draw(st.sampled_from(["linear", "bounded"]))
    hidden = symbols if head == "bounded" else draw(st.integers(1, 4))
    model = CharModel(symbols, hidden, draw(st.integers(1, 2)), head)
    start_of = draw(st.sampled_from(["carried", "reset", "random"]))
    limit = draw(st.sampled_from([{}, {"clip_norm": 0.01}, {"clip_value": 0.01}]))
    schedule = Schedule(
        model,
        Optimizer(draw(st.sampled_from(METHODS)), bias_correction=draw(st.booleans())),
        steps=draw(st.integers(1, 5)),
        batch=draw(st.integers(1, 3)),
        carry_state=start_of == "carried",
        random_start=start_of == "random",
        **limit,
    )
    indices = np.random.default_rng(draw(st.integers(0, 99))).integers(0, symbols, length)
    return schedule, Text(tuple("abcd"[:symbols]), indices)


def run(schedule, text, state, windows):
    return train(schedule, text, state, windows)[0]


@given(drawn=schedules(), dtype=st.sampled_from(["float32", "float64"]), cut=st.integers(1, 5))
def test_a_resume_that_is_not_the_uninterrupted_run(drawn, dtype, cut, tmp_path_factory):
    """6 windows have the bits of some, a checkpoint in a file, and the rest."""
    schedule, text = drawn
    path = tmp_path_factory.mktemp("run") / "run.npz"
    whole = run(schedule, text, start(schedule, dtype=dtype, seed=7), 6)
    save_checkpoint(
        path, schedule, text, run(schedule, text, start(schedule, dtype=dtype, seed=7), cut)
    )
    loaded_schedule, loaded_text, state = load_checkpoint(path)
    assert loaded_schedule == schedule
    assert loaded_text.symbols == text.symbols
    assert_same_bits(bits_of(run(loaded_schedule, loaded_text, state, 6)), bits_of(whole))


@given(drawn=schedules())
def test_a_window_that_is_not_backward_clipping_and_a_step(drawn):
    """Each window is the model's own gradient, clipped, given to the optimiser, states carried."""
    schedule, text = drawn
    state = start(schedule, dtype="float64", seed=3)
    model, position, h, c = schedule.model, 0, state.h, state.c
    rng = np.random.default_rng(3)
    model.init_params(dtype="float64", rng=rng)
    for number in range(1, 4):
        if schedule.random_start:
            position = int(rng.integers(len(text.indices)))
        indices, targets = window(text, schedule.steps, schedule.batch, position)
        x = one_hot(indices, model.num_classes, "float64")
        (loss, h, c), pullback = model.vjp(state.params, x, targets, h, c)
        found = pullback(1.0)
        gradients = {"d" + name: found["d" + name] for name in state.params}
        norm = np.sqrt(sum(np.square(g).sum() for g in gradients.values()))
        if schedule.clip_norm is not None:
            gradients, _ = clip_grad_norm(gradients, schedule.clip_norm)
        if schedule.clip_value is not None:
            gradients = clip_grad_value(gradients, schedule.clip_value)
        params, _ = schedule.optimizer.step(state.params, gradients, state.optimizer)
        before = {name: value.tobytes() for name, value in bits_of(state).items()}
        after, trained = train_window(schedule, text, state)
        assert {name: value.tobytes() for name, value in bits_of(state).items()} == before
        assert (trained.window, trained.loss) == (number, loss)
        # n squares, their sum and a root, on either side.
        count = sum(g.size for g in gradients.values())
        assert abs(trained.norm - norm) <= 2 * (2 * count + 2) * np.finfo(float).eps * norm
        assert_same_bits(after.params, params)
        if not schedule.carry_state:
            h, c = np.zeros_like(h), np.zeros_like(c)
        assert_same_bits({"h": after.h, "c": after.c}, {"h": h, "c": c})
        position = (position + schedule.steps) % len(text.indices)
        state = after


def small(**settings):
    return Schedule(CharModel(2, 2), **{"steps": 4, **settings})


def test_a_ctrl_c_that_loses_the_run():
    """SIGINT ends after the window that is running, with its state saved, and the rest follows."""
    schedule = small()
    kept = []

    def press(state, trained):
        if trained.window == 3:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    state, ending = train(schedule, AB, start(schedule), 9, each=press, save=kept.append)
    assert (ending, state.windows) == ("interrupted", 3)
    assert [s.windows for s in kept] == [0, 3]
    assert signal.getsignal(signal.SIGINT) is before
    after, ending = train(schedule, AB, state, 9)
    assert ending == "finished"
    assert_same_bits(bits_of(after), bits_of(run(schedule, AB, start(schedule), 9)))


def test_a_second_ctrl_c_that_is_not_heard():
    """Whoever presses twice is not kept waiting."""
    schedule = small()

    def press_twice(state, trained):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(schedule, AB, start(schedule), 9, each=press_twice)


def test_a_run_that_is_saved_too_rarely_or_twice():
    """Saved are the start, every second window and the end, each once."""
    schedule, kept = small(), []
    for windows, expected in ((5, [0, 2, 4, 5]), (4, [0, 2, 4])):
        kept.clear()
        train(schedule, AB, start(schedule), windows, save=kept.append, save_every=2)
        assert [state.windows for state in kept] == expected


@pytest.mark.parametrize(
    ("name", "index", "words"),
    [
        ("weight_hh_l1", (5, 0), r"in layer 1, gate g, dweight_hh_l1\[5, 0\] is nan \(1 of 16"),
        ("bias_l0", (1,), r"in layer 0, gate i, dbias_l0\[1\] is nan"),
        ("weight_ih_l0", slice(2, 4), r"in layer 0, gate f, dweight_ih_l0\[2, 0\] is nan \(4 of"),
        ("weight_ih_l0", slice(3, 7), r"in layer 0, gates f, g, o, dweight_ih_l0\[3, 0\]"),
        ("bias_out", (0,), r"the output layer's dbias_out\[0\] is nan"),
    ],
)
@pytest.mark.parametrize("clip", [{}, {"clip_norm": 1.0}, {"clip_value": 1.0}])
def test_a_nan_that_is_trained_on(name, index, words, clip, monkeypatch):
    """A NaN in a gradient stops with the window, the gate and the last good checkpoint."""
    schedule, kept = Schedule(CharModel(2, 2, 2), steps=4, **clip), []
    true = CharModel.vjp

    def planted(self, params, *args):
        outputs, pullback = true(self, params, *args)

        def with_nan(*upstream):
            found = pullback(*upstream)
            if len(kept) == 2:
                found["d" + name][index] = np.nan
            return found

        return outputs, with_nan

    monkeypatch.setattr(CharModel, "vjp", planted)
    with pytest.raises(
        TrainingDiverged, match=rf"window 3: {words}.*last good checkpoint is that of window 2\."
    ):
        train(schedule, AB, start(schedule), 9, save=kept.append, save_every=2)


def test_a_nan_that_is_blamed_on_the_layer_it_reached_last():
    """Backward runs down the stack: of two layers with NaN the upper one is named."""
    params = start(Schedule(CharModel(2, 2, 2))).params
    gradients = {"d" + name: value.copy() for name, value in params.items()}
    gradients["dbias_l0"][0] = gradients["dbias_l1"][7] = np.inf
    with pytest.raises(TrainingDiverged, match="in layer 1, gate o, "):
        check_finite_window(1, 0.5, gradients, np.inf)


def test_random_starts_that_are_all_the_same():
    """20 windows of a text of 50 characters start at more than one place."""
    text = Text(("a", "b"), np.arange(50) % 2)
    schedule = small(carry_state=False, random_start=True)
    state, positions = start(schedule), set()
    for _ in range(20):
        state, _ = train_window(schedule, text, state)
        positions.add(state.position)
    assert len(positions) > 1


@pytest.mark.parametrize("method", METHODS)
def test_a_learning_rate_that_blows_up(method):
    """An absurd learning rate ends in a sentence, not in a NaN that trains on or a traceback."""
    schedule = small(optimizer=Optimizer(method, 1e38))
    unlearnable = Text(("a", "b"), np.random.default_rng(0).integers(0, 2, 999))
    with pytest.raises(TrainingDiverged, match=r"window \d+"):
        run(schedule, unlearnable, start(schedule), 999)


def test_a_loss_that_is_infinite(monkeypatch):
    """An infinite loss stops, whatever the gradients are."""
    true = CharModel.vjp

    def planted(self, *args):
        (_, h, c), pullback = true(self, *args)
        return (np.inf, h, c), pullback

    monkeypatch.setattr(CharModel, "vjp", planted)
    with pytest.raises(TrainingDiverged, match="window 1: the loss is inf"):
        train_window(small(), AB, start(small()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps is 0 but must be"),
        ({"batch": 1.5}, r"batch is 1\.5 but must be"),
        ({"clip_norm": 0.0}, r"clip_norm is 0\.0 but must be greater"),
        ({"clip_value": np.nan}, "clip_value is nan but must be greater"),
        ({"clip_norm": 1.0, "clip_value": 1.0}, "clip_norm and clip_value are both given"),
        ({"carry_state": True, "random_start": True}, "carry_state and random_start are both"),
    ],
)
def test_a_schedule_that_contradicts_itself(settings, message):
    """Each is refused with what came and what was expected."""
    with pytest.raises(ValueError, match=message):
        small(**settings)


def test_a_text_of_another_alphabet():
    """A text with more symbols than the model has classes is refused."""
    schedule = small()
    with pytest.raises(ValueError, match="text has 3 symbols but must have 2"):
        train_window(schedule, alphabet(3), start(schedule))
    with pytest.raises(ValueError, match="seed is -1"):
        start(schedule, seed=-1)


def test_a_history_that_repeats_or_loses_windows(tmp_path):
    """After a resume every window is there once; what lay beyond it and a torn line are gone."""
    path = tmp_path / "history.jsonl"
    with open_history(path, 0) as file:
        for number in range(1, 6):
            write_history(file, Trained(number, 1.0 / number, 0.5))
    path.write_text(path.read_text() + '{"window": 6, "lo')
    assert [entry.window for entry in read_history(path)] == [1, 2, 3, 4, 5]
    with open_history(path, 3) as file:
        write_history(file, Trained(4, 0.125, 0.5))
    assert read_history(path) == [
        *(Trained(number, 1.0 / number, 0.5) for number in (1, 2, 3)),
        Trained(4, 0.125, 0.5),
    ]
    with open_history(path, 0):
        pass
    assert read_history(path) == []


def test_a_history_that_is_another_file(tmp_path):
    """A file that is no history is named with its line, and never written over by a resume."""
    path = tmp_path / "notes.txt"
    path.write_text('{"window": 1, "loss": 1.0, "norm": 1.0}\nhello\n')
    with pytest.raises(ValueError, match="line 2, is not a window's entry"):
        open_history(path, 3)
    path.write_text("hello")
    with pytest.raises(ValueError, match="has no whole line"):
        read_history(path)
    assert path.read_text() == "hello"
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_history(tmp_path / "missing")


def test_a_perplexity_that_json_cannot_hold(tmp_path):
    """A loss of 1000 has an infinite perplexity, which is null in the file."""
    path = tmp_path / "history.jsonl"
    with open_history(path, 0) as file:
        write_history(file, replace(Trained(1, 1000.0, 0.5)))
    assert json.loads(path.read_text(), parse_constant=pytest.fail)["perplexity"] is None


@pytest.mark.parametrize(
    "entry",
    [
        '{"window": 1, "loss": null, "norm": 1}',
        '{"window": "x", "loss": 1, "norm": 1}',
        '{"window": 1, "loss": [1], "norm": 1}',
        '{"window": 1, "loss": true, "norm": 1}',
        '{"window": 1, "loss": 1' + "0" * 400 + ', "norm": 1}',
        "[" * 20_000,
        "\xff",
    ],
)
def test_an_entry_that_is_a_traceback(tmp_path, entry):
    """A number that is none, or nesting without end, is told with its line."""
    path = tmp_path / "history.jsonl"
    path.write_text(f'{{"window": 1, "loss": 1, "norm": 1}}\n{entry}\n', encoding="latin-1")
    with pytest.raises(ValueError, match="line 2, is not a window's entry"):
        read_history(path)


@pytest.mark.skipif(not Path("/dev/zero").is_char_device(), reason="needs /dev/zero")
def test_a_history_that_has_no_end():
    """A device is read until the memory is full."""
    with pytest.raises(ValueError, match="'/dev/zero', line 1, has no end"):
        read_history("/dev/zero")


def test_a_history_that_a_full_disk_takes_with_it(tmp_path, monkeypatch):
    """To go on with it, what is kept was written anew: with no space left, all of it was lost."""
    path = tmp_path / "history.jsonl"
    with open_history(path, 0) as file:
        for number in range(1, 6):
            write_history(file, Trained(number, 1.0, 0.5))
    before = path.read_text()

    def full(self, mode="r", *given, **options):
        assert mode in ("rb", "a"), "nothing that is kept may be cut off"
        if mode == "a":
            raise OSError(errno.ENOSPC, "No space left on device")
        return true(self, mode, *given, **options)

    true = Path.open
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(ValueError, match="cannot be written: No space left on device"):
            open_history(path, 3)
    assert path.read_text() == "".join(before.splitlines(keepends=True)[:3])


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full")
def test_a_disk_that_is_full_at_the_end(tmp_path):
    """What a file still holds is written as it is closed, where nobody names it."""
    told = "file '/dev/full' cannot be written: No space left on device"
    with pytest.raises(ValueError, match=told), recorded(open_history("/dev/full", 0)) as file:
        file.write("{}")
    with pytest.raises(ValueError, match=told), recorded(open_history("/dev/full", 0)) as file:
        write_history(file, Trained(1, 1.0, 0.5))
