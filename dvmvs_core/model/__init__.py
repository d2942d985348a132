"""The network, bottom up: features, cost volume, hidden state, ConvLSTM, encoder and decoder, and the whole."""
