"""Where the truth comes from: the autograd twin, torch.nn.LSTM, the equations written once more."""
