"""Running somebody's LSTM: its contract and layout, the cases and checks, the exchange files."""
