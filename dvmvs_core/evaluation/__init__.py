"""Predicting over whole sequences, scoring what was predicted, and pictures of both."""
