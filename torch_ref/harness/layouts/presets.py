"""The arrangements that people meet: libraries, courses, and the bias-neuron style."""

from torch_ref.harness.layouts.layout import Layout

# torch.nn.LSTM(batch_first=False).state_dict(): the bias counts as the sum of two.
TORCH = Layout(bias="pair", bias_ih="bias_ih_l{layer}")

# keras.layers.LSTM(return_sequences=True): one layer; the candidate gate is called c.
KERAS = Layout(
    transposed=True,
    sequence="BTI",
    states="BH",
    gate_names=("i", "f", "c", "o"),
    weight_ih="kernel",
    weight_hh="recurrent_kernel",
    bias_ih="bias",
)

# The LSTM operator with layout=0, one direction. Its Y has an axis for the directions behind T:
# Y[:, 0] is a sequence of this layout.
ONNX = Layout(
    gate_order="iofg",
    bias="concatenated",
    leading_axis=True,
    states="LBH",
    gate_names=("i", "f", "c", "o"),
    weight_ih="W",
    weight_hh="R",
    bias_ih="B",
    h0="initial_h",
    c0="initial_c",
    x="X",
)

# The course assignments in which x @ Wx + h @ Wh + b is split into i, f, o, g.
COURSE = Layout(
    gate_order="ifog",
    transposed=True,
    sequence="BTI",
    states="BH",
    weight_ih="Wx",
    weight_hh="Wh",
    bias_ih="b",
    weight_out="W_vocab",
    bias_out="b_vocab",
)

# The course assignments in columns: W @ [a_prev; x_t] + b for each gate, x (n_x, m, T_x).
COLUMNS = Layout(
    gate_order="figo",
    gates="separate",
    matrices="hx",
    bias_shape="column",
    sequence="IBT",
    states="HB",
    gate_names=("i", "f", "c", "o"),
    weight="W{gate}",
    bias_ih="b{gate}",
    weight_out="Wy",
    bias_out="by",
    h0="a0",
)

# Written by hand with a bias neuron: W @ [x; 1] + U @ h for each gate, sequences as T columns.
BIAS_NEURON = Layout(
    gates="separate",
    bias="last",
    sequence="TIB",
    states="LHB",
    weight_ih="W_{gate}_l{layer}",
    weight_hh="U_{gate}_l{layer}",
)

# flax.linen.LSTMCell and OptimizedLSTMCell: the bias belongs to the recurrent kernels. Names as
# flax.traverse_util.flatten_dict(params, sep="/") gives them; the carry is (c, h).
FLAX = Layout(
    gates="separate",
    transposed=True,
    sequence="BTI",
    states="BH",
    weight_ih="i{gate}/kernel",
    weight_hh="h{gate}/kernel",
    bias_ih="h{gate}/bias",
)

# tf.compat.v1.nn.rnn_cell.BasicLSTMCell: the candidate gate is called j. The cell adds
# forget_bias, by default 1.0, to f's bias itself: make it with forget_bias=0.0 for these weights.
BASIC_LSTM_CELL = Layout(
    gate_order="igfo",
    matrices="xh",
    transposed=True,
    sequence="BTI",
    states="BH",
    gate_names=("i", "f", "j", "o"),
    weight="kernel",
    bias_ih="bias",
)

# One vector, as torch hands it to cuDNN and as MXNet's RNN operator takes it: all layers' matrices,
# then all layers' biases.
FLAT = Layout(
    bias="pair",
    flat="weight_ih weight_hh; bias_ih bias_hh",
    gate_names=("i", "f", "c", "o"),
    weight_ih="l{layer}_i2h_weight",
    weight_hh="l{layer}_h2h_weight",
    bias_ih="l{layer}_i2h_bias",
    bias_hh="l{layer}_h2h_bias",
    flat_name="parameters",
)

# One class that is stepped through a sequence: W @ [x, h] + b for each gate.
STEP_CLASS = Layout(
    gates="separate",
    matrices="xh",
    sequence="TI",
    states="H",
    weight="w{gate}",
    bias_ih="b{gate}",
)

# One lossFun over module globals, in columns: W @ [h; x] + b for each gate, and its own head.
LOSS_FUN = Layout(
    gates="separate",
    matrices="hx",
    bias_shape="column",
    sequence="TI",
    states="H1",
    gate_names=("i", "f", "c", "o"),
    weight="W{gate}",
    bias_ih="b{gate}",
    weight_out="Why",
    bias_out="by",
)

PRESETS = {
    "manual_lstm": Layout(),
    "torch": TORCH,
    "keras": KERAS,
    "onnx": ONNX,
    "course": COURSE,
    "columns": COLUMNS,
    "bias_neuron": BIAS_NEURON,
    "flax": FLAX,
    "basic_lstm_cell": BASIC_LSTM_CELL,
    "cudnn": FLAT,
    "mxnet": FLAT,
    "step_class": STEP_CLASS,
    "loss_fun": LOSS_FUN,
}


def preset(name: str) -> Layout:
    """The layout of that name in `PRESETS`.

    Raises:
        ValueError: no such name.
    """
    if name not in PRESETS:
        raise ValueError(f"layout is {name!r} but must be one of {', '.join(PRESETS)}.")
    return PRESETS[name]
